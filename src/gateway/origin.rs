//! A request's `Origin` becomes a yes or no: does it come from our own page?
//!
//! A WebSocket is not bound by the same-origin policy and carries cookies (RFC 6455, section 10.2; cross-site WebSocket
//! hijacking), and so does a form. Browsers always send `Origin` with both (RFC 6454, section 7.3).

use hyper::HeaderMap;
use hyper::header::ORIGIN;

/// What proved who the caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A browser sends it by itself, whoever made it send the request.
    Cookie,
    /// Nobody sends it without knowing it.
    BearerToken,
}

/// Whether a request that changes something, or opens a terminal, may go on. `public_origin` is the ASCII serialization
/// of the gateway's origin (RFC 6454, section 6.2).
pub fn is_same_origin(headers: &HeaderMap, via: Via, public_origin: &str) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) => origin.as_bytes() == public_origin.as_bytes(),
        (None, _) => via == Via::BearerToken,
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn only_our_own_origin_and_programs_pass() {
        let ours = "https://devplane.example.test";
        for (origins, via, expected) in [
            (&[ours][..], Via::Cookie, true),
            (&[ours], Via::BearerToken, true),
            (&[], Via::Cookie, false),
            (&[], Via::BearerToken, true),
            (&["https://other.test"], Via::Cookie, false),
            (&["https://other.test"], Via::BearerToken, false),
            (&["null"], Via::Cookie, false),
            (&["null"], Via::BearerToken, false),
            (&[""], Via::BearerToken, false),
            (&["http://devplane.example.test"], Via::Cookie, false),
            (&["https://devplane.example.test:444"], Via::Cookie, false),
            (&["https://devplane.example.test/"], Via::Cookie, false),
            (&["https://devplane.example.test.other.test"], Via::Cookie, false),
            (&["https://DEVPLANE.example.test"], Via::Cookie, false),
            (&[ours, "https://other.test"], Via::Cookie, false),
            (&[ours, ours], Via::Cookie, false),
        ] {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(is_same_origin(&headers, via, ours), expected, "{origins:?} {via:?}");
        }
    }
}
