//! The size that a spec asks for and the size of its volume become a step to take, and what the status says of it. Pure.
//!
//! A claim can grow when its StorageClass allows, and a volume never shrinks. What a claim asks for can go down for as long as the
//! volume has less (Kubernetes API: PersistentVolumeClaim resizing, recovery from a failed expansion). The workspace goes on running in
//! every case.

use super::seen::{ClaimPhase, SeenClaim};
use crate::render::ValidWorkspace;
use crate::units::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};

/// A refused growth is tried again after this long: the StorageClass may have changed, or a quota.
const TRY_AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// A growth that the API server refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub at: Timestamp,
    /// The size that was asked for.
    pub size: Quantity,
    pub message: String,
}

/// How the volume's size compares with the one asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Size {
    AsRequested,
    /// There is no claim yet, or no volume behind it.
    Unbound,
    /// It is being made larger; the file system may have to wait for the next start of the pod.
    Resizing {
        message: String,
    },
    /// The storage or the node did not make it larger; both try again.
    Failed {
        message: String,
    },
    CantShrink {
        message: String,
    },
    /// By the API server.
    Refused {
        message: String,
    },
}

/// What to do about the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizePlan {
    pub size: Size,
    pub grow: bool,
    pub look_again_at: Option<Timestamp>,
}

impl Size {
    /// The condition's reason, and its message.
    pub fn told(&self) -> (&'static str, &str) {
        match self {
            Self::AsRequested => ("AsRequested", ""),
            Self::Unbound => ("Unbound", ""),
            Self::Resizing { message } => ("Resizing", message),
            Self::Failed { message } => ("ResizeFailed", message),
            Self::CantShrink { message } => ("CantShrink", message),
            Self::Refused { message } => ("ResizeRefused", message),
        }
    }
}

/// Whether there is a volume behind the claim. Watches of different kinds are in no order: that of pods may tell of a container that
/// runs before that of claims tells of the volume that it needs to.
pub fn is_bound(claim: &SeenClaim, container_runs: bool) -> bool {
    match claim.phase {
        ClaimPhase::Bound => true,
        ClaimPhase::Pending => container_runs,
        ClaimPhase::Lost => false,
    }
}

pub fn plan(
    workspace: &ValidWorkspace,
    claim: Option<&SeenClaim>,
    container_runs: bool,
    refusal: Option<&Refusal>,
    now: Timestamp,
) -> SizePlan {
    let plan = |size| SizePlan {
        size,
        grow: false,
        look_again_at: None,
    };
    let bound = claim.filter(|claim| is_bound(claim, container_runs));
    let Some((claim, asked)) = bound.and_then(|claim| Some((claim, size(claim.asked.as_deref())?))) else {
        return plan(Size::Unbound);
    };
    let wanted = &workspace.storage;
    let there = size(claim.there.as_deref());
    let grows = there.as_ref().is_some_and(|there| *there < asked);
    if *wanted < asked && there.as_ref().is_none_or(|there| wanted <= there) {
        // A default or a ceiling that was lowered takes nothing from anybody.
        if !workspace.asks_for_storage {
            return plan(Size::AsRequested);
        }
        // Kubernetes lets no claim ask for just what is there once it has asked for more.
        return plan(match there.unwrap_or_else(|| asked.clone()) {
            there if there == *wanted && claim.growth_error.is_some() => Size::AsRequested,
            there => Size::CantShrink {
                message: cant_shrink(
                    &there,
                    (grows && claim.growth_error.is_none()).then_some(&asked),
                    wanted,
                ),
            },
        });
    }
    if *wanted == asked {
        return plan(match (grows, &claim.growth_error) {
            (false, _) => Size::AsRequested,
            (true, None) => Size::Resizing {
                message: resizing(claim.waits_for_node, container_runs),
            },
            (true, Some(error)) => Size::Failed {
                message: format!("the volume was not made larger, and this is tried again: {error}"),
            },
        });
    }
    match refusal {
        Some(Refusal { at, size, message }) if size == wanted && now < *at + TRY_AGAIN_AFTER => SizePlan {
            size: Size::Refused {
                message: message.clone(),
            },
            grow: false,
            look_again_at: Some(*at + TRY_AGAIN_AFTER),
        },
        _ => SizePlan {
            size: Size::Resizing {
                message: resizing(false, container_runs),
            },
            grow: true,
            look_again_at: None,
        },
    }
}

