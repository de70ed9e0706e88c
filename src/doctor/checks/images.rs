//! DP05: authorities, registries and images become the claims that nodes will get what they are to run.

use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::super::images;
use super::super::outside::authorities::{Authorities, Given};
use super::super::outside::images::{BY_VALUES_ONLY, Broken, Images, Looked};
use super::super::values::public_hosts::{self, Mention};
use super::outcome;
use crate::clock::{Clock, SystemClock};
use crate::registry::{RegistryError, Stage};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

pub const CHECKS: &[Check] = &[
    AUTHORITIES.check(|context| Box::pin(authorities(context))),
    AUTHORITIES_LAST.check(|context| Box::pin(authorities_last(context))),
    NAMES.check(|context| Box::pin(names(context))),
    REGISTRY_NAMED.check(|context| Box::pin(registry_named(context))),
    ANSWERS.check(|context| Box::pin(answers(context))),
    LOGINS.check(|context| Box::pin(logins(context))),
    PRESENT.check(|context| Box::pin(present(context))),
    ARCHITECTURES.check(|context| Box::pin(architectures(context))),
    NOT_PUBLIC.check(|context| Box::pin(not_public(context))),
];

/// How long a certificate should last.
pub const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

const AUTHORITIES: Claim = Claim::error("DP0501", "the certificate authorities that are given can be used")
    .why("The gateway does not start with a bundle that it can't read, and reaches nobody whose authority has expired.")
    .needs(&["DP0101"])
    .docs(
        "The gateway's authorities (`gateway.tls.customCABundle`, else `customCA`) and the workspaces' (`workspace.defaultCABundle`, else \
         `customCA`) are PEM blocks with X.509 certificates, and at least one of each is valid now. That the ConfigMaps are there is DP0413.",
    );

const AUTHORITIES_LAST: Claim = Claim::warning(
    "DP0502",
    "each of the given certificate authorities is valid for 30 more days",
)
.why("Sign-in, images and mirrors fail on the day on which their authority expires.")
.needs(&["DP0501"])
.docs("Every certificate of the bundle is an authority, has begun and does not end within 30 days.");

const NAMES: Claim = Claim::error("DP0503", "each image is named as container runtimes read it")
    .why("A pod with a malformed image name never starts (`InvalidImageName`).")
    .needs(&["DP0101"])
    .docs("Every image of the values, by the grammar that container runtimes share. In `extraObjects`, what is no such name (a template, another kind of `image`) is left out; `devplane doctor images` tells of it.");

const REGISTRY_NAMED: Claim = Claim::warning("DP0504", "each image names its registry")
    .why("Without a registry each node decides by itself where to look: in a closed network usually nowhere.")
    .needs(&["DP0503"])
    .docs(
        "An image without a registry works where all nodes have it already. It can't be looked for, so DP0505 to DP0508 leave it out. They also \
         leave out an image whose `imagePullPolicy` is `Never` for all that use it: nodes must have it, and no registry needs to.",
    );

const ANSWERS: Claim = Claim::error("DP0505", "the registries answer")
    .why("Nodes pull images from there.")
    .needs(&["DP0501", "DP0503"])
    .patience(25)
    .docs(
        "Each registry that an image names is asked from where the doctor runs, over TLS that trusts the system's authorities and the \
         gateway's. Nodes have authorities of their own, which the doctor does not see.",
    );

const LOGINS: Claim = Claim::error("DP0506", "the registries let the pull secrets in")
    .why("Pods whose pull secret is missing or wrong stay in `ImagePullBackOff`.")
    .needs(&["DP0505"])
    .patience(25)
    .docs(
        "Where a registry wants a login, the pull secrets of the pods are tried as a kubelet does it: `imagePullSecrets` for the control plane, \
         `workspace.pod.imagePullSecrets` for workspaces. HTTP Basic and token servers are known; passwords are never printed. That the Secrets \
         are there is DP0412.",
    );

const PRESENT: Claim = Claim::error("DP0507", "each image is in its registry")
    .why("A pod whose image is not there stays in `ImagePullBackOff`.")
    .needs(&["DP0505"])
    .patience(25)
    .docs("The manifest of each image is fetched by its digest, or its tag where it has none (OCI Distribution Specification). No layer is pulled.");

