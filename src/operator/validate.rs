//! A Workspace's spec and the operator's settings become a [`ValidWorkspace`], or the list of what is wrong.
//!
//! After this nobody reads `spec` again.

use super::egress::{self, Asked};
use crate::api::Workspace;
use crate::api::egress::Fqdn;
use crate::api::workspace::{AiConfig, Lifecycle, Persistence, Provider, Resources, Tls, User, WorkspaceSpec};
use crate::config::operator::{Amounts, WorkspaceDefaults, WorkspaceSettings};
use crate::config::syntax;
use crate::identity::{Identity, UserId};
use crate::render::{Platform, ValidWorkspace};
use crate::units::cidr;
use crate::units::go_duration::GoDuration;
use crate::units::quantity::Quantity;
use std::fmt::Display;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

/// What is wrong with a spec: one sentence for each field.
#[derive(Clone, Debug, snafu::Snafu)]
#[snafu(display("{}", problems.join("; ")))]
pub struct Invalid {
    pub problems: Vec<String>,
    /// As much as it takes to find the objects, to say when to stop, and to keep policies: amounts are placeholders, and nothing is
    /// reached that could not be made out. `None` without a user's id.
    pub rest: Option<Box<ValidWorkspace>>,
}

/// Checks every field, so that all problems are told at once.
///
/// # Errors
/// [`Invalid`] names each field, its value and what was expected.
pub fn validate(workspace: &Workspace, settings: &WorkspaceSettings) -> Result<ValidWorkspace, Invalid> {
    // Without `..`: a new field has to be thought of here.
    let WorkspaceSpec {
        user,
        resources,
        ai_config,
        persistence,
        tls,
        lifecycle,
        class_name,
        suspended,
    } = &workspace.spec;
    let User {
        id,
        email,
        issuer: _,
        subject: _,
    } = user;
    let Resources { cpu, memory, storage } = resources;
    let AiConfig {
        providers,
        egress_namespaces,
        egress_ports,
        egress_cidrs,
        egress_fqdns,
    } = ai_config;
    let Persistence {
        storage_class,
        reclaim_policy,
    } = persistence;
    let Tls { custom_ca_bundle } = tls;
    let Lifecycle {
        idle_timeout,
        keep_alive,
        update_policy,
    } = lifecycle;

    let mut check = Check::default();
    let defaults = check.class(class_name, settings);
    let Amounts {
        cpu: default_cpu,
        memory: default_memory,
        storage: default_storage,
    } = &defaults.resources;
    let Amounts {
        cpu: most_cpu,
        memory: most_memory,
        storage: most_storage,
    } = &defaults.ceilings;
    let owner = owner(user);
    let user = check.parsed::<UserId>("spec.user.id", id);
    let cpu = check.amount("spec.resources.cpu", cpu, default_cpu, most_cpu);
    let memory = check.amount("spec.resources.memory", memory, default_memory, most_memory);
    let storage_asked_for = storage.parse::<Quantity>().ok();
    let storage = check.amount("spec.resources.storage", storage, default_storage, most_storage);
    check.providers(providers);
    let namespaces = check.each("spec.aiConfig.egressNamespaces", egress_namespaces, |name| {
        syntax::dns_label(name)
    });
    let ports = check.each("spec.aiConfig.egressPorts", egress_ports, |port| {
        u16::try_from(*port)
            .ok()
            .and_then(NonZeroU16::new)
            .ok_or("a TCP port between 1 and 65535")
    });
    let cidrs = check.each(
        "spec.aiConfig.egressCIDRs",
        egress_cidrs.as_deref().unwrap_or_default(),
        |range| cidr::parse(range),
    );
    let fqdns = check.each(
        "spec.aiConfig.egressFQDNs",
        egress_fqdns.as_deref().unwrap_or_default(),
        |name| name.parse::<Fqdn>(),
    );
    let storage_class = check.name("spec.persistence.storageClass", storage_class);
    let ca_bundle = check.name("spec.tls.customCABundle.name", &custom_ca_bundle.name);
    let idle_timeout = check.idle_timeout(idle_timeout, defaults.idle_timeout);

    let metadata = &workspace.metadata;
    let asked = (|| {
        Some(Asked {
            namespaces: namespaces?,
            ports: ports?,
            cidrs: egress_cidrs.is_some().then_some(cidrs?),
            fqdns: egress_fqdns.is_some().then_some(fqdns?),
        })
    })();
    // A class that is no more may have allowed less than all have.
    let asked = asked.filter(|_| !check.class_unknown);
    let (egress, refused) = asked.map_or_else(
        || (egress::nothing(defaults), vec![]),
        |asked| egress::within(asked, defaults, class_name),
    );
    check.limited.extend(refused);
    let valid = (|| {
        Some(ValidWorkspace {
            name: metadata.name.clone()?,
            namespace: metadata.namespace.clone()?,
            uid: metadata.uid.clone()?,
            user: user?,
            email: email.clone(),
            cpu: cpu.or_else(placeholder)?,
            memory: memory.or_else(placeholder)?,
            asks_for_storage: storage == storage_asked_for,
            storage: storage.or_else(placeholder)?,
            providers: providers.clone(),
            egress,
            storage_class: storage_class.flatten(),
            ca_bundle: ca_bundle.flatten().or_else(|| defaults.ca_bundle_config_map.clone()),
            idle_timeout: idle_timeout.unwrap_or(defaults.idle_timeout),
            keep_alive: *keep_alive,
            update_policy: *update_policy,
            update_when_idle_for: defaults.update_when_idle_for,
            reclaim_policy: *reclaim_policy,
            owner,
            limited: std::mem::take(&mut check.limited),
            suspended: *suspended,
            terminal_authority: None,
            platform: platform(defaults),
        })
    })();
    match valid {
        Some(valid) if check.problems.is_empty() => Ok(valid),
        rest => Err(Invalid {
            problems: check.problems,
            rest: rest.map(Box::new),
        }),
    }
}

