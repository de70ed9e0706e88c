//! JSON texts become the classes of workspaces: the common settings with those of a class over them.

use super::egress::{self, EgressCeilings};
use super::operator::{Amounts, Class, NAMES_NEED_CILIUM, WorkspaceDefaults, pull_policy};
use super::{pod, syntax};
use crate::api::account_right::AccountRight;
use crate::api::egress::{Fqdn, PolicyBackend};
use crate::units::go_duration::GoDuration;
use crate::units::quantity::Quantity;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::num::NonZeroU16;

/// A class as a platform team writes it; what is absent is as for all workspaces.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Given {
    name: String,
    /// Whose members the gateway gives it to; for the gateway alone.
    #[serde(default)]
    groups: Vec<String>,
    image: Option<String>,
    image_pull_policy: Option<String>,
    #[serde(default)]
    resources: GivenAmounts,
    ceilings: Option<GivenCeilings>,
    egress_namespaces: Option<Vec<Value>>,
    egress_ports: Option<Vec<NonZeroU16>>,
    #[serde(rename = "egressCIDRs")]
    egress_cidrs: Option<Vec<String>>,
    #[serde(rename = "egressFQDNs")]
    egress_fqdns: Option<Vec<String>>,
    idle_timeout: Option<String>,
    pod: Option<Value>,
    #[serde(default)]
    rights: Vec<AccountRight>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GivenAmounts {
    cpu: String,
    memory: String,
    storage: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GivenCeilings {
    cpu: String,
    memory: String,
    storage: String,
    egress_namespaces: Option<Vec<Value>>,
    egress_ports: Option<Vec<NonZeroU16>>,
    #[serde(rename = "egressCIDRs")]
    egress_cidrs: Option<Vec<String>>,
}

/// A class, and the groups whose members get it; everyone when there are none.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub class_name: String,
    pub groups: Vec<String>,
    /// What the class itself says of the resources.
    pub resources: Amounts,
}

impl Offer {
    /// Whether a member of `groups` may have it.
    pub fn is_for(&self, groups: &[String]) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|group| groups.contains(group))
    }
}

/// # Errors
/// What was expected, and of which class.
pub fn parse(text: &str, common: &WorkspaceDefaults, allowed_images: &[String]) -> Result<Vec<Class>, String> {
    let classes = given(text)?.into_iter().map(|given| {
        let name = given.name.clone();
        class(given, common, allowed_images).map_err(|expected| format!("{expected}, in the class {name}"))
    });
    classes.collect()
}

/// Whom each class is for: what the gateway reads of the same text.
///
/// # Errors
/// What was expected.
pub fn offers(text: &str) -> Result<Vec<Offer>, String> {
    let offers = given(text)?.into_iter().map(|given| {
        Ok(Offer {
            resources: quantities(&given.resources)?,
            class_name: given.name,
            groups: given.groups,
        })
    });
    offers.collect()
}

fn given(text: &str) -> Result<Vec<Given>, String> {
    let classes: Vec<Given> =
        serde_json::from_str(text).map_err(|error| format!("a JSON list of classes ({error})"))?;
    let mut names = BTreeSet::new();
    for Given { name, groups, .. } in &classes {
        syntax::dns_label(name).map_err(|expected| format!("{expected} as the name of each class, not {name:?}"))?;
        if !names.insert(name) {
            return Err(format!("classes with different names, but two are called {name}"));
        }
        if groups.iter().any(String::is_empty) {
            return Err(format!("groups with names, unlike one of the class {name}"));
        }
    }
    Ok(classes)
}

