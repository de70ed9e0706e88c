//! The certificates of terminals: issued for each pod, known to gateways, rotated while pods run, and never put over another's Secret.

use crate::eventually::eventually;
use crate::operator::{Site, phase, reason, spec};
use devplane::api::status::ConditionType;
use devplane::api::{Phase, Workspace};
use devplane::certificates;
use devplane::clock::{Clock, SystemClock};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use serde_json::json;
use std::collections::BTreeMap;

const AUTHORITY: &str = "workspace.devplane.io/terminal-authority";

async fn secret(site: &Site, name: &str) -> Option<Secret> {
    let secrets: Api<Secret> = Api::namespaced(site.client.clone(), &site.namespace);
    secrets.get_opt(name).await.unwrap()
}

async fn entries(site: &Site, name: &str) -> BTreeMap<String, String> {
    let data = secret(site, name)
        .await
        .and_then(|secret| secret.data)
        .unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    data.into_iter().map(|(name, entry)| (name, text(entry.0))).collect()
}

fn is_told_of_its_certificate(workspace: &Workspace) -> bool {
    let status = workspace.status.as_ref();
    let told = status.and_then(|status| status.condition(ConditionType::UpdatePending));
    told.is_some_and(|told| told.status == "True" && told.message.contains("terminal certificate"))
}