fn cant_shrink(there: &Quantity, grows_to: Option<&Quantity>, wanted: &Quantity) -> String {
    let growing = grows_to.map_or_else(String::new, |size| format!(", grows to {size}"));
    format!("the volume has {there}{growing} and can't be made smaller; spec.resources.storage asks for {wanted}")
}

fn resizing(waits_for_node: bool, container_runs: bool) -> String {
    match (waits_for_node, container_runs) {
        (false, _) => "the volume is being made larger",
        (true, true) => {
            "the volume has grown; its file system is being made larger, at the latest when the workspace starts again"
        }
        (true, false) => "the volume has grown; its file system grows when the workspace starts",
    }
    .to_owned()
}

fn size(text: Option<&str>) -> Option<Quantity> {
    text?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests as given;
    use super::super::validate::validate;
    use super::*;
    use serde_json::json;

    fn claim(claim: serde_json::Value) -> SeenClaim {
        SeenClaim::of(&serde_json::from_value(claim).unwrap())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn planned(wanted: &str, asked: &str, there: &str, refused: Option<i64>) -> SizePlan {
        let mut spec = given::spec();
        spec["resources"]["storage"] = json!(wanted);
        let workspace = validate(&given::workspace(spec), &given::settings()).unwrap();
        let claim = claim(json!({
            "spec": {"resources": {"requests": {"storage": asked}}},
            "status": {"phase": "Bound", "capacity": {"storage": there}},
        }));
        let refusal = refused.map(|seconds| Refusal {
            at: at(seconds),
            size: "30Gi".parse().unwrap(),
            message: "no".to_owned(),
        });
        plan(&workspace, Some(&claim), false, refusal.as_ref(), at(1000))
    }

    #[test]
    fn a_claim_grows_and_never_shrinks() {
        for (wanted, asked, there, reason, grow) in [
            ("20Gi", "20Gi", "20Gi", "AsRequested", false),
            // Volumes are often a little larger than asked for.
            ("20Gi", "20480Mi", "21Gi", "AsRequested", false),
            ("30Gi", "20Gi", "20Gi", "Resizing", true),
            ("30Gi", "30Gi", "20Gi", "Resizing", false),
            ("10Gi", "20Gi", "20Gi", "CantShrink", false),
            ("10Gi", "20Gi", "15Gi", "CantShrink", false),
            // It has not grown yet: the claim asks for less than it did.
            ("15Gi", "20Gi", "10Gi", "Resizing", true),
        ] {
            let SizePlan { size, grow: does, .. } = planned(wanted, asked, there, None);
            assert_eq!((size.told().0, does), (reason, grow), "{wanted} {asked} {there}");
        }
    }

    #[test]
    fn a_default_or_a_ceiling_that_was_lowered_asks_for_no_smaller_volume() {
        let claim = claim(json!({
            "spec": {"resources": {"requests": {"storage": "50Gi"}}}, "status": {"phase": "Bound", "capacity": {"storage": "50Gi"}},
        }));
        let reason = |storage: &str, settings| {
            let mut spec = given::spec();
            spec["resources"]["storage"] = json!(storage);
            let workspace = validate(&given::workspace(spec), &settings).unwrap();
            plan(&workspace, Some(&claim), true, None, at(0)).size.told().0
        };
        let mut lowered = given::settings();
        lowered.common.ceilings.storage = Some("20Gi".parse().unwrap());
        lowered.common.resources.storage = Some("10Gi".parse().unwrap());
        assert_eq!(reason("50Gi", lowered.clone()), "AsRequested", "the ceiling");
        assert_eq!(reason("", lowered.clone()), "AsRequested", "the default");
        assert_eq!(reason("15Gi", lowered), "CantShrink");
    }

    #[test]
    fn a_growth_that_failed_is_told_of_until_it_is_no_longer_asked_for() {
        let claim = claim(json!({
            "spec": {"resources": {"requests": {"storage": "20Gi"}}},
            "status": {
                "phase": "Bound", "capacity": {"storage": "10Gi"}, "allocatedResources": {"storage": "20Gi"},
                "allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"},
                "conditions": [
                    {"type": "Resizing", "status": "True"},
                    {"type": "ControllerResizeError", "status": "True", "message": "failed to expand pvc with no space"},
                ],
            },
        }));
        for (wanted, reason, message, grow) in [
            ("20Gi", "ResizeFailed", "failed to expand pvc with no space", false),
            ("15Gi", "Resizing", "", true),
            ("10Gi", "AsRequested", "", false),
            ("5Gi", "CantShrink", "the volume has 10Gi and can't", false),
        ] {
            let mut spec = given::spec();
            spec["resources"]["storage"] = json!(wanted);
            let workspace = validate(&given::workspace(spec), &given::settings()).unwrap();
            let plan = plan(&workspace, Some(&claim), true, None, at(0));
            assert_eq!((plan.size.told().0, plan.grow), (reason, grow), "{wanted}");
            assert!(plan.size.told().1.contains(message), "{:?}", plan.size);
        }
    }

    #[test]
    fn a_file_system_grows_where_it_is_mounted_and_otherwise_when_it_is() {
        let workspace = validate(&given::workspace(given::spec()), &given::settings()).unwrap();
        let claim = claim(json!({
            "spec": {"resources": {"requests": {"storage": workspace.storage.to_string()}}},
            "status": {
                "phase": "Bound", "capacity": {"storage": "1Mi"}, "conditions": [{"type": "FileSystemResizePending", "status": "True"}],
            },
        }));
        for (runs, message) in [
            (true, "is being made larger"),
            (false, "grows when the workspace starts"),
        ] {
            let size = plan(&workspace, Some(&claim), runs, None, at(0)).size;
            assert!(
                size.told().0 == "Resizing" && size.told().1.contains(message),
                "{size:?}"
            );
        }
    }

    #[test]
    fn what_was_refused_is_tried_again_later() {
        let soon = planned("30Gi", "20Gi", "20Gi", Some(900));
        assert_eq!((soon.size.told(), soon.grow), (("ResizeRefused", "no"), false));
        assert_eq!(soon.look_again_at, Some(at(1500)));
        assert!(planned("30Gi", "20Gi", "20Gi", Some(400)).grow);
        assert!(
            planned("25Gi", "20Gi", "20Gi", Some(900)).grow,
            "another size was not refused"
        );
    }

    #[test]
    fn a_claim_without_a_volume_is_left_alone() {
        let workspace = validate(&given::workspace(given::spec()), &given::settings()).unwrap();
        let unbound = claim(json!({}));
        for claim in [None, Some(&unbound)] {
            assert_eq!(plan(&workspace, claim, false, None, at(0)).size, Size::Unbound);
        }
    }

    #[test]
    fn a_container_that_runs_has_its_volume_whatever_the_watch_of_claims_has_told() {
        let workspace = validate(&given::workspace(given::spec()), &given::settings()).unwrap();
        for (phase, runs, bound) in [
            (Some("Bound"), false, true),
            (Some("Pending"), false, false),
            (Some("Pending"), true, true),
            (None, true, true),
            (Some("Lost"), true, false),
        ] {
            let claim = claim(json!({
                "spec": {"resources": {"requests": {"storage": workspace.storage.to_string()}}},
                "status": {"phase": phase},
            }));
            assert_eq!(is_bound(&claim, runs), bound, "{phase:?} {runs}");
            let size = if bound { Size::AsRequested } else { Size::Unbound };
            assert_eq!(
                plan(&workspace, Some(&claim), runs, None, at(0)).size,
                size,
                "{phase:?} {runs}"
            );
        }
    }
}
