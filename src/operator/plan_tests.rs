//! Every phase and event, and what the plan makes of them.

use super::super::content::Decided;
use super::super::enforcement::Enforcement;
use super::super::seen::{Seen, SeenClaim};
use super::super::state::idleness;
use super::super::validate::tests as given;
use super::super::validate::validate;
use super::*;
use crate::api::Workspace;
use crate::api::egress::PolicyBackend;
use crate::api::status::TerminalSession;
use crate::render::{Desired, desired};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

#[path = "plan_table.rs"]
mod table;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn valid() -> ValidWorkspace {
    validate(&given::workspace(given::spec()), &given::settings()).unwrap()
}

fn seen<K: Decided>(object: &K) -> Option<Arc<Seen>> {
    Some(Arc::new(Seen::of(object)))
}

/// Everything as desired, but no pod.
fn without_pod(desired: &Desired) -> Observed {
    Observed {
        service_account: seen(&desired.service_account),
        role: seen(&desired.role),
        role_binding: seen(&desired.role_binding),
        policies: desired.policies.each_ref().map(seen),
        cilium_policy: desired.cilium_policy.as_ref().and_then(seen),
        policies_unreadable: false,
        service: seen(&desired.service),
        pvc: Some(Arc::new(SeenClaim::of(&desired.pvc))),
        pod: None,
        ca_digest: None,
        sessions: vec![],
        enforcement: Enforcement::default(),
        gate: Gate::default(),
    }
}

fn with_pod(desired: &Desired, status: serde_json::Value) -> Observed {
    with_changed_pod(desired, status, |_| ())
}

fn with_changed_pod(desired: &Desired, status: serde_json::Value, change: impl FnOnce(&mut Pod)) -> Observed {
    let mut pod = desired.pod.clone();
    pod.metadata.creation_timestamp = Some(Time(at(0)));
    pod.status = Some(serde_json::from_value(status).unwrap());
    change(&mut pod);
    Observed {
        pod: Some(Arc::new(SeenPod::of(&pod))),
        ..without_pod(desired)
    }
}

