//! Nodes and what runs on them become the claim that one default workspace has a place.

use super::super::super::amounts::{milli, text};
use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use super::super::super::wanted::Wanted;
use super::super::outcome;
use crate::api::pod_settings::PodSettings;
use k8s_openapi::api::core::v1::{Container, Node, NodeSelectorRequirement, Pod, PodSpec, Taint, Toleration};
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;

pub const FIT: Check = Claim::error("DP0409", "a node has room for a workspace")
    .needs(&["DP0101", "DP0201"])
    .why("A workspace that fits nowhere stays `Creating` with the reason `Unschedulable`.")
    .docs(
        "Of the nodes that are ready and not cordoned, those are taken that `workspace.pod` selects (node selector, required node affinity) and whose \
         taints it tolerates. One of them must have left, of what is allocatable, as much processor time and memory as a default workspace requests, the devices of \
         `workspace.pod.extendedResources`, and a place for one more pod. What classes ask for is DP0416. Without the right to list all pods, what runs on the nodes is not counted.",
    )
    .check(|context| Box::pin(async move { judged(fit(&context).await) }));

pub const DEVICES: Check = Claim::warning("DP0416", "nodes offer the devices that classes ask for")
    .needs(&["DP0101", "DP0201"])
    .why("A workspace of that class stays `Creating` with the reason `Unschedulable`.")
    .docs(
        "For each of `workspace.classes` with `pod.extendedResources`: of the nodes that are ready and not cordoned, that its pod selects and whose taints it tolerates, one must \
         offer all of these devices, whether they are in use or not. Of nodes that an autoscaler makes when they are asked for nothing is known beforehand.",
    )
    .check(|context| Box::pin(async move { judged(devices(&context).await) }));

/// By name, how many.
type Devices = BTreeMap<String, NonZeroU32>;

/// Why a node is not for workspaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unfit {
    NotReady,
    Cordoned,
    NotSelected,
    Tainted,
    WithoutDevices,
    Crowded,
    Full,
}

async fn fit(context: &Arc<Context>) -> Read<Status> {
    let wanted = Wanted::of(context)?;
    let nodes: Vec<Node> = context.list_global().await?;
    let pods: Option<Vec<Pod>> = context.list("", "").await.ok();
    let devices = &wanted.pod.extended_resources;
    let used = used(pods.as_deref().unwrap_or_default(), devices);
    let mut unfit: BTreeMap<Unfit, Vec<String>> = BTreeMap::new();
    let mut best: Option<(i128, i128, String)> = None;
    for node in &nodes {
        let name = node.name_any();
        if let Some(why) = hindrance(node, wanted.pod) {
            unfit.entry(why).or_default().push(name);
            continue;
        }
        let left = left(node, used.get(&name), devices);
        let Load {
            cpu,
            memory,
            pods: places,
            devices: _,
        } = left;
        if !has(&left, devices) {
            unfit.entry(Unfit::WithoutDevices).or_default().push(name);
            continue;
        }
        if places < 1 {
            unfit.entry(Unfit::Crowded).or_default().push(name);
            continue;
        }
        if cpu >= wanted.requested_cpu && memory >= wanted.requested_memory {
            return Ok(Status::pass(format!(
                "{name} has {} CPU and {} of memory left{}",
                text(cpu),
                text(memory),
                if pods.is_some() {
                    ""
                } else {
                    ", not counting what runs there"
                }
            )));
        }
        best = best.max(Some((memory, cpu, name.clone())));
        unfit.entry(Unfit::Full).or_default().push(name);
    }
    let mut needed = format!(
        "{} CPU and {} of memory",
        text(wanted.requested_cpu),
        text(wanted.requested_memory)
    );
    if !devices.is_empty() {
        let _ = write!(needed, " and {}", told(devices));
    }
    let found: Vec<_> = unfit
        .iter()
        .map(|(why, names)| format!("{}: {}", why.told(), names.join(", ")))
        .collect();
    let found = if nodes.is_empty() {
        "no node".to_owned()
    } else {
        found.join("; ")
    };
    Ok(Status::fail(
        format!("no node has room for one workspace with {needed}"),
        found,
        format!("a node with {needed} left"),
        fix(&unfit, best.as_ref(), &wanted),
    ))
}

async fn devices(context: &Arc<Context>) -> Read<Status> {
    let Some(operator) = context.installation.operator() else {
        return Ok(Status::skip("classes are known of the operator's settings alone"));
    };
    let pods = operator
        .workspace
        .classes
        .iter()
        .map(|class| (&class.name, &class.defaults.pod));
    let asking: Vec<_> = pods.filter(|(_, pod)| !pod.extended_resources.is_empty()).collect();
    if asking.is_empty() {
        return Ok(Status::skip("no class asks for any"));
    }
    let nodes: Vec<Node> = context.list_global().await?;
    let each = asking.iter().map(|(class, pod)| offered(class, pod, &nodes));
    Ok(outcome::all(each.collect(), ""))
}