/// In the place of an amount that can't be read, where no pod is made of it.
fn placeholder() -> Option<Quantity> {
    "1".parse().ok()
}

/// The id of the owner that is recorded, when one is.
pub fn owner(user: &User) -> Option<UserId> {
    let (issuer, subject) = user.issuer.clone().zip(user.subject.clone())?;
    Some(UserId::of(&Identity { issuer, subject }))
}

fn platform(defaults: &WorkspaceDefaults) -> Platform {
    Platform {
        image: defaults.image.clone(),
        image_pull_policy: defaults.image_pull_policy.clone(),
        gateway_namespace: defaults.gateway_namespace.clone(),
        policy_backend: defaults.policy_backend,
        cluster_domain: defaults.cluster_domain.clone(),
        pip_index_url: defaults.pip_index_url.clone(),
        pip_trusted_host: defaults.pip_trusted_host.clone(),
        npm_registry: defaults.npm_registry.clone(),
        pod: defaults.pod.clone(),
        rights: defaults.rights.clone(),
    }
}

/// Collects what is wrong.
#[derive(Default)]
struct Check {
    problems: Vec<String>,
    /// What is allowed less of than was asked for.
    limited: Vec<String>,
    class_unknown: bool,
}

impl Check {
    fn problem(&mut self, field: &str, value: impl Display, expected: impl Display) {
        self.problems
            .push(format!("{field} is \"{value}\", expected {expected}"));
    }