fn ready() -> serde_json::Value {
    json!({"phase": "Running", "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]})
}

fn planned(observed: &Observed, last: &WorkspaceStatus, woken: Option<i64>, now: i64) -> Plan {
    planned_for(&valid(), observed, last, woken, now)
}

fn suspended(observed: &Observed, last: &WorkspaceStatus, woken: Option<i64>, now: i64) -> Plan {
    let workspace = ValidWorkspace {
        suspended: true,
        ..valid()
    };
    planned_for(&workspace, observed, last, woken, now)
}

fn planned_for(
    workspace: &ValidWorkspace,
    observed: &Observed,
    last: &WorkspaceStatus,
    woken: Option<i64>,
    now: i64,
) -> Plan {
    let requests = Requests {
        wake_requested_at: woken.map(at),
        restart_requested_at: None,
    };
    plan(
        workspace,
        &Wanted::of(&desired(workspace, None)),
        observed,
        last,
        requests,
        None,
        None,
        at(now),
    )
}

/// The same when the spec has something wrong in it.
fn invalid(workspace: &ValidWorkspace, observed: &Observed, last: &WorkspaceStatus, now: i64) -> Plan {
    let wanted = Wanted::of(&desired(workspace, None));
    let requests = Requests::default();
    plan(
        workspace,
        &wanted,
        observed,
        last,
        requests,
        None,
        Some("wrong"),
        at(now),
    )
}

/// A restart asked for at `requested`, when the one at `done` was acted upon.
fn restarted(observed: &Observed, requested: i64, done: Option<i64>, now: i64) -> Plan {
    restarted_after(observed, &accessed(0), requested, done, now)
}

fn restarted_after(observed: &Observed, last: &WorkspaceStatus, requested: i64, done: Option<i64>, now: i64) -> Plan {
    let workspace = valid();
    let requests = Requests {
        wake_requested_at: Some(at(requested)),
        restart_requested_at: Some(at(requested)),
    };
    let last = WorkspaceStatus {
        restarted_at: done.map(|seconds| Time(at(seconds))),
        ..last.clone()
    };
    plan(
        &workspace,
        &Wanted::of(&desired(&workspace, None)),
        observed,
        &last,
        requests,
        None,
        None,
        at(now),
    )
}

fn accessed(seconds: i64) -> WorkspaceStatus {
    WorkspaceStatus {
        phase: Some(Phase::Running),
        last_accessed: Some(Time(at(seconds))),
        ..WorkspaceStatus::default()
    }
}

fn stopped_status(seconds: i64) -> WorkspaceStatus {
    WorkspaceStatus {
        phase: Some(Phase::Stopped),
        stopped_at: Some(Time(at(seconds))),
        ..told(StopReason::Idle)
    }
}

/// A status that says why the pod is about to be stopped.
fn told(reason: StopReason) -> WorkspaceStatus {
    WorkspaceStatus {
        phase: Some(Phase::Creating),
        stop_reason: Some(reason),
        ..accessed(0)
    }
}

/// The status that a plan leads to, as the next pass sees it.
fn written(plan: &Plan, last: &WorkspaceStatus, now: i64) -> WorkspaceStatus {
    let workspace = Workspace {
        status: Some(last.clone()),
        ..given::workspace(given::spec())
    };
    super::super::status::status(&workspace, &plan.state, Default::default(), at(now))
}

#[test]
fn a_new_workspace_gets_everything_policies_first() {
    let plan = planned(&Observed::default(), &WorkspaceStatus::default(), None, 0);
    assert_eq!(
        plan.steps,
        [
            Step::ApplyPolicy(0),
            Step::ApplyPolicy(1),
            Step::ApplyPolicy(2),
            Step::ApplyServiceAccount,
            Step::ApplyRole,
            Step::ApplyRoleBinding,
            Step::ApplyService,
            Step::CreateVolumeClaim,
            Step::CreatePod,
        ]
    );
    assert_eq!(
        (plan.state.phase, plan.state.reason),
        (Phase::Creating, Reason::Progressing)
    );
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    let desired = desired(&valid(), None);
    let plan = planned(&with_pod(&desired, ready()), &accessed(0), None, 10);
    assert_eq!(plan.steps, []);
    assert_eq!(plan.state.phase, Phase::Running);
    assert_eq!(plan.look_again_at, Some(at(3601)));
}

#[test]
fn a_rule_that_someone_added_is_taken_away() {
    let desired = desired(&valid(), None);
    let mut observed = with_pod(&desired, ready());
    let mut policy = desired.policies[1].clone();
    policy
        .spec
        .as_mut()
        .unwrap()
        .egress
        .as_mut()
        .unwrap()
        .push(Default::default());
    observed.policies[1] = seen(&policy);
    assert_eq!(planned(&observed, &accessed(0), None, 10).steps, [Step::ApplyPolicy(1)]);
}

#[test]
fn a_wider_port_and_a_right_that_someone_gave_are_taken_away() {
    let desired = desired(&valid(), None);
    let mut observed = with_pod(&desired, ready());
    let mut policy = desired.policies[2].clone();
    policy.spec.as_mut().unwrap().ingress.as_mut().unwrap()[0]
        .ports
        .as_mut()
        .unwrap()[0]
        .end_port = Some(9000);
    observed.policies[2] = seen(&policy);
    let mut open = desired.policies[0].clone();
    open.spec.as_mut().unwrap().ingress = Some(vec![Default::default()]);
    observed.policies[0] = seen(&open);
    let mut role = desired.role.clone();
    role.rules = Some(vec![Default::default()]);
    observed.role = seen(&role);
    let plan = planned(&observed, &accessed(0), None, 10);
    assert_eq!(
        plan.steps,
        [Step::ApplyPolicy(0), Step::ApplyPolicy(2), Step::ApplyRole]
    );
}

#[test]
fn what_the_server_fills_in_is_no_difference() {
    let desired = desired(&valid(), None);
    let mut observed = with_pod(&desired, ready());
    let mut role = desired.role.clone();
    role.rules = None;
    role.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
    role.metadata.owner_references.as_mut().unwrap()[0].block_owner_deletion = Some(true);
    observed.role = seen(&role);
    let mut service = desired.service.clone();
    service.spec.as_mut().unwrap().session_affinity = Some("None".into());
    observed.service = seen(&service);
    assert_eq!(planned(&observed, &accessed(0), None, 10).steps, []);
}

#[test]
fn idle_stops_after_the_deadline_in_two_passes() {
    let desired = desired(&valid(), None);
    let observed = with_pod(&desired, ready());
    assert_eq!(planned(&observed, &accessed(0), None, 3600).state.phase, Phase::Running);

    let first = planned(&observed, &accessed(0), None, 3601);
    assert_eq!(
        (first.state.phase, first.state.stopped_at),
        (Phase::Stopped, Some(at(3601)))
    );
    assert_eq!(first.steps, [], "the status is written before the pod goes");
    assert_eq!(first.state.stop_reason, Some(StopReason::Idle));
    assert_eq!(
        first.state.message,
        "Stopped: nobody has typed for 1h; it starts again on the next visit"
    );

    let last = written(&first, &accessed(0), 3601);
    let second = planned(&observed, &last, None, 3602);
    assert_eq!(
        (second.state.phase, second.stop, &second.steps[..]),
        (Phase::Stopped, Some(StopReason::Idle), &[Step::DeletePod][..])
    );
    assert_eq!(second.state, first.state, "nothing else is told");
    // Another timeout does not change what was.
    let longer = ValidWorkspace {
        idle_timeout: Some(Duration::from_secs(60)),
        ..valid()
    };
    let later = planned_for(&longer, &without_pod(&desired), &last, None, 9000);
    assert_eq!(later.state.message, first.state.message);

    let third = planned(&without_pod(&desired), &stopped_status(3601), None, 3700);
    assert_eq!((third.state.phase, third.steps), (Phase::Stopped, vec![]));
}

#[test]
fn input_and_a_fresh_start_put_the_deadline_off() {
    let desired = desired(&valid(), None);
    let observed = with_pod(&desired, ready());
    assert_eq!(
        planned(&observed, &accessed(3000), None, 3601).state.phase,
        Phase::Running
    );
    assert_eq!(
        planned(&observed, &accessed(-90_000), None, 3600).state.phase,
        Phase::Running,
        "the pod is new"
    );
    assert_eq!(
        planned(&observed, &accessed(0), Some(3000), 3601).state.phase,
        Phase::Running,
        "it was woken"
    );
}

#[test]
fn stopped_stays_stopped_until_woken() {
    let nothing = without_pod(&desired(&valid(), None));
    assert_eq!(
        planned(&nothing, &stopped_status(100), Some(99), 200).state.phase,
        Phase::Stopped
    );
    let woken = planned(&nothing, &stopped_status(100), Some(101), 200);
    assert_eq!(
        (woken.state.phase, woken.state.stopped_at, woken.steps),
        (Phase::Creating, None, vec![Step::CreatePod])
    );

    let of_1_1 = WorkspaceStatus {
        phase: Some(Phase::Stopped),
        ..WorkspaceStatus::default()
    };
    assert_eq!(planned(&nothing, &of_1_1, None, 200).state.stopped_at, Some(at(200)));
    assert_eq!(planned(&nothing, &of_1_1, Some(1), 200).state.phase, Phase::Creating);
}

#[test]
fn a_stop_outlives_a_failure_that_was_mended() {
    let nothing = without_pod(&desired(&valid(), None));
    let mended = WorkspaceStatus {
        phase: Some(Phase::Failed),
        ..stopped_status(100)
    };
    assert_eq!(planned(&nothing, &mended, None, 200).state.phase, Phase::Stopped);
}

#[test]
fn a_pod_that_went_away_comes_back() {
    let plan = planned(&without_pod(&desired(&valid(), None)), &accessed(0), None, 10);
    assert_eq!((plan.state.phase, plan.steps), (Phase::Creating, vec![Step::CreatePod]));
}

/// A pod that was made from another image; `started` is whether its container runs.
fn outdated(started: bool) -> Observed {
    let mut status = ready();
    if started {
        status["containerStatuses"] = json!([{"name": "workspace", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {}}}]);
    } else {
        status = json!({"phase": "Pending"});
    }
    let desired = desired(&valid(), None);
    with_changed_pod(&desired, status, |pod| {
        pod.spec.as_mut().unwrap().containers[0].image = Some("older".into());
        pod.metadata.annotations.as_mut().unwrap().clear();
    })
}

fn session() -> TerminalSession {
    TerminalSession {
        sign_in: String::new(),
        id: "a".into(),
        since: Time(at(0)),
        last_input: None,
        client_address: String::new(),
        user_agent: String::new(),
        gateway: "gateway-1".into(),
    }
}

#[test]
fn an_update_waits_as_its_policy_says() {
    use UpdatePolicy::{Immediate, Manual, WhenIdle};
    for (policy, started, connected, idle_for, replaced) in [
        (WhenIdle, true, false, 299, false),
        (WhenIdle, true, false, 300, true),
        (WhenIdle, true, true, 3000, false),
        (WhenIdle, false, true, 0, true),
        (Immediate, true, true, 0, true),
        (Manual, true, false, 3000, false),
        (Manual, false, false, 0, true),
    ] {
        let workspace = ValidWorkspace {
            update_policy: policy,
            ..valid()
        };
        let mut observed = outdated(started);
        if connected {
            observed.sessions.push(session());
        }
        let plan = planned_for(&workspace, &observed, &accessed(0), None, idle_for);
        let case = format!("{policy:?} started {started} connected {connected} {idle_for}");
        assert_eq!((&plan.steps[..], plan.stop), (&[][..], None), "{case}");
        assert_eq!(plan.state.outdated, ["image"], "{case}");
        if !replaced {
            assert_eq!(
                (plan.state.phase, plan.state.stop_reason),
                (Phase::Running, None),
                "{case}"
            );
            continue;
        }
        assert_eq!(
            (plan.state.phase, plan.state.stop_reason, plan.state.message.as_str()),
            (
                Phase::Creating,
                Some(StopReason::Update),
                "Restarting with other settings: image"
            ),
            "{case}"
        );
        // Users were told: it is done, unless one of them is back or was there a moment ago, or it was forbidden.
        let [last, used] = [0, idle_for].map(|at| written(&plan, &accessed(at), idle_for));
        let goes_on = started && policy == WhenIdle;
        let manual = ValidWorkspace {
            update_policy: Manual,
            ..workspace.clone()
        };
        for (workspace, last, sessions, waits) in [
            (&workspace, &last, vec![], false),
            (&workspace, &used, vec![], goes_on),
            (&workspace, &last, vec![session()], goes_on),
            (&manual, &last, vec![], started),
        ] {
            let observed = Observed {
                sessions,
                ..observed.clone()
            };
            let next = planned_for(workspace, &observed, last, None, idle_for);
            let (steps, stop) = match waits {
                false => (&[Step::DeletePod][..], Some(StopReason::Update)),
                true => (&[][..], None),
            };
            assert_eq!((&next.steps[..], next.stop), (steps, stop), "{case}");
            assert_eq!(next.state.stop_reason, stop, "{case}");
        }
    }
    // The old settings are back before the pod is gone.
    let same = with_pod(&desired(&valid(), None), ready());
    let plan = planned(&same, &told(StopReason::Update), None, 10);
    assert_eq!(
        (plan.steps, plan.state.phase, plan.state.stop_reason),
        (vec![], Phase::Running, None)
    );
    let soon = planned(&outdated(true), &accessed(0), None, 10);
    assert_eq!(soon.look_again_at, Some(at(300)));
}

#[test]
fn an_open_terminal_keeps_a_workspace_that_asks_for_it() {
    let mut observed = with_pod(&desired(&valid(), None), ready());
    observed.sessions.push(session());
    let connected = ValidWorkspace {
        keep_alive: KeepAlive::Connected,
        ..valid()
    };
    let plan = planned_for(&connected, &observed, &accessed(0), None, 90_000);
    assert_eq!((plan.state.phase, plan.state.stops_at), (Phase::Running, None));
    assert_eq!(
        planned(&observed, &accessed(0), None, 90_000).state.phase,
        Phase::Stopped
    );
    observed.sessions.clear();
    assert_eq!(
        planned_for(&connected, &observed, &accessed(0), None, 90_000)
            .state
            .phase,
        Phase::Stopped
    );
}

/// Of a laptop that roams, a gateway that is rolled out, or one that dies: the next terminal opens a moment later.
#[test]
fn a_connection_that_blinks_is_no_end_of_use() {
    let connected = ValidWorkspace {
        keep_alive: KeepAlive::Connected,
        ..valid()
    };
    let when_idle = ValidWorkspace {
        update_policy: UpdatePolicy::WhenIdle,
        idle_timeout: None,
        ..valid()
    };
    let left = WorkspaceStatus {
        last_connected: Some(Time(at(90_000))),
        ..accessed(0)
    };
    let died = WorkspaceStatus {
        sessions: vec![session()],
        ..accessed(0)
    };
    let unchanged = with_pod(&desired(&valid(), None), ready());
    for last in [&left, &died] {
        let plan = planned_for(&connected, &unchanged, last, None, 90_000);
        assert_eq!((plan.state.phase, plan.stop), (Phase::Running, None));
        let idle = i64::try_from(connected.idle_timeout.unwrap().as_secs()).unwrap();
        assert_eq!(plan.state.stops_at, Some(at(90_000 + idle)));
        assert_eq!(plan.state.last_connected, Some(at(90_000)));
        let written = written(&plan, last, 90_000);
        let later = planned_for(&connected, &unchanged, &written, None, 90_001 + idle);
        assert_eq!(later.state.stop_reason, Some(StopReason::Idle));
        let stays = planned_for(&when_idle, &outdated(true), last, None, 90_000);
        assert_eq!((stays.state.stop_reason, stays.look_again_at), (None, Some(at(90_300))));
        let written = self::written(&stays, last, 90_000);
        let due = planned_for(&when_idle, &outdated(true), &written, None, 90_300);
        assert_eq!(due.state.stop_reason, Some(StopReason::Update));
    }
}

#[test]
fn a_pod_is_made_when_its_terminal_has_a_certificate() {
    let workspace = ValidWorkspace {
        terminal_authority: Some("0123".into()),
        ..valid()
    };
    let nothing = without_pod(&desired(&workspace, None));
    assert_eq!(
        planned_for(&workspace, &nothing, &accessed(0), None, 10).steps,
        [Step::IssueCertificate, Step::CreatePod]
    );
    let same = with_pod(&desired(&workspace, None), ready());
    assert_eq!(planned_for(&workspace, &same, &accessed(0), None, 10).steps, []);
}

#[test]
fn nothing_starts_behind_a_closed_gate_and_nothing_that_runs_is_stopped_for_it() {
    let workspace = ValidWorkspace {
        terminal_authority: Some("authority".into()),
        update_policy: UpdatePolicy::Immediate,
        ..valid()
    };
    let start = [Step::IssueCertificate, Step::CreatePod];
    for (gate, phase, reason, steps) in [
        (Gate::Open, Phase::Creating, Reason::Progressing, &start[..]),
        (Gate::Waits, Phase::Creating, Reason::Progressing, &[]),
        (Gate::Closed, Phase::Failed, Reason::PoliciesNotEnforced, &[]),
        (Gate::Uncertified, Phase::Failed, Reason::CertificatesUnavailable, &[]),
    ] {
        let observed = Observed {
            gate,
            ..without_pod(&desired(&workspace, None))
        };
        let plan = planned_for(&workspace, &observed, &accessed(0), None, 10);
        assert_eq!(
            (plan.state.phase, plan.state.reason, &plan.steps[..]),
            (phase, reason, steps)
        );
        let running = Observed { gate, ..outdated(true) };
        let plan = planned_for(&workspace, &running, &accessed(0), None, 10);
        let stopped = (gate == Gate::Open).then_some(StopReason::Update);
        assert_eq!(
            (plan.state.stop_reason, &plan.steps[..]),
            (stopped, &[][..]),
            "{gate:?}"
        );
        // Nor by a restart, which is done when the gate opens.
        let running = Observed {
            gate,
            ..with_pod(&desired(&valid(), None), ready())
        };
        let stop_reason = restarted(&running, 5, None, 10).state.stop_reason;
        assert_eq!(
            stop_reason,
            (gate == Gate::Open).then_some(StopReason::Restart),
            "{gate:?}"
        );
        assert_eq!(restarted(&running, 5, None, 10).state.restarted_at, None, "{gate:?}");
    }
}

#[test]
fn nothing_starts_where_a_policy_can_t_be_seen_and_it_comes_before_the_one_that_gets_empty() {
    let mut workspace = valid();
    workspace.platform.policy_backend = PolicyBackend::Cilium;
    let cilium = desired(&workspace, None);
    let unreadable = Observed {
        policies_unreadable: true,
        cilium_policy: None,
        ..without_pod(&cilium)
    };
    let plan = planned_for(&workspace, &unreadable, &accessed(0), None, 10);
    assert_eq!(
        (plan.state.phase, plan.state.reason, &plan.steps[..]),
        (Phase::Failed, Reason::NetworkPolicyReconcileFailed, &[][..])
    );
    assert_eq!(
        planned_for(&workspace, &without_pod(&cilium), &accessed(0), None, 10).steps,
        [Step::CreatePod]
    );
    // From the other backend, while it runs.
    let before = with_pod(&desired(&valid(), None), ready());
    assert_eq!(
        planned_for(&workspace, &before, &accessed(0), None, 10).steps,
        [Step::ApplyCiliumPolicy, Step::ApplyPolicy(1)]
    );
    // And back.
    let back = with_pod(&cilium, ready());
    assert_eq!(
        planned_for(&valid(), &back, &accessed(0), None, 10).steps,
        [Step::ApplyPolicy(1), Step::DeleteCiliumPolicy]
    );
}

#[test]
fn certificates_that_are_not_there_are_told_of() {
    let workspace = ValidWorkspace {
        ca_bundle: Some("corp".into()),
        ..valid()
    };
    let mut observed = without_pod(&desired(&workspace, None));
    let plan = planned_for(&workspace, &observed, &accessed(0), None, 10);
    assert_eq!((plan.state.reason, plan.steps), (Reason::CABundleNotFound, vec![]));
    observed.ca_digest = Some("0123".into());
    assert_eq!(
        planned_for(&workspace, &observed, &accessed(0), None, 10).steps,
        [Step::CreatePod]
    );
}

#[test]
fn an_ending_pod_is_waited_for() {
    let desired = desired(&valid(), None);
    let observed = with_changed_pod(&desired, ready(), |pod| {
        pod.metadata.deletion_timestamp = Some(Time(at(5)));
    });
    let plan = planned(&observed, &accessed(0), None, 10);
    assert_eq!((plan.state.phase, plan.steps), (Phase::Creating, vec![]));
    let plan = planned(&observed, &stopped_status(5), None, 10);
    assert_eq!((plan.state.phase, plan.steps), (Phase::Stopped, vec![]));
}

#[test]
fn an_ended_pod_is_told_of_and_then_replaced() {
    let observed = with_pod(
        &desired(&valid(), None),
        json!({"phase": "Failed", "reason": "Evicted"}),
    );
    let first = planned(&observed, &accessed(0), None, 10);
    assert_eq!(
        (first.state.phase, first.state.reason),
        (Phase::Failed, Reason::PodFailed)
    );
    assert_eq!(first.state.stop_reason, Some(StopReason::Ended));
    let replace_at = first.look_again_at.unwrap();
    assert!(replace_at > at(30) && replace_at <= at(40), "{replace_at}");
    assert_eq!((first.steps, first.state.pod_failures), (vec![], 1));

    let told = WorkspaceStatus {
        conditions: vec![Condition {
            type_: "Ready".into(),
            status: "False".into(),
            reason: "PodFailed".into(),
            message: String::new(),
            last_transition_time: Time(at(10)),
            observed_generation: None,
        }],
        pod_failures: 1,
        ..accessed(0)
    };
    let waiting = planned(&observed, &told, None, 30);
    assert_eq!((waiting.steps, waiting.look_again_at), (vec![], Some(replace_at)));
    let replaced = planned(&observed, &told, None, 40);
    assert_eq!(
        (replaced.steps, replaced.state.pod_failures),
        (vec![Step::DeletePod], 1)
    );
    // Whoever restarts it has looked at it, and a stop ends the row.
    assert_eq!(restarted(&observed, 50, None, 60).state.pod_failures, 0);
    let stopped = WorkspaceStatus {
        pod_failures: 3,
        ..stopped_status(100)
    };
    assert_eq!(planned(&observed, &stopped, None, 110).state.pod_failures, 0);
}

#[test]
fn a_lost_volume_starts_no_pod() {
    let mut observed = without_pod(&desired(&valid(), None));
    let mut pvc = (**observed.pvc.as_ref().unwrap()).clone();
    pvc.phase = ClaimPhase::Lost;
    observed.pvc = Some(Arc::new(pvc));
    let plan = planned(&observed, &accessed(0), None, 10);
    assert_eq!((plan.state.reason, plan.steps), (Reason::PVCLost, vec![]));
}

#[test]
fn what_belongs_to_someone_else_is_never_touched() {
    let desired = desired(&valid(), None);
    let mut observed = with_pod(&desired, ready());
    let mut service = desired.service.clone();
    service.metadata.owner_references = None;
    service.spec.as_mut().unwrap().selector = None;
    observed.service = seen(&service);
    observed.pvc = None;
    let plan = planned(&observed, &accessed(0), None, 10);
    assert_eq!(
        (plan.state.phase, plan.state.reason, plan.steps),
        (Phase::Failed, Reason::NameConflict, vec![])
    );
    assert!(
        plan.state.message.contains("Service dev1-workspace-svc"),
        "{}",
        plan.state.message
    );
}

fn not_ready_since(seconds: i64, reason: &str) -> WorkspaceStatus {
    WorkspaceStatus {
        phase: Some(Phase::Creating),
        conditions: vec![Condition {
            type_: "Ready".into(),
            status: "False".into(),
            reason: reason.into(),
            message: String::new(),
            last_transition_time: Time(at(seconds)),
            observed_generation: None,
        }],
        ..accessed(0)
    }
}

/// A pod that the kubelet refuses never gets Ready; the workspace is not ready since long ago.
#[test]
fn a_pod_that_never_was_ready_is_not_replaced_at_once() {
    let desired = desired(&valid(), None);
    let refused = json!({"phase": "Failed", "reason": "UnexpectedAdmissionError"});
    let observed = with_changed_pod(&desired, refused, |pod| {
        pod.metadata.creation_timestamp = Some(Time(at(999)));
    });
    let workspace = given::workspace(given::spec());
    let mut workspace = Workspace {
        status: Some(not_ready_since(0, "Progressing")),
        ..workspace
    };
    // As the driver does it: plan, then status, and the next pass sees that status.
    let first = planned(&observed, workspace.status.as_ref().unwrap(), None, 1000);
    assert_eq!(first.steps, []);
    workspace.status = Some(super::super::status::status(
        &workspace,
        &first.state,
        Default::default(),
        at(1000),
    ));
    let second = planned(&observed, workspace.status.as_ref().unwrap(), None, 1001);
    assert_eq!((second.steps, second.state.pod_failures), (vec![], 1));
    assert!(second.look_again_at > Some(at(1015)), "{:?}", second.look_again_at);
    assert_eq!(
        planned(&observed, workspace.status.as_ref().unwrap(), None, 1029).steps,
        [Step::DeletePod]
    );
}

/// Another field manager adds a label to the selector: the policy selects no pod any more.
#[test]
fn a_selector_that_someone_narrowed_is_put_right() {
    let desired = desired(&valid(), None);
    let mut observed = with_pod(&desired, ready());
    for index in 0..2 {
        let mut policy = desired.policies[index].clone();
        let selector = policy.spec.as_mut().unwrap().pod_selector.as_mut().unwrap();
        selector.match_labels.as_mut().unwrap().insert("x".into(), "y".into());
        observed.policies[index] = seen(&policy);
    }
    assert_eq!(
        planned(&observed, &accessed(0), None, 10).steps,
        [Step::ApplyPolicy(0), Step::ApplyPolicy(1)]
    );
}

/// A second owner reference is not a difference that an apply could remove.
#[test]
fn an_owner_that_someone_added_is_no_endless_write() {
    let desired = desired(&valid(), None);
    let mut observed = with_pod(&desired, ready());
    let mut service = desired.service.clone();
    let mut other = service.metadata.owner_references.as_ref().unwrap()[0].clone();
    other.uid = "other".into();
    other.controller = None;
    service.metadata.owner_references.as_mut().unwrap().push(other);
    observed.service = seen(&service);
    assert_eq!(planned(&observed, &accessed(0), None, 10).steps, []);
}

/// Of a Workspace that was deleted and made again.
#[test]
fn what_an_earlier_workspace_of_the_name_has_left_is_waited_for() {
    let earlier = ValidWorkspace {
        uid: "uid-0".into(),
        ..valid()
    };
    let of_earlier = desired(&earlier, None);
    let waits = |observed: &Observed, now| {
        let plan = planned(observed, &WorkspaceStatus::default(), None, now);
        assert!(
            !plan.steps.contains(&Step::CreatePod) && !plan.steps.contains(&Step::DeletePod),
            "{plan:?}"
        );
        assert!(!plan.state.has_pod, "it is another one's");
        (
            plan.state.phase,
            plan.state.reason,
            plan.state.message,
            plan.look_again_at,
        )
    };
    let service = Observed {
        service: seen(&of_earlier.service),
        ..without_pod(&desired(&valid(), None))
    };
    let (phase, reason, message, again) = waits(&service, 10);
    assert_eq!((phase, reason, again), (Phase::Creating, Reason::Progressing, None));
    assert!(
        message.ends_with("has left to be deleted: Service dev1-workspace-svc"),
        "{message}"
    );

    let ends = with_changed_pod(&of_earlier, ready(), |pod| {
        pod.metadata.deletion_timestamp = Some(Time(at(30)));
    });
    let (phase, reason, message, again) = waits(&ends, 10);
    assert_eq!(
        (phase, reason, again),
        (Phase::Creating, Reason::Progressing, Some(at(90)))
    );
    assert_eq!(
        message,
        "Waiting for the pod of an earlier Workspace of this name to end"
    );
    let (phase, reason, _, again) = waits(&ends, 90);
    assert_eq!((phase, reason, again), (Phase::Failed, Reason::PodUnknown, None));

    // Somebody else's beside it is still a conflict.
    let mut foreign = desired(&valid(), None).service;
    foreign.metadata.owner_references = None;
    let both = Observed {
        service: seen(&foreign),
        ..ends
    };
    assert_eq!(waits(&both, 10).1, Reason::NameConflict);
    // So is what a Workspace of another name has.
    let other = ValidWorkspace {
        name: "other".into(),
        ..earlier
    };
    assert_eq!(
        waits(&with_pod(&desired(&other, None), ready()), 10).1,
        Reason::NameConflict
    );
}

#[test]
fn a_suspended_workspace_stops_and_no_request_wakes_it() {
    let desired = desired(&valid(), None);
    let pod = with_pod(&desired, ready());
    let running = suspended(&pod, &accessed(0), Some(5), 10);
    assert_eq!((&running.steps[..], running.stop), (&[][..], None));
    assert_eq!(
        (running.state.phase, running.state.reason, running.state.stopped_at),
        (Phase::Stopped, Reason::Suspended, Some(at(10)))
    );
    let next = suspended(&pod, &written(&running, &accessed(0), 10), Some(5), 11);
    assert_eq!(
        (&next.steps[..], next.stop),
        (&[Step::DeletePod][..], Some(StopReason::Suspended))
    );
    assert_eq!(next.state, running.state);
    let gone = without_pod(&desired);
    let asked = suspended(&gone, &stopped_status(10), Some(20), 30);
    assert_eq!((asked.steps, asked.state.stopped_at), (vec![], Some(at(30))));
    // Allowed again, it waits for a request that comes after that.
    assert_eq!(
        planned(&gone, &stopped_status(30), Some(20), 40).state.reason,
        Reason::Stopped
    );
    assert_eq!(
        planned(&gone, &stopped_status(30), Some(35), 40).steps,
        [Step::CreatePod]
    );
    // Nothing changes from pass to pass.
    assert_eq!(
        suspended(&gone, &stopped_status(30), Some(20), 99).state.stopped_at,
        Some(at(30))
    );
}

#[test]
fn a_restart_request_acts_once() {
    let desired = desired(&valid(), None);
    let running = with_pod(&desired, ready());
    let first = restarted(&running, 50, None, 60);
    assert_eq!(
        (&first.steps[..], first.state.restarted_at, first.state.stop_reason),
        (&[][..], None, Some(StopReason::Restart))
    );
    assert_eq!((first.state.phase, first.stop), (Phase::Creating, None));
    let last = written(&first, &accessed(0), 60);
    let second = restarted_after(&running, &last, 50, None, 61);
    assert_eq!(
        (second.steps, second.stop, second.state.restarted_at),
        (vec![Step::DeletePod], Some(StopReason::Restart), Some(at(50)))
    );
    assert_eq!(restarted(&running, 50, Some(50), 70).steps, []);
    let again = restarted_after(&running, &told(StopReason::Restart), 80, Some(50), 90);
    assert_eq!(again.steps, [Step::DeletePod]);
    // The pod is away already: that is noted before another one is made.
    let gone = restarted(&without_pod(&desired), 50, None, 60);
    assert_eq!((gone.steps, gone.state.restarted_at), (vec![], Some(at(50))));
    let noted = restarted(&without_pod(&desired), 50, Some(50), 61);
    assert_eq!(noted.steps, [Step::CreatePod]);
}

#[test]
fn the_status_says_when_it_stops() {
    let desired = desired(&valid(), None);
    let running = planned(&with_pod(&desired, ready()), &accessed(100), None, 200);
    assert_eq!(running.state.stops_at, Some(at(3700)));
    let stopped = planned(&without_pod(&desired), &stopped_status(5), None, 10);
    assert_eq!(stopped.state.stops_at, None);
}

/// The reason is there for as long as there is no pod that runs.
#[test]
fn why_it_was_stopped_is_told_until_the_next_pod_runs() {
    let desired = desired(&valid(), None);
    let reason = |observed: &Observed| {
        planned(observed, &told(StopReason::Restart), None, 10)
            .state
            .stop_reason
    };
    let ending = with_changed_pod(&desired, ready(), |pod| {
        pod.metadata.deletion_timestamp = Some(Time(at(5)));
    });
    let running = json!({"phase": "Running", "containerStatuses": [{"name": "workspace", "image": "", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"running": {}}}]});
    for (observed, expected) in [
        (ending, Some(StopReason::Restart)),
        (without_pod(&desired), Some(StopReason::Restart)),
        (
            with_pod(&desired, json!({"phase": "Pending"})),
            Some(StopReason::Restart),
        ),
        (with_pod(&desired, running), None),
        (with_pod(&desired, ready()), None),
    ] {
        assert_eq!(
            reason(&observed),
            expected,
            "{:?}",
            observed.pod.map(|pod| pod.state.clone())
        );
    }
}