const ARCHITECTURES: Claim = Claim::error("DP0508", "each image is there for every architecture of its nodes")
    .why("On a node of another architecture the pod does not start (`no match for platform`, `exec format error`).")
    .needs(&["DP0507"])
    .patience(25)
    .docs(
        "The architectures of the nodes that the node selectors choose, against the image's index or configuration. What an index lists must \
         be there, too: a mirror may have copied one of several.",
    );

const NOT_PUBLIC: Claim = Claim::warning("DP0509", "no value leads to a public registry or package index")
    .why("In a closed network it is not reached; elsewhere users fetch what nobody has looked at.")
    .docs(
        "Every text of the values files is searched for the hosts of well-known public registries and package indexes: images, `extraObjects`, \
         mirrors, policies and all the rest. Who wants one of them leaves this check out (`--skip DP0509`).",
    );

async fn not_public(context: Arc<Context>) -> Status {
    let Some(values) = &context.installation.values else {
        return Status::skip("values alone name them: give --values");
    };
    let found = public_hosts::in_values(values.given());
    if found.is_empty() {
        return Status::pass("none of the well-known ones");
    }
    let told: Vec<_> = found
        .iter()
        .map(|Mention { path, host }| format!("{path} names {host}"))
        .collect();
    Status::fail(
        told.join("\n"),
        format!("{} values", found.len()),
        "registries and indexes of your own",
        Fix::words(
            "copy what is there to your registry or mirror, and put that name into the values; `devplane doctor images` lists the images",
        ),
    )
}

async fn authorities(context: Arc<Context>) -> Status {
    let now = SystemClock.now();
    let of = [
        usable("the gateway", context.gateway_authorities().await, now),
        usable("workspaces", context.workspace_authorities().await, now),
    ];
    outcome::all(of.to_vec(), "nothing is known of them")
}

fn usable(whose: &str, given: &Given, now: Timestamp) -> Status {
    let Authorities { from, facts, .. } = match given {
        Given::Nothing => return Status::pass("none are given: the system's are trusted"),
        // That it is not there is DP0413's.
        Given::Unknown { why } | Given::Missing { why } => return Status::skip(why.as_str()),
        Given::Unusable { from, problem } => {
            return Status::fail(
                format!("{whose} can't use the authorities in {from}: {problem}"),
                problem.as_str(),
                "certificates in PEM form",
                Fix::words(format!(
                    "put PEM blocks `-----BEGIN CERTIFICATE-----` into {from}, one for each authority, and nothing else"
                )),
            );
        }
        Given::Authorities(given) => given,
    };
    if facts.iter().any(|facts| facts.is_valid_at(now)) {
        return Status::pass(format!("{} in {from}", facts.len()));
    }
    let found: Vec<_> = facts.iter().map(ToString::to_string).collect();
    Status::fail(
        format!("no authority in {from} is valid now"),
        found.join("; "),
        "at least one that is valid now",
        Fix::words(format!("put the authority's renewed certificate into {from}")),
    )
}

async fn authorities_last(context: Arc<Context>) -> Status {
    let now = SystemClock.now();
    let of = [
        context.gateway_authorities().await,
        context.workspace_authorities().await,
    ];
    outcome::all(of.map(|given| lasting(given, now)).to_vec(), "none are given")
}

fn lasting(given: &Given, now: Timestamp) -> Status {
    let Authorities { from, facts, .. } = match given {
        Given::Authorities(given) => given,
        Given::Nothing => return Status::pass("none are given"),
        Given::Unusable { problem: why, .. } | Given::Unknown { why } | Given::Missing { why } => {
            return Status::skip(why.as_str());
        }
    };
    let strange = facts
        .iter()
        .find(|facts| !facts.is_authority || !facts.is_valid_at(now) || facts.not_after < now + SOON);
    let Some(strange) = strange else {
        let last = facts.iter().map(|facts| facts.not_after).min().unwrap_or(now);
        return Status::pass(format!("the first in {from} ends {}", last.strftime("%Y-%m-%d")));
    };
    let problem = if !strange.is_authority {
        "is no authority (its basicConstraints do not say CA)"
    } else if strange.not_before > now {
        "is not valid yet"
    } else if strange.not_after < now {
        "has expired"
    } else {
        "expires within 30 days"
    };
    Status::fail(
        format!("a certificate in {from} {problem}: {}", strange.subject),
        strange.to_string(),
        "authorities that are valid for 30 more days",
        Fix::words(format!(
            "put its successor into {from}, and take it out once nothing is signed by it any more"
        )),
    )
}

