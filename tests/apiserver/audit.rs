//! What the operator writes down as evidence: its configuration, who changed a Workspace, what its policies became, and for whom it
//! started.

use crate::eventually::eventually;
use crate::operator::{Operator, Site, phase, reason, spec};
use devplane::api::Phase;
use devplane::clock::{Clock, SystemClock};
use serde_json::{Value, json};

const REQUESTED_BY: &str = "workspace.devplane.io/requested-by";
const WAKE: &str = "workspace.devplane.io/wake-requested-at";
const RESTART: &str = "workspace.devplane.io/restart-requested-at";

/// Waits for a line of this event that `holds`.
async fn audited(operator: &Operator, event: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut found = None;
    let told = eventually(async || {
        found = operator.audited(event).into_iter().find(&holds);
        found.is_some()
    });
    assert!(told.await, "no such {event} in {:?}", operator.audited(event));
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_administrator_does_is_told_with_their_name() {
    let site = Site::new("administered").await;
    let operator = site.operator(&[]);
    site.apply("dev1", &spec("dev1"));
    site.until("dev1", "Creating", |w| phase(w) == Some(Phase::Creating))
        .await;
    assert_eq!(operator.audited("workspace.administered"), [] as [Value; 0]);

    site.kubectl(&[
        "patch",
        "workspace",
        "dev1",
        "--type=merge",
        "-p",
        r#"{"spec":{"suspended":true}}"#,
    ]);
    let line = audited(&operator, "workspace.administered", |line| line["action"] == "suspend").await;
    assert_eq!(
        (
            &line["fieldManager"],
            &line["workspace"],
            &line["userId"],
            &line["devplane.component"]
        ),
        (
            &json!("kubectl-patch"),
            &json!("dev1"),
            &json!("dev1"),
            &json!("workspace-controller")
        )
    );
    site.kubectl(&[
        "patch",
        "workspace",
        "dev1",
        "--type=merge",
        "-p",
        r#"{"spec":{"suspended":false}}"#,
    ]);
    audited(&operator, "workspace.administered", |line| line["action"] == "resume").await;

    let all = "workspace.devplane.io/sessions-revoked-before=2027-01-15T08:00:00Z";
    let one = "revoked-session.workspace.devplane.io/s1=now";
    let restart = format!("{RESTART}={}", SystemClock.now());
    site.kubectl(&["annotate", "workspace", "dev1", all, one, &restart]);
    for (action, session) in [
        ("revoke_sessions", None),
        ("revoke_session", Some("s1")),
        ("restart", None),
    ] {
        let line = audited(&operator, "workspace.administered", |line| line["action"] == action).await;
        assert_eq!(
            (line["fieldManager"].as_str(), line["session"].as_str()),
            (Some("kubectl-annotate"), session)
        );
    }
    assert_eq!(operator.audited("workspace.administered").len(), 5, "each once");

    // What is done while no operator is there is told by the next one.
    site.until("dev1", "restarted", |w| {
        w.status.as_ref().is_some_and(|s| s.restarted_at.is_some())
    })
    .await;
    assert_eq!(operator.stop(), Some(0));
    site.patch("dev1", &json!({"spec": {"suspended": true}})).await;
    let operator = site.operator(&[]);
    audited(&operator, "workspace.administered", |line| line["action"] == "suspend").await;
    site.until("dev1", "suspended", |w| reason(w) == "Suspended").await;
    site.kubectl(&["delete", "workspace", "dev1", "--wait=true"]);
    audited(&operator, "workspace.administered", |line| line["action"] == "delete").await;
    assert_eq!(operator.audited("workspace.administered").len(), 2, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_and_configuration_are_told_with_their_hashes() {
    let site = Site::new("policies").await;
    let operator = site.operator(&[]);
    site.apply("dev1", &spec("dev1"));
    site.until("dev1", "Creating", |w| phase(w) == Some(Phase::Creating))
        .await;
    let made = operator.audited("workspace.policy_changed");
    assert_eq!(made.len(), 3, "{made:?}");
    assert!(
        made.iter()
            .all(|line| line["action"] == "create" && line.get("oldHash").is_none())
    );
    let egress = made
        .iter()
        .find(|line| line["policy"] == "dev1-workspace-egress")
        .unwrap();

    // Somebody opens it, and the operator closes it again.
    let open = r#"{"spec":{"egress":[{}]}}"#;
    site.kubectl(&[
        "patch",
        "networkpolicy",
        "dev1-workspace-egress",
        "--type=merge",
        "-p",
        open,
    ]);
    let mended = audited(&operator, "workspace.policy_changed", |line| line["action"] == "update").await;
    assert_eq!(mended["newHash"], egress["newHash"]);
    assert_ne!(mended["oldHash"], mended["newHash"]);

    // Another configuration: another hash, and another policy.
    let hash = |operator: &Operator| operator.audited("config.loaded")[0]["configHash"].clone();
    let first = hash(&operator);
    assert_eq!(
        operator.audited("config.loaded")[0]["version"],
        env!("CARGO_PKG_VERSION")
    );
    drop(operator);
    let operator = site.operator(&[("EGRESS_PORTS", "443")]);
    let changed = audited(&operator, "workspace.policy_changed", |line| line["action"] == "update").await;
    assert_eq!(changed["oldHash"], egress["newHash"]);
    assert_ne!(changed["newHash"], egress["newHash"]);
    assert_ne!(hash(&operator), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_told_with_the_request_that_asked_for_it() {
    let site = Site::new("requested").await;
    // As a gateway writes it.
    let object = json!({
        "apiVersion": "workspace.devplane.io/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "dev1", "namespace": site.namespace, "annotations": {REQUESTED_BY: "request-1"}},
        "spec": spec("dev1"),
    });
    site.create_objects(&object);
    let operator = site.operator(&[("IDLE_TIMEOUT", "15s")]);
    site.until("dev1", "Creating", |w| phase(w) == Some(Phase::Creating))
        .await;
    site.make_ready("dev1-workspace-pod").await;
    let of = |to: &'static str, id: Option<&'static str>| {
        move |line: &Value| line["toPhase"] == to && line["devplane.request_id"].as_str() == id
    };
    audited(
        &operator,
        "workspace.phase_transition",
        of("Creating", Some("request-1")),
    )
    .await;
    audited(
        &operator,
        "workspace.phase_transition",
        of("Running", Some("request-1")),
    )
    .await;
    // Nobody asked for its end.
    let stopped = site
        .until("dev1", "Stopped", |w| phase(w) == Some(Phase::Stopped))
        .await;
    audited(&operator, "workspace.phase_transition", of("Stopped", None)).await;
    // One that is woken before its pod has gone keeps it.
    let gone = eventually(async || site.pods().get_opt("dev1-workspace-pod").await.unwrap().is_none()).await;
    assert!(gone, "{}", operator.log());
    let at = stopped.status.unwrap().stopped_at.unwrap().0 + jiff::SignedDuration::from_secs(1);
    let annotations = json!({REQUESTED_BY: format!("request-2@{at}"), WAKE: at.to_string()});
    site.patch("dev1", &json!({"metadata": {"annotations": annotations}}))
        .await;
    audited(
        &operator,
        "workspace.phase_transition",
        of("Creating", Some("request-2")),
    )
    .await;
    // A restart that somebody else asks for is not that request's.
    let later = (at + jiff::SignedDuration::from_secs(2)).to_string();
    site.make_ready("dev1-workspace-pod").await;
    audited(
        &operator,
        "workspace.phase_transition",
        of("Running", Some("request-2")),
    )
    .await;
    site.kubectl(&["annotate", "workspace", "dev1", &format!("{RESTART}={later}")]);
    audited(&operator, "workspace.phase_transition", of("Creating", None)).await;
}
