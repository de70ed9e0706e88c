//! Values of the chart become the list of all images that an installation with them runs: what to copy into a closed network.

use super::values::Values;
use super::values::settings::pull_policy;
use crate::registry::{Reference, ReferenceError};
use serde::Serialize;
use serde_json::Value;
use snafu::{ResultExt, Snafu};

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
    /// `latest` when the reference names neither a tag nor a digest.
    pub tag: Option<String>,
    /// Such as `sha256:...`, when the reference names one, or its registry was asked.
    pub digest: Option<String>,
    /// Such as `gateway` or `workspace class gpu`.
    pub used_by: Vec<String>,
    /// Whether some node may pull it; none does where `imagePullPolicy` is `Never`.
    #[serde(skip)]
    pub is_pulled: bool,
}

/// A reference that no registry would take.
#[derive(Debug, PartialEq, Eq, Snafu)]
#[snafu(display(
    "{path} is {reference:?}, and {source}: expected [HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST], such as registry.example.com/devplane:2.0.0"
))]
pub struct BadReference {
    path: String,
    reference: String,
    source: ReferenceError,
}

/// Every image, in the order in which an installation first needs it, each once.
///
/// # Errors
/// When a value names something that is no image reference.
pub fn of(values: &Values) -> Result<Vec<Image>, BadReference> {
    let mut images: Vec<Image> = Vec::new();
    for Use {
        path,
        reference,
        by,
        is_pulled,
    } in uses(values)
    {
        if let Some(known) = images.iter_mut().find(|image| image.reference == reference) {
            known.used_by.push(by);
            known.is_pulled |= is_pulled;
            continue;
        }
        let Reference {
            registry,
            repository,
            tag,
            digest,
        } = reference.parse().context(BadReferenceSnafu {
            path,
            reference: &reference,
        })?;
        images.push(Image {
            reference,
            registry,
            repository,
            tag,
            digest,
            used_by: vec![by],
            is_pulled,
        });
    }
    Ok(images)
}

/// A line for each image: its reference, for a loop that copies; `with_digests` also a tab and the digest, where it is known.
pub fn text(images: &[Image], with_digests: bool) -> String {
    let line = |image: &Image| match image.digest.as_ref().filter(|_| with_digests) {
        Some(digest) => format!("{}\t{digest}\n", image.reference),
        None => format!("{}\n", image.reference),
    };
    images.iter().map(line).collect()
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
    is_pulled: bool,
}

fn uses(values: &Values) -> Vec<Use> {
    let found = |path: &str, reference: String, by: &str, policy: &str| Use {
        path: path.to_owned(),
        reference,
        by: by.to_owned(),
        is_pulled: policy != "Never",
    };
    let policy = values.text("imagePullPolicy");
    let of_workspaces = pull_policy(values);
    let own_or_common = |own: &'static str| if values.text(own).is_empty() { "image" } else { own };
    let mut uses = vec![found(
        own_or_common("operator.image"),
        values.operator_image(),
        "operator",
        &policy,
    )];
    if values.is_true("gateway.enabled") {
        let path = own_or_common("gateway.image");
        uses.push(found(path, values.gateway_image(), "gateway", &policy));
    }
    let image = values.workspace_image();
    uses.push(found("workspace.image", image, "workspace", &of_workspaces));
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
                field("imagePullPolicy").unwrap_or(&of_workspaces),
            ));
        }
    }
    // Patterns are no images.
    for (index, reference) in values.texts("workspace.allowedImages").into_iter().enumerate() {
        if !reference.ends_with('*') {
            let path = format!("workspace.allowedImages[{index}]");
            uses.push(found(&path, reference, "workspace.allowedImages", &of_workspaces));
        }
    }
    let (images, _) = in_extra_objects(values);
    // What they say of pulling is not read: their images are looked for.
    uses.extend(
        images
            .into_iter()
            .map(|(path, reference)| found(&path, reference, &path, "")),
    );
    uses
}

/// Which of `extraObjects` have an `image` that is not in the list, since it is made by a template, or names no image.
pub fn left_out(values: &Values) -> Vec<String> {
    let (_, mut paths) = in_extra_objects(values);
    paths.dedup();
    paths
}