/// Asks no registry: one that does not answer is another claim's.
async fn names(context: Arc<Context>) -> Status {
    let Some(values) = &context.installation.values else {
        return Status::skip(BY_VALUES_ONLY);
    };
    match images::of(values) {
        Ok(named) => Status::pass(format!("{} images", named.len())),
        Err(malformed) => Status::fail(
            malformed.to_string(),
            "a name that no container runtime takes",
            "such as registry.example.com/devplane:2.0.0",
            Fix::words("correct it in the values file"),
        ),
    }
}

async fn registry_named(context: Arc<Context>) -> Status {
    let Some(Ok(named)) = context.installation.values.as_ref().map(images::of) else {
        return Status::skip(BY_VALUES_ONLY);
    };
    let on_nodes = named.iter().filter(|image| !image.is_pulled);
    let nothing = nothing_to_ask(&on_nodes.map(|image| image.reference.as_str()).collect::<Vec<_>>());
    let pulled = named.iter().filter(|image| image.is_pulled);
    let judged = pulled.map(|image| match &image.registry {
        Some(registry) => Status::pass(registry.as_str()),
        None => Status::fail(
            format!("image {} ({}) names no registry", image.reference, image.used_by.join(", ")),
            image.reference.as_str(),
            "a name that begins with the host of your registry",
            Fix::words(format!(
                "copy it to your registry and put that name into the values, such as registry.example.com/{}; or see that all nodes have it",
                image.reference
            )),
        ),
    });
    outcome::all(judged.collect(), &nothing)
}

async fn answers(context: Arc<Context>) -> Status {
    let mut told = BTreeSet::new();
    judged(context.images().await, |image| {
        let registry = image.registry()?;
        // Once for each registry.
        if !told.insert(registry.to_owned()) {
            return None;
        }
        let error = match image.failure(Stage::Reach) {
            None => return Some(Status::pass(registry)),
            Some(error) => error,
        };
        let fix = match (error, error.tls()) {
            (_, Some(_)) => format!(
                "put the authority that signed the certificate of {registry} into customCA.pem; nodes must trust it, too, by the \
                 configuration of their container runtime"
            ),
            (RegistryError::Busy { .. }, _) => "wait a while, then try again".to_owned(),
            _ => {
                format!("see that {registry} is up and reachable from here, and that the values name it with its port")
            }
        };
        Some(Status::fail(
            error.to_string(),
            registry,
            "an answer of a registry",
            Fix::words(fix),
        ))
    })
}

async fn logins(context: Arc<Context>) -> Status {
    judged(context.images().await, |image| {
        let registry = image.registry()?;
        let error = match image.found.as_ref()? {
            Ok(found) => {
                let how = found
                    .secret
                    .as_ref()
                    .map_or("without a login".to_owned(), |secret| format!("with Secret {secret}"));
                return Some(Status::pass(format!("{registry} {how}")));
            }
            Err(error) if error.stage() == Stage::SignIn => error,
            Err(_) => return None,
        };
        // A Secret that is not there or that no kubelet could read is DP0412's.
        if !image.broken.is_empty() {
            return Some(Status::skip(format!("{error}{}", image.broken_secrets())));
        }
        Some(Status::fail(
            format!("{}: {error}", image.told()),
            image.secrets.join(", "),
            format!("a pull secret with a login that {registry} lets read"),
            image.login_fix(registry),
        ))
    })
}

