//! A certificate for a terminal becomes the Secret that its pod reads it from.

use super::{ValidWorkspace, metadata};
use crate::labels;
use crate::names::{CERTIFICATE_ENTRIES, TerminalSecretName};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// The Secret of a pod that is about to be made; `contents` in the order of [`CERTIFICATE_ENTRIES`].
pub fn terminal_secret(
    workspace: &ValidWorkspace,
    authority: &str,
    issued_at: Timestamp,
    contents: [String; 3],
) -> Secret {
    let data: BTreeMap<_, _> = CERTIFICATE_ENTRIES
        .map(str::to_owned)
        .into_iter()
        .zip(contents.map(|content| ByteString(content.into_bytes())))
        .collect();
    let annotations = [
        (labels::TERMINAL_AUTHORITY.to_owned(), authority.to_owned()),
        (labels::ISSUED_AT.to_owned(), issued_at.to_string()),
    ];
    Secret {
        metadata: ObjectMeta {
            annotations: Some(annotations.into()),
            ..metadata(workspace, TerminalSecretName::of(&workspace.user).as_str())
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}
