//! The name of an image as values have it becomes its parts, by the grammar that container runtimes share
//! (`github.com/distribution/reference`).

use snafu::{Snafu, ensure};
use std::fmt;
use std::str::FromStr;

/// The longest registry with repository, in bytes.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;
/// What is meant when neither tag nor digest is there.
const DEFAULT_TAG: &str = "latest";

/// Where an image is: `registry.corp:5000/team/app:1.2@sha256:...`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Host and port. `None`: the name has none, and each node's container runtime decides where to look.
    pub registry: Option<String>,
    pub repository: String,
    /// `None` only where there is a digest.
    pub tag: Option<String>,
    /// With its algorithm, such as `sha256:...`.
    pub digest: Option<String>,
}

/// Why a text is no name of an image.
#[derive(Clone, Debug, PartialEq, Eq, Snafu)]
pub enum ReferenceError {
    #[snafu(display("it is empty"))]
    Empty,
    #[snafu(display("it begins with a scheme; write the host without {scheme}"))]
    Scheme { scheme: &'static str },
    #[snafu(display("{registry:?} is no host with an optional port"))]
    Registry { registry: String },
    #[snafu(display(
        "{repository:?} is no repository: lower-case letters and digits, joined by '.', '_', '__' or '-', in parts separated by '/'"
    ))]
    Repository { repository: String },
    #[snafu(display(
        "{tag:?} is no tag: at most {MAX_TAG} letters, digits, '_', '.' and '-', beginning with neither '.' nor '-'"
    ))]
    Tag { tag: String },
    #[snafu(display("{digest:?} is no digest such as sha256: and 64 hexadecimal digits in lower case"))]
    Digest { digest: String },
    #[snafu(display("registry and repository are longer than {MAX_NAME} characters"))]
    Long,
}

