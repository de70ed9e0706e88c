//! The doctor against a real API server: as an administrator, under the operator's own rights, and with faults made on purpose.

use crate::operator::Site;
use std::process::{Command, Output};

fn doctor(site: &Site, user: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_devplane"))
        .arg("doctor")
        .env_clear()
        .env("KUBECONFIG", site.server.kubeconfig(user))
        .env("NAMESPACE", &site.namespace)
        .env("POD_NAMESPACE", &site.namespace)
        .env("WORKSPACE_IMAGE", "registry.test/devplane-workspace:1")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_installation_passes() {
    let site = Site::new("doctor-sound").await;
    let output = doctor(&site, "admin");
    assert!(
        output.status.success() && text(&output).contains("ok   DP0202"),
        "{}",
        text(&output)
    );

    // The operator's own rights do not reach as far as CustomResourceDefinitions; what it may not know is skipped.
    let output = doctor(&site, "operator");
    assert!(
        output.status.success() && text(&output).contains("skip DP0202"),
        "{}",
        text(&output)
    );
    assert!(text(&output).contains("ok   DP0203"), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named() {
    let site = Site::new("doctor-rights").await;
    site.server
        .kubectl_ok(&["delete", "rolebinding", "operator", "-n", "doctor-rights"], None);
    let output = doctor(&site, "operator");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("create pods in doctor-rights"),
        "{}",
        text(&output)
    );
}
