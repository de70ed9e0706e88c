//! Values become the images that they name, as their registries have them for the nodes that are to run them.

use crate::causes::with_causes;
use crate::doctor::check::Status;
use crate::doctor::context::Context;
use crate::doctor::images::{self, Image};
use crate::doctor::values::Values;
use crate::registry::{Credentials, CredentialsError, Found, Reference, ReferenceError, RegistryClient, RegistryError};
use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::{Api, Client};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Why nothing is known of them without values.
pub const BY_VALUES_ONLY: &str = "the images are known from --values only";

/// Registries that are asked at once.
const CONCURRENT: usize = 4;

/// What is known of all images.
pub struct Images {
    pub all: Vec<Looked>,
    /// Why the images are not known, when they are not.
    pub unknown: Option<String>,
    /// Why the architectures of the nodes are not known, when they are not.
    pub nodes_unknown: Option<String>,
}

/// One image.
pub struct Looked {
    pub name: String,
    /// The keys of the values or the components that want it.
    pub used_by: Vec<String>,
    pub is_pulled: bool,
    pub reference: Result<Reference, ReferenceError>,
    /// Architectures of the nodes that it may run on.
    pub wanted: BTreeSet<String>,
    /// The namespace of the pods, and the pull secrets that they get.
    pub namespace: String,
    pub secrets: Vec<String>,
    /// Pull secrets that can't be used, and why.
    pub broken: Vec<Broken>,
    /// `None` for one that names no registry, or is not pulled.
    pub found: Option<Result<Found, RegistryError>>,
}

/// A pull secret that no kubelet could use.
#[derive(Clone, Debug)]
pub enum Broken {
    Missing { name: String },
    Unreadable { why: String },
    Malformed { source: CredentialsError },
}

/// What pods that run an image have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pods {
    namespace: String,
    secrets: Vec<String>,
    /// A node fits that has all labels of one of them.
    selectors: Vec<BTreeMap<String, String>>,
}

/// Asks for all of them.
pub async fn look(context: &Context) -> Images {
    let nothing = |why: &str| Images {
        all: vec![],
        unknown: Some(why.to_owned()),
        nodes_unknown: None,
    };
    let Some(values) = &context.installation.values else {
        return nothing(BY_VALUES_ONLY);
    };
    let tls = match context.gateway_authorities().await.client() {
        Ok(tls) => tls,
        Err(error) => return nothing(&error.to_string()),
    };
    let registries = RegistryClient::new(tls, BTreeSet::new());
    let client = context.client().ok();
    let nodes = nodes(context).await;
    let named = match images::of(values) {
        Ok(named) => named,
        Err(malformed) => return nothing(&malformed.to_string()),
    };
    let mut uses = Vec::new();
    let mut pulls = BTreeMap::new();
    for image in named {
        let mut users: BTreeMap<Pods, Vec<String>> = BTreeMap::new();
        for by in image.used_by.clone() {
            users.entry(Pods::of(&by, context, values)).or_default().push(by);
        }
        for (pods, used_by) in users {
            if !pulls.contains_key(&pods) {
                pulls.insert(pods.clone(), Pulls::of(&pods, client).await);
            }
            let image = Image {
                used_by,
                ..image.clone()
            };
            uses.push((image, pods));
        }
    }
    let asked = uses
        .into_iter()
        .map(|(image, pods)| one(&registries, image, &pulls[&pods], wanted(&nodes, &pods)));
    Images {
        all: stream::iter(asked).buffered(CONCURRENT).collect().await,
        unknown: None,
        nodes_unknown: nodes.err(),
    }
}

impl Context {
    /// Gives each image the digest that its registry has for it. What has none is told, with the reason.
    pub async fn resolve(&self, images: &mut [Image]) -> Vec<String> {
        let Images { all, unknown, .. } = self.images().await;
        let mut without = Vec::new();
        for image in images {
            let seen = all.iter().find(|seen| seen.name == image.reference);
            let why = match seen.and_then(|seen| seen.found.as_ref()) {
                Some(Ok(found)) => {
                    image.digest = Some(found.digest.clone());
                    continue;
                }
                Some(Err(error)) => with_causes(error),
                None if !image.is_pulled => "its imagePullPolicy is Never, so that no registry is asked".to_owned(),
                None => unknown.clone().unwrap_or_else(|| "it names no registry".to_owned()),
            };
            without.push(format!("{}: {why}", image.reference));
        }
        without
    }
}

async fn one(registries: &RegistryClient, image: Image, pulls: &Pulls, wanted: BTreeSet<String>) -> Looked {
    let reference: Result<Reference, _> = image.reference.parse();
    let found = match &reference {
        Ok(reference) if reference.registry.is_some() && image.is_pulled => {
            let logins = pulls.credentials.of(reference);
            Some(registries.find(reference, &logins, &wanted).await)
        }
        _ => None,
    };
    Looked {
        name: image.reference,
        used_by: image.used_by,
        is_pulled: image.is_pulled,
        reference,
        wanted,
        namespace: pulls.namespace.clone(),
        secrets: pulls.names.clone(),
        broken: pulls.broken.clone(),
        found,
    }
}

