//! What a spec asks to reach becomes what it may reach: never more than the platform's settings allow. Pure.

use crate::api::egress::{EgressNamespace, Fqdn, allowed};
use crate::config::egress::EgressCeilings;
use crate::config::operator::WorkspaceDefaults;
use crate::policy::Egress;
use crate::units::cidr;
use ipnet::IpNet;
use std::fmt::Display;
use std::num::NonZeroU16;
use std::sync::Arc;

/// What a spec asks for; an empty list of namespaces or ports asks for what all have.
pub struct Asked {
    pub namespaces: Vec<String>,
    pub ports: Vec<NonZeroU16>,
    /// `Some` and empty asks for no external address at all.
    pub cidrs: Option<Vec<IpNet>>,
    /// `Some` and empty asks for no name at all.
    pub fqdns: Option<Vec<Fqdn>>,
}

/// What comes of it, and in words what was refused. The settings' own lists are held to the ceilings too, without a word: those are for
/// the platform team to see to. The cluster's ranges are not known here, so nothing outside is allowed before someone says them.
pub fn within(asked: Asked, defaults: &WorkspaceDefaults, class_name: &str) -> (Egress, Vec<String>) {
    let EgressCeilings {
        namespaces: most_namespaces,
        ports: most_ports,
        cidrs: most_cidrs,
    } = &defaults.egress_ceilings;
    let mut refused = Refused {
        class_name,
        told: vec![],
    };

    let own: Vec<EgressNamespace> = asked.namespaces.into_iter().map(EgressNamespace::whole).collect();
    let namespaces = match most_namespaces {
        None if own.is_empty() => defaults.egress_namespaces.clone(),
        None => own
            .iter()
            .flat_map(|own| as_settled(own, &defaults.egress_namespaces))
            .collect(),
        Some(most) if own.is_empty() => allowed(&defaults.egress_namespaces, most),
        Some(most) => {
            let out: Vec<&str> = own
                .iter()
                .map(|namespace| namespace.name.as_str())
                .filter(|name| !most.iter().any(|most| most.name == **name))
                .collect();
            let names = most.iter().map(|namespace| namespace.name.as_str());
            refused.tell("egressNamespaces", &out, "ceilings.egressNamespaces", names);
            allowed(&own, most)
        }
    };

    let ports = match most_ports {
        Some(most) => {
            let out: Vec<_> = asked.ports.iter().filter(|port| !most.contains(port)).collect();
            refused.tell("egressPorts", &out, "ceilings.egressPorts", most);
            let wanted = or_default(asked.ports, &defaults.egress_ports);
            wanted.into_iter().filter(|port| most.contains(port)).collect()
        }
        None => or_default(asked.ports, &defaults.egress_ports),
    };

    // The list that all have is the ceiling when there is no other.
    let (most, setting) = match most_cidrs {
        Some(most) => (most, "ceilings.egressCIDRs"),
        None => (&defaults.egress_cidrs, "egressCIDRs"),
    };
    if let Some(asked) = &asked.cidrs {
        let out: Vec<_> = asked
            .iter()
            .filter(|range| !most.iter().any(|most| most.contains(*range)))
            .collect();
        refused.tell("egressCIDRs", &out, setting, most);
    }
    let most_fqdns = &defaults.egress_fqdns;
    let is_allowed = |name: &&Fqdn| most_fqdns.iter().any(|most| most.covers(name));
    if let Some(asked) = &asked.fqdns {
        let out: Vec<_> = asked.iter().filter(|name| !is_allowed(name)).collect();
        refused.tell("egressFQDNs", &out, "egressFQDNs", most_fqdns);
    }
    let fqdns = asked.fqdns.as_deref().unwrap_or(most_fqdns);
    let wanted = asked.cidrs.as_deref().unwrap_or(&defaults.egress_cidrs);
    let egress = Egress {
        dns: defaults.dns.clone(),
        namespaces,
        ports,
        cidrs: cidr::intersect(wanted, most),
        fqdns: fqdns.iter().filter(is_allowed).cloned().collect(),
        cluster_cidrs: Arc::default(),
    };
    (egress, refused.told)
}

