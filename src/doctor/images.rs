//! Values of the chart become the list of all images that an installation with them runs: what to copy into a closed network.

use super::values::Values;
use serde::Serialize;
use serde_json::Value;
use snafu::Snafu;

/// An image, and what of the installation runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// As nodes are told it.
    pub reference: String,
    /// The host, with its port when it has one; none when the nodes' own configuration decides.
    pub registry: Option<String>,
    /// The path at the registry.
    pub repository: String,
    pub tag: Option<String>,
    /// Such as `sha256:...`, when the reference names one.
    pub digest: Option<String>,
    /// Such as `gateway` or `workspace class gpu`.
    pub used_by: Vec<String>,
}

/// A reference that no registry would take.
#[derive(Debug, PartialEq, Eq, Snafu)]
#[snafu(display(
    "{path} is {reference:?}: expected [HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST], such as registry.example.com/devplane:2.0.0"
))]
pub struct BadReference {
    path: String,
    reference: String,
}

/// Every image, in the order in which an installation first needs it, each once.
///
/// # Errors
/// When a value names something that is no image reference.
pub fn of(values: &Values) -> Result<Vec<Image>, BadReference> {
    let mut images: Vec<Image> = Vec::new();
    for Use { path, reference, by } in uses(values) {
        if let Some(known) = images.iter_mut().find(|image| image.reference == reference) {
            known.used_by.push(by);
            continue;
        }
        let mut image = parse(&reference).ok_or(BadReference { path, reference })?;
        image.used_by.push(by);
        images.push(image);
    }
    Ok(images)
}

/// A line for each image: its reference alone, for a loop that copies.
pub fn text(images: &[Image]) -> String {
    images.iter().map(|image| format!("{}\n", image.reference)).collect()
}

/// `{"images": [...]}`, for programs.
pub fn json(images: &[Image]) -> String {
    format!("{:#}\n", serde_json::json!({ "images": images }))
}

/// Where a value names an image, and for what.
struct Use {
    path: String,
    reference: String,
    by: String,
}

fn uses(values: &Values) -> Vec<Use> {
    let found = |path: &str, reference: String, by: &str| Use {
        path: path.to_owned(),
        reference,
        by: by.to_owned(),
    };
    let own_or_common = |own: &'static str| if values.text(own).is_empty() { "image" } else { own };
    let mut uses = vec![found(
        own_or_common("operator.image"),
        values.operator_image(),
        "operator",
    )];
    if values.is_true("gateway.enabled") {
        uses.push(found(own_or_common("gateway.image"), values.gateway_image(), "gateway"));
    }
    uses.push(found("workspace.image", values.workspace_image(), "workspace"));
    let classes = values
        .get("workspace.classes")
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    for (index, class) in classes.iter().enumerate() {
        let field = |key: &str| class[key].as_str().filter(|text| !text.is_empty());
        if let Some(reference) = field("image") {
            let by = format!("workspace class {}", field("name").unwrap_or("without a name"));
            uses.push(found(
                &format!("workspace.classes[{index}].image"),
                reference.to_owned(),
                &by,
            ));
        }
    }
    let extra = values.get("extraObjects").as_array().map_or(&[][..], Vec::as_slice);
    for (index, object) in extra.iter().enumerate() {
        let mut references = Vec::new();
        images_in(object, &mut references);
        let path = format!("extraObjects[{index}]");
        uses.extend(references.into_iter().map(|reference| found(&path, reference, &path)));
    }
    uses
}

/// What `image` is anywhere in an object. Objects may be texts with templates in them: there it is each line that gives one, unless it
/// is made by a template.
fn images_in(object: &Value, into: &mut Vec<String>) {
    match object {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(reference) if key == "image" => into.push(reference.to_owned()),
                    _ => images_in(value, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| images_in(item, into)),
        Value::String(text) => {
            let given = text
                .lines()
                .filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("image:"));
            let references = given.map(|text| text.trim().trim_matches(['"', '\'']).to_owned());
            into.extend(references.filter(|text| !text.is_empty() && !text.contains("{{")));
        }
        _ => {}
    }
}

