//! Every phase and every event, and what the plan makes of the two: at once, and in the next pass if nothing else happens.

use super::*;
use std::fmt::Write;

/// A situation, as an event changes it.
#[derive(Clone)]
struct Case {
    workspace: ValidWorkspace,
    last: WorkspaceStatus,
    /// The pod's status, if there is a pod.
    pod: Option<serde_json::Value>,
    /// The pod was made from other settings.
    outdated: bool,
    /// The pod is being deleted.
    ends: bool,
    /// There is nothing yet.
    new: bool,
    requests: Requests,
    invalid: Option<&'static str>,
    change: fn(&mut Observed),
    now: i64,
}

const NOW: i64 = 100;

fn case(last: WorkspaceStatus, pod: Option<serde_json::Value>) -> Case {
    Case {
        workspace: valid(),
        last,
        pod,
        outdated: false,
        ends: false,
        new: false,
        requests: Requests::default(),
        invalid: None,
        change: |_| (),
        now: NOW,
    }
}

fn of_phase(phase: Phase) -> WorkspaceStatus {
    WorkspaceStatus {
        phase: Some(phase),
        ..accessed(0)
    }
}

fn was_stopped(reason: StopReason) -> WorkspaceStatus {
    WorkspaceStatus {
        stop_reason: Some(reason),
        message: "as it was told then".into(),
        ..stopped_status(5)
    }
}

fn up() -> serde_json::Value {
    let mut status = ready();
    status["containerStatuses"] = json!([{"name": "workspace", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {}}}]);
    status
}