/// What comes of asking for nothing.
pub fn common(defaults: &WorkspaceDefaults) -> Egress {
    let asked = Asked {
        namespaces: vec![],
        ports: vec![],
        cidrs: None,
        fqdns: None,
    };
    within(asked, defaults, "").0
}

/// But for DNS.
pub fn nothing(defaults: &WorkspaceDefaults) -> Egress {
    Egress {
        dns: defaults.dns.clone(),
        namespaces: vec![],
        ports: vec![],
        cidrs: vec![],
        fqdns: vec![],
        cluster_cidrs: Arc::default(),
    }
}

/// A namespace of which the settings allow some parts stays one of which these may be reached, whoever names it.
fn as_settled(own: &EgressNamespace, settled: &[EgressNamespace]) -> Vec<EgressNamespace> {
    let parts = allowed(std::slice::from_ref(own), settled);
    if parts.is_empty() { vec![own.clone()] } else { parts }
}

fn or_default<T: Clone>(own: Vec<T>, default: &[T]) -> Vec<T> {
    if own.is_empty() { default.to_vec() } else { own }
}

/// Values of one list that are told; the rest is a number.
const MOST_TOLD: usize = 10;

struct Refused<'a> {
    class_name: &'a str,
    told: Vec<String>,
}

impl Refused<'_> {
    fn tell<T: Display>(&mut self, field: &str, out: &[T], setting: &str, most: impl IntoIterator<Item: Display>) {
        if out.is_empty() {
            return;
        }
        let setting = match self.class_name {
            "" => format!("the setting workspace.{setting}"),
            class => format!("{setting} of the class {class}"),
        };
        let allowed = match list(most) {
            none if none.is_empty() => "nothing".to_owned(),
            some => some,
        };
        self.told.push(format!(
            "spec.aiConfig.{field} asks for {}, and {setting} allows {allowed}: what is not in both is left out",
            list(out),
        ));
    }
}

