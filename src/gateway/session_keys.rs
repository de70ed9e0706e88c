//! A Secret becomes the keys that cookies are encrypted with; the first gateway to start makes it.
//!
//! The Secret `workspace-gateway-session-keys` has one entry, `keys`: a line for each key, 64 random bytes in base64. The first
//! line encrypts and every line decrypts. To rotate: put a new line in front, restart the gateways one by one, and take the old
//! line away when the last session of its time has ended.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cookie::Key;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use snafu::{ResultExt, Snafu, ensure};

const NAME: &str = "workspace-gateway-session-keys";
const ENTRY: &str = "keys";
const KEY_BYTES: usize = 64;

/// Why there are no keys. Holds nothing of the Secret's content.
#[derive(Debug, Snafu)]
pub enum KeysError {
    #[snafu(display("can't read the Secret {NAME} in {namespace}: {source}"))]
    Read { namespace: String, source: kube::Error },
    #[snafu(display("can't make the Secret {NAME} in {namespace}: {source}"))]
    Create { namespace: String, source: kube::Error },
    #[snafu(display(
        "the Secret {NAME} in {namespace} is not usable: expected an entry {ENTRY} with a line of base64 for each key of {KEY_BYTES} bytes; delete the Secret to have it made anew, which signs everyone out"
    ))]
    Unusable { namespace: String },
}

impl KeysError {
    /// Whether trying again may help: the API server may be away for a moment.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Unusable { .. })
    }
}

/// Reads the keys, and makes them when nobody has yet.
///
/// # Errors
/// When the API server refuses, or the Secret holds something else.
pub async fn load(client: &Client, namespace: &str) -> Result<Vec<Key>, KeysError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let read = || async { secrets.get_opt(NAME).await.context(ReadSnafu { namespace }) };
    let secret = match read().await? {
        Some(secret) => Some(secret),
        None => match secrets.create(&PostParams::default(), &fresh()).await {
            Ok(secret) => {
                tracing::info!(namespace, secret = NAME, "made the keys for sessions");
                Some(secret)
            }
            // Another replica was quicker (409): its keys are the keys.
            Err(kube::Error::Api(status)) if status.code == 409 => read().await?,
            Err(source) => return Err(source).context(CreateSnafu { namespace }),
        },
    };
    let entry = secret.and_then(|secret| secret.data?.remove(ENTRY));
    let keys = entry.and_then(|ByteString(text)| parse(&text)).unwrap_or_default();
    ensure!(!keys.is_empty(), UnusableSnafu { namespace });
    Ok(keys)
}

fn fresh() -> Secret {
    let line = STANDARD.encode(Key::generate().master());
    Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some([(ENTRY.to_owned(), ByteString(line.into_bytes()))].into()),
        ..Secret::default()
    }
}

/// All lines, or none when one of them is no key.
fn parse(text: &[u8]) -> Option<Vec<Key>> {
    let lines = std::str::from_utf8(text)
        .ok()?
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let bytes = STANDARD.decode(line).ok()?;
            (bytes.len() == KEY_BYTES).then(|| Key::try_from(bytes.as_slice()).ok())?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_lines_of_base64() {
        let made = fresh().data.unwrap().remove(ENTRY).unwrap().0;
        assert_eq!(parse(&made).unwrap().len(), 1);
        let two = [
            made.as_slice(),
            b"\n\n",
            fresh().data.unwrap().remove(ENTRY).unwrap().0.as_slice(),
            b"\n",
        ]
        .concat();
        assert_eq!(parse(&two).unwrap().len(), 2);
        assert_eq!(parse(b"").unwrap().len(), 0);
        assert!(parse(b"c2hvcnQ=").is_none());
        assert!(parse(&[made.as_slice(), b"\nno base64"].concat()).is_none());
        assert!(parse(b"\xff").is_none());
    }
}
