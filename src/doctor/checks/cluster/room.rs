//! ResourceQuotas and LimitRanges become the claims that they leave room for one default workspace.

use super::super::super::amounts::{milli, text};
use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use super::super::super::wanted::Wanted;
use super::storage::the_class;
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

pub const QUOTA: Check = Claim::error("DP0407", "quotas leave room for a workspace")
    .needs(&["DP0101", "DP0401"])
    .why("The next user's workspace fails with `QuotaExceeded`.")
    .docs(
        "`hard` less `used` of every ResourceQuota in the workspaces' namespace is compared with what one default workspace takes: a pod, a volume, a \
         Service, a Secret, a service account, a Role with its binding, three NetworkPolicies, and the amounts of `workspace.defaultResources` and of `workspace.pod`. Quotas \
         with the scopes `Terminating` and `BestEffort` count no workspace; with other scopes than `NotTerminating` and `NotBestEffort` they are not judged, and the claim is skipped.",
    )
    .check(|context| Box::pin(async move { judged(quota(&context).await) }));

pub const LIMITS: Check = Claim::error("DP0408", "limits of the namespace let a default workspace in")
    .needs(&["DP0101", "DP0401"])
    .why("The API server refuses the workspace's pod or volume, and the workspace fails with `Forbidden`.")
    .docs("`min` and `max` of every LimitRange in the workspaces' namespace, for containers, pods and volumes, are compared with `workspace.defaultResources`.")
    .check(|context| Box::pin(async move { judged(limits(&context).await) }));

/// One, in thousandths.
const ONE: i128 = 1000;
/// What follows the name of a StorageClass in what a quota counts of it.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// What one workspace takes, by the names that quotas use.
fn taken(wanted: &Wanted<'_>, class: Option<&str>) -> BTreeMap<String, i128> {
    let mut taken: BTreeMap<String, i128> = [
        ("cpu", wanted.requested_cpu),
        ("requests.cpu", wanted.requested_cpu),
        ("limits.cpu", wanted.cpu),
        ("memory", wanted.requested_memory),
        ("requests.memory", wanted.requested_memory),
        ("limits.memory", wanted.memory),
        ("requests.storage", wanted.storage),
        ("persistentvolumeclaims", ONE),
        ("count/persistentvolumeclaims", ONE),
        ("pods", ONE),
        ("count/pods", ONE),
        ("services", ONE),
        ("count/services", ONE),
        ("count/serviceaccounts", ONE),
        ("secrets", ONE),
        ("count/secrets", ONE),
        ("count/networkpolicies.networking.k8s.io", 3 * ONE),
        ("count/roles.rbac.authorization.k8s.io", ONE),
        ("count/rolebindings.rbac.authorization.k8s.io", ONE),
        ("count/workspaces.workspace.devplane.io", ONE),
    ]
    .map(|(name, amount)| (name.to_owned(), amount))
    .into();
    if let Some(class) = class {
        taken.insert(format!("{class}{OF_CLASS}requests.storage"), wanted.storage);
        taken.insert(format!("{class}{OF_CLASS}persistentvolumeclaims"), ONE);
    }
    for (device, count) in &wanted.pod.extended_resources {
        taken.insert(format!("requests.{device}"), ONE * i128::from(count.get()));
    }
    let disk = wanted.pod.requests.get("ephemeral-storage");
    if let Some(disk) = disk.and_then(|amount| milli(amount)) {
        taken.insert("ephemeral-storage".to_owned(), disk);
        taken.insert("requests.ephemeral-storage".to_owned(), disk);
    }
    taken
}

/// Whether a quota counts a workspace's pod, which has amounts and no deadline. `None`: that hangs on more than its scopes' names.
fn counts(spec: &ResourceQuotaSpec) -> Option<bool> {
    let selected = spec
        .scope_selector
        .iter()
        .flat_map(|selector| selector.match_expressions.iter().flatten());
    let scopes: Vec<&str> = selected
        .map(|expression| expression.scope_name.as_str())
        .chain(spec.scopes.iter().flatten().map(String::as_str))
        .collect();
    if scopes
        .iter()
        .any(|scope| matches!(*scope, "Terminating" | "BestEffort"))
    {
        return Some(false);
    }
    let all = scopes
        .iter()
        .all(|scope| matches!(*scope, "NotTerminating" | "NotBestEffort"));
    all.then_some(true)
}

async fn quota(context: &Arc<Context>) -> Read<Status> {
    let wanted = Wanted::of(context)?;
    let namespace = &context.installation.workspaces;
    let quotas: Vec<ResourceQuota> = context.list(namespace, "").await?;
    let hard = |quota: &ResourceQuota| quota.spec.clone().unwrap_or_default().hard.unwrap_or_default();
    let by_class = quotas
        .iter()
        .flat_map(|quota| hard(quota).into_keys())
        .any(|name| name.contains(OF_CLASS));
    let class = if by_class {
        Some(the_class(context).await?.name_any())
    } else {
        None
    };
    let taken = taken(&wanted, class.as_deref());
    let mut unjudged = Vec::new();
    for quota in &quotas {
        let spec = quota.spec.clone().unwrap_or_default();
        match counts(&spec) {
            Some(true) => {}
            Some(false) => continue,
            None => {
                unjudged.push(quota.name_any());
                continue;
            }
        }
        let used = quota
            .status
            .as_ref()
            .and_then(|status| status.used.clone())
            .unwrap_or_default();
        let mut short: BTreeMap<String, String> = BTreeMap::new();
        let mut found = Vec::new();
        for (name, hard) in spec.hard.unwrap_or_default() {
            let (Some(needed), Some(most)) = (taken.get(&name), milli(&hard.0)) else {
                continue;
            };
            let used = used.get(&name).and_then(|used| milli(&used.0)).unwrap_or_default();
            if used + needed > most {
                found.push(format!(
                    "{name}: {} of {} used, {} needed",
                    text(used),
                    hard.0,
                    text(*needed)
                ));
                short.insert(name, text(used + needed));
            }
        }
        if !short.is_empty() {
            return Ok(Status::fail(
                format!(
                    "the ResourceQuota {} leaves no room for one workspace",
                    quota.name_any()
                ),
                found.join("; "),
                "room for one workspace at least",
                more(quota, namespace, &short),
            ));
        }
    }
    if !unjudged.is_empty() {
        return Ok(Status::skip(format!(
            "whether a workspace counts is not known of quotas with such scopes: {} (what else there is leaves room)",
            unjudged.join(", ")
        )));
    }
    Ok(Status::pass(match quotas.len() {
        0 => format!("there is no ResourceQuota in {namespace}"),
        1 => "a ResourceQuota leaves room".to_owned(),
        more => format!("{more} ResourceQuotas leave room"),
    }))
}