/// Takes a reference apart by the grammar of the OCI distribution specification (1.1, "Pulling manifests") and of container
/// engines: the part before the first slash is a host when it has a dot or a port, or is `localhost`.
fn parse(reference: &str) -> Option<Image> {
    let (rest, digest) = match reference.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (reference, None),
    };
    let (rest, tag) = match rest.rsplit_once(':') {
        Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag)),
        _ => (rest, None),
    };
    let (registry, repository) = match rest.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, rest),
    };
    let well_formed = repository.split('/').all(is_path_component)
        && registry.is_none_or(is_host)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    well_formed.then(|| Image {
        reference: reference.to_owned(),
        registry: registry.map(str::to_owned),
        repository: repository.to_owned(),
        tag: tag.map(str::to_owned),
        digest: digest.map(str::to_owned),
        used_by: Vec::new(),
    })
}

fn is_path_component(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(fits) && text.ends_with(fits) && text.chars().all(|c| fits(c) || "._-".contains(c))
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c))
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.starts_with(word) && text.chars().all(|c| word(c) || ".-".contains(c))
}

fn is_digest(text: &str) -> bool {
    let is_hex = |hex: &str, length| hex.len() == length && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    match text.split_once(':') {
        Some(("sha256", hex)) => is_hex(hex, 64),
        Some(("sha512", hex)) => is_hex(hex, 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = env!("CARGO_PKG_VERSION");

    fn values(text: &str) -> Values {
        Values::try_from(text).unwrap()
    }

    fn lines(text: &str) -> String {
        super::text(&of(&values(text)).unwrap())
    }

    #[test]
    fn the_defaults_need_two_images() {
        let images = of(&values("{}")).unwrap();
        assert_eq!(
            text(&images),
            format!("devplane:{VERSION}\ndevplane-workspace:{VERSION}\n")
        );
        assert_eq!(images[0].used_by, ["operator", "gateway"]);
        assert_eq!((&images[0].registry, &images[0].digest), (&None, &None));
    }

    #[test]
    fn every_place_that_names_an_image_counts() {
        assert_eq!(
            lines(
                "{image: r.example:5000/a/devplane:2, gateway: {image: 'r.example:5000/a/gateway:2'}, workspace: {image: w:1, \
                 classes: [{name: gpu, image: 'r.example/gpu:1'}, {name: small}, {name: same, image: w:1}]}}"
            ),
            "r.example:5000/a/devplane:2\nr.example:5000/a/gateway:2\nw:1\nr.example/gpu:1\n"
        );
    }

    #[test]
    fn images_of_extra_objects_count() {
        let given = "{image: d:1, workspace: {image: w:1}, extraObjects: [{kind: Pod, spec: {containers: [{name: a, image: a:1}]}}, \
                     \"kind: Pod\\nspec:\\n  containers:\\n  - image: 'b:1'\\n  - image: {{ .Values.image }}\\n\"]}";
        assert_eq!(lines(given), "d:1\nw:1\na:1\nb:1\n");
    }

    #[test]
    fn without_a_gateway_its_image_is_not_needed() {
        let given = "{operator: {image: o:1}, gateway: {enabled: false, image: g:1}, workspace: {image: w:1}}";
        assert_eq!(lines(given), "o:1\nw:1\n");
    }

    #[test]
    fn a_reference_is_taken_apart() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let image = parse(&format!("localhost:5000/team/app:v1.2@{digest}")).unwrap();
        assert_eq!(image.registry.as_deref(), Some("localhost:5000"));
        assert_eq!(
            (image.repository.as_str(), image.tag.as_deref()),
            ("team/app", Some("v1.2"))
        );
        assert_eq!(image.digest, Some(digest));
        let image = parse("team/app").unwrap();
        assert_eq!(
            (image.registry, image.repository.as_str(), image.tag),
            (None, "team/app", None)
        );
    }

    #[test]
    fn what_is_no_reference_is_refused_by_the_name_of_its_key() {
        for reference in [
            "a b",
            "A/b",
            "r.example:5000/",
            "a:",
            "a@sha256:12",
            "a@md5:12",
            "-a",
            "r.example/a//b",
            "a:b/c:",
        ] {
            let given = format!("{{workspace: {{image: {reference:?}}}}}");
            let refused = of(&values(&given)).unwrap_err().to_string();
            assert!(refused.starts_with("workspace.image is"), "{reference}: {refused}");
        }
        let class = of(&values("{workspace: {classes: [{name: gpu, image: 'a b'}]}}")).unwrap_err();
        assert!(
            class.to_string().starts_with("workspace.classes[0].image is"),
            "{class}"
        );
    }
}