fn authorities(pem: &str) -> usize {
    pem.matches("BEGIN CERTIFICATE").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pod_gets_a_certificate_and_gateways_another() {
    let site = Site::new("terminal-tls").await;
    let operator = site.operator(&[]);
    site.apply("dev1", &spec("dev1"));
    let workspace = site.runs("dev1").await;
    let first = secret(&site, "dev1-workspace-tls").await.unwrap();
    let owner = &first.owner_references()[0];
    assert_eq!(
        (Some(owner.uid.clone()), owner.controller),
        (workspace.uid(), Some(true))
    );
    let pod = site.pods().get("dev1-workspace-pod").await.unwrap();
    let status = workspace.status.unwrap();
    assert_eq!(pod.annotations()[AUTHORITY], status.terminal_authority);

    let (own, gateway) = (
        entries(&site, "dev1-workspace-tls").await,
        entries(&site, "workspace-gateway-terminal-tls").await,
    );
    let bytes = |entry: &str| gateway[entry].as_bytes();
    certificates::client(bytes("ca.crt"), bytes("tls.crt"), bytes("tls.key")).unwrap();
    assert_ne!(
        own["ca.crt"], gateway["ca.crt"],
        "what vouches for a workspace vouches for no gateway"
    );
    for entry in ["ca.crt", "tls.crt", "tls.key"] {
        assert!(own[entry].contains("-----BEGIN "), "{entry}");
    }

    // Not from a moment ago, when it might be for a pod that is still to be made.
    let earlier = "workspace.devplane.io/issued-at=2026-01-01T00:00:00Z";
    site.kubectl(&["annotate", "secret", "dev1-workspace-tls", "--overwrite", earlier]);
    site.kubectl(&["delete", "pod", "dev1-workspace-pod", "--grace-period=0", "--force"]);
    let made_again = eventually(async || {
        let there = site.pods().get_opt("dev1-workspace-pod").await.unwrap();
        there.is_some_and(|new| new.uid() != pod.uid())
    });
    assert!(made_again.await, "{}", operator.log());
    assert_ne!(entries(&site, "dev1-workspace-tls").await["tls.key"], own["tls.key"]);
    let log = operator.log();
    assert!(!log.contains("PRIVATE") && !log.contains(own["tls.key"].lines().nth(1).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_leaves_pods_alone_and_new_authorities_for_old_replace_them() {
    let site = Site::new("terminal-rotation").await;
    let operator = site.operator(&[]);
    site.apply("dev1", &spec("dev1"));
    site.runs("dev1").await;
    let before = site.pods().get("dev1-workspace-pod").await.unwrap().uid();
    let own = "workspace-terminal-authorities";
    let of_gateways = async || {
        let secret = secret(&site, "workspace-gateway-terminal-tls").await.unwrap();
        secret.annotations()[AUTHORITY].clone()
    };
    let old = of_gateways().await;
    let now = SystemClock.now();
    let request = format!("workspace.devplane.io/rotate-requested-at={now}");
    site.kubectl(&["annotate", "secret", own, &request]);
    let rotated =
        eventually(async || authorities(&entries(&site, "workspace-gateway-terminal-tls").await["ca.crt"]) == 2);
    assert!(rotated.await, "{}", operator.log());
    assert_eq!(of_gateways().await, old, "pods that run trust no other yet");
    site.apply("dev2", &spec("dev2"));
    site.runs("dev2").await;
    assert_eq!(
        authorities(&entries(&site, "dev2-workspace-tls").await["ca.crt"]),
        2,
        "and new ones trust both"
    );
    let workspace = site.workspaces().get("dev1").await.unwrap();
    assert!(!is_told_of_its_certificate(&workspace));
    assert_eq!(site.pods().get("dev1-workspace-pod").await.unwrap().uid(), before);

    site.kubectl(&["delete", "secret", own]);
    site.until("dev1", "told of its certificate", is_told_of_its_certificate)
        .await;
    let made_anew =
        eventually(async || authorities(&entries(&site, "workspace-gateway-terminal-tls").await["ca.crt"]) == 1);
    assert!(made_anew.await, "{}", operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_s_secret_is_left_alone() {
    let site = Site::new("terminal-foreign").await;
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "dev1-workspace-tls"}, "stringData": {"a": "b"}});
    site.create_objects(&foreign);
    let _operator = site.operator(&[]);
    site.apply("dev1", &spec("dev1"));
    let failed = site.until("dev1", "Failed", |w| reason(w) == "NameConflict").await;
    let message = failed.status.unwrap().message;
    assert!(message.contains("Secret dev1-workspace-tls"), "{message}");
    assert_eq!(entries(&site, "dev1-workspace-tls").await["a"], "b");
    assert!(site.pods().get_opt("dev1-workspace-pod").await.unwrap().is_none());
    site.kubectl(&["delete", "secret", "dev1-workspace-tls"]);
    site.runs("dev1").await;
}

fn write_authorities(site: &Site, text: &str) {
    let patch = json!({"stringData": {"authorities.json": text}}).to_string();
    site.kubectl(&["patch", "secret", "workspace-terminal-authorities", "-p", &patch]);
}

/// Both when it becomes so while an operator works, and for one that begins.
#[tokio::test(flavor = "multi_thread")]
async fn without_usable_authorities_what_runs_goes_on_and_what_should_start_says_so_until_they_are_mended() {
    let site = Site::new("terminal-unusable").await;
    let mut operator = site.operator(&[]);
    for id in ["idle", "asked", "kept"] {
        site.apply(id, &spec(id));
        site.runs(id).await;
    }
    let own = "workspace-terminal-authorities";
    let good = entries(&site, own).await["authorities.json"].clone();
    let pod = async |id: &str| {
        site.pods()
            .get_opt(&format!("{id}-workspace-pod"))
            .await
            .unwrap()
            .and_then(|pod| pod.uid())
    };
    let kept = pod("kept").await;
    let unusable = "devplane_operator_terminal_authorities_usable 0\n";
    for (round, planted) in ["planted", &good.replacen("PRIVATE KEY", "PLANTED", 1)]
        .into_iter()
        .enumerate()
    {
        let asked = pod("asked").await;
        write_authorities(&site, planted);
        assert!(
            eventually(async || operator.metrics().contains(unusable)).await,
            "{}",
            operator.log()
        );
        if round == 1 {
            assert_eq!(operator.stop(), Some(0));
            operator = site.operator(&[]);
        }
        // It is idle, and stops as it should.
        site.patch("idle", &json!({"spec": {"lifecycle": {"idleTimeout": "1s"}}}))
            .await;
        site.until("idle", "Stopped", |w| phase(w) == Some(Phase::Stopped))
            .await;
        assert!(
            eventually(async || pod("idle").await.is_none()).await,
            "{}",
            operator.log()
        );
        let annotation = |what: &str| json!({"metadata": {"annotations": {what: SystemClock.now()}}, "spec": {"lifecycle": {"idleTimeout": "0"}}});
        site.patch("idle", &annotation("workspace.devplane.io/wake-requested-at"))
            .await;
        let failed = site
            .until("idle", "Failed", |w| reason(w) == "CertificatesUnavailable")
            .await;
        let status = failed.status.unwrap();
        assert!(
            status.message.contains(own) && status.remediation_hint.contains("put back"),
            "{status:?}"
        );

        site.patch("asked", &annotation("workspace.devplane.io/restart-requested-at"))
            .await;
        let told = |workspace: &Workspace| {
            let condition = workspace
                .status
                .as_ref()
                .and_then(|status| status.condition(ConditionType::ObjectsApplied));
            condition.is_some_and(|condition| condition.reason == "CertificatesUnavailable")
        };
        let waits = site.until("asked", "told that it waits", told).await;
        assert_eq!(
            (phase(&waits), pod("asked").await),
            (Some(Phase::Running), asked.clone())
        );
        // An Event comes behind.
        let have_events = eventually(async || {
            let warnings = "reason=CertificatesUnavailable,type=Warning";
            let events = site.kubectl(&["get", "events", "--field-selector", warnings, "-o", "name"]);
            events.lines().count() >= 2
        });
        assert!(have_events.await, "{}", operator.log());
        assert_eq!(
            entries(&site, own).await["authorities.json"],
            planted,
            "it may be the only copy"
        );

        write_authorities(&site, &good);
        site.runs("idle").await;
        let replaced = eventually(async || pod("asked").await.is_some_and(|now| Some(now) != asked)).await;
        assert!(replaced, "{}", operator.log());
        site.runs("asked").await;
    }
    assert_eq!(pod("kept").await, kept, "nothing was wrong with it");
    let log = operator.log();
    assert!(
        log.contains("put it back, or delete the Secret to have it made anew") && !log.contains("planted"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_without_tls_have_no_certificate() {
    let site = Site::new("terminal-plain").await;
    let operator = site.operator(&[("TERMINAL_TLS", "false")]);
    site.apply("dev1", &spec("dev1"));
    let workspace = site.runs("dev1").await;
    assert_eq!(workspace.status.unwrap().terminal_authority, "");
    for name in [
        "dev1-workspace-tls",
        "workspace-terminal-authorities",
        "workspace-gateway-terminal-tls",
    ] {
        assert!(secret(&site, name).await.is_none(), "{name}");
    }
    assert_eq!(operator.stop(), Some(0));
    let _operator = site.operator(&[]);
    site.until("dev1", "told of its certificate", is_told_of_its_certificate)
        .await;
}