/// Version 1.1, and versions that gave no reason: the reason is written first here too.
#[test]
fn a_stop_without_a_reason_gets_one() {
    let desired = desired(&valid(), None);
    let without = WorkspaceStatus {
        stop_reason: None,
        message: "Stopped".into(),
        ..stopped_status(5)
    };
    let plan = planned(&with_pod(&desired, ready()), &without, None, 10);
    assert_eq!(
        (&plan.steps[..], plan.state.stop_reason),
        (&[][..], Some(StopReason::Idle))
    );
    let next = planned(&with_pod(&desired, ready()), &written(&plan, &without, 10), None, 11);
    assert_eq!(next.steps, [Step::DeletePod]);
    // Woken before the pod was gone: it goes on.
    let woken = planned(&with_pod(&desired, ready()), &without, Some(9), 12);
    assert_eq!(
        (woken.steps, woken.state.phase, woken.state.stop_reason),
        (vec![], Phase::Running, None)
    );
}

#[test]
fn idleness_is_told_as_it_is_reckoned() {
    let idle = |keep_alive, idle_timeout| {
        idleness(&ValidWorkspace {
            keep_alive,
            idle_timeout,
            ..valid()
        })
    };
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(idle(KeepAlive::Input, None), "nobody has typed");
    assert_eq!(
        idle(KeepAlive::Output, hour),
        "nobody has typed and nothing was printed for 1h"
    );
    assert_eq!(
        idle(KeepAlive::Connected, hour),
        "no terminal is open and nobody has typed for 1h"
    );
}

