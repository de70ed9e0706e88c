//! ResourceQuotas and LimitRanges become the claims that they leave room for one default workspace.

use super::super::super::amounts::{milli, text};
use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use super::super::super::wanted::Wanted;
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, ResourceQuota};
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
         Service, a service account, and the amounts of `workspace.defaultResources`. Quotas with a scope are left out.",
    )
    .check(|context| Box::pin(async move { judged(quota(&context).await) }));

pub const LIMITS: Check = Claim::error("DP0408", "limits of the namespace let a default workspace in")
    .needs(&["DP0101", "DP0401"])
    .why("The API server refuses the workspace's pod or volume, and the workspace fails with `Forbidden`.")
    .docs("`min` and `max` of every LimitRange in the workspaces' namespace, for containers, pods and volumes, are compared with `workspace.defaultResources`.")
    .check(|context| Box::pin(async move { judged(limits(&context).await) }));

/// What one workspace takes, by the names that quotas use.
fn taken(wanted: &Wanted<'_>) -> BTreeMap<String, i128> {
    const ONE: i128 = 1000;
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
        ("count/workspaces.workspace.devplane.io", ONE),
    ]
    .map(|(name, amount)| (name.to_owned(), amount))
    .into();
    if let Some(class) = wanted.storage_class {
        let prefix = format!("{class}.storageclass.storage.k8s.io/");
        taken.insert(format!("{prefix}requests.storage"), wanted.storage);
        taken.insert(format!("{prefix}persistentvolumeclaims"), ONE);
    }
    taken
}

async fn quota(context: &Arc<Context>) -> Read<Status> {
    let wanted = Wanted::of(context)?;
    let namespace = &context.installation.workspaces;
    let quotas: Vec<ResourceQuota> = context.list(namespace, "").await?;
    let taken = taken(&wanted);
    for quota in &quotas {
        let spec = quota.spec.clone().unwrap_or_default();
        if spec.scopes.is_some() || spec.scope_selector.is_some() {
            continue;
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
