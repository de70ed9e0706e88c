//! A peer's address and `X-Forwarded-For` become the client's address. Pure.
//!
//! Each proxy appends the address of whoever it was connected with, so that the list is true from the right for as long as its
//! writers are proxies that are trusted, and anything at all before that (compare RFC 7239, section 8.1). Several header lines are
//! one list (RFC 9110, section 5.3). Another spelling of the name, such as `X_Forwarded_For`, is another header.

use hyper::HeaderMap;
use hyper::header::HeaderName;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Of an IPv6 address, what one client has: everything behind it is the client's to choose (RFC 6177).
const V6_NETWORK: u128 = !0 << 64;

/// The nearest address that no trusted proxy has; `peer` unless that is one itself. What is no address ends the walk where it is.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|range| range.contains(address));
    let mut nearest = peer.to_canonical();
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    // Empty elements of a list mean nothing (RFC 9110, section 5.6.1).
    for entry in entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()) {
        if !is_trusted(&nearest) {
            break;
        }
        match address(entry) {
            Some(before) => nearest = before,
            None => break,
        }
    }
    nearest
}

/// An address, with a port or without: some proxies add one.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(v6) => v6.parse::<Ipv6Addr>().map(IpAddr::V6).ok()?,
        None => text
            .parse()
            .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
            .ok()?,
    };
    Some(address.to_canonical())
}

/// By what a client is limited: its address, or of IPv6 its network of 64 bits.
pub fn limited_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & V6_NETWORK)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    fn ranges(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn of(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        let trusted = ranges(&["10.0.0.0/8", "fd00::/8"]);
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn the_nearest_that_is_no_trusted_proxy() {
        for (peer, lines, expected) in [
            ("10.0.0.1", &[][..], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("::ffff:10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            // What the client itself has put in front is not looked at.
            ("10.0.0.1", &["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["198.51.100.1,203.0.113.7, 10.0.0.9"], "203.0.113.7"),
            ("10.0.0.1", &["198.51.100.1", "203.0.113.7", "10.0.0.9"], "203.0.113.7"),
            ("10.0.0.1", &["203.0.113.7", "10.0.0.9, 10.0.0.8"], "203.0.113.7"),
            // All the way through proxies: the first of them.
            ("10.0.0.1", &["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
            // With ports, in brackets, and IPv4 in IPv6.
            ("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7"),
            ("fd00::1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("fd00::1", &["[2001:db8::7]"], "2001:db8::7"),
            ("fd00::1", &["::ffff:203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &[" , 203.0.113.7 ,, "], "203.0.113.7"),
            // What is no address ends it.
            ("10.0.0.1", &["203.0.113.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7, _hidden, 10.0.0.9"], "10.0.0.9"),
            ("10.0.0.1", &["203.0.113.7 10.0.0.9"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.256"], "10.0.0.1"),
            // Nobody's word but a trusted proxy's.
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
        ] {
            assert_eq!(of(peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn other_spellings_are_other_headers() {
        let peer = "10.0.0.1".parse().unwrap();
        for name in [
            "x_forwarded_for",
            "x-forwarded",
            "forwarded",
            "x-real-ip",
            "x-forwarded-for-",
        ] {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_static("203.0.113.7"),
            )]);
            assert_eq!(client_address(peer, &headers, &ranges(&["10.0.0.0/8"])), peer, "{name}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let of = |text: &str| limited_as(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("203.0.113.7"), "203.0.113.7");
    }

    proptest! {
        #[test]
        fn from_an_untrusted_peer_no_header_changes_anything(
            peer: IpAddr,
            headers in proptest::collection::vec(("[xX][-_]forwarded[-_]for|forwarded|x-real-ip", "[ -~]{0,60}|[0-9., :]{0,40}"), 0..6),
        ) {
            let trusted = ranges(&["10.0.0.0/8", "fd00::/8"]);
            prop_assume!(!trusted.iter().any(|range| range.contains(&peer.to_canonical())));
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(&value).unwrap());
            }
            prop_assert_eq!(client_address(peer, &map, &trusted), peer.to_canonical());
        }

        #[test]
        fn no_header_is_too_strange(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4)) {
            let mut map = HeaderMap::new();
            for value in lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
                map.append(FORWARDED_FOR, value);
            }
            client_address("10.0.0.1".parse().unwrap(), &map, &ranges(&["10.0.0.0/8"]));
        }
    }
}
