//! The executable as a person meets it: help, version, exit codes, and messages that say what to mend.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/doctor_report.rs"]
mod doctor_report;

use assert_cmd::Command;
use serde_json::Value;
use std::io::Write;
use std::net::TcpListener;

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

    let twice = devplane()
        .arg("gateway")
        .envs([("PORT", "8080"), ("PROBE_PORT", "8080")])
        .assert()
        .code(64);
    let told = self::text(&twice.get_output().stderr);
    assert!(
        told.contains("PROBE_PORT") && told.contains("another port than PORT"),
        "{told}"
    );
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
    let report = doctor_report::read(&output.get_output().stdout);
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

/// A doctor that finds no cluster, of the smallest values and these over them.
fn doctor_of(values: &str) -> (Command, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(values.as_bytes()).unwrap();
    let smallest = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/values/minimal.yaml");
    let mut command = devplane();
    command
        .args(["doctor", "--values", smallest, "--values"])
        .arg(file.path())
        .env("HOME", "/nonexistent");
    (command, file)
}

/// A way in that cuts silent terminals: a warning, and nothing else.
const WARNED_OF: &str = "gateway: {ingress: {enabled: true, className: nginx, host: dev.example.test}}";

#[test]
fn doctor_fails_on_warnings_when_it_is_told_to() {
    let doctor = |more: &[&str], code| {
        let (mut command, _values) = doctor_of(WARNED_OF);
        command.args(["--only", "DP0706", "-o", "json"]).args(more);
        let report = doctor_report::read(&command.assert().code(code).get_output().stdout);
        assert_eq!(report["summary"]["warnings"], 1, "{report}");
        assert_eq!(report["summary"]["failed"], 0, "{report}");
        assert_eq!(report["findings"][0]["severity"], "warning", "{report}");
    };
    doctor(&[], 0);
    doctor(&["--fail-on", "error"], 0);
    doctor(&["--fail-on", "warn"], 1);
}

