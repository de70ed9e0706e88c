//! What a platform team lets workspaces reach: the words of the configuration, and where two of them meet. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

/// A namespace whose pods may be reached, or only some ports or pods of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressNamespace {
    pub name: String,
    /// TCP ports; `None` is every port of every protocol. Never empty.
    pub ports: Option<BTreeSet<NonZeroU16>>,
    /// Labels that the pods must have; none is every pod.
    pub pod_labels: BTreeMap<String, String>,
}

impl EgressNamespace {
    /// All of a namespace.
    pub fn whole(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ports: None,
            pod_labels: BTreeMap::new(),
        }
    }

    /// What both allow; `None` when that is nothing.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let ports = match (&self.ports, &other.ports) {
            (Some(one), Some(two)) => Some(one & two),
            (one, two) => one.clone().or_else(|| two.clone()),
        };
        let contradict = |(key, value)| other.pod_labels.get(key).is_some_and(|wanted| wanted != value);
        let nothing = ports.as_ref().is_some_and(BTreeSet::is_empty) || self.pod_labels.iter().any(contradict);
        if self.name != other.name || nothing {
            return None;
        }
        let labels = self.pod_labels.iter().chain(&other.pod_labels);
        Some(Self {
            name: self.name.clone(),
            ports,
            pod_labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        })
    }
}

/// What of `wanted` is in `allowed` as well, each namespace by its name.
pub fn allowed(wanted: &[EgressNamespace], ceiling: &[EgressNamespace]) -> Vec<EgressNamespace> {
    let mut both = Vec::new();
    for one in wanted {
        for meet in ceiling.iter().filter_map(|other| one.and(other)) {
            if !both.contains(&meet) {
                both.push(meet);
            }
        }
    }
    both
}

/// A name outside the cluster, or all names of one domain: `git.corp.example`, `*.corp.example`. In lower case, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fqdn(String);

impl Fqdn {
    /// Whether it stands for more than one name: all that have one label more than what is behind the `*.`.
    pub fn is_pattern(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// Whether everything that `other` stands for is meant.
    pub fn covers(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        let Some(domain) = self.0.strip_prefix('*') else {
            return false;
        };
        let label = other.0.strip_suffix(domain);
        label.is_some_and(|label| label != "*" && !label.is_empty() && !label.contains('.'))
    }
}

impl FromStr for Fqdn {
    type Err = String;

    /// A host name of two labels at least (RFC 1123, section 2.1), or `*.` before one. No address: those are ranges.
    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let label = |label: &str| {
            let edge = |c: Option<char>| c.is_some_and(|c| c != '-');
            label.len() <= 63
                && edge(label.chars().next())
                && edge(label.chars().last())
                && label
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        let is_name = text.len() <= 253
            && name.contains('.')
            && name.split('.').all(label)
            && name
                .rsplit('.')
                .next()
                .is_some_and(|last| last.chars().any(|c| c.is_ascii_lowercase()));
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err("a name such as git.corp.example, or *.corp.example for all of one domain, in lower case".to_owned())
        }
    }
}

impl fmt::Display for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What enforces what workspaces may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyBackend {
    /// NetworkPolicies (`networking.k8s.io/v1`), as any plugin knows them.
    #[default]
    Kubernetes,
    /// Those, and a CiliumNetworkPolicy (`cilium.io/v2`) for egress, which knows names.
    Cilium,
}

/// Where names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The namespace of the cluster's DNS pods.
    pub namespace: String,
    /// Their labels; never empty, which would be every pod of that namespace.
    pub pod_labels: BTreeMap<String, String>,
    /// Of the pods, not of their Service: a policy sees packets as they arrive.
    pub port: NonZeroU16,
    /// Addresses that a cache on every node answers at (NodeLocal DNSCache), always at port 53.
    pub node_local: Vec<IpAddr>,
}

impl Default for Dns {
    /// CoreDNS as every common distribution has it; it keeps kube-dns' label.
    fn default() -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            pod_labels: [("k8s-app".to_owned(), "kube-dns".to_owned())].into(),
            port: NonZeroU16::MIN.saturating_add(52),
            node_local: vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, ports: &[u16], labels: &[(&str, &str)]) -> EgressNamespace {
        let ports: BTreeSet<_> = ports.iter().map(|port| NonZeroU16::new(*port).unwrap()).collect();
        EgressNamespace {
            name: name.to_owned(),
            ports: (!ports.is_empty()).then_some(ports),
            pod_labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn what_two_allow_is_in_both() {
        let whole = EgressNamespace::whole("ai");
        let some = part("ai", &[80, 8000], &[("app", "vllm")]);
        assert_eq!(whole.and(&some), Some(some.clone()));
        assert_eq!(
            some.and(&part("ai", &[8000, 9000], &[("tier", "gpu")])),
            Some(part("ai", &[8000], &[("app", "vllm"), ("tier", "gpu")]))
        );
        assert_eq!(some.and(&part("ai", &[9000], &[])), None, "no port");
        assert_eq!(some.and(&part("ai", &[], &[("app", "other")])), None, "no pod");
        assert_eq!(some.and(&EgressNamespace::whole("db")), None);
    }

    #[test]
    fn a_name_is_covered_by_itself_and_by_its_domain() {
        let fqdn = |text: &str| text.parse::<Fqdn>().unwrap();
        let domain = fqdn("*.corp.example");
        assert!(domain.is_pattern() && !fqdn("corp.example").is_pattern());
        assert!(domain.covers(&fqdn("git.corp.example")) && domain.covers(&domain));
        for other in [
            "corp.example",
            "a.git.corp.example",
            "git.corp.example.org",
            "*.git.corp.example",
            "xcorp.example",
        ] {
            assert!(!domain.covers(&fqdn(other)), "{other}");
        }
        assert!(!fqdn("git.corp.example").covers(&domain));
        for wrong in [
            "",
            "*",
            "*.",
            "git",
            "Git.corp.example",
            "git.corp.example.",
            "*corp.example",
            "a.*.example",
            "10.0.0.1",
            "a..b",
            "-a.b",
            "a_b.c",
        ] {
            assert!(wrong.parse::<Fqdn>().is_err(), "{wrong}");
        }
        assert!("*.example".parse::<Fqdn>().is_err(), "a whole top-level domain");
    }

    #[test]
    fn a_namespace_may_be_allowed_in_parts() {
        let ceiling = [
            part("ai", &[8000], &[]),
            part("ai", &[9000], &[("app", "x")]),
            part("db", &[], &[]),
        ];
        let wanted = [
            EgressNamespace::whole("ai"),
            EgressNamespace::whole("prod"),
            EgressNamespace::whole("ai"),
        ];
        assert_eq!(allowed(&wanted, &ceiling), ceiling[..2]);
        assert_eq!(allowed(&wanted, &[]), []);
    }
}
