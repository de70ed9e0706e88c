//! What the watches tell, one thing after the other, becomes what is known of the cluster's own address ranges at the moment. Pure.
//!
//! Which they are is decided by [`crate::policy::ranges`].

use crate::policy::ranges::{NodeFacts, Statements};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What is known of the cluster's own ranges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Grows with every change.
    pub revision: u64,
    /// All of them; empty while they are not known.
    pub all: Arc<[IpNet]>,
    /// Those of pods, as far as the Nodes tell.
    pub pods: Vec<IpNet>,
    /// Why they are not known.
    pub unknown: Option<Arc<str>>,
}

/// Something that was said.
#[derive(Debug)]
pub enum Change {
    Node(Told<NodeFacts>),
    Services(Told<Vec<IpNet>>),
    ApiServer(Told<Vec<IpAddr>>),
    /// The address of a pod of ours, and the name of its node.
    Pod(String, IpAddr),
}

/// What a watch tells.
#[derive(Debug)]
pub enum Told<V> {
    ListBegins,
    Listed(String, V),
    ListEnds,
    Set(String, V),
    Gone(String),
    /// There is no right to read it, or the API server does not know the kind.
    Refused(String),
}

#[derive(Debug, Default)]
pub struct Facts {
    nodes: Source<NodeFacts>,
    services: Source<Vec<IpNet>>,
    api_server: Source<Vec<IpAddr>>,
    /// What the Nodes have said of pods since the process began. The pods of a Node that is gone may outlive it for a while.
    of_pods: BTreeSet<IpNet>,
    /// By node, a pod that had an address outside of what the Nodes said.
    pods: BTreeMap<String, IpAddr>,
}

#[derive(Debug)]
struct Source<V> {
    /// The last complete list and its changes; `None` before the first.
    objects: Option<BTreeMap<String, V>>,
    listing: BTreeMap<String, V>,
    refused: Option<String>,
}

impl<V> Default for Source<V> {
    fn default() -> Self {
        Self {
            objects: None,
            listing: BTreeMap::new(),
            refused: None,
        }
    }
}

impl<V: PartialEq> Source<V> {
    /// Gives whether anything has changed by it. A Node tells of itself every few minutes, mostly nothing new.
    fn take(&mut self, told: Told<V>) -> bool {
        match told {
            Told::ListBegins => self.listing.clear(),
            Told::Listed(name, value) => drop(self.listing.insert(name, value)),
            Told::ListEnds => {
                let listed = Some(std::mem::take(&mut self.listing));
                let changed = self.objects != listed;
                self.objects = listed;
                return self.refused.take().is_some() || changed;
            }
            Told::Set(name, value) => {
                let objects = self.objects.get_or_insert_default();
                if objects.get(&name) == Some(&value) {
                    return false;
                }
                objects.insert(name, value);
                return true;
            }
            Told::Gone(name) => return self.objects.get_or_insert_default().remove(&name).is_some(),
            // What was known before is better than nothing: a right that was taken away makes no range another.
            Told::Refused(_) if self.objects.is_some() => {}
            Told::Refused(why) => {
                let why = Some(why);
                let changed = self.refused != why;
                self.refused = why;
                return changed;
            }
        }
        false
    }

    /// `None` before there was an answer.
    fn answer(&self) -> Option<Result<&BTreeMap<String, V>, &str>> {
        match (&self.objects, &self.refused) {
            (Some(objects), _) => Some(Ok(objects)),
            (None, Some(why)) => Some(Err(why)),
            (None, None) => None,
        }
    }
}

impl Facts {
    /// Gives whether anything has changed by it.
    pub fn take(&mut self, change: Change) -> bool {
        match change {
            Change::Node(told) => {
                if let Told::Listed(_, node) | Told::Set(_, node) = &told {
                    self.of_pods.extend(&node.pods);
                }
                self.nodes.take(told)
            }
            Change::Services(told) => self.services.take(told),
            Change::ApiServer(told) => self.api_server.take(told),
            Change::Pod(node, address) => self.pods.insert(node, address) != Some(address),
        }
    }

