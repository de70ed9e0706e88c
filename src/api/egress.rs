//! What a platform team lets workspaces reach: the words of the configuration, and where two of them meet. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

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
