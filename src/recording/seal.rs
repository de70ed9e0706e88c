//! A key in a file becomes Ed25519 signatures (RFC 8032), and public keys verdicts on them.
//!
//! What is signed is the one JSON text of a document without its signature, behind words that say which kind of document it is:
//! a signature for one kind never fits another.

use super::chain::hex_sha256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::Serialize;
use snafu::{OptionExt, ResultExt, Snafu};
use std::path::Path;

/// What an Ed25519 public key's SubjectPublicKeyInfo begins with (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a key can't be used.
#[derive(Debug, Snafu)]
pub enum KeyError {
    #[snafu(display("can't read a {what} key in PEM form from {path}: {source}"))]
    Read {
        what: &'static str,
        path: String,
        source: rustls_pki_types::pem::Error,
    },
    #[snafu(display(
        "{path} has no Ed25519 key: make one with `openssl genpkey -algorithm ed25519 -out {path}`, and its public key with `openssl pkey -pubout`"
    ))]
    NotEd25519 { path: String },
}

/// A document with a signature of its own in it.
pub trait Sealed: Serialize + Clone {
    /// Which kind of document this is.
    const KIND: &'static str;
    /// Where it names the key and the signature.
    fn seal(&mut self) -> &mut Seal;

    /// What is signed.
    fn signed_text(&self) -> Vec<u8> {
        let mut unsigned = self.clone();
        unsigned.seal().signature = None;
        let mut text = format!("{}\n", Self::KIND).into_bytes();
        // Strings, numbers and maps with string keys always become JSON.
        text.extend(serde_json::to_vec(&unsigned).unwrap_or_default());
        text
    }
}

/// Which key signed a document, and how. Both are absent when there is no key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seal {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// The key that signs.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    id: String,
}

impl SigningKey {
    /// Reads a PKCS#8 key in PEM form.
    ///
    /// # Errors
    /// When the file can't be read, or has no Ed25519 key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let shown = path.display().to_string();
        let der = PrivatePkcs8KeyDer::from_pem_file(path).context(ReadSnafu {
            what: "private",
            path: &shown,
        })?;
        // OpenSSL writes the private key alone; ring wants the public one beside it, unless told otherwise.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .ok()
            .context(NotEd25519Snafu { path: shown })?;
        let id = key_id(pair.public_key().as_ref());
        Ok(Self { pair, id })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs `document`.
    pub fn sign(&self, document: &mut impl Sealed) {
        document.seal().key_id = Some(self.id.clone());
        let signature = self.pair.sign(&document.signed_text());
        document.seal().signature = Some(STANDARD.encode(signature.as_ref()));
    }
}

/// The first 16 hexadecimal digits of the public key's SHA-256.
fn key_id(public_key: &[u8]) -> String {
    let mut id = hex_sha256(public_key);
    id.truncate(16);
    id
}

/// The keys that whoever verifies trusts. Several, because keys are changed.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Vec<TrustedKey>);

#[derive(Clone, Debug)]
struct TrustedKey {
    id: String,
    key: [u8; 32],
}

/// What a signature is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Signed with a trusted key.
    Good,
    /// Not signed at all.
    Unsigned,
    /// Signed, but no key was given to check it with.
    Unchecked,
    /// Signed with a key that is not one of those given, or not by the key that it names.
    Bad(String),
}

