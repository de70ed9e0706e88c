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

    let mut broken = tempfile::NamedTempFile::new().unwrap();
    writeln!(broken, "oidc:\n  clientSecret: \"planted-secret").unwrap();
    let refused = devplane()
        .args(["gateway", "--config"])
        .arg(broken.path())
        .assert()
        .code(64);
    let told = self::text(&refused.get_output().stderr);
    assert!(told.contains("line 2") && !told.contains("planted"), "{told}");
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
fn doctor_prints_the_pages_that_are_shipped() {
    for (option, shipped) in [
        ("--reference", include_str!("../../docs/reference/doctor.md")),
        ("--schema", include_str!("../../docs/reference/doctor.schema.json")),
    ] {
        let output = devplane().args(["doctor", option]).assert().success();
        assert!(
            text(&output.get_output().stdout) == shipped,
            "run `just generate` and commit the result of doctor {option}"
        );
    }
}

#[test]
fn doctor_tells_which_checks_there_are_when_one_is_unknown() {
    for option in ["--only", "--skip"] {
        let output = devplane().args(["doctor", option, "DP0101,DP9999"]).assert().code(64);
        let text = text(&output.get_output().stderr);
        assert!(text.contains("\"DP9999\" is neither a code"), "{text}");
        assert!(text.contains("DP0201  the API server"), "{text}");
    }
    devplane().args(["doctor", "--fail-on", "never"]).assert().code(64);
    devplane()
        .args(["doctor", "--values", "/no/such/file"])
        .assert()
        .code(64);
}

#[test]
fn doctor_reads_the_values_that_helm_gets() {
    let values = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/values/minimal.yaml");
    let doctor = |more: &[&str]| {
        let mut command = devplane();
        command
            .args(["doctor", "--only", "DP0101", "--values", values])
            .args(more);
        command.env("HOME", "/nonexistent");
        command.assert()
    };
    let output = doctor(&["--output", "json"]).success();
    let report: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(report["findings"][0]["status"], "ok", "{report}");
    assert_eq!(report["summary"]["ok"], 1, "{report}");

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"workspace: {defaultResources: {memory: much}}\ngateway: {oidc: {clientID: null}}")
        .unwrap();
    let more = file.path().to_str().unwrap();
    let output = doctor(&["--values", more]).code(1);
    let printed = text(&output.get_output().stdout);
    assert!(
        printed.contains("workspace.defaultResources.memory is \"much\""),
        "{printed}"
    );
    assert!(printed.contains("gateway.oidc.clientID is not set"), "{printed}");
    assert!(!printed.contains("planted-secret"), "{printed}");

    let output = doctor(&["--values", more, "-o", "junit"]).code(1);
    let printed = text(&output.get_output().stdout);
    assert!(printed.contains("<testsuite name=\"DP01 "), "{printed}");
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
        text.contains("skip DP0202") && text.contains("because DP0201 failed"),
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