impl Reference {
    /// What the registry is asked for: the digest, which alone counts where it is there, or else the tag.
    pub fn version(&self) -> &str {
        let tag = self.tag.as_deref().unwrap_or(DEFAULT_TAG);
        self.digest.as_deref().unwrap_or(tag)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        ensure!(!text.is_empty(), EmptySnafu);
        for scheme in ["https://", "http://"] {
            ensure!(!text.starts_with(scheme), SchemeSnafu { scheme });
        }
        let (text, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if let Some(digest) = digest {
            ensure!(is_digest(digest), DigestSnafu { digest });
        }
        let (registry, rest) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (Some(first), rest),
            _ => (None, text),
        };
        if let Some(registry) = registry {
            ensure!(is_authority(registry), RegistrySnafu { registry });
        }
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        ensure!(repository.split('/').all(is_component), RepositorySnafu { repository });
        if let Some(tag) = tag {
            ensure!(is_tag(tag), TagSnafu { tag });
        }
        let length = registry.map_or(0, |registry| registry.len() + 1) + repository.len();
        ensure!(length <= MAX_NAME, LongSnafu);
        let implied = digest.is_none().then_some(DEFAULT_TAG);
        Ok(Self {
            registry: registry.map(str::to_owned),
            repository: repository.to_owned(),
            tag: tag.or(implied).map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            registry,
            repository,
            tag,
            digest,
        } = self;
        if let Some(registry) = registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(repository)?;
        if let Some(tag) = tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether the first part of a name is a registry, rather than the beginning of a repository.
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase())
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn is_authority(text: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok() && port.bytes().all(|c| c.is_ascii_digit());
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        let port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return port && address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_label = |label: &str| {
        let inner = label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

/// One part of a repository.
fn is_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let all = text.chars().all(|c| is_word(c) || "._-".contains(c));
    let separators = text.split(is_word).filter(|separator| !separator.is_empty());
    let mut separators =
        separators.map(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|c| c == b'-'));
    all && text.starts_with(is_word) && text.ends_with(is_word) && separators.all(|fits| fits)
}

fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let inner = text.chars().all(|c| is_word(c) || ".-".contains(c));
    inner && text.starts_with(is_word) && text.len() <= MAX_TAG
}

/// SHA-256 and SHA-512 are all that is registered (OCI Image Specification, descriptor.md).
pub(super) fn is_digest(text: &str) -> bool {
    let is_hex = |hex: &str| hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    match text.split_once(':') {
        Some(("sha256", hex)) => hex.len() == 64 && is_hex(hex),
        Some(("sha512", hex)) => hex.len() == 128 && is_hex(hex),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> (Option<String>, String, Option<String>, Option<String>) {
        let Reference {
            registry,
            repository,
            tag,
            digest,
        } = text.parse().unwrap();
        (registry, repository, tag, digest)
    }

    #[test]
    fn a_name_has_a_registry_only_where_it_says_so() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let some = |text: &str| Some(text.to_owned());
        for (text, registry, repository, tag) in [
            ("devplane:2.0.0", None, "devplane", some("2.0.0")),
            ("devplane", None, "devplane", some("latest")),
            ("team/devplane:1", None, "team/devplane", some("1")),
            ("registry.corp/devplane:1", some("registry.corp"), "devplane", some("1")),
            ("registry:5000/a/b", some("registry:5000"), "a/b", some("latest")),
            ("localhost/a", some("localhost"), "a", some("latest")),
            ("[::1]:5000/a:1", some("[::1]:5000"), "a", some("1")),
            ("Registry/a", some("Registry"), "a", some("latest")),
            (
                "r.corp/a__b/c-d---e.f:A_1.-",
                some("r.corp"),
                "a__b/c-d---e.f",
                some("A_1.-"),
            ),
        ] {
            assert_eq!(parts(text), (registry, repository.to_owned(), tag, None), "{text}");
        }
        let both = format!("r.corp/a:1@{digest}");
        assert_eq!(parts(&both), (some("r.corp"), "a".to_owned(), some("1"), some(&digest)));
        let reference: Reference = both.parse().unwrap();
        assert_eq!((reference.version(), reference.to_string()), (digest.as_str(), both));
        let alone: Reference = format!("r.corp/a@{digest}").parse().unwrap();
        assert_eq!((alone.tag.as_deref(), alone.version()), (None, digest.as_str()));
    }

    #[test]
    fn what_is_no_name_is_told_apart() {
        let error = |text: &str| text.parse::<Reference>().unwrap_err();
        assert_eq!(error(""), ReferenceError::Empty);
        assert_eq!(error("https://r.corp/a"), ReferenceError::Scheme { scheme: "https://" });
        for bad in [
            "r.corp/",
            "r.corp/A",
            "a//b",
            "a/",
            "-a",
            "a..b",
            "a___b",
            "r.corp/../x",
            "a b",
        ] {
            assert!(
                matches!(error(bad), ReferenceError::Repository { .. }),
                "{bad}: {}",
                error(bad)
            );
        }
        for bad in [
            "r.corp:port/a",
            "r.corp:70000/a",
            "-r.corp/a",
            "r..corp/a",
            "user@r.corp/a",
            "[::1/a",
            "r.corp:+1/a",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        assert!(matches!(error("r.corp/a:"), ReferenceError::Tag { .. }));
        assert!(matches!(
            error(&format!("a:{}", "1".repeat(129))),
            ReferenceError::Tag { .. }
        ));
        for bad in ["a@sha256:1", "a@md5:00", "a@", &format!("a@sha256:{}", "A".repeat(64))] {
            assert!(matches!(error(bad), ReferenceError::Digest { .. }), "{bad}");
        }
        assert_eq!(error(&format!("r.corp/{}", "a".repeat(250))), ReferenceError::Long);
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "([a-z]{1,5}\\.corp(:[1-9][0-9]{0,3})?/)?[a-z0-9]{1,5}(/[a-z0-9]{1,5}){0,2}:[a-z0-9.]{1,5}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }

        #[test]
        fn nothing_makes_a_path_that_leaves_the_repository(text in "\\PC{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert!(!reference.repository.contains("..") && !reference.version().contains('/'));
            }
        }
    }
}