fn class(given: Given, common: &WorkspaceDefaults, allowed_images: &[String]) -> Result<Class, String> {
    // Without `..`: a new field has to be put somewhere.
    let Given {
        name,
        groups: _,
        image,
        image_pull_policy,
        resources,
        ceilings,
        egress_namespaces,
        egress_ports,
        egress_cidrs,
        egress_fqdns,
        idle_timeout,
        pod,
        rights,
    } = given;
    let mut defaults = common.clone();
    if let Some(image) = image {
        if !is_allowed(&image, allowed_images) {
            return Err(format!("an image of WORKSPACE_ALLOWED_IMAGES, which {image} is not"));
        }
        defaults.image = image;
    }
    if let Some(policy) = image_pull_policy {
        defaults.image_pull_policy = Some(pull_policy(&policy)?);
    }
    defaults.resources = quantities(&resources)?;
    if let Some(ceilings) = ceilings {
        // What it does not say is as for all: a class that says something of CPUs opens no namespace, and lets nobody have any memory.
        let (
            amounts,
            EgressCeilings {
                namespaces,
                ports,
                cidrs,
            },
        ) = split(ceilings)?;
        let Amounts { cpu, memory, storage } = &mut defaults.ceilings;
        *cpu = amounts.cpu.or(cpu.take());
        *memory = amounts.memory.or(memory.take());
        *storage = amounts.storage.or(storage.take());
        let common = &mut defaults.egress_ceilings;
        common.namespaces = namespaces.or(common.namespaces.take());
        common.ports = ports.or(common.ports.take());
        common.cidrs = cidrs.or(common.cidrs.take());
    }
    if let Some(namespaces) = egress_namespaces {
        let namespaces = namespaces.iter().map(egress::namespace);
        defaults.egress_namespaces = namespaces.collect::<Result<_, _>>()?;
    }
    if let Some(ports) = egress_ports {
        defaults.egress_ports = ports;
    }
    if let Some(ranges) = egress_cidrs {
        defaults.egress_cidrs = egress::cidrs(&ranges)?;
    }
    if let Some(names) = egress_fqdns {
        let names = names.iter().map(|name| {
            name.parse::<Fqdn>()
                .map_err(|expected| format!("{expected}, not {name:?}"))
        });
        defaults.egress_fqdns = names.collect::<Result<_, _>>()?;
        if defaults.policy_backend == PolicyBackend::Kubernetes && !defaults.egress_fqdns.is_empty() {
            return Err(NAMES_NEED_CILIUM.to_owned());
        }
    }
    if let Some(text) = idle_timeout {
        let idle: GoDuration = text
            .parse()
            .map_err(|expected| format!("{expected} as idleTimeout, not {text:?}"))?;
        defaults.idle_timeout = (!idle.0.is_zero()).then_some(idle.0);
    }
    if let Some(pod) = pod {
        defaults.pod = pod::parse_over(&pod, &common.pod)?;
    }
    defaults.rights = rights.into_iter().collect();
    Ok(Class { name, defaults })
}

/// # Errors
/// What was expected.
pub fn ceilings(text: &str) -> Result<(Amounts, EgressCeilings), String> {
    let given: Value = serde_json::from_str(text).map_err(|error| format!("a JSON object ({error})"))?;
    if !given.is_object() {
        return Err("a JSON object".to_owned());
    }
    let given = serde_json::from_value(given).map_err(|error| {
        format!("quantities of cpu, memory and storage, and lists of egressNamespaces, egressPorts and egressCIDRs ({error})")
    })?;
    split(given)
}

fn split(given: GivenCeilings) -> Result<(Amounts, EgressCeilings), String> {
    let GivenCeilings {
        cpu,
        memory,
        storage,
        egress_namespaces,
        egress_ports,
        egress_cidrs,
    } = given;
    let namespaces = egress_namespaces.map(|namespaces| namespaces.iter().map(egress::namespace).collect());
    let egress = EgressCeilings {
        namespaces: namespaces.transpose()?,
        ports: egress_ports,
        cidrs: egress_cidrs.map(|ranges| egress::cidrs(&ranges)).transpose()?,
    };
    Ok((quantities(&GivenAmounts { cpu, memory, storage })?, egress))
}

fn quantities(given: &GivenAmounts) -> Result<Amounts, String> {
    let quantity = |text: &str| -> Result<Option<Quantity>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|expected| format!("{expected}, not {text:?}"))
    };
    let GivenAmounts { cpu, memory, storage } = given;
    Ok(Amounts {
        cpu: quantity(cpu)?,
        memory: quantity(memory)?,
        storage: quantity(storage)?,
    })
}

