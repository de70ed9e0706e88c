//! A manifest or an index of manifests becomes the platforms that an image is for.

use super::reference::is_digest;
use serde::Deserialize;

/// What is asked for, in the words of `Accept`.
pub const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// What a registry has under the name of an image.
#[derive(Debug, PartialEq, Eq)]
pub enum Document {
    /// One image for each of these platforms.
    Index(Vec<Variant>),
    /// One image; its configuration, by digest, says what it is for.
    Image { config: String },
}

/// One image of an index.
#[derive(Debug, PartialEq, Eq)]
pub struct Variant {
    /// As Go and Kubernetes' Nodes call it, such as `amd64`.
    pub architecture: String,
    pub digest: String,
}

#[derive(Deserialize)]
struct Raw {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

impl Document {
    /// `None` when it is neither. What is in an index for other systems than Linux, or is no image, such as an attestation, is left
    /// out.
    pub fn read(json: &[u8]) -> Option<Self> {
        let raw: Raw = serde_json::from_slice(json).ok()?;
        if let Some(manifests) = raw.manifests {
            let variants = manifests.into_iter().filter_map(|descriptor| {
                let platform = descriptor.platform.filter(|platform| platform.os == "linux")?;
                is_digest(&descriptor.digest).then_some(Variant {
                    architecture: platform.architecture,
                    digest: descriptor.digest,
                })
            });
            return Some(Self::Index(variants.collect()));
        }
        let config = raw.config?.digest;
        is_digest(&config).then_some(Self::Image { config })
    }
}

/// The architecture that an image's configuration names.
pub fn architecture(config: &[u8]) -> Option<String> {
    serde_json::from_slice::<Platform>(config)
        .ok()
        .filter(|platform| platform.os == "linux")
        .map(|platform| platform.architecture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_index_tells_its_platforms() {
        let digest = |c: &str| format!("sha256:{}", c.repeat(64));
        let index = json!({"schemaVersion": 2, "manifests": [
            {"digest": digest("a"), "size": 1, "platform": {"architecture": "amd64", "os": "linux"}},
            {"digest": digest("b"), "size": 1, "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}},
            {"digest": digest("c"), "size": 1, "platform": {"architecture": "amd64", "os": "windows"}},
            {"digest": digest("d"), "size": 1, "platform": {"architecture": "unknown", "os": "unknown"}},
            {"digest": digest("e"), "size": 1},
            {"digest": "../x", "platform": {"architecture": "s390x", "os": "linux"}},
        ]});
        let variant = |architecture: &str, c: &str| Variant {
            architecture: architecture.to_owned(),
            digest: digest(c),
        };
        let expected = Document::Index(vec![variant("amd64", "a"), variant("arm64", "b")]);
        assert_eq!(Document::read(index.to_string().as_bytes()), Some(expected));
    }

    #[test]
    fn an_image_tells_its_configuration() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let image = json!({"schemaVersion": 2, "config": {"digest": digest}, "layers": []}).to_string();
        assert_eq!(
            Document::read(image.as_bytes()),
            Some(Document::Image { config: digest })
        );
        assert_eq!(
            architecture(br#"{"architecture":"arm64","os":"linux"}"#),
            Some("arm64".into())
        );
        assert_eq!(architecture(br#"{"architecture":"amd64","os":"windows"}"#), None);
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"config":{"digest":"../../x"}}"#,
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
        ] {
            assert_eq!(Document::read(bad.as_bytes()), None, "{bad}");
        }
    }
}