impl TrustedKeys {
    /// Adds the Ed25519 public key of a PEM file.
    ///
    /// # Errors
    /// When the file can't be read, or has no Ed25519 key.
    pub fn add(&mut self, path: &Path) -> Result<(), KeyError> {
        let shown = path.display().to_string();
        let der = SubjectPublicKeyInfoDer::from_pem_file(path).context(ReadSnafu {
            what: "public",
            path: &shown,
        })?;
        let key = der.strip_prefix(&SPKI_PREFIX).and_then(|key| key.try_into().ok());
        let key: [u8; 32] = key.context(NotEd25519Snafu { path: shown })?;
        self.0.push(TrustedKey { id: key_id(&key), key });
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn check<T: Sealed>(&self, document: &T) -> Trust {
        let mut document = document.clone();
        let text = document.signed_text();
        let (id, signature) = match document.seal() {
            Seal {
                key_id: Some(id),
                signature: Some(signature),
            } => (id.clone(), signature.clone()),
            Seal {
                key_id: None,
                signature: None,
            } => return Trust::Unsigned,
            _ => return Trust::Bad("it names a key without a signature, or has a signature without a key".to_owned()),
        };
        if self.is_empty() {
            return Trust::Unchecked;
        }
        let Some(trusted) = self.0.iter().find(|trusted| trusted.id == id) else {
            return Trust::Bad(format!(
                "it is signed with the key {id}, which is not one of those given"
            ));
        };
        let valid = STANDARD.decode(&signature).is_ok_and(|signature| {
            UnparsedPublicKey::new(&ED25519, trusted.key)
                .verify(&text, &signature)
                .is_ok()
        });
        if valid {
            Trust::Good
        } else {
            Trust::Bad(format!("its signature is not one of the key {id} for this text"))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A key pair as files in `directory`.
    pub(in crate::recording) fn key_files(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let (private, public) = (
            directory.join(format!("{name}.key")),
            directory.join(format!("{name}.pub")),
        );
        std::fs::write(&private, key.serialize_pem()).unwrap();
        std::fs::write(&public, key.public_key_pem()).unwrap();
        (private, public)
    }

    #[derive(Clone, Serialize)]
    struct Note {
        text: &'static str,
        #[serde(flatten)]
        seal: Seal,
    }

    impl Sealed for Note {
        const KIND: &'static str = "note";
        fn seal(&mut self) -> &mut Seal {
            &mut self.seal
        }
    }

    fn trusting(public: &[&Path]) -> TrustedKeys {
        let mut keys = TrustedKeys::default();
        for path in public {
            keys.add(path).unwrap();
        }
        keys
    }

    #[test]
    fn a_signature_holds_for_its_text_and_key_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (key, public) = key_files(directory.path(), "a");
        let (_, other) = key_files(directory.path(), "b");
        let mut note = Note {
            text: "as it was",
            seal: Seal::default(),
        };
        let trusted = trusting(&[&other, &public]);
        assert_eq!(trusted.check(&note), Trust::Unsigned);
        SigningKey::read(&key).unwrap().sign(&mut note);
        assert_eq!(trusted.check(&note), Trust::Good);
        assert_eq!(TrustedKeys::default().check(&note), Trust::Unchecked);
        assert!(matches!(trusting(&[&other]).check(&note), Trust::Bad(_)));
        let changed = Note {
            text: "as it was not",
            ..note.clone()
        };
        assert!(matches!(trusted.check(&changed), Trust::Bad(_)));
        note.seal.key_id = None;
        assert!(matches!(trusted.check(&note), Trust::Bad(_)));
    }

    /// What `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write: a private key without the public one in it.
    #[test]
    fn keys_of_openssl_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let (private, public) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::write(&private, "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIM8Vs9efyq1Ud0N3DPtPuqAZ59LtvHv0GxteYdFMS1RE\n-----END PRIVATE KEY-----\n").unwrap();
        std::fs::write(&public, "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAQRrmWyATMmKCwNZTET8t7qLedNd1AKvzenS+A9tVXOk=\n-----END PUBLIC KEY-----\n").unwrap();
        let mut note = Note {
            text: "x",
            seal: Seal::default(),
        };
        SigningKey::read(&private).unwrap().sign(&mut note);
        assert_eq!(trusting(&[&public]).check(&note), Trust::Good);
        assert!(SigningKey::read(&public).is_err());
        assert!(TrustedKeys::default().add(&private).is_err());
    }
}
