//! The executable as a person meets it: help, version, exit codes, and messages that say what to mend.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use std::io::Write;

fn devplane() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_devplane"));
    command.env_clear();
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn version_names_the_release_and_the_commit() {
    let output = devplane().arg("--version").assert().success();
    let text = text(&output.get_output().stdout);
    let (version, commit) = text.trim().strip_prefix("devplane ").unwrap().split_once(" (").unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert!(commit.len() > 3 && commit.ends_with(')'), "{commit}");
}

#[test]
fn help_names_every_setting_of_the_operator() {
    let output = devplane().args(["operator", "--help"]).assert().success();
    let text = text(&output.get_output().stdout);
    for setting in devplane::config::operator::SETTINGS {
        assert!(text.contains(setting.env), "{} is missing", setting.env);
        assert!(!setting.help.is_empty(), "{} says nothing", setting.env);
    }
}

#[test]
fn wrong_usage_and_wrong_settings_exit_with_64() {
    devplane().assert().code(64);
    devplane().arg("--no-such-flag").assert().code(64);
    let output = devplane()
        .arg("operator")
        .envs([
            ("EGRESS_PORTS", "22,70000"),
            ("IDLE_TIMEOUT", "5 minutes"),
            ("NAMESPACE", ""),
        ])
        .assert()
        .code(64);
    insta::assert_snapshot!(text(&output.get_output().stderr));
}

#[test]
fn the_environment_wins_over_the_file_and_unknown_keys_are_told() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        file,
        "workspace:\n  image: from-the-file\n  egressPorts: [22, oops]\n  imaeg: x\nnamespace: from-the-file"
    )
    .unwrap();
    let output = devplane()
        .args(["operator", "--config"])
        .arg(file.path())
        .env("EGRESS_PORTS", "0")
        .assert()
        .code(64);
    let text = text(&output.get_output().stderr);
    assert!(text.contains("workspace.imaeg"), "{text}");
    assert!(text.contains("EGRESS_PORTS (workspace.egressPorts) is \"0\""), "{text}");
    assert!(
        text.contains("correct EGRESS_PORTS in the environment variable EGRESS_PORTS"),
        "{text}"
    );
    assert!(!text.contains("WORKSPACE_IMAGE"), "the file gives it: {text}");

    devplane()
        .args(["operator", "--config", "/no/such/file"])
        .assert()
        .code(64);
}

#[test]
fn crd_gen_prints_what_the_chart_ships() {
    let output = devplane().arg("crd-gen").assert().success();
    let shipped = include_str!("../../chart/devplane/crds/workspaces.workspace.devplane.io.yaml");
    assert_eq!(
        text(&output.get_output().stdout),
        shipped,
        "run `just generate` and commit the result"
    );
}

#[test]
fn doctor_says_what_to_mend_without_a_cluster() {
    let output = devplane()
        .arg("doctor")
        .env("WORKSPACE_IMAGE", "i")
        .env("HOME", "/nonexistent")
        .assert()
        .code(1);
    let text = text(&output.get_output().stdout);
    assert!(text.starts_with("ok   DP0101"), "{text}");
    assert!(text.contains("FAIL DP0201") && text.contains("fix: "), "{text}");
    assert!(
        text.contains("skip DP0202") && text.ends_with("1 ok, 1 failed, 2 skipped\n"),
        "{text}"
    );
}

#[test]
fn doctor_images_lists_what_to_mirror() {
    let mut values = tempfile::NamedTempFile::new().unwrap();
    let digest = format!("sha256:{}", "0a".repeat(32));
    writeln!(values, "image: registry.example:5000/platform/devplane:2.0.0@{digest}").unwrap();
    let mut more = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        more,
        "workspace: {{image: w:1, classes: [{{name: gpu, image: 'registry.example/gpu:1'}}]}}"
    )
    .unwrap();
    let images = |arguments: &[&str]| {
        let mut command = devplane();
        command.args(["doctor", "images", "--values"]).arg(values.path());
        command.arg("--values").arg(more.path()).args(arguments);
        text(&command.assert().success().get_output().stdout)
    };
    assert_eq!(
        images(&[]),
        format!("registry.example:5000/platform/devplane:2.0.0@{digest}\nw:1\nregistry.example/gpu:1\n")
    );
    let json: serde_json::Value = serde_json::from_str(&images(&["-o", "json"])).unwrap();
    assert_eq!(json["images"][0]["registry"], "registry.example:5000");
    assert_eq!(json["images"][0]["digest"], digest.as_str());
    assert_eq!(json["images"][0]["usedBy"], serde_json::json!(["operator", "gateway"]));
    assert_eq!(json["images"][1]["registry"], serde_json::Value::Null);
    assert_eq!(json["images"][2]["usedBy"], serde_json::json!(["workspace class gpu"]));

    for (arguments, said) in [
        (["--values", "/no/such/file"], "/no/such/file"),
        (["--output", "yaml"], "invalid value 'yaml'"),
    ] {
        let refused = devplane().args(["doctor", "images"]).args(arguments).assert().code(64);
        let told = text(&refused.get_output().stderr);
        assert!(told.contains(said), "{told}");
    }
}
