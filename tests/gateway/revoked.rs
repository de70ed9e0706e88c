//! Revocations at a gateway that is about to stop.

use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{Site, ttyd};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_drains_closes_the_terminals_of_who_is_out_at_once() {
    let site = Site::new("revoked-draining").await;
    site.create_running("dev1", "127.0.7.92").await;
    site.create_running("dev2", "127.0.7.93").await;
    let _ttyds = (ttyd("127.0.7.92"), ttyd("127.0.7.93"));
    // Each terminal moves at some time in it: hardly ever while this test looks.
    let settings = [("GATEWAY_DRAIN_TIMEOUT", "1h")];
    let mut draining = site.gateway(&settings).await;
    let (one, other) = (Browser::default(), Browser::default());
    one.sign_in(&site.origin(), "dev1").await;
    other.sign_in(&site.origin(), "dev2").await;
    let mut of_one = one.own_shell(&site.origin()).await;
    let mut of_other = other.own_shell(&site.origin()).await;
    let known = eventually(async || {
        let workspace = site.workspaces().get(&site.name("dev1")).await.unwrap();
        workspace.status.unwrap().sign_ins.len() == 1
    });
    assert!(known.await);
    let (workspaces, parameters) = (site.workspaces(), PatchParams::default());
    let status = workspaces.get(&site.name("dev1")).await.unwrap().status.unwrap();
    draining.terminate();
    assert!(eventually(async || draining.log().contains("the gateway stops")).await);
    of_one.type_keys("echo st$((1))ll\r").await;
    of_one.until("st1ll").await;

    let key = format!("revoked-session.workspace.devplane.io/{}", status.sign_ins[0].id);
    for (name, patch, terminal, code) in [
        (
            site.name("dev1"),
            json!({"metadata": {"annotations": {key: "now"}}}),
            &mut of_one,
            4401,
        ),
        (
            site.name("dev2"),
            json!({"spec": {"suspended": true}}),
            &mut of_other,
            4403,
        ),
    ] {
        workspaces
            .patch(&name, &parameters, &Patch::Merge(patch))
            .await
            .unwrap();
        let told = Instant::now();
        assert_eq!(terminal.closed().await, code);
        assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
    }
    assert_eq!(draining.exit_code(), Some(0), "nothing is left to wait for");
}