fn list(items: impl IntoIterator<Item: Display>) -> String {
    let mut words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    let more = words.len().saturating_sub(MOST_TOLD);
    words.truncate(MOST_TOLD);
    if more > 0 {
        words.push(format!("{more} more"));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests as given;
    use super::*;
    use serde_json::json;

    fn ports(ports: &[u16]) -> Vec<NonZeroU16> {
        ports.iter().map(|port| NonZeroU16::new(*port).unwrap()).collect()
    }

    fn nets(nets: &[&str]) -> Vec<IpNet> {
        nets.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn part(ports: &[u16]) -> EgressNamespace {
        crate::config::egress::namespace(&json!({"name": "ai-system", "ports": ports})).unwrap()
    }

    fn nothing() -> Asked {
        Asked {
            namespaces: vec![],
            ports: vec![],
            cidrs: None,
            fqdns: None,
        }
    }

    #[test]
    fn without_ceilings_namespaces_and_ports_are_the_spec_s_and_addresses_only_narrowed() {
        let asked = Asked {
            namespaces: vec!["models".into()],
            ports: ports(&[25]),
            cidrs: Some(nets(&["10.1.0.0/16", "0.0.0.0/0"])),
            fqdns: None,
        };
        let settings = WorkspaceDefaults {
            egress_cidrs: nets(&["10.0.0.0/8"]),
            ..given::defaults()
        };
        let (egress, refused) = within(asked, &settings, "");
        assert_eq!(
            (egress.namespaces, egress.ports),
            (vec![EgressNamespace::whole("models")], ports(&[25]))
        );
        assert_eq!(egress.cidrs, nets(&["10.0.0.0/8"]));
        assert_eq!(
            refused,
            [
                "spec.aiConfig.egressCIDRs asks for 0.0.0.0/0, and the setting workspace.egressCIDRs allows 10.0.0.0/8: what is not in both is left out"
            ]
        );
    }

    #[test]
    fn ceilings_hold_whatever_is_asked_for() {
        let settings = WorkspaceDefaults {
            egress_ceilings: EgressCeilings {
                namespaces: Some(vec![part(&[8000])]),
                ports: Some(ports(&[443])),
                cidrs: Some(vec![]),
            },
            ..given::defaults()
        };
        let asked = Asked {
            namespaces: vec!["ai-system".into(), "production".into()],
            ports: ports(&[22, 443]),
            cidrs: Some(nets(&["192.0.2.1/32"])),
            fqdns: None,
        };
        let (egress, refused) = within(asked, &settings, "closed");
        assert_eq!((egress.namespaces, egress.ports), (vec![part(&[8000])], ports(&[443])));
        assert!(egress.cidrs.is_empty());
        assert_eq!(
            refused,
            [
                "spec.aiConfig.egressNamespaces asks for production, and ceilings.egressNamespaces of the class closed allows ai-system: what is not in both is left out",
                "spec.aiConfig.egressPorts asks for 22, and ceilings.egressPorts of the class closed allows 443: what is not in both is left out",
                "spec.aiConfig.egressCIDRs asks for 192.0.2.1/32, and ceilings.egressCIDRs of the class closed allows nothing: what is not in both is left out",
            ]
        );
        let (egress, refused) = within(nothing(), &settings, "closed");
        assert_eq!(
            (egress.namespaces, egress.ports),
            (vec![part(&[8000])], ports(&[443])),
            "the settings' own too"
        );
        assert!(egress.cidrs.is_empty() && refused.is_empty());
    }

    #[test]
    fn a_part_of_a_namespace_is_not_widened_by_naming_the_namespace() {
        let settings = WorkspaceDefaults {
            egress_namespaces: vec![part(&[8000])],
            ..given::defaults()
        };
        let asked = Asked {
            namespaces: vec!["ai-system".into(), "git".into()],
            ..nothing()
        };
        let (egress, refused) = within(asked, &settings, "");
        assert_eq!(egress.namespaces, [part(&[8000]), EgressNamespace::whole("git")]);
        assert!(refused.is_empty());
    }

    #[test]
    fn no_range_that_all_refuse_is_none_and_not_the_default() {
        let asked = Asked {
            ports: ports(&[25]),
            cidrs: Some(vec![]),
            ..nothing()
        };
        let settings = WorkspaceDefaults {
            egress_ceilings: EgressCeilings {
                ports: Some(ports(&[443])),
                ..EgressCeilings::default()
            },
            ..given::defaults()
        };
        let (egress, _) = within(asked, &settings, "");
        assert!(egress.ports.is_empty() && egress.cidrs.is_empty());
    }

    #[test]
    fn a_spec_chooses_among_the_platform_s_names_and_adds_none() {
        let names = |names: &[&str]| -> Vec<Fqdn> { names.iter().map(|name| name.parse().unwrap()).collect() };
        let settings = WorkspaceDefaults {
            egress_fqdns: names(&["*.corp.example", "nexus.example.test"]),
            ..given::defaults()
        };
        let (egress, refused) = within(nothing(), &settings, "");
        assert_eq!((egress.fqdns, refused.len()), (settings.egress_fqdns.clone(), 0));
        let asked = Asked {
            fqdns: Some(names(&["git.corp.example", "pastebin.example.test"])),
            ..nothing()
        };
        let (egress, refused) = within(asked, &settings, "");
        assert_eq!(egress.fqdns, names(&["git.corp.example"]));
        assert_eq!(
            refused,
            [
                "spec.aiConfig.egressFQDNs asks for pastebin.example.test, and the setting workspace.egressFQDNs allows *.corp.example, nexus.example.test: what is not in both is left out"
            ]
        );
        let none = Asked {
            fqdns: Some(vec![]),
            ..nothing()
        };
        assert_eq!(within(none, &settings, "").0.fqdns, []);
    }

    #[test]
    fn long_lists_are_told_in_short() {
        assert_eq!(list(1..=12), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2 more");
    }
}
