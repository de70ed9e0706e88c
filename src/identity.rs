//! An OIDC issuer and subject become the user id that names everything a user owns.
//!
//! An id is a readable slug of the subject and a hash of issuer and subject together. The hash makes ids
//! collision-free: `a.b`, `a-b` and `A.B`, or the same subject at two issuers, are different users. OpenID Connect
//! Core 1.0 section 2 makes (`iss`, `sub`) the only stable identifier of a person, compared byte for byte.

use data_encoding::{Encoding, Specification};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

/// The longest id: a Service name has 63 characters (RFC 1035) and the longest suffix of ours is `-workspace-svc`.
pub const MAX_LENGTH: usize = 63 - "-workspace-svc".len();

/// 80 bits of the hash: no two of a thousand million users share it but by a chance of one in two million, and the
/// recorded issuer and subject decide even then.
const HASH_CHARACTERS: usize = 16;
const SLUG_CHARACTERS: usize = 24;

/// RFC 4648 base32 without padding, in lower case.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.encoding().expect("the RFC 4648 alphabet is a valid one")
});

/// Who a person is, as their provider says: the exact `iss` and `sub` of the ID token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub issuer: String,
    pub subject: String,
}

/// A user id: an RFC 1035 label of at most 49 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(String);

/// Why a text is not a user id.
#[derive(Clone, Debug, PartialEq, Eq, snafu::Snafu)]
pub enum InvalidUserId {
    #[snafu(display("an RFC 1035 label of 1 to {MAX_LENGTH} characters, not an empty text"))]
    Empty,
    #[snafu(display("at most {MAX_LENGTH} characters, not {length}"))]
    TooLong { length: usize },
    #[snafu(display(
        "an RFC 1035 label (lower-case letters, digits and '-', beginning with a letter, not ending with '-')"
    ))]
    NotALabel,
}

impl UserId {
    /// The id of the person whom `identity` names. Equal identities give equal ids, now and in every later version.
    pub fn of(identity: &Identity) -> Self {
        let mut hash = Sha256::new();
        // The length in front keeps ("ab", "c") and ("a", "bc") apart.
        hash.update((identity.issuer.len() as u64).to_be_bytes());
        hash.update(identity.issuer.as_bytes());
        hash.update(identity.subject.as_bytes());
        let mut id = slug(&identity.subject);
        id.push('-');
        id.push_str(&BASE32.encode(&hash.finalize())[..HASH_CHARACTERS]);
        Self(id)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `UserId` reads back the id that a Workspace records, which may be one that an administrator or 1.1 chose.
impl FromStr for UserId {
    type Err = InvalidUserId;

    fn from_str(text: &str) -> Result<Self, InvalidUserId> {
        if text.is_empty() {
            return Err(InvalidUserId::Empty);
        }
        if text.len() > MAX_LENGTH {
            return Err(InvalidUserId::TooLong {
                length: text.chars().count(),
            });
        }
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let label = text.bytes().all(inner)
            && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
            && !text.ends_with('-');
        if label {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidUserId::NotALabel)
        }
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The letters and digits of `subject` in lower case, with single dashes between them, beginning with a letter.
fn slug(subject: &str) -> String {
    let mut slug = String::with_capacity(SLUG_CHARACTERS);
    for c in subject.chars() {
        if slug.len() == SLUG_CHARACTERS {
            break;
        }
        if c.is_ascii_alphabetic() || (c.is_ascii_digit() && !slug.is_empty()) {
            slug.push(c.to_ascii_lowercase());
        } else if c.is_ascii_digit() {
            slug.push('u');
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        "user".to_owned()
    } else {
        slug.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn id(issuer: &str, subject: &str) -> String {
        UserId::of(&Identity {
            issuer: issuer.into(),
            subject: subject.into(),
        })
        .to_string()
    }

    /// Ids name volumes that hold people's work: these vectors may never change.
    #[test]
    fn frozen_vectors() {
        let issuer = "https://idp.example.test";
        insta::assert_snapshot!(
            [id(issuer, "dev1"), id(issuer, "DEV1"), id(issuer, "0f6a-77"), id(issuer, "Zoë.Müller"), id(issuer, "日本"), id("https://other.test", "dev1")].join("\n"),
            @r"
        dev1-otjrsw5vpwvz7p7b
        dev1-seaqdmm6kwu2ab4f
        u0f6a-77-jckthcgb2dursj67
        zo-m-ller-pbspgskz76m6jzrv
        user-zs6z7joqyc2hctd6
        dev1-c3uvnr46dnfcw4vw
        "
        );
    }

    #[test]
    fn what_one_earlier_scheme_folded_together_stays_apart() {
        let ids: HashSet<_> = ["a.b", "a-b", "A.B", "a_b", "a b"]
            .iter()
            .map(|s| id("https://i", s))
            .collect();
        assert_eq!(ids.len(), 5);
        assert_ne!(id("https://i/a", "b"), id("https://i/", "ab"));
    }

    #[test]
    fn reads_back_only_labels() {
        assert_eq!("dev1".parse::<UserId>().map(|id| id.to_string()), Ok("dev1".into()));
        assert_eq!("".parse::<UserId>(), Err(InvalidUserId::Empty));
        assert_eq!(
            "a".repeat(50).parse::<UserId>(),
            Err(InvalidUserId::TooLong { length: 50 })
        );
        for text in ["1a", "-a", "a-", "A", "a.b", "a/b", "ä", "a b"] {
            assert_eq!(text.parse::<UserId>(), Err(InvalidUserId::NotALabel), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_identity_has_a_valid_id(issuer in "\\PC{0,60}", subject in "\\PC{0,300}") {
            let id = id(&issuer, &subject);
            prop_assert_eq!(id.parse::<UserId>().map(|i| i.to_string()), Ok(id.clone()));
            prop_assert!(id.len() <= MAX_LENGTH);
        }

        #[test]
        fn different_identities_have_different_ids(a in ("[a-cA-C.-]{0,4}", "[a-cA-C.-]{0,4}"), b in ("[a-cA-C.-]{0,4}", "[a-cA-C.-]{0,4}")) {
            prop_assert_eq!(id(&a.0, &a.1) == id(&b.0, &b.1), a == b);
        }
    }
}