    fn parsed<T: FromStr>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T::Err: Display,
    {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(field, text, error);
                None
            }
        }
    }

    /// What a Workspace of this class gets when its spec does not say.
    fn class<'a>(&mut self, name: &str, settings: &'a WorkspaceSettings) -> &'a WorkspaceDefaults {
        let WorkspaceSettings { common, classes } = settings;
        if name.is_empty() {
            return common;
        }
        let class = classes.iter().find(|class| class.name == name);
        class.map(|class| &class.defaults).unwrap_or_else(|| {
            let names: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
            let expected = if names.is_empty() {
                "nothing, as no classes are configured".to_owned()
            } else {
                format!("one of the configured classes: {}", names.join(", "))
            };
            self.problem("spec.className", name, expected);
            self.class_unknown = true;
            common
        })
    }

    /// The amount asked for, or else the default one; never more than `most`.
    fn amount(
        &mut self,
        field: &str,
        text: &str,
        default: &Option<Quantity>,
        most: &Option<Quantity>,
    ) -> Option<Quantity> {
        let asked = match (text, default) {
            ("", Some(default)) => default.clone(),
            _ => self.parsed::<Quantity>(field, text)?,
        };
        match most {
            Some(most) if asked > *most => {
                self.limited.push(format!(
                    "{field} is {asked}, and {most} is the most that a workspace may have: it gets {most}"
                ));
                Some(most.clone())
            }
            _ => Some(asked),
        }
    }

    fn each<T: Display, U, E: Display>(
        &mut self,
        field: &str,
        items: &[T],
        parse: impl Fn(&T) -> Result<U, E>,
    ) -> Option<Vec<U>> {
        let mut parsed = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match parse(item) {
                Ok(value) => parsed.push(value),
                Err(expected) => self.problem(&format!("{field}[{index}]"), item, expected),
            }
        }
        (parsed.len() == items.len()).then_some(parsed)
    }

    /// An object's name; the inner `None` when there is none.
    fn name(&mut self, field: &str, text: &str) -> Option<Option<String>> {
        if text.is_empty() {
            return Some(None);
        }
        match syntax::dns_subdomain(text) {
            Ok(name) => Some(Some(name)),
            Err(expected) => {
                self.problem(field, text, expected);
                None
            }
        }
    }

    fn idle_timeout(&mut self, text: &str, default: Option<Duration>) -> Option<Option<Duration>> {
        if text.is_empty() {
            return Some(default);
        }
        let idle = self.parsed::<GoDuration>("spec.lifecycle.idleTimeout", text)?;
        Some((!idle.0.is_zero()).then_some(idle.0))
    }

    fn providers(&mut self, providers: &[Provider]) {
        for (index, Provider { name, endpoint, models }) in providers.iter().enumerate() {
            let field = format!("spec.aiConfig.providers[{index}]");
            if name.is_empty() {
                self.problem(&format!("{field}.name"), name, "a name");
            } else if providers[..index].iter().any(|other| other.name == *name) {
                self.problem(&format!("{field}.name"), name, "a name that no other provider has");
            }
            if let Err(expected) = syntax::http_url(endpoint) {
                self.problem(&format!("{field}.endpoint"), endpoint, expected);
            }
            if models.is_empty() || models.iter().any(String::is_empty) {
                self.problem(
                    &format!("{field}.models"),
                    models.join(","),
                    "at least one model, none of them empty",
                );
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::egress::PolicyBackend;
    use crate::api::egress::{Dns, EgressNamespace};
    use crate::api::pod_settings::PodSettings;
    use crate::config::egress::EgressCeilings;
    use crate::config::operator::Class;
    use serde_json::json;

    pub fn defaults() -> WorkspaceDefaults {
        WorkspaceDefaults {
            image: "registry.test/devplane-workspace:1".into(),
            image_pull_policy: None,
            egress_namespaces: vec![EgressNamespace::whole("ai-system")],
            egress_ports: [80, 443].map(|port| NonZeroU16::new(port).unwrap()).into(),
            egress_cidrs: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            egress_fqdns: vec![],
            policy_backend: PolicyBackend::Kubernetes,
            egress_ceilings: EgressCeilings::default(),
            dns: Dns::default(),
            idle_timeout: Some(Duration::from_secs(3600)),
            update_when_idle_for: Duration::from_secs(300),
            gateway_namespace: "workspace-operator-system".into(),
            ca_bundle_config_map: None,
            pip_index_url: None,
            pip_trusted_host: None,
            npm_registry: None,
            cluster_domain: "cluster.local".into(),
            resources: Amounts::default(),
            ceilings: Amounts::default(),
            pod: PodSettings::default(),
            rights: Default::default(),
        }
    }

    pub fn settings() -> WorkspaceSettings {
        WorkspaceSettings {
            common: defaults(),
            classes: vec![],
        }
    }

    pub fn workspace(spec: serde_json::Value) -> Workspace {
        serde_json::from_value(json!({
            "apiVersion": "workspace.devplane.io/v1alpha1",
            "kind": "Workspace",
            "metadata": {"name": "dev1", "namespace": "workspaces", "uid": "uid-1", "generation": 1, "finalizers": [crate::labels::FINALIZER]},
            "spec": spec,
        }))
        .unwrap()
    }

    pub fn spec() -> serde_json::Value {
        json!({
            "user": {"id": "dev1", "email": "dev1@example.test"},
            "resources": {"cpu": "2", "memory": "4Gi", "storage": "20Gi"},
            "aiConfig": {"providers": [{"name": "local", "endpoint": "http://llm.ai-system.svc:8000", "models": ["m"]}]},
        })
    }

    #[test]
    fn settings_fill_what_the_spec_leaves_out() {
        let valid = validate(&workspace(spec()), &settings()).unwrap();
        assert_eq!(valid.egress.namespaces, [EgressNamespace::whole("ai-system")]);
        assert_eq!(valid.idle_timeout, Some(Duration::from_secs(3600)));

        let mut own = spec();
        own["aiConfig"]["egressNamespaces"] = json!(["models"]);
        own["aiConfig"]["egressPorts"] = json!([8443]);
        own["lifecycle"] = json!({"idleTimeout": "0"});
        let valid = validate(&workspace(own), &settings()).unwrap();
        assert_eq!(valid.egress.namespaces, [EgressNamespace::whole("models")]);
        assert_eq!(valid.egress.ports, [NonZeroU16::new(8443).unwrap()]);
        assert_eq!(valid.idle_timeout, None);
    }

    #[test]
    fn a_class_decides_what_the_spec_leaves_out_and_the_ceilings_what_it_may_have() {
        let quantity = |text: &str| Some(text.parse().unwrap());
        let large = WorkspaceDefaults {
            image: "registry.test/gpu:1".into(),
            resources: Amounts {
                cpu: quantity("8"),
                memory: quantity("32Gi"),
                storage: None,
            },
            ceilings: Amounts {
                cpu: quantity("16"),
                ..Amounts::default()
            },
            ..defaults()
        };
        let settings = WorkspaceSettings {
            classes: vec![Class {
                name: "large".into(),
                defaults: large,
            }],
            ..settings()
        };
        let mut asked = spec();
        asked["className"] = json!("large");
        asked["resources"] = json!({"cpu": "24", "storage": "1Gi"});
        let valid = validate(&workspace(asked.clone()), &settings).unwrap();
        assert_eq!(valid.platform.image, "registry.test/gpu:1");
        assert_eq!((valid.cpu.as_str(), valid.memory.as_str()), ("16", "32Gi"));
        assert_eq!(
            valid.limited,
            ["spec.resources.cpu is 24, and 16 is the most that a workspace may have: it gets 16"]
        );
        asked["className"] = json!("huge");
        let invalid = validate(&workspace(asked), &settings).unwrap_err().to_string();
        assert!(
            invalid.contains("spec.className is \"huge\", expected one of the configured classes: large"),
            "{invalid}"
        );
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let invalid = validate(
            &workspace(json!({
                "user": {"id": "Not A Label"},
                "resources": {"cpu": "two", "memory": "4Gi", "storage": "-1"},
                "aiConfig": {
                    "providers": [
                        {"name": "a", "endpoint": "llm", "models": []},
                        {"name": "a", "endpoint": "http://llm", "models": ["m"]},
                    ],
                    "egressNamespaces": ["Up"],
                    "egressPorts": [0, 70000],
                    "egressCIDRs": ["10.0.0.7/8"],
                    "egressFQDNs": ["https://git.corp.example"],
                },
                "persistence": {"storageClass": "a b"},
                "tls": {"customCABundle": {"name": "-"}},
                "lifecycle": {"idleTimeout": "5 minutes"},
            })),
            &settings(),
        )
        .unwrap_err();
        insta::assert_snapshot!(invalid.problems.join("\n"));
    }

    #[test]
    fn of_an_invalid_spec_as_much_is_known_as_keeps_what_runs_within_bounds() {
        let mut asked = spec();
        asked["resources"]["cpu"] = json!("two");
        asked["aiConfig"]["egressPorts"] = json!([443]);
        asked["suspended"] = json!(true);
        let rest = |spec| validate(&workspace(spec), &settings()).unwrap_err().rest;
        let readable = rest(asked.clone()).unwrap();
        assert!(readable.suspended);
        assert_eq!(readable.egress.ports, [NonZeroU16::new(443).unwrap()]);
        // What can't be made out opens nothing.
        for (field, value) in [("egressPorts", json!([0])), ("egressNamespaces", json!(["Up"]))] {
            let mut unclear = asked.clone();
            unclear["aiConfig"][field] = value;
            assert_eq!(rest(unclear).unwrap().egress, egress::nothing(&defaults()), "{field}");
        }
        asked["className"] = json!("one that is no more");
        assert_eq!(rest(asked).unwrap().egress, egress::nothing(&defaults()));
    }

    #[test]
    fn an_empty_user_id_is_told_not_crashed_on() {
        let invalid = validate(&workspace(json!({})), &settings()).unwrap_err();
        assert!(
            invalid.problems[0].contains("spec.user.id is \"\", expected"),
            "{invalid}"
        );
    }
}