async fn present(context: Arc<Context>) -> Status {
    judged(context.images().await, |image| {
        let registry = image.registry()?;
        let error = match image.found.as_ref()? {
            Ok(found) => return Some(Status::pass(format!("{}: {}", image.name, found.digest))),
            Err(error) if error.stage() == Stage::Find => error,
            Err(_) => return None,
        };
        Some(Status::fail(
            format!("{}: {error}", image.told()),
            image.name.as_str(),
            "an image that is there",
            Fix::words(format!(
                "copy it to {registry}, or correct its name in the values; `devplane doctor images` lists all of them"
            )),
        ))
    })
}

async fn architectures(context: Arc<Context>) -> Status {
    let images = context.images().await;
    if let Some(why) = &images.nodes_unknown {
        return Status::skip(why.as_str());
    }
    judged(images, |image| {
        let found = image.found.as_ref()?.as_ref().ok()?;
        let Some(there) = &found.architectures else {
            return Some(Status::skip(format!(
                "the registry does not tell the architecture of {}",
                image.name
            )));
        };
        if image.wanted.is_empty() {
            return Some(Status::skip(format!(
                "no node is selected for {} (nodeSelector), so that its architectures are not known",
                image.told()
            )));
        }
        let lacks = found.lacks(&image.wanted);
        let wanted: Vec<_> = image.wanted.iter().map(String::as_str).collect();
        if lacks.is_empty() {
            return Some(Status::pass(format!("{}: {}", image.name, wanted.join(", "))));
        }
        let there: Vec<_> = there.iter().map(String::as_str).collect();
        Some(Status::fail(
            format!("{} is not there for {}", image.told(), lacks.join(", ")),
            there.join(", "),
            wanted.join(", "),
            Fix::words(
                "copy the whole index of the image (skopeo copy --all, crane cp, oras cp -r), or choose other nodes by nodeSelector",
            ),
        ))
    })
}

fn judged(images: &Images, judge: impl FnMut(&Looked) -> Option<Status>) -> Status {
    if let Some(why) = &images.unknown {
        return Status::skip(why.as_str());
    }
    let on_nodes = images.all.iter().filter(|image| !image.is_pulled);
    let nothing = nothing_to_ask(&on_nodes.map(|image| image.name.as_str()).collect::<Vec<_>>());
    outcome::all(images.all.iter().filter_map(judge).collect(), &nothing)
}

/// Why no registry is asked for any image, where nodes must have these.
fn nothing_to_ask(on_nodes: &[&str]) -> String {
    if on_nodes.is_empty() {
        return "no image that names a registry gets so far".to_owned();
    }
    let names = on_nodes.join(", ");
    format!("nodes must have {names}, since imagePullPolicy is Never: no registry is asked for them")
}

impl Looked {
    /// `image NAME (gateway, operator)`
    fn told(&self) -> String {
        format!("image {} ({})", self.name, self.used_by.join(", "))
    }

    /// Where nodes pull it from.
    fn registry(&self) -> Option<&str> {
        let reference = self.reference.as_ref().ok().filter(|_| self.is_pulled)?;
        reference.registry.as_deref()
    }

    fn failure(&self, stage: Stage) -> Option<&RegistryError> {
        let error = self.found.as_ref()?.as_ref().err()?;
        (error.stage() == stage).then_some(error)
    }

    fn broken_secrets(&self) -> String {
        let namespace = &self.namespace;
        let each = self.broken.iter().map(|broken| match broken {
            Broken::Missing { name } => format!("; Secret {name} is not in namespace {namespace}"),
            Broken::Unreadable { why } => format!("; {why}"),
            Broken::Malformed { source } => format!("; {source}"),
        });
        each.collect()
    }

    /// The Secret is made anew, or a first one is made and named.
    fn login_fix(&self, registry: &str) -> Fix {
        let namespace = &self.namespace;
        let make = |name: &str| {
            format!(
                "kubectl -n {namespace} create secret docker-registry {name} --docker-server={registry} --docker-username=USER \
                 --docker-password=PASSWORD --dry-run=client -o yaml | kubectl apply -f -"
            )
        };
        match self.secrets.first() {
            Some(name) => Fix::words(format!("put a login that may read into the Secret: {}", make(name))),
            None => Fix::words(format!(
                "make a Secret with a login, and name it in imagePullSecrets (control plane) or workspace.pod.imagePullSecrets: {}",
                make("registry-credentials")
            )),
        }
    }
}
