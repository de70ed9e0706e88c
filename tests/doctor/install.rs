//! The rights that DP0301 asks for are those that Helm needs: a user who gets exactly them, by the printed fix, installs, upgrades, tests and removes
//! the chart; without any one of them the doctor says so.

use crate::apiserver::ApiServer;
use crate::doctor_report;
use crate::site::{failure, failures};
use devplane::doctor::rights::install::{Presence, Standing, to_install};
use devplane::doctor::rights::{manifest, unbounded};
use devplane::doctor::values::Values;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NAMESPACE: &str = "workspace-operator-system";
const WORKSPACES: &str = "workspaces";

/// With as many kinds of objects as an API server without others' definitions knows.
const VALUES: &str = r#"
image: registry.example.test/devplane:2
customCA: {pem: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}
gateway:
  replicas: 2
  ingress: {enabled: true, host: devplane.example.test}
  oidc: {issuerURL: https://idp.example.test, clientID: devplane, clientSecret: planted-secret, redirectURL: https://devplane.example.test/callback}
workspace:
  image: registry.example.test/devplane-workspace:2
  quota: {pods: 50}
  limitRange: [{type: Container, max: {cpu: '8'}}]
  ceilings: {cpu: '8'}
  allowedImages: [registry.example.test/*]
monitoring: {dashboard: {enabled: true}}
doctor: {test: true, hook: true, clusterWide: true}
"#;

/// One right, as a rule of a Role has it, and the Role.
type Atom = (String, Value);

struct Site {
    server: Arc<ApiServer>,
    directory: tempfile::TempDir,
    stop: Arc<AtomicBool>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Site {
    fn new() -> Self {
        let site = Self {
            server: Arc::new(ApiServer::start()),
            directory: tempfile::tempdir().unwrap(),
            stop: Arc::default(),
        };
        std::fs::write(site.values(), VALUES).unwrap();
        let (server, stop) = (Arc::clone(&site.server), Arc::clone(&site.stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                control(&server);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        site
    }

    fn values(&self) -> PathBuf {
        self.directory.path().join("values.yaml")
    }

    fn command(&self, program: PathBuf, user: &str) -> Command {
        let admin = std::fs::read_to_string(self.server.kubeconfig("admin")).unwrap();
        let kubeconfig = self.directory.path().join(format!("{user}.kubeconfig"));
        let impersonation = format!("\"user\":{{\"as\":\"{user}\",");
        std::fs::write(&kubeconfig, admin.replace("\"user\":{", &impersonation)).unwrap();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.directory.path())
            .env("KUBECONFIG", kubeconfig);
        command
    }

    fn doctor(&self, user: &str) -> Value {
        let mut command = self.command(PathBuf::from(env!("CARGO_BIN_EXE_devplane")), user);
        let output = command
            .args(["doctor", "--only", "DP03", "-o", "json", "--values"])
            .arg(self.values())
            .output()
            .unwrap();
        assert!(!output.stdout.is_empty(), "{output:?}");
        doctor_report::read(&output.stdout)
    }

    fn helm(&self, user: &str, arguments: &[&str]) {
        let output = self
            .command(self.server.binary("helm"), user)
            .args(arguments)
            .args(["--namespace", NAMESPACE])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !said.contains("forbidden"),
            "helm {arguments:?} as {user}: {said}"
        );
    }

    /// The whole life of a release.
    fn live(&self, user: &str) {
        let values = self.values();
        let chart = format!("{}/chart/devplane", env!("CARGO_MANIFEST_DIR"));
        let release = [
            "devplane",
            chart.as_str(),
            "-f",
            values.to_str().unwrap(),
            "--wait",
            "--timeout",
            "120s",
        ];
        let with = |first: &[&'static str], more: &[&'static str]| [first, &release, more].concat();
        self.helm(user, &with(&["install"], &[]));
        let changes = ["--set", "gateway.replicas=3,gateway.ingress.enabled=false"];
        self.helm(user, &with(&["upgrade"], &changes));
        self.helm(user, &["rollback", "devplane", "1", "--wait", "--timeout", "120s"]);
        self.helm(user, &["test", "devplane", "--timeout", "120s"]);
        self.helm(user, &["uninstall", "devplane", "--wait", "--timeout", "120s"]);
    }

    /// What the user's Roles give, right by right.
    fn atoms(&self) -> Vec<Atom> {
        let roles = self
            .server
            .kubectl_ok(&["get", "roles,clusterroles", "-A", "-o", "json"], None);
        let roles: Value = serde_json::from_str(&roles).unwrap();
        let ours = roles["items"].as_array().unwrap().iter().filter(|role| {
            let name = role["metadata"]["name"].as_str().unwrap();
            name.starts_with("devplane-installer-")
        });
        let mut atoms = Vec::new();
        for role in ours {
            let header = json!({"apiVersion": role["apiVersion"], "kind": role["kind"], "metadata": {
                "name": role["metadata"]["name"], "namespace": role["metadata"]["namespace"]}});
            for rule in role["rules"].as_array().unwrap() {
                for resource in rule["resources"].as_array().unwrap() {
                    for verb in rule["verbs"].as_array().unwrap() {
                        let mut atom =
                            json!({"apiGroups": rule["apiGroups"], "resources": [resource], "verbs": [verb]});
                        if let Some(names) = rule.get("resourceNames") {
                            atom["resourceNames"] = names.clone();
                        }
                        atoms.push((header.to_string(), atom));
                    }
                }
            }
        }
        atoms
    }

    fn write(&self, role: &str, atoms: &[&Atom]) {
        let mut object: Value = serde_json::from_str(role).unwrap();
        let rules = atoms.iter().filter(|(of, _)| of == role).map(|(_, rule)| rule);
        object["rules"] = rules.cloned().collect();
        self.server
            .kubectl_ok(&["replace", "-f", "-"], Some(&object.to_string()));
    }
}

/// What controllers and kubelets would do: ReplicaSets of Deployments, all ready; pods and Jobs that end well.
fn control(server: &ApiServer) {
    let kinds = "deployments.apps,replicasets.apps,jobs.batch,pods";
    let found = server.kubectl(&["get", kinds, "-A", "-o", "json"], None);
    let Ok(found) = serde_json::from_slice::<Value>(&found.stdout) else {
        return;
    };
    let empty = Vec::new();
    for object in found["items"].as_array().unwrap_or(&empty) {
        let metadata = &object["metadata"];
        let text = |key: &str| metadata[key].as_str().unwrap().to_owned();
        let (name, namespace) = (text("name"), text("namespace"));
        let (kind, replicas) = (object["kind"].as_str().unwrap(), &object["spec"]["replicas"]);
        let status = match kind {
            "Deployment" => {
                let owner = json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": metadata["uid"], "controller": true});
                let set = json!({
                    "apiVersion": "apps/v1", "kind": "ReplicaSet",
                    "metadata": {
                        "name": format!("{name}-{}-{}", metadata["generation"], &text("uid")[..8]), "namespace": namespace, "ownerReferences": [owner],
                        "labels": object["spec"]["template"]["metadata"]["labels"],
                    },
                    "spec": {"replicas": replicas, "selector": object["spec"]["selector"], "template": object["spec"]["template"]},
                });
                server.kubectl(&["create", "-f", "-"], Some(&set.to_string()));
                json!({"observedGeneration": metadata["generation"], "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas})
            }
            // Of a template that stays, as many as the Deployment may come to want.
            "ReplicaSet" => {
                json!({"observedGeneration": metadata["generation"], "replicas": 9, "readyReplicas": 9, "availableReplicas": 9})
            }
            "Job" => json!({
                "startTime": metadata["creationTimestamp"], "completionTime": metadata["creationTimestamp"],
                "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}],
            }),
            _ => json!({"phase": "Succeeded"}),
        };
        let patch = json!({"status": status}).to_string();
        let of = format!("{kind}/{name}");
        server.kubectl(
            &[
                "patch",
                &of,
                "-n",
                &namespace,
                "--subresource=status",
                "--type=merge",
                "-p",
                &patch,
            ],
            None,
        );
    }
}

/// Whether the same right is given by a wider rule, too.
fn is_covered((role, rule): &Atom, all: &[Atom]) -> bool {
    all.iter().any(|(other, wider)| {
        let is_same = ["apiGroups", "resources", "verbs"]
            .iter()
            .all(|key| wider[key] == rule[key]);
        let is_wider = wider.get("resourceNames").is_none() && rule.get("resourceNames").is_some();
        let is_elsewhere = other != role && other.contains("ClusterRole") && wider.get("resourceNames").is_none();
        is_same && ((other == role && is_wider) || is_elsewhere)
    })
}

#[test]
fn who_has_the_rights_that_are_asked_for_installs_and_who_lacks_one_is_told() {
    let site = Site::new();
    let report = site.doctor("installer");
    assert_eq!(failures(&report), ["DP0301"], "{report:#}");
    let fix = &failure(&report, "DP0301")["fix"];
    assert_eq!(fix["kind"], "command", "{fix}");
    let fix = fix["text"].as_str().unwrap().to_owned();
    let mend = || {
        let mut command = Command::new("bash");
        let path = format!("{}:/usr/bin:/bin", site.server.binary("").display());
        command.args(["-c", &fix]).env("PATH", path);
        let output = command
            .env("KUBECONFIG", site.server.kubeconfig("admin"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{fix}\n{output:?}");
    };
    mend();
    let report = site.doctor("installer");
    assert_eq!(failures(&report), Vec::<String>::new(), "{report:#}");
    site.live("installer");

    let all = site.atoms();
    let lonely: Vec<_> = all.iter().filter(|atom| !is_covered(atom, &all)).collect();
    assert!(lonely.len() > 100, "{lonely:#?}");
    for missing in lonely.iter().step_by(11) {
        let others: Vec<_> = all.iter().filter(|atom| **atom != **missing).collect();
        site.write(&missing.0, &others);
        let report = site.doctor("installer");
        assert_eq!(failures(&report), ["DP0301"], "without {missing:?}: {report:#}");
        site.write(&missing.0, &all.iter().collect::<Vec<_>>());
    }
    assert_eq!(failures(&site.doctor("installer")), Vec::<String>::new());

    // Who may give what they do not have needs none of it.
    let values = Values::try_from(VALUES).unwrap();
    let standing = Standing {
        own: Presence::OfOthers,
        workspaces: Presence::OfOthers,
    };
    let mut rights: BTreeSet<_> = to_install(&values, NAMESPACE, standing).into_iter().collect();
    for place in [None, Some("default"), Some(NAMESPACE), Some(WORKSPACES)] {
        rights.extend(unbounded(place));
    }
    let roles = manifest::roles(&rights, "boss");
    site.server.kubectl_ok(&["apply", "-f", "-"], Some(&roles));
    let report = site.doctor("boss");
    assert_eq!(failures(&report), Vec::<String>::new(), "{report:#}");
    site.live("boss");
}