/// The chart's own quota is one of the values; any other is somebody else's object.
fn more(quota: &ResourceQuota, namespace: &str, short: &BTreeMap<String, String>) -> Fix {
    let is_charts = quota
        .labels()
        .get("app.kubernetes.io/part-of")
        .is_some_and(|part| part == "devplane");
    if is_charts {
        let lines: String = short
            .iter()
            .map(|(name, amount)| format!("    {name}: \"{amount}\"\n"))
            .collect();
        return Fix::values(format!("workspace:\n  quota:\n{lines}"));
    }
    Fix::command(format!(
        "kubectl patch resourcequota {} -n {namespace} --type merge -p '{}'",
        quota.name_any(),
        json!({"spec": {"hard": short}})
    ))
}

/// A limit that a workspace does not keep to.
struct Excess {
    /// Where it stands in the LimitRange.
    pointer: String,
    told: String,
    enough: String,
}

async fn limits(context: &Arc<Context>) -> Read<Status> {
    let wanted = Wanted::of(context)?;
    let namespace = &context.installation.workspaces;
    let ranges: Vec<LimitRange> = context.list(namespace, "").await?;
    for range in &ranges {
        let items = range.spec.clone().unwrap_or_default().limits;
        let excess: Vec<Excess> = items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| excesses(index, item, &wanted))
            .collect();
        if excess.is_empty() {
            continue;
        }
        let told: Vec<_> = excess.iter().map(|excess| excess.told.clone()).collect();
        let patch: Vec<_> = excess
            .iter()
            .map(|excess| json!({"op": "replace", "path": excess.pointer, "value": excess.enough}))
            .collect();
        return Ok(Status::fail(
            format!(
                "the LimitRange {} does not let a default workspace in",
                range.name_any()
            ),
            told.join("; "),
            "limits around workspace.defaultResources",
            Fix::command(format!(
                "kubectl patch limitrange {} -n {namespace} --type json -p '{}'",
                range.name_any(),
                json!(patch)
            )),
        ));
    }
    Ok(Status::pass(match ranges.len() {
        0 => format!("there is no LimitRange in {namespace}"),
        count => format!("LimitRanges: {count}; a default workspace keeps to them"),
    }))
}

fn excesses(index: usize, item: &LimitRangeItem, wanted: &Wanted<'_>) -> Vec<Excess> {
    // What is asked for least, and most.
    let amounts: &[(&str, i128, i128)] = match item.type_.as_str() {
        "Container" | "Pod" => &[
            ("cpu", wanted.requested_cpu, wanted.cpu),
            ("memory", wanted.requested_memory, wanted.memory),
        ],
        "PersistentVolumeClaim" => &[("storage", wanted.storage, wanted.storage)],
        _ => return Vec::new(),
    };
    let bound = |bounds: &Option<BTreeMap<String, Quantity>>, name: &str| {
        let bound = bounds.as_ref()?.get(name)?.0.clone();
        Some((milli(&bound)?, bound))
    };
    let mut found = Vec::new();
    for (name, least, most) in amounts {
        if let Some((_, shown)) = bound(&item.max, name).filter(|(limit, _)| most > limit) {
            found.push(Excess {
                pointer: format!("/spec/limits/{index}/max/{name}"),
                told: format!(
                    "max {name} of a {} is {shown}, and a workspace has {}",
                    item.type_,
                    text(*most)
                ),
                enough: text(*most),
            });
        }
        if let Some((_, shown)) = bound(&item.min, name).filter(|(limit, _)| least < limit) {
            found.push(Excess {
                pointer: format!("/spec/limits/{index}/min/{name}"),
                told: format!(
                    "min {name} of a {} is {shown}, and a workspace asks for {}",
                    item.type_,
                    text(*least)
                ),
                enough: text(*least),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_counts_a_workspace_by_its_scopes() {
        for (spec, expected) in [
            (json!({}), Some(true)),
            (json!({"scopes": ["NotTerminating", "NotBestEffort"]}), Some(true)),
            (json!({"scopes": ["NotTerminating", "BestEffort"]}), Some(false)),
            (json!({"scopes": ["PriorityClass"]}), None),
            (
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "Terminating", "operator": "Exists"}]}}),
                Some(false),
            ),
            (
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}]}}),
                None,
            ),
        ] {
            assert_eq!(
                counts(&serde_json::from_value(spec.clone()).unwrap()),
                expected,
                "{spec}"
            );
        }
    }
}
