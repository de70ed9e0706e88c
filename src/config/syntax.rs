//! What the text of a setting must be. Each function says what it expected when it refuses.

use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use url::{Host, Url};

pub fn any_text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

pub fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

/// What Go's `strconv.ParseBool` takes, as 1.1 did.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

pub fn port(text: &str) -> Result<NonZeroU16, String> {
    text.parse().map_err(|_| "a TCP port between 1 and 65535".to_owned())
}

/// `host:port`, `[v6]:port` or `:port`, the last meaning every address (as Go's `net.Listen` reads it).
pub fn bind_address(text: &str) -> Result<SocketAddr, String> {
    let expected = || "an address and port such as 127.0.0.1:8080, or :8080 for every address".to_owned();
    match text.strip_prefix(':') {
        Some(port) => Ok((Ipv6Addr::UNSPECIFIED, port.parse().map_err(|_| expected())?).into()),
        None => text.parse().map_err(|_| expected()),
    }
}

/// An RFC 1123 label, such as a namespace's name.
pub fn dns_label(text: &str) -> Result<String, String> {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let edge = |c: Option<&u8>| c.is_some_and(|c| *c != b'-');
    let bytes = text.as_bytes();
    if bytes.len() <= 63 && bytes.iter().all(|c| fits(*c)) && edge(bytes.first()) && edge(bytes.last()) {
        Ok(text.to_owned())
    } else {
        Err("a name of lower-case letters, digits and '-' (RFC 1123 label)".to_owned())
    }
}

/// Labels joined by dots, at most 253 characters (RFC 1123 subdomain).
pub fn dns_subdomain(text: &str) -> Result<String, String> {
    if text.len() <= 253 && text.split('.').all(|label| dns_label(label).is_ok()) {
        Ok(text.to_owned())
    } else {
        Err("a name of lower-case letters, digits, '-' and '.' (RFC 1123 subdomain)".to_owned())
    }
}

/// A key of labels, annotations and resources: a name, behind a domain and `/` or alone (Kubernetes' `IsQualifiedName`); returns both.
pub fn qualified_name(text: &str) -> Result<(Option<&str>, &str), String> {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    if is_word(name) && domain.is_none_or(|domain| dns_subdomain(domain).is_ok()) {
        Ok((domain, name))
    } else {
        Err("a name of at most 63 letters, digits, '-', '_' and '.', alone or behind a domain and '/'".to_owned())
    }
}

/// The value of a label (Kubernetes' `IsValidLabelValue`).
pub fn label_value(text: &str) -> Result<(), String> {
    if text.is_empty() || is_word(text) {
        Ok(())
    } else {
        Err("at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends".to_owned())
    }
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    bytes.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(fits)
}

pub fn http_url(text: &str) -> Result<String, String> {
    let expected = || "an http or https URL".to_owned();
    let url = Url::parse(text).map_err(|_| expected())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(text.to_owned())
    } else {
        Err(expected())
    }
}

/// https, or http on a loopback address: sign-in over a readable wire would give the session away.
pub fn secure_url(text: &str) -> Result<Url, String> {
    let expected = "an https URL (http only on a loopback address), without user name or fragment";
    let url = Url::parse(text).map_err(|_| expected.to_owned())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (plain && is_secure(&url))
        .then_some(url)
        .ok_or_else(|| expected.to_owned())
}

/// Whether what is sent there can't be read on the way: https, or this very machine. Not the names below `localhost`, which a
/// pod's resolver may ask the network for (RFC 6761, section 6.3, is a "should").
pub fn is_secure(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_https_or_loopback() {
        for good in [
            "https://idp.test",
            "https://idp.test:8443/realms/x",
            "http://127.0.0.1:1",
            "http://[::1]:1/a",
            "http://localhost",
        ] {
            assert!(secure_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://idp.test",
            "http://10.0.0.1",
            "ftp://localhost",
            "idp.test",
            "https://u:p@idp.test",
            "http://127.0.0.1.evil.test",
            "http://idp.localhost",
            "https://idp.test/#x",
        ] {
            assert!(secure_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_labels() {
        assert!(dns_label("ai-system").is_ok());
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", &"a".repeat(64)] {
            assert!(dns_label(bad).is_err(), "{bad}");
        }
        assert!(dns_subdomain("cluster.local").is_ok());
        assert!(dns_subdomain("cluster..local").is_err());
    }

    #[test]
    fn addresses_may_leave_the_host_out() {
        assert_eq!(bind_address(":8080"), Ok("[::]:8080".parse().unwrap()));
        assert_eq!(bind_address("127.0.0.1:0"), Ok("127.0.0.1:0".parse().unwrap()));
        assert!(bind_address("8080").is_err());
    }
}
