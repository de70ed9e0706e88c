//! A pod template becomes a short hash that differs when anything in the template does.

use data_encoding::HEXLOWER;
use k8s_openapi::api::core::v1::PodSpec;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The first 64 bits of the SHA-256 of the template as JSON, with the labels and annotations that a platform team sets, in hex.
pub fn template_hash(
    spec: &PodSpec,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> String {
    let json = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default();
    // Maps in these types are ordered, so equal templates give equal text.
    let mut hash = Sha256::new().chain_update(json(serde_json::to_vec(spec)));
    if !labels.is_empty() || !annotations.is_empty() {
        hash.update(json(serde_json::to_vec(&(labels, annotations))));
    }
    HEXLOWER.encode(&hash.finalize()[..8])
}
