//! A pod template becomes a short hash that differs when anything in the template does.

use data_encoding::HEXLOWER;
use k8s_openapi::api::core::v1::PodSpec;
use sha2::{Digest, Sha256};

/// The first 64 bits of the SHA-256 of the template as JSON, in hex.
pub fn template_hash(spec: &PodSpec) -> String {
    // Maps in these types are ordered, so equal templates give equal text.
    let text = serde_json::to_vec(spec).unwrap_or_default();
    HEXLOWER.encode(&Sha256::digest(text)[..8])
}