    /// What is known now, and of which revision it is when it differs from `last`; `None` while an answer is still to come.
    pub fn known(&self, last: &Known) -> Option<Known> {
        let mut known = match self.statements()?.found() {
            Ok(found) => Known {
                revision: 0,
                all: found.all().into(),
                pods: found.pods,
                unknown: None,
            },
            Err(why) => Known {
                unknown: Some(why.into()),
                ..Known::default()
            },
        };
        known.revision = last.revision;
        if known != *last {
            known.revision += 1;
        }
        Some(known)
    }

    /// `None` while an answer is still to come.
    fn statements(&self) -> Option<Statements<'_>> {
        Some(Statements {
            nodes: self
                .nodes
                .answer()?
                .map(|nodes| nodes.iter().map(|(name, node)| (name.as_str(), node)).collect()),
            services: self
                .services
                .answer()?
                .map(|ranges| ranges.values().flatten().copied().collect()),
            api_server: self
                .api_server
                .answer()?
                .map(|slices| slices.values().flatten().copied().collect()),
            departed: self.of_pods.iter().copied().collect(),
            pods: self
                .pods
                .iter()
                .map(|(node, address)| (node.as_str(), *address))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn node(pods: &[&str], address: &str) -> NodeFacts {
        NodeFacts {
            pods: pods.iter().map(|range| net(range)).collect(),
            addresses: vec![address.parse().unwrap()],
            hides_pods: pods.is_empty(),
        }
    }

    fn list<V>(objects: Vec<(&str, V)>) -> Vec<Told<V>> {
        let listed = objects
            .into_iter()
            .map(|(name, value)| Told::Listed(name.to_owned(), value));
        [Told::ListBegins]
            .into_iter()
            .chain(listed)
            .chain([Told::ListEnds])
            .collect()
    }

    /// Two nodes of a cluster with both address families.
    fn cluster() -> Facts {
        let mut facts = Facts::default();
        let nodes = vec![
            ("a", node(&["10.244.0.0/24", "fd00:10::/64"], "192.168.7.11")),
            ("b", node(&["10.244.1.0/24", "fd00:10:0:1::/64"], "192.168.7.12")),
        ];
        for told in list(nodes) {
            facts.take(Change::Node(told));
        }
        for told in list(vec![("kubernetes", vec![net("10.96.0.0/16")])]) {
            facts.take(Change::Services(told));
        }
        for told in list(vec![("kubernetes", vec!["192.168.7.2".parse().unwrap()])]) {
            facts.take(Change::ApiServer(told));
        }
        facts
    }

    fn unknown(facts: &Facts) -> String {
        let known = facts.known(&Known::default()).unwrap();
        assert!(known.all.is_empty() && known.pods.is_empty(), "{known:?}");
        known.unknown.unwrap().to_string()
    }

    #[test]
    fn ranges_of_pods_services_nodes_and_the_api_server_are_found() {
        let known = cluster().known(&Known::default()).unwrap();
        let expected = [
            "10.96.0.0/16",
            "10.244.0.0/23",
            "192.168.7.2/32",
            "192.168.7.11/32",
            "192.168.7.12/32",
            "fd00:10::/63",
        ];
        assert_eq!(known.all.to_vec(), expected.map(net));
        assert_eq!((known.revision, known.unknown), (1, None));
    }

    #[test]
    fn a_family_of_addresses_that_no_node_gives_to_pods_is_closed_as_a_whole() {
        let mut facts = cluster();
        (facts.nodes, facts.of_pods) = Default::default();
        for told in list(vec![("a", node(&["10.244.0.0/24"], "192.168.7.11"))]) {
            facts.take(Change::Node(told));
        }
        let known = facts.known(&Known::default()).unwrap();
        assert!(known.all.contains(&net("::/0")) && !known.all.contains(&net("0.0.0.0/0")));
    }

    #[test]
    fn nothing_is_known_before_every_list_is_complete() {
        let mut facts = cluster();
        facts.services = Source::default();
        assert_eq!(facts.known(&Known::default()), None);
        facts.take(Change::Services(Told::ListBegins));
        facts.take(Change::Services(Told::Listed(
            "kubernetes".into(),
            vec![net("10.96.0.0/16")],
        )));
        assert_eq!(facts.known(&Known::default()), None);
        facts.take(Change::Services(Told::ListEnds));
        assert!(facts.known(&Known::default()).unwrap().unknown.is_none());
    }

    #[test]
    fn a_heartbeat_is_no_change_and_a_new_node_is_one() {
        let mut facts = cluster();
        let first = facts.known(&Known::default()).unwrap();
        let again = node(&["10.244.1.0/24", "fd00:10:0:1::/64"], "192.168.7.12");
        assert!(!facts.take(Change::Node(Told::Set("b".into(), again))));
        assert_eq!(facts.known(&first).unwrap().revision, first.revision);
        assert!(facts.take(Change::Node(Told::Set(
            "c".into(),
            node(&["10.244.2.0/24"], "192.168.7.20")
        ))));
        let third = facts.known(&first).unwrap();
        assert_eq!(third.revision, first.revision + 1);
        assert!(third.all.contains(&net("10.244.2.0/24")) && third.all.contains(&net("192.168.7.20/32")));
        assert!(facts.take(Change::Node(Told::Gone("c".into()))));
        let last = facts.known(&third).unwrap();
        assert!(
            last.all.contains(&net("10.244.2.0/24")) && !last.all.contains(&net("192.168.7.20/32")),
            "pods may outlive their node for a while"
        );
    }

    #[test]
    fn a_pod_on_a_node_that_is_gone_is_no_witness() {
        let mut facts = cluster();
        facts.take(Change::Pod("c".into(), "10.244.2.7".parse().unwrap()));
        assert!(facts.known(&Known::default()).unwrap().unknown.is_none());
        facts.take(Change::Node(Told::Set(
            "c".into(),
            node(&["10.244.9.0/24"], "192.168.7.20"),
        )));
        assert!(
            unknown(&facts).contains("10.244.2.7"),
            "the node is there, and says something else"
        );
    }

    #[test]
    fn what_can_t_be_read_or_is_not_said_is_not_guessed() {
        let refused = || Told::Refused("forbidden".to_owned());
        let mut facts = cluster();
        facts.nodes = Source::default();
        assert!(facts.take(Change::Node(Told::Refused("forbidden".into()))));
        assert!(
            !facts.take(Change::Node(Told::Refused("forbidden".into()))),
            "told once"
        );
        assert!(unknown(&facts).contains("Nodes can't be read: forbidden"));

        let mut facts = cluster();
        facts.services = Source::default();
        facts.take(Change::Services(refused()));
        assert!(unknown(&facts).contains("ServiceCIDRs can't be read"));

        let mut facts = cluster();
        facts.take(Change::Node(Told::Set("c".into(), node(&[], "192.168.7.13"))));
        assert!(unknown(&facts).contains("Node c has no podCIDRs"));
        let joins = NodeFacts {
            hides_pods: false,
            ..node(&[], "192.168.7.13")
        };
        facts.take(Change::Node(Told::Set("c".into(), joins)));
        assert!(
            facts.known(&Known::default()).unwrap().unknown.is_none(),
            "no pods run there yet"
        );

        let mut facts = cluster();
        facts.take(Change::Services(Told::Gone("kubernetes".into())));
        assert!(unknown(&facts).contains("no ServiceCIDR"));
        let mut facts = cluster();
        facts.take(Change::ApiServer(Told::Gone("kubernetes".into())));
        assert!(unknown(&facts).contains("default/kubernetes"));
    }

    #[test]
    fn a_right_that_is_lost_later_changes_nothing() {
        let mut facts = cluster();
        assert!(!facts.take(Change::Node(Told::Refused("forbidden".into()))));
        assert!(facts.known(&Known::default()).unwrap().unknown.is_none());
    }

    #[test]
    fn a_pod_from_elsewhere_shows_that_the_nodes_do_not_tell_all() {
        let mut facts = cluster();
        facts.take(Change::Pod("b".into(), "10.244.1.7".parse().unwrap()));
        assert!(facts.known(&Known::default()).unwrap().unknown.is_none());
        facts.take(Change::Pod("b".into(), "10.50.3.4".parse().unwrap()));
        assert!(unknown(&facts).contains("a pod has the address 10.50.3.4"));
        facts.take(Change::Node(Told::Set(
            "c".into(),
            node(&["10.50.3.0/24"], "192.168.7.13"),
        )));
        assert!(
            facts.known(&Known::default()).unwrap().unknown.is_none(),
            "its node was told of later"
        );
    }
}