/// A Service of this name that is someone else's.
fn foreign_service(observed: &mut Observed) {
    let mut service = desired(&valid(), None).service;
    service.metadata.owner_references = None;
    observed.service = seen(&service);
}

/// Whatever else is wrong, a suspension and idleness stop the pod in two passes, and the deletion comes before what may be refused.
#[test]
fn what_is_wrong_besides_keeps_no_pod_running() {
    let all = desired(&valid(), None);
    let claim = |deleted: bool| {
        Some(Arc::new(SeenClaim {
            phase: ClaimPhase::Lost,
            is_being_deleted: deleted,
            ..SeenClaim::of(&all.pvc)
        }))
    };
    let mut conflict = with_pod(&all, ready());
    foreign_service(&mut conflict);
    let unreadable = Observed {
        policies_unreadable: true,
        ..with_pod(&all, ready())
    };
    let lost = Observed {
        pvc: claim(false),
        ..with_pod(&all, ready())
    };
    let refused = Observed {
        service: None,
        ..with_pod(&all, ready())
    };
    let suspended = ValidWorkspace {
        suspended: true,
        ..valid()
    };
    for (what, observed, is_invalid) in [
        ("a conflict of names", conflict, false),
        ("policies that can't be read", unreadable, false),
        ("a lost volume", lost, false),
        ("a refused object", refused, false),
        ("a spec that is wrong", with_pod(&all, ready()), true),
    ] {
        for (workspace, now, reason) in [
            (&suspended, 10, StopReason::Suspended),
            (&valid(), 4000, StopReason::Idle),
        ] {
            let plan = |last: &WorkspaceStatus, now| match is_invalid {
                true => invalid(workspace, &observed, last, now),
                false => planned_for(workspace, &observed, last, None, now),
            };
            let first = plan(&accessed(0), now);
            assert!(!first.steps.contains(&Step::DeletePod), "{what}: told first");
            assert_eq!(
                (first.state.stopped_at, first.state.stop_reason),
                (Some(at(now)), Some(reason)),
                "{what}"
            );
            let second = plan(&written(&first, &accessed(0), now), now + 1);
            assert_eq!(
                (second.steps.first(), second.stop),
                (Some(&Step::DeletePod), Some(reason)),
                "{what}"
            );
        }
    }
}