/// Pull secrets of some pods.
struct Pulls {
    namespace: String,
    names: Vec<String>,
    credentials: Credentials,
    broken: Vec<Broken>,
}

impl Pulls {
    async fn of(pods: &Pods, client: Option<&Client>) -> Self {
        let mut pulls = Self {
            namespace: pods.namespace.clone(),
            names: pods.secrets.clone(),
            credentials: Credentials::default(),
            broken: vec![],
        };
        for name in pulls.names.clone() {
            if let Err(broken) = pulls.read(&name, client).await {
                pulls.broken.push(broken);
            }
        }
        pulls
    }

    async fn read(&mut self, name: &str, client: Option<&Client>) -> Result<(), Broken> {
        let unreadable = |why: String| Broken::Unreadable {
            why: format!("Secret {name} of namespace {} can't be read: {why}", self.namespace),
        };
        let client = client.ok_or_else(|| unreadable("there is no API server to ask".to_owned()))?;
        let secret = Api::<Secret>::namespaced(client.clone(), &self.namespace)
            .get_opt(name)
            .await;
        let secret = secret.map_err(|error| unreadable(with_causes(&error)))?;
        let secret = secret.ok_or_else(|| Broken::Missing { name: name.to_owned() })?;
        let added = add(&mut self.credentials, name, &secret);
        added.map_err(|source| Broken::Malformed { source })
    }
}

/// What a pull secret holds, as a kubelet reads it.
///
/// # Errors
/// When a kubelet could not use it.
pub fn add(credentials: &mut Credentials, name: &str, secret: &Secret) -> Result<(), CredentialsError> {
    let entry = |key: &str| Some(secret.data.as_ref()?.get(key)?.0.as_slice());
    credentials.add(name, secret.type_.as_deref().unwrap_or("Opaque"), entry)
}

impl Pods {
    /// By what an image is said to be used by: see [`images::of`].
    fn of(by: &str, context: &Context, values: &Values) -> Self {
        let installation = &context.installation;
        if !by.starts_with("workspace") {
            let secrets = values.get("imagePullSecrets");
            return Self {
                namespace: installation.namespace.clone(),
                secrets: secret_names(secrets),
                selectors: ["operator.nodeSelector", "gateway.nodeSelector"]
                    .map(|key| labels(values.get(key)))
                    .to_vec(),
            };
        }
        let class = by.strip_prefix("workspace class ").and_then(|name| {
            let classes = values.get("workspace.classes").as_array()?;
            classes.iter().find(|class| class["name"] == name)
        });
        // A field of a class takes the place of the common one.
        let setting = |field: &str| {
            let own = class.map(|class| &class["pod"][field]).filter(|own| !own.is_null());
            own.unwrap_or_else(|| values.get(&format!("workspace.pod.{field}")))
        };
        Self {
            namespace: installation.workspaces.clone(),
            secrets: secret_names(setting("imagePullSecrets")),
            selectors: vec![labels(setting("nodeSelector"))],
        }
    }
}

/// The control plane's are `{name: ...}`, as in a pod; the workspaces' are names.
fn secret_names(secrets: &Value) -> Vec<String> {
    let items = secrets.as_array().map_or(&[][..], Vec::as_slice);
    let names = items
        .iter()
        .filter_map(|item| item["name"].as_str().or_else(|| item.as_str()));
    names.map(str::to_owned).collect()
}

fn labels(selector: &Value) -> BTreeMap<String, String> {
    let labels = selector.as_object().into_iter().flatten();
    labels
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

type Labelled = (BTreeMap<String, String>, String);

/// Labels and architecture of each node.
async fn nodes(context: &Context) -> Result<Vec<Labelled>, String> {
    let nodes: Vec<Node> = context.list_global().await.map_err(|status| match status {
        Status::Skip { why } => why,
        Status::Fail(failure) => format!("{}: {}", failure.problem, failure.found),
        Status::Pass { evidence } => evidence,
    })?;
    let described = nodes.into_iter().filter_map(|node| {
        let architecture = node.status?.node_info?.architecture;
        Some((node.metadata.labels.unwrap_or_default(), architecture))
    });
    let described: Vec<_> = described.filter(|(_, architecture)| !architecture.is_empty()).collect();
    if described.is_empty() {
        return Err("no node tells its architecture".to_owned());
    }
    Ok(described)
}

/// The architectures of the nodes that pods may run on, by their node selectors.
fn wanted(nodes: &Result<Vec<Labelled>, String>, pods: &Pods) -> BTreeSet<String> {
    let fits = |labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>| {
        selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let nodes = nodes.as_ref().map_or(&[][..], Vec::as_slice);
    let fitting = nodes
        .iter()
        .filter(|(labels, _)| pods.selectors.iter().any(|selector| fits(labels, selector)));
    fitting.map(|(_, architecture)| architecture.clone()).collect()
}