fn offered(class: &str, pod: &PodSettings, nodes: &[Node]) -> Status {
    let devices = &pod.extended_resources;
    let mut found = Vec::new();
    for node in nodes {
        let name = node.name_any();
        let why = hindrance(node, pod);
        if why.is_none() && has(&left(node, None, devices), devices) {
            return Status::pass(format!("{name} offers {} to {class}", told(devices)));
        }
        found.push(format!("{name}: {}", why.unwrap_or(Unfit::WithoutDevices).told()));
    }
    if found.is_empty() {
        found.push("no node".to_owned());
    }
    Status::fail(
        format!("no node offers {} to workspaces of the class {class}", told(devices)),
        found.join("; "),
        format!("a node that the class's pod may run on, with {}", told(devices)),
        Fix::words(
            "see that the device plugin runs on those nodes (kubectl describe node: Allocatable), add such a node, or change pod of that class (extendedResources, nodeSelector, affinity, tolerations)",
        ),
    )
}

impl Unfit {
    fn told(self) -> &'static str {
        match self {
            Self::NotReady => "not ready",
            Self::Cordoned => "cordoned",
            Self::NotSelected => "not selected",
            Self::Tainted => "with taints that are not tolerated",
            Self::WithoutDevices => "with too few of these devices",
            Self::Crowded => "with as many pods as they take",
            Self::Full => "full or too small",
        }
    }
}

fn fix(unfit: &BTreeMap<Unfit, Vec<String>>, best: Option<&(i128, i128, String)>, wanted: &Wanted<'_>) -> Fix {
    const MEBI: i128 = 1000 << 20;
    // The best node of those that are for workspaces, if it has anything to give.
    if let Some((memory, cpu, _)) = best.filter(|(memory, cpu, _)| *memory >= 256 * MEBI && *cpu >= 100) {
        let cpu = text((*cpu).min(wanted.requested_cpu));
        let memory = text((memory / MEBI * MEBI).min(wanted.requested_memory));
        return Fix::values(format!(
            "workspace:\n  defaultResources:\n    cpu: \"{cpu}\"\n    memory: {memory}\n"
        ));
    }
    if let Some(names) = unfit.get(&Unfit::Cordoned) {
        return Fix::command(format!("kubectl uncordon {}", names[0]));
    }
    if let Some(names) = unfit.get(&Unfit::NotSelected)
        && !wanted.pod.node_selector.is_empty()
    {
        let labels: Vec<_> = wanted
            .pod
            .node_selector
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        return Fix::command(format!(
            "kubectl label --overwrite node {} {}",
            names[0],
            labels.join(" ")
        ));
    }
    Fix::words(
        "add a node, or change workspace.pod (nodeSelector, affinity, tolerations, extendedResources) to take in one that there is",
    )
}

/// What pods take of a node, or a node has: CPU, memory and each of some devices in thousandths, and pods.
#[derive(Clone, Default)]
struct Load {
    cpu: i128,
    memory: i128,
    pods: i128,
    devices: BTreeMap<String, i128>,
}

/// Requests of the pods on each node, as the scheduler counts them.
fn used(pods: &[Pod], devices: &Devices) -> BTreeMap<String, Load> {
    let mut used: BTreeMap<String, Load> = BTreeMap::new();
    for pod in pods {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let Some(spec) = pod
            .spec
            .as_ref()
            .filter(|_| !matches!(phase, Some("Succeeded" | "Failed")))
        else {
            continue;
        };
        let Some(node) = &spec.node_name else { continue };
        let entry = used.entry(node.clone()).or_default();
        entry.cpu += requested(spec, "cpu");
        entry.memory += requested(spec, "memory");
        entry.pods += 1;
        for device in devices.keys() {
            *entry.devices.entry(device.clone()).or_default() += requested(spec, device);
        }
    }
    used
}

/// The larger of what the containers take together and what each init container takes beside the sidecars that were started before it; and the
/// overhead of the runtime class (Kubernetes, "Sidecar containers: resource sharing within containers").
fn requested(spec: &PodSpec, name: &str) -> i128 {
    let of = |container: &Container| {
        let requests = container.resources.as_ref()?.requests.as_ref()?;
        milli(&requests.get(name)?.0)
    };
    let (mut sidecars, mut most) = (0, 0);
    for init in spec.init_containers.iter().flatten() {
        let own = of(init).unwrap_or_default();
        most = most.max(sidecars + own);
        if init.restart_policy.as_deref() == Some("Always") {
            sidecars += own;
        }
    }
    let together: i128 = spec.containers.iter().filter_map(of).sum();
    let overhead = spec
        .overhead
        .as_ref()
        .and_then(|overhead| milli(&overhead.get(name)?.0));
    most.max(sidecars + together) + overhead.unwrap_or_default()
}

fn left(node: &Node, used: Option<&Load>, devices: &Devices) -> Load {
    let used = used.cloned().unwrap_or_default();
    let left_of = |device: &String| {
        let used = used.devices.get(device).copied().unwrap_or_default();
        (device.clone(), allocatable(node, device).unwrap_or_default() - used)
    };
    Load {
        cpu: allocatable(node, "cpu").unwrap_or_default() - used.cpu,
        memory: allocatable(node, "memory").unwrap_or_default() - used.memory,
        // Nodes tell it always; one that does not, has no such limit.
        pods: allocatable(node, "pods").map_or(1, |pods| pods / 1000 - used.pods),
        devices: devices.keys().map(left_of).collect(),
    }
}