/// The images of `extraObjects` with where they stand, and where an `image` is none: objects may be of any kind and hold templates.
fn in_extra_objects(values: &Values) -> (Vec<(String, String)>, Vec<String>) {
    let (mut images, mut others) = (Vec::new(), Vec::new());
    let objects = values.get("extraObjects").as_array().map_or(&[][..], Vec::as_slice);
    for (index, object) in objects.iter().enumerate() {
        let path = format!("extraObjects[{index}]");
        let mut named = Vec::new();
        images_in(object, &mut named);
        for text in named {
            match text.parse::<Reference>() {
                Ok(_) => images.push((path.clone(), text)),
                Err(ReferenceError::Empty) => {}
                Err(_) => others.push(path.clone()),
            }
        }
    }
    (images, others)
}

/// What `image` is anywhere in an object; in a text, each line that gives one.
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
            let without_comment = given.map(|text| text.split_once(" #").map_or(text, |(text, _)| text));
            into.extend(without_comment.map(|text| text.trim().trim_matches(['"', '\'']).to_owned()));
        }
        _ => {}
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
        super::text(&of(&values(text)).unwrap(), false)
    }

    #[test]
    fn the_defaults_need_two_images() {
        let images = of(&values("{}")).unwrap();
        assert_eq!(
            text(&images, true),
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
                 classes: [{name: gpu, image: 'r.example/gpu:1'}, {name: small}, {name: same, image: w:1}], allowedImages: [w:1, 'r.example/*', a:2]}}"
            ),
            "r.example:5000/a/devplane:2\nr.example:5000/a/gateway:2\nw:1\nr.example/gpu:1\na:2\n"
        );
    }

    #[test]
    fn images_of_extra_objects_count() {
        let given = "{image: d:1, workspace: {image: w:1}, extraObjects: [{kind: Pod, spec: {containers: [{name: a, image: a:1}]}}, \
                     \"kind: Pod\\nspec:\\n  containers:\\n  - image: 'b:1'\\n  - image: {{ .Values.image }}\\n\"]}";
        assert_eq!(lines(given), "d:1\nw:1\na:1\nb:1\n");
    }

    #[test]
    fn what_is_no_image_in_extra_objects_is_left_out_and_told() {
        let given = "{image: d:1, workspace: {image: w:1}, extraObjects: [{image: '{{ .Values.image }}'}, {image: ''}, \
                     \"  image: c:1  # pinned\\n  image:\\n    repository: x\\n\", {image: {repository: a}}, \
                     \"config: |\\n  image: {repository: a}\\n\", [{image: 'a b'}, {image: 'a b'}, {image: e:1}]]}";
        assert_eq!(lines(given), "d:1\nw:1\nc:1\ne:1\n");
        assert_eq!(
            left_out(&values(given)),
            ["extraObjects[0]", "extraObjects[4]", "extraObjects[5]"]
        );
    }

    #[test]
    fn an_image_is_pulled_unless_no_use_of_it_lets_it_be() {
        let pulled = |text: &str| {
            let images = of(&values(text)).unwrap().into_iter();
            images.filter(|image| image.is_pulled).map(|image| image.reference)
        };
        let given = |policies: &str| {
            format!("{{image: d:1, {policies}, workspace: {{image: w:1, classes: [{{name: a, image: c:1}}]}}}}")
        };
        assert_eq!(pulled(&given("imagePullPolicy: Never")).count(), 0);
        assert_eq!(pulled(&given("imagePullPolicy: IfNotPresent")).count(), 3);
        let own = "{imagePullPolicy: Never, image: d:1, workspace: {image: w:1, imagePullPolicy: Always, \
                   classes: [{name: a, image: a:1}, {name: b, image: b:1, imagePullPolicy: Never}, {name: c, image: d:1}]}}";
        assert!(pulled(own).eq(["d:1", "w:1", "a:1"]));
    }

    #[test]
    fn without_a_gateway_its_image_is_not_needed() {
        let given = "{operator: {image: o:1}, gateway: {enabled: false, image: g:1}, workspace: {image: w:1}}";
        assert_eq!(lines(given), "o:1\nw:1\n");
    }

    #[test]
    fn what_is_no_reference_is_refused_by_the_name_of_its_key() {
        for reference in [
            "a b",
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