fn waiting(reason: &str) -> serde_json::Value {
    json!({"phase": "Pending", "containerStatuses": [{"name": "workspace", "image": "", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": reason}}}]})
}

/// Of each phase, and of a Workspace that no operator has seen.
fn situations() -> Vec<(&'static str, Case)> {
    let starting = json!({"phase": "Pending"});
    vec![
        (
            "new",
            Case {
                new: true,
                ..case(WorkspaceStatus::default(), None)
            },
        ),
        ("Pending", case(of_phase(Phase::Pending), None)),
        ("Creating", case(of_phase(Phase::Creating), Some(starting))),
        ("Running", case(of_phase(Phase::Running), Some(up()))),
        ("Failed", case(of_phase(Phase::Failed), Some(waiting("ErrImagePull")))),
        ("Stopped", case(was_stopped(StopReason::Idle), None)),
        ("Stopped, suspended", case(was_stopped(StopReason::Suspended), None)),
    ]
}

type Event = (&'static str, fn(&mut Case));

const EVENTS: &[Event] = &[
    ("nothing", |_| ()),
    ("wake request", |case| case.requests.wake_requested_at = Some(at(NOW))),
    ("wake request from before", |case| {
        case.requests.wake_requested_at = Some(at(1))
    }),
    ("restart request", |case| {
        case.requests = Requests {
            wake_requested_at: Some(at(NOW)),
            restart_requested_at: Some(at(NOW)),
        };
    }),
    ("restart request, done", |case| {
        case.requests.restart_requested_at = Some(at(1));
        case.last.restarted_at = Some(Time(at(1)));
    }),
    ("idle for long", |case| case.now = 5000),
    ("suspended", |case| case.workspace.suspended = true),
    ("suspended, wake request", |case| {
        case.workspace.suspended = true;
        case.requests.wake_requested_at = Some(at(NOW));
    }),
    ("other settings, Immediate", |case| {
        case.outdated = true;
        case.workspace.update_policy = UpdatePolicy::Immediate;
    }),
    ("other settings, WhenIdle", |case| case.outdated = true),
    ("other settings, WhenIdle, unused", |case| {
        case.outdated = true;
        case.now = 400;
    }),
    ("other settings, Manual", |case| {
        case.outdated = true;
        case.workspace.update_policy = UpdatePolicy::Manual;
    }),
    ("pod gone", |case| case.pod = None),
    ("pod ends", |case| {
        case.pod = Some(up());
        case.ends = true;
    }),
    ("pod should have ended", |case| {
        case.pod = Some(up());
        case.ends = true;
        case.now = 400;
    }),
    ("pod has failed", |case| case.pod = Some(json!({"phase": "Failed"}))),
    ("pod crashes", |case| case.pod = Some(waiting("CrashLoopBackOff"))),
    ("pod finds no node", |case| {
        case.pod = Some(
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}),
        );
    }),
    ("node is lost", |case| case.pod = Some(json!({"phase": "Unknown"}))),
    ("pod is ready", |case| case.pod = Some(up())),
    ("Service changed by someone", |case| {
        case.change = |observed| {
            let mut service = desired(&valid(), None).service;
            service.metadata.labels = None;
            observed.service = seen(&service);
        };
    }),
    ("Service of someone else", |case| {
        case.change = |observed| {
            let mut service = desired(&valid(), None).service;
            service.metadata.owner_references = None;
            observed.service = seen(&service);
        };
    }),
    ("Service of an earlier one", |case| {
        case.change = |observed| {
            let earlier = ValidWorkspace {
                uid: "earlier".into(),
                ..valid()
            };
            observed.service = seen(&desired(&earlier, None).service);
        };
    }),
    ("volume lost", |case| {
        case.change = |observed| {
            let mut claim = SeenClaim::of(&desired(&valid(), None).pvc);
            claim.phase = ClaimPhase::Lost;
            observed.pvc = Some(Arc::new(claim));
        };
    }),
    ("volume gone", |case| case.change = |observed| observed.pvc = None),
    ("no CA bundle", |case| case.workspace.ca_bundle = Some("ca".into())),
    ("policies can't be read", |case| {
        case.change = |observed| observed.policies_unreadable = true
    }),
    ("policies not enforced", |case| {
        case.change = |observed| observed.gate = Gate::Closed
    }),
    ("enforcement not known yet", |case| {
        case.change = |observed| observed.gate = Gate::Waits
    }),
    ("no certificates", |case| {
        case.change = |observed| observed.gate = Gate::Uncertified
    }),
    ("spec is wrong", |case| case.invalid = Some("wrong")),
];

impl Case {
    fn observed(&self) -> Observed {
        let desired = desired(&self.workspace, None);
        let mut observed = match &self.pod {
            None if self.new => Observed::default(),
            None => without_pod(&desired),
            Some(status) => with_changed_pod(&desired, status.clone(), |pod| {
                if self.outdated {
                    pod.spec.as_mut().unwrap().containers[0].image = Some("older".into());
                    pod.metadata.annotations.as_mut().unwrap().clear();
                }
                pod.metadata.deletion_timestamp = self.ends.then(|| Time(at(NOW + 30)));
            }),
        };
        (self.change)(&mut observed);
        observed
    }

    fn plan(&self, last: &WorkspaceStatus, now: i64) -> Plan {
        let wanted = Wanted::of(&desired(&self.workspace, None));
        let observed = self.observed();
        plan(
            &self.workspace,
            &wanted,
            &observed,
            last,
            self.requests,
            None,
            self.invalid,
            at(now),
        )
    }

    /// What holds in every cell.
    fn check(&self, cell: &str, plan: &Plan, last: &WorkspaceStatus, now: i64) {
        let makes = plan.steps.contains(&Step::CreatePod);
        let deletes = plan.steps.contains(&Step::DeletePod);
        let state = &plan.state;
        assert!(!(makes && deletes), "{cell}: {plan:?}");
        assert!(
            !makes || (state.stopped_at.is_none() && !self.workspace.suspended),
            "{cell}: it is stopped"
        );
        assert!(!makes || state.phase == Phase::Creating, "{cell}: {plan:?}");
        assert_eq!(deletes, plan.stop.is_some(), "{cell}: a pod is deleted for a reason");
        assert!(
            !deletes || last.stop_reason == plan.stop,
            "{cell}: the status tells of it first"
        );
        assert!(
            !deletes || self.pod.is_some() && !self.ends,
            "{cell}: there is a pod to delete"
        );
        assert!(
            plan.look_again_at.is_none_or(|again| again > at(now)),
            "{cell}: {plan:?}"
        );
        let hint = crate::api::hint::remediation(state.reason);
        assert!(
            state.phase != Phase::Failed || !hint.is_empty(),
            "{cell}: what is to be done?"
        );
        assert!(
            state.phase != Phase::Running || self.pod == Some(up()),
            "{cell}: nothing else runs"
        );
        assert!(!state.message.is_empty(), "{cell}: it says something");
    }
}

fn told(plan: &Plan) -> String {
    let Plan { steps, state, .. } = plan;
    let of_pod = |step: &&Step| matches!(step, Step::IssueCertificate | Step::CreatePod | Step::DeletePod);
    let (pod, others): (Vec<&Step>, Vec<&Step>) = steps.iter().partition(of_pod);
    let mut text = format!("{} {}", state.phase, state.reason);
    if let Some(reason) = state.stop_reason {
        write!(text, ", stop: {}", reason.word()).unwrap();
    }
    match others.as_slice() {
        [] => {}
        [one] => write!(text, ", {one:?}").unwrap(),
        many => write!(text, ", {} objects", many.len()).unwrap(),
    }
    for step in pod {
        write!(text, ", {step:?}").unwrap();
    }
    text
}

#[test]
fn every_phase_meets_every_event() {
    let mut table = String::new();
    for (phase, situation) in situations() {
        writeln!(table, "{phase}").unwrap();
        for (event, happens) in EVENTS {
            let mut case = situation.clone();
            happens(&mut case);
            let cell = format!("{phase}: {event}");
            let first = case.plan(&case.last, case.now);
            case.check(&cell, &first, &case.last, case.now);
            let last = written(&first, &case.last, case.now);
            let next = case.plan(&last, case.now + 1);
            case.check(&format!("{cell}, next"), &next, &last, case.now + 1);
            let (first, next) = (told(&first), told(&next));
            let then = if first == next {
                String::new()
            } else {
                format!(" | then {next}")
            };
            writeln!(table, "  {event:<33} {first}{then}").unwrap();
        }
    }
    insta::assert_snapshot!("phases_and_events", table);
}