#[test]
fn a_foreign_pod_is_never_stopped() {
    let all = desired(&valid(), None);
    let foreign = with_changed_pod(&all, ready(), |pod| pod.metadata.owner_references = None);
    for plan in [
        suspended(&foreign, &told(StopReason::Suspended), None, 10),
        planned(&foreign, &stopped_status(5), None, 10),
        invalid(&valid(), &foreign, &stopped_status(5), 10),
    ] {
        assert_eq!((plan.steps, plan.stop), (vec![], None));
    }
}

#[test]
fn policies_and_rights_of_a_pod_that_runs_are_put_right_whatever_is_wrong_besides() {
    let all = desired(&valid(), None);
    let mut observed = with_pod(&all, ready());
    observed.policies[0] = None;
    observed.policies[1] = seen(&all.policies[2]);
    // Such as those of a class that is there no more.
    let mut role = all.role.clone();
    role.rules = Some(vec![Default::default()]);
    observed.role = seen(&role);
    let both = [Step::ApplyPolicy(0), Step::ApplyPolicy(1), Step::ApplyRole];
    let plan = invalid(&valid(), &observed, &accessed(0), 10);
    assert_eq!(
        (&plan.steps[..], plan.state.reason),
        (&both[..], Reason::ValidationFailed)
    );
    foreign_service(&mut observed);
    let plan = planned(&observed, &accessed(0), None, 10);
    assert_eq!((&plan.steps[..], plan.state.reason), (&both[..], Reason::NameConflict));
    // One that is someone else's is not.
    let mut foreign = all.policies[1].clone();
    foreign.metadata.owner_references = None;
    observed.policies[1] = seen(&foreign);
    role.metadata.owner_references = None;
    observed.role = seen(&role);
    assert_eq!(planned(&observed, &accessed(0), None, 10).steps, [Step::ApplyPolicy(0)]);
    // Nor are any made for a pod that is another Workspace's.
    observed.pod = None;
    assert_eq!(planned(&observed, &accessed(0), None, 10).steps, []);
    assert_eq!(invalid(&valid(), &observed, &accessed(0), 10).steps, []);
}

