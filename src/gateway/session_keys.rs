//! A Secret becomes the keys that cookies are encrypted with; the first gateway to start makes it.
//!
//! [`crate::cluster::session_keys`] says what the Secret holds. The first line encrypts and every line decrypts. The Secret is read again every few seconds, and a new first line encrypts only when the
//! other gateways had time to read it too. To rotate: put a new line in front, and take the old one away when the last session
//! of its time has ended.

use super::session::Cookies;
use crate::cluster::session_keys::{ENTRY, KEY_BYTES, NAME, parse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cookie::Key;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use snafu::{ResultExt, Snafu, ensure};
use std::time::Duration;
use tokio::time::sleep;

const READ_EVERY: Duration = Duration::from_secs(10);
/// One for reading it here, one for the other gateways, one for an API server that was slow.
const READ_BEFORE_USE: u32 = 3;

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
    let keys: Vec<Key> = keys.iter().map(|bytes| Key::from(bytes)).collect();
    ensure!(!keys.is_empty(), UnusableSnafu { namespace });
    Ok(keys)
}

/// Keeps the cookies' keys as the Secret has them. Never ends. While the Secret can't be used, the last keys stay.
pub async fn follow(client: &Client, namespace: &str, cookies: &Cookies) {
    let mut last: Vec<Key> = Vec::new();
    let mut times = 0;
    loop {
        sleep(READ_EVERY).await;
        let read = match load(client, namespace).await {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "the keys for sessions stay as they are");
                continue;
            }
        };
        times = if read == last { times + 1 } else { 1 };
        let current = cookies.keys();
        let next = next(&current, &read, times);
        if next.first() != current.first() {
            tracing::info!(namespace, secret = NAME, "cookies are encrypted with another key");
        }
        cookies.set_keys(next);
        last = read;
    }
}

/// The keys to go on with when `read` was read so many times: the key that encrypts now stays in front until all gateways can have
/// read the others, unless it is gone.
fn next(current: &[Key], read: &[Key], times: u32) -> Vec<Key> {
    match current.first() {
        Some(encrypting) if times < READ_BEFORE_USE && read.contains(encrypting) => {
            let others = read.iter().filter(|key| *key != encrypting);
            std::iter::once(encrypting).chain(others).cloned().collect()
        }
        _ => read.to_vec(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_read_by_all_before_it_is_used_by_one() {
        let (old, new) = (Key::from(&[1; 64]), Key::from(&[2; 64]));
        let (before, both) = (vec![old.clone()], vec![new.clone(), old.clone()]);
        let waiting = vec![old.clone(), new.clone()];
        assert_eq!(next(&before, &both, 1), waiting);
        assert_eq!(next(&waiting, &both, 2), waiting);
        assert_eq!(next(&waiting, &both, 3), both);
        let only = std::slice::from_ref(&new);
        assert_eq!(next(&both, only, 1), only);
        // Whoever takes the old one away at once wants it gone.
        assert_eq!(next(&before, only, 1), only);
    }

    #[test]
    fn what_is_made_is_one_key() {
        let made = fresh().data.unwrap().remove(ENTRY).unwrap().0;
        assert_eq!(parse(&made).unwrap().len(), 1);
    }
}