/// In thousandths.
fn allocatable(node: &Node, name: &str) -> Option<i128> {
    let amounts = node.status.as_ref()?.allocatable.as_ref()?;
    milli(&amounts.get(name)?.0)
}

fn has(left: &Load, devices: &Devices) -> bool {
    devices.iter().all(|(device, number)| {
        let left = left.devices.get(device).copied().unwrap_or_default();
        left >= i128::from(number.get()) * 1000
    })
}

fn told(devices: &Devices) -> String {
    let each = devices.iter().map(|(device, number)| format!("{number} {device}"));
    each.collect::<Vec<_>>().join(" and ")
}

fn hindrance(node: &Node, pod: &PodSettings) -> Option<Unfit> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let is_ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let spec = node.spec.clone().unwrap_or_default();
    if !is_ready {
        return Some(Unfit::NotReady);
    }
    if spec.unschedulable == Some(true) {
        return Some(Unfit::Cordoned);
    }
    let labels = node.labels();
    let is_selected = pod
        .node_selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    let affinity = pod
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let is_near = required.is_none_or(|required| {
        required.node_selector_terms.iter().any(|term| {
            let by_labels = term.match_expressions.iter().flatten().map(|one| meets(labels, one));
            // Kubernetes knows one field: the name.
            let name = BTreeMap::from([("metadata.name".to_owned(), node.name_any())]);
            let by_fields = term.match_fields.iter().flatten().map(|one| meets(&name, one));
            let met: Vec<bool> = by_labels.chain(by_fields).collect();
            // A term that asks for nothing selects nothing.
            !met.is_empty() && met.into_iter().all(|is_met| is_met)
        })
    });
    if !is_selected || !is_near {
        return Some(Unfit::NotSelected);
    }
    let taints = spec
        .taints
        .into_iter()
        .flatten()
        .filter(|taint| taint.effect != "PreferNoSchedule");
    let mut intolerable = taints.filter(|taint| !pod.tolerations.iter().any(|toleration| tolerates(toleration, taint)));
    intolerable.next().map(|_| Unfit::Tainted)
}

fn meets(labels: &BTreeMap<String, String>, one: &NodeSelectorRequirement) -> bool {
    let value = labels.get(&one.key);
    let values = one.values.as_deref().unwrap_or_default();
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    match one.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => !value.is_some_and(|value| values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(number(values.first())).is_some_and(|(a, b)| a > b),
        "Lt" => number(value).zip(number(values.first())).is_some_and(|(a, b)| a < b),
        _ => false,
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let same_value = || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect)
        && (key.is_empty() || key == taint.key)
        && match toleration.operator.as_deref() {
            Some("Exists") => true,
            _ => key == taint.key && same_value(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, gpus: &str) -> Node {
        let node = json!({
            "metadata": {"name": name, "labels": {"pool": name}},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "allocatable": {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": gpus, "example.test/nic": "1"},
            },
        });
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn all_devices_of_a_class_are_offered_by_one_node_that_is_for_it() {
        let nodes = [node("a", "0"), node("b", "2")];
        for (pod, is_offered) in [
            (json!({"extendedResources": {"nvidia.com/gpu": 2}}), true),
            (
                json!({"extendedResources": {"nvidia.com/gpu": 2, "example.test/nic": 1}}),
                true,
            ),
            (json!({"extendedResources": {"nvidia.com/gpu": 3}}), false),
            (
                json!({"extendedResources": {"nvidia.com/gpu": 1, "example.test/fpga": 1}}),
                false,
            ),
            (
                json!({"extendedResources": {"nvidia.com/gpu": 1}, "nodeSelector": {"pool": "a"}}),
                false,
            ),
            (
                json!({"extendedResources": {"nvidia.com/gpu": 1}, "nodeSelector": {"pool": "b"}}),
                true,
            ),
        ] {
            let settings: PodSettings = serde_json::from_value(pod.clone()).unwrap();
            let status = offered("gpu", &settings, &nodes);
            assert_eq!(matches!(status, Status::Pass { .. }), is_offered, "{pod} {status:?}");
        }
        let settings = serde_json::from_value(json!({"extendedResources": {"nvidia.com/gpu": 1}})).unwrap();
        assert!(matches!(offered("gpu", &settings, &[]), Status::Fail(_)));
    }

    #[test]
    fn devices_that_pods_have_are_not_left() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"nodeName": "b", "containers": [{"name": "c", "resources": {"requests": {"nvidia.com/gpu": "1"}}}]},
        }))
        .unwrap();
        let devices = |number| Devices::from([("nvidia.com/gpu".to_owned(), NonZeroU32::new(number).unwrap())]);
        let used = used(&[pod], &devices(1));
        for (number, is_left) in [(1, true), (2, false)] {
            let devices = devices(number);
            assert_eq!(
                has(&left(&node("b", "2"), used.get("b"), &devices), &devices),
                is_left,
                "{number}"
            );
        }
    }
}
