//! A request's `X-Request-ID` becomes the identifier that its log lines, audit lines and answer share.

use http::{HeaderMap, HeaderName, HeaderValue};

pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest identifier that is taken over, in bytes.
const MAX_LENGTH: usize = 128;

/// An identifier of 1 to 128 characters, each a visible one of ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The one that a proxy in front has chosen, if it is a sane one; `generated` otherwise.
    pub fn of(headers: &HeaderMap, generated: u128) -> Self {
        let mut given = headers.get_all(&HEADER).iter();
        match (given.next().and_then(sane), given.next()) {
            (Some(id), None) => Self(id.to_owned()),
            _ => Self(format!("{generated:032x}")),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
    }
}

fn sane(value: &HeaderValue) -> Option<&str> {
    let id = value.to_str().ok()?;
    let visible = id.bytes().all(|byte| byte.is_ascii_graphic());
    (visible && (1..=MAX_LENGTH).contains(&id.len())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        RequestId::of(&headers, 7).as_str().to_owned()
    }

    #[test]
    fn only_one_sane_id_is_taken_over() {
        let generated = "00000000000000000000000000000007";
        assert_eq!(of(&["abc-1"]), "abc-1");
        assert_eq!(of(&[]), generated);
        assert_eq!(of(&["a", "b"]), generated);
        assert_eq!(of(&[""]), generated);
        assert_eq!(of(&["a b"]), generated);
        assert_eq!(of(&["ä"]), generated);
        assert_eq!(of(&[&"a".repeat(129)]), generated);
    }
}