/// Whether `image` is one of `allowed`, or begins as one that ends with `*`. Without any allowed images all are.
pub fn is_allowed(image: &str, allowed: &[String]) -> bool {
    allowed.is_empty()
        || allowed.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(beginning) => image.starts_with(beginning),
            None => image == allowed,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::egress::{Dns, EgressNamespace};
    use crate::api::pod_settings::PodSettings;
    use std::time::Duration;

    fn common() -> WorkspaceDefaults {
        WorkspaceDefaults {
            image: "registry.test/workspace:1".into(),
            image_pull_policy: None,
            egress_namespaces: vec![EgressNamespace::whole("ai-system")],
            egress_ports: vec![NonZeroU16::MIN],
            egress_cidrs: vec!["0.0.0.0/0".parse().unwrap()],
            egress_fqdns: vec![],
            policy_backend: PolicyBackend::Kubernetes,
            egress_ceilings: ceilings(r#"{"egressPorts": [22, 443]}"#).unwrap().1,
            dns: Dns::default(),
            idle_timeout: None,
            update_when_idle_for: Duration::from_secs(300),
            gateway_namespace: "system".into(),
            ca_bundle_config_map: None,
            pip_index_url: None,
            pip_trusted_host: None,
            npm_registry: None,
            cluster_domain: "cluster.local".into(),
            resources: Amounts::default(),
            ceilings: ceilings(r#"{"cpu": "4", "memory": "8Gi"}"#).unwrap().0,
            pod: serde_json::from_str::<PodSettings>(r#"{"env": {"A": "1"}, "priorityClassName": "low"}"#).unwrap(),
            rights: BTreeSet::new(),
        }
    }

    #[test]
    fn a_class_lies_over_what_all_have() {
        let text = r#"[{"name": "gpu", "groups": ["ml"], "image": "registry.test/gpu:1", "imagePullPolicy": "Always",
            "resources": {"cpu": "8"}, "ceilings": {"cpu": "16", "egressCIDRs": ["192.0.2.0/24"]}, "egressNamespaces": [], "egressPorts": [443], "egressCIDRs": [], "idleTimeout": "1h",
            "pod": {"nodeSelector": {"gpu": "yes"}, "env": {"B": "2"}}, "rights": ["restartPod", "readPod", "readPod"]}, {"name": "small"}]"#;
        let classes = parse(text, &common(), &[]).unwrap();
        let gpu = &classes[0].defaults;
        assert_eq!(
            (gpu.image.as_str(), gpu.idle_timeout.unwrap().as_secs()),
            ("registry.test/gpu:1", 3600)
        );
        assert_eq!(gpu.ceilings.cpu.as_ref().unwrap().as_str(), "16");
        assert_eq!(
            gpu.ceilings.memory,
            common().ceilings.memory,
            "what it does not say is as for all"
        );
        assert!(gpu.egress_namespaces.is_empty() && gpu.egress_cidrs.is_empty());
        assert_eq!(gpu.egress_ceilings.cidrs, Some(vec!["192.0.2.0/24".parse().unwrap()]));
        assert_eq!(
            gpu.egress_ceilings.ports,
            common().egress_ceilings.ports,
            "a ceiling of all stays"
        );
        assert_eq!(gpu.pod.priority_class_name.as_deref(), Some("low"));
        assert!(
            gpu.pod.env.contains_key("B") && !gpu.pod.env.contains_key("A"),
            "a field is replaced as a whole"
        );
        assert_eq!(gpu.rights, [AccountRight::ReadPod, AccountRight::RestartPod].into());
        let small = &classes[1].defaults;
        assert!(small.rights.is_empty(), "what a class does not say");
        assert_eq!((&small.image, &small.ceilings), (&common().image, &common().ceilings));
        assert_eq!(offers(text).unwrap()[0].groups, ["ml"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_class() {
        for (text, expected) in [
            ("{}", "a JSON list of classes"),
            (r#"[{"name": "A"}]"#, "as the name of each class, not \"A\""),
            (r#"[{"name": "a"}, {"name": "a"}]"#, "two are called a"),
            (r#"[{"name": "a", "colour": "red"}]"#, "unknown field `colour`"),
            (
                r#"[{"name": "a", "resources": {"cpu": "many"}}]"#,
                "not \"many\", in the class a",
            ),
            (
                r#"[{"name": "a", "image": "elsewhere.test/x:1"}]"#,
                "elsewhere.test/x:1 is not, in the class a",
            ),
            (r#"[{"name": "a", "pod": {"hostNetwork": true}}]"#, "hostNetwork"),
            (
                r#"[{"name": "a", "pod": []}]"#,
                "a JSON object as its pod, in the class a",
            ),
            (
                r#"[{"name": "a", "egressFQDNs": ["git.corp.example"]}]"#,
                "NETWORK_POLICY_BACKEND",
            ),
            (
                r#"[{"name": "a", "egressCIDRs": ["10.0.0.7/8"]}]"#,
                "10.0.0.0/8, not \"10.0.0.7/8\", in the class a",
            ),
            (
                r#"[{"name": "a", "egressNamespaces": [{"name": "b", "ports": []}]}]"#,
                "at least one port",
            ),
            (
                r#"[{"name": "a", "rights": ["listPods"]}]"#,
                "unknown variant `listPods`",
            ),
            (r#"[{"name": "a", "rights": ["*"]}]"#, "unknown variant `*`"),
            (
                r#"[{"name": "a", "rights": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}]"#,
                "a JSON list of classes",
            ),
            (r#"[{"name": "a", "groups": [""]}]"#, "groups with names"),
            (r#"[{"name": "a", "idleTimeout": "soon"}]"#, "as idleTimeout"),
        ] {
            let allowed = ["registry.test/*".to_owned()];
            let problem = parse(text, &common(), &allowed).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
        assert!(ceilings("[]").is_err() && ceilings(r#"{"gpu": "1"}"#).is_err() && ceilings("{}").is_ok());
    }

    #[test]
    fn images_are_allowed_by_name_or_beginning() {
        let allowed = ["a.test/x:1".to_owned(), "b.test/*".to_owned()];
        for (image, expected) in [
            ("a.test/x:1", true),
            ("a.test/x:12", false),
            ("b.test/y:2", true),
            ("c.test/b.test/y", false),
        ] {
            assert_eq!(is_allowed(image, &allowed), expected, "{image}");
        }
        assert!(is_allowed("anything", &[]));
    }
}