#[test]
fn a_lost_claim_that_is_being_deleted_is_let_go_of() {
    let all = desired(&valid(), None);
    let mut observed = with_pod(&all, ready());
    let mut claim = SeenClaim::of(&all.pvc);
    claim.phase = ClaimPhase::Lost;
    observed.pvc = Some(Arc::new(claim.clone()));
    assert_eq!(planned(&observed, &accessed(0), None, 10).state.stop_reason, None);
    claim.is_being_deleted = true;
    observed.pvc = Some(Arc::new(claim));
    let first = planned(&observed, &accessed(0), None, 10);
    assert_eq!((&first.steps[..], first.state.reason), (&[][..], Reason::PVCLost));
    let second = planned(&observed, &written(&first, &accessed(0), 10), None, 11);
    assert_eq!(second.steps, [Step::DeletePod]);
}

#[test]
fn no_time_to_look_again_is_past() {
    let mut closed = outdated(true);
    for gate in [Gate::Closed, Gate::Waits, Gate::Uncertified, Gate::Open] {
        closed.gate = gate;
        for now in [10, 299, 300, 2000] {
            let plan = planned(&closed, &accessed(0), None, now);
            assert!(
                plan.look_again_at.is_none_or(|again| again > at(now)),
                "{gate:?} {now}: {plan:?}"
            );
        }
    }
}