#[test]
fn doctor_runs_what_it_is_told_and_says_why_it_leaves_out_the_rest() {
    let doctor = |more: &[&str], code| -> Vec<(String, String, String)> {
        let (mut command, _values) = doctor_of("{}");
        command.args(["-o", "json"]).args(more);
        let report = doctor_report::read(&command.assert().code(code).get_output().stdout);
        let findings = report["findings"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        findings
            .map(|finding| {
                (
                    text(&finding["code"]),
                    text(&finding["status"]),
                    text(&finding["because"]),
                )
            })
            .collect()
    };
    let found = |code: &str, status: &str, because: &str| (code.to_owned(), status.to_owned(), because.to_owned());
    assert_eq!(doctor(&["--only", "DP0101"], 0), [found("DP0101", "ok", "")]);
    // What one rests on is told where it does not hold.
    assert_eq!(
        doctor(&["--only", "dp0202"], 1),
        [
            found("DP0201", "failed", ""),
            found("DP0202", "skipped", "DP0201 failed")
        ]
    );
    assert_eq!(
        doctor(&["--only", "DP0202,DP0901", "--skip", "DP0201"], 0),
        [
            found("DP0201", "skipped", "--skip leaves it out"),
            found("DP0202", "skipped", "DP0201 was skipped"),
            found("DP0901", "ok", ""),
        ]
    );
    let by_group = doctor(&["--only", "DP09", "--skip", "DP0902"], 0);
    assert_eq!(
        by_group,
        [
            found("DP0901", "ok", ""),
            found("DP0902", "skipped", "--skip leaves it out"),
        ]
    );
    let all = doctor(&["--skip", "DP02,DP05,DP06,DP07,DP10"], 0);
    assert!(
        all.len() > 70 && all.iter().any(|(code, _, _)| code == "DP1107"),
        "{all:?}"
    );
}

#[test]
fn doctor_tells_pipelines_the_same_as_others() {
    let printed = |form: &str| {
        let (mut command, _values) = doctor_of(WARNED_OF);
        // Nothing that would ask for names of elsewhere.
        let only = "DP01,DP02,DP03,DP04,DP0706,DP0708,DP09,DP11";
        let output = command.args(["--only", only, "-o", form]).assert().code(1);
        output.get_output().stdout.clone()
    };
    let report = doctor_report::read(&printed("json"));
    let junit = junit_parser::from_reader(printed("junit").as_slice()).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let summary = |key: &str| report["summary"][key].as_u64().unwrap();
    assert!(summary("ok") > 0 && summary("skipped") > 0, "{report}");
    assert_eq!(junit.tests, u64::try_from(findings.len()).unwrap());
    assert_eq!(junit.failures, summary("failed") + summary("warnings"));
    assert_eq!((junit.skipped, junit.errors), (summary("skipped"), 0));
    for suite in &junit.suites {
        let failures = suite.cases.iter().filter(|case| case.status.is_failure()).count();
        assert_eq!(suite.failures, u64::try_from(failures).unwrap(), "{}", suite.name);
        assert_eq!(suite.tests, u64::try_from(suite.cases.len()).unwrap(), "{}", suite.name);
    }
    let cases: Vec<_> = junit.suites.iter().flat_map(|suite| &suite.cases).collect();
    assert_eq!(cases.len(), findings.len());
    for (case, finding) in cases.iter().zip(findings) {
        let text = |key: &str| finding[key].as_str().unwrap();
        assert_eq!(case.original_name, format!("{} {}", text("code"), text("title")));
        match text("status") {
            "ok" => assert_eq!(case.system_out.as_deref(), Some(text("evidence")), "{finding}"),
            "failed" => assert_eq!(
                case.status.failure_as_ref().message,
                finding["failure"]["problem"],
                "{finding}"
            ),
            _ => assert_eq!(
                case.status.skipped_as_ref().message,
                format!("because {}", text("because")),
                "{finding}"
            ),
        }
    }
}

#[test]
fn doctor_shows_what_it_is_doing_on_a_terminal_alone() {
    let (mut command, values) = doctor_of("{}");
    let output = command.args(["--only", "DP0901"]).assert().success();
    assert_eq!(text(&output.get_output().stderr), "");
    let printed = text(&output.get_output().stdout);
    assert!(
        printed.starts_with("ok   DP0901") && !printed.contains('\u{1b}'),
        "{printed}"
    );
    let line = format!(
        "{} doctor --only DP0901 --values {}",
        env!("CARGO_BIN_EXE_devplane"),
        values.path().display()
    );
    let output = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(
        output.status.success() && shown.contains("\r\u{1b}[K[0/1] DP0901"),
        "{shown:?}"
    );
}

/// As behind a firewall that drops: it takes connections, and says nothing.
#[test]
fn doctor_gives_up_an_api_server_that_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut kubeconfig = tempfile::NamedTempFile::new().unwrap();
    write!(
        kubeconfig,
        r#"{{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{{"name":"c","cluster":{{"server":"https://{}"}}}}],
"users":[{{"name":"u","user":{{}}}}],"contexts":[{{"name":"c","context":{{"cluster":"c","user":"u"}}}}]}}"#,
        listener.local_addr().unwrap()
    )
    .unwrap();
    let (mut command, _values) = doctor_of("{}");
    command
        .env("KUBECONFIG", kubeconfig.path())
        .args(["--only", "DP0202,DP0901", "-o", "json"]);
    let report = doctor_report::read(&command.assert().code(1).get_output().stdout);
    let findings = &report["findings"];
    assert_eq!(findings[0]["code"], "DP0201", "{report:#}");
    assert_eq!(
        findings[0]["failure"]["problem"], "the check did not come to an end",
        "{report:#}"
    );
    assert_eq!(findings[0]["failure"]["found"], "no answer within 10 s", "{report:#}");
    assert_eq!(findings[1]["because"], "DP0201 failed", "{report:#}");
    assert_eq!(findings[2]["status"], "ok", "{report:#}");
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

    writeln!(more, "extraObjects: [{{kind: Pod, image: '{{{{ .Values.image }}}}'}}]").unwrap();
    let listed = devplane()
        .args(["doctor", "images", "--values"])
        .arg(more.path())
        .assert()
        .success();
    let told = text(&listed.get_output().stderr);
    assert!(told.starts_with("note: extraObjects[0] "), "{told}");

    for (arguments, said) in [
        (["--values", "/no/such/file"], "/no/such/file"),
        (["--output", "yaml"], "invalid value 'yaml'"),
    ] {
        let refused = devplane().args(["doctor", "images"]).args(arguments).assert().code(64);
        let told = text(&refused.get_output().stderr);
        assert!(told.contains(said), "{told}");
    }
}
