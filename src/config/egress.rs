//! Texts become what workspaces may reach: namespaces and their parts, labels, address ranges, and the ceilings of all of it.

use super::syntax;
use crate::api::egress::EgressNamespace;
use crate::units::cidr;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

/// The most that the spec of a Workspace can ask for; `None` is no ceiling.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EgressCeilings {
    pub namespaces: Option<Vec<EgressNamespace>>,
    pub ports: Option<Vec<NonZeroU16>>,
    pub cidrs: Option<Vec<IpNet>>,
}

/// A part of a namespace as a platform team writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Part {
    name: String,
    ports: Option<Vec<NonZeroU16>>,
    #[serde(default)]
    pod_labels: BTreeMap<String, String>,
}

/// Names separated by commas, or a JSON list of names and of `{name, ports, podLabels}`.
///
/// # Errors
/// What was expected.
pub fn namespaces(text: &str) -> Result<Vec<EgressNamespace>, String> {
    if text.trim_start().starts_with('[') {
        let entries: Vec<Value> =
            serde_json::from_str(text).map_err(|error| format!("a JSON list of namespaces ({error})"))?;
        return entries.iter().map(namespace).collect();
    }
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| syntax::dns_label(name).map(EgressNamespace::whole))
        .collect()
}

/// # Errors
/// What was expected.
pub fn namespace(entry: &Value) -> Result<EgressNamespace, String> {
    if let Some(name) = entry.as_str() {
        return syntax::dns_label(name).map(EgressNamespace::whole);
    }
    let Part {
        name,
        ports,
        pod_labels,
    } = Part::deserialize(entry)
        .map_err(|error| format!("the name of a namespace or {{name, ports, podLabels}}, not {entry} ({error})"))?;
    let name = syntax::dns_label(&name)?;
    let ports = ports.map(BTreeSet::from_iter);
    if ports.as_ref().is_some_and(BTreeSet::is_empty) {
        return Err(format!(
            "at least one port of the namespace {name}, or no `ports` for all of them"
        ));
    }
    for (key, value) in &pod_labels {
        label(key, value)?;
    }
    Ok(EgressNamespace {
        name,
        ports,
        pod_labels,
    })
}

/// `key=value` separated by commas; at least one.
///
/// # Errors
/// What was expected.
pub fn labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (key, value) = item
            .split_once('=')
            .ok_or_else(|| format!("labels as key=value, not {item:?}"))?;
        label(key, value)?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    if labels.is_empty() {
        return Err("at least one label as key=value: none would be every pod of the namespace".to_owned());
    }
    Ok(labels)
}

fn label(key: &str, value: &str) -> Result<(), String> {
    syntax::qualified_name(key)
        .and_then(|_| syntax::label_value(value))
        .map_err(|_| format!("a label of Kubernetes, unlike {key:?}={value:?}"))
}

/// An address of a cache of names: none answers where clouds give out credentials.
///
/// # Errors
/// What was expected.
pub fn resolver(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| "an IP address such as 169.254.20.10".to_owned())?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if mapped
        || cidr::is_metadata(address)
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
    {
        return Err(format!(
            "the address that a cache of names has on every node, which {text} is not"
        ));
    }
    Ok(address)
}

/// # Errors
/// What was expected.
pub fn cidrs(items: &[String]) -> Result<Vec<IpNet>, String> {
    let nets = items
        .iter()
        .map(|item| cidr::parse(item).map_err(|expected| format!("{expected}, not {item:?}")));
    nets.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_names_or_parts() {
        let whole = EgressNamespace::whole;
        assert_eq!(
            namespaces("ai-system, models"),
            Ok(vec![whole("ai-system"), whole("models")])
        );
        assert_eq!(namespaces(","), Ok(vec![]));
        assert_eq!(namespaces("[]"), Ok(vec![]));
        let text =
            r#"["ai-system", {"name": "git", "ports": [443, 22], "podLabels": {"app.kubernetes.io/name": "gitea"}}]"#;
        let read = namespaces(text).unwrap();
        assert_eq!(read[0], whole("ai-system"));
        let ports: Vec<u16> = read[1].ports.iter().flatten().map(|port| port.get()).collect();
        assert_eq!(
            (ports.as_slice(), read[1].pod_labels["app.kubernetes.io/name"].as_str()),
            ([22, 443].as_slice(), "gitea")
        );
        for (wrong, told) in [
            ("Up", "RFC 1123"),
            (r#"[{"name": "a", "ports": []}]"#, "at least one port"),
            (r#"[{"name": "a", "ports": [0]}]"#, "name, ports, podLabels"),
            (r#"[{"name": "a", "port": [1]}]"#, "unknown field"),
            (r#"[{"ports": [1]}]"#, "missing field `name`"),
            (r#"[{"name": "a", "podLabels": {"-": "x"}}]"#, "a label of Kubernetes"),
            ("[1]", "not 1"),
            ("[", "JSON list"),
        ] {
            let error = namespaces(wrong).unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_selector_of_every_pod_is_none() {
        let read = labels("k8s-app=kube-dns, tier=").unwrap();
        assert_eq!((read["k8s-app"].as_str(), read["tier"].as_str()), ("kube-dns", ""));
        for wrong in ["", ",", "k8s-app", "=x", "a=b c", "a/b/c=d", "A_/x=y"] {
            assert!(labels(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cache_of_names_is_not_the_metadata_service() {
        assert!(resolver("169.254.20.10").is_ok() && resolver("fd00::10").is_ok());
        for wrong in [
            "169.254.169.254",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "0.0.0.0",
            "127.0.0.1",
            "169.254.20.0/24",
            "dns",
        ] {
            assert!(resolver(wrong).is_err(), "{wrong}");
        }
    }
}