#[test]
fn an_update_waits_for_idleness_though_the_terminal_is_not_ready() {
    let status = json!({"phase": "Running", "containerStatuses": [{"name": "workspace", "image": "", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"running": {}}}]});
    let observed = with_changed_pod(&desired(&valid(), None), status, |pod| {
        pod.spec.as_mut().unwrap().containers[0].image = Some("older".into());
        pod.metadata.annotations.as_mut().unwrap().clear();
    });
    assert_eq!(planned(&observed, &accessed(0), None, 10).look_again_at, Some(at(300)));
}

#[test]
fn a_pod_that_does_not_end_is_told_of_with_its_node() {
    let observed = with_changed_pod(&desired(&valid(), None), ready(), |pod| {
        pod.metadata.deletion_timestamp = Some(Time(at(30)));
        pod.spec.as_mut().unwrap().node_name = Some("node-7".into());
    });
    let waits = planned(&observed, &accessed(0), None, 40);
    assert_eq!(
        (waits.state.phase, waits.look_again_at),
        (Phase::Creating, Some(at(90)))
    );
    let lost = planned(&observed, &accessed(0), None, 90);
    assert_eq!(
        (lost.state.phase, lost.state.reason),
        (Phase::Failed, Reason::PodUnknown)
    );
    assert!(lost.state.message.contains("node-7"), "{}", lost.state.message);
}

#[test]
fn a_refused_write_ends_no_terminal_that_takes_connections() {
    let all = desired(&valid(), None);
    let running = planned(&with_pod(&all, ready()), &accessed(0), None, 10);
    let after = running
        .state
        .after_failure(Reason::AdmissionWebhook, "not today".into());
    assert_eq!((after.phase, after.reason), (Phase::Running, Reason::Running));
    let workspace = given::workspace(given::spec());
    let told = super::super::status::status(&workspace, &after, Default::default(), at(10));
    let condition = told
        .condition(crate::api::status::ConditionType::ObjectsApplied)
        .unwrap();
    assert_eq!(
        (
            condition.status.as_str(),
            condition.reason.as_str(),
            condition.message.as_str()
        ),
        ("False", "AdmissionWebhook", "not today")
    );
    // One that starts has failed.
    let starts = planned(&without_pod(&all), &accessed(0), None, 10);
    let after = starts.state.after_failure(Reason::AdmissionWebhook, "not today".into());
    assert_eq!((after.phase, after.reason), (Phase::Failed, Reason::AdmissionWebhook));
}
