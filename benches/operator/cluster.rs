//! A kube-apiserver becomes a cluster without machines: a real scheduler, and kwok in the place of kubelets and of a provisioner.

use crate::apiserver::ApiServer;
use crate::eventually::eventually;
use crate::requests::{self, Counts};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub const NAMESPACE: &str = "bench";
const NODES: usize = 4;

/// Everything of it ends when it is dropped.
pub struct Cluster {
    // Before the server: they would only complain.
    _processes: Vec<Child>,
    files: tempfile::TempDir,
    pub server: ApiServer,
    pub client: Client,
}

impl Cluster {
    pub async fn start() -> Self {
        let kwok = kwok();
        let server = ApiServer::start();
        server.install_crd();
        server.kubectl_ok(&["create", "namespace", NAMESPACE], None);
        let roles = include_str!("../../tests/apiserver/roles.yaml").replace("NAMESPACE", NAMESPACE);
        server.kubectl_ok(&["apply", "-f", "-"], Some(&roles));
        let client = server.client("admin").await;
        let files = tempfile::tempdir().unwrap();
        let admin = server.kubeconfig("admin").display().to_string();
        let write = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let scheduler = write("scheduler.json", &scheduler_configuration(&admin).to_string());
        let stages = write("stages.yaml", include_str!("stages.yaml"));
        let processes = vec![
            owned(
                &server.binary("kube-scheduler"),
                &[&format!("--config={scheduler}"), "--secure-port=0"],
                &files.path().join("scheduler.log"),
            ),
            owned(
                &kwok,
                &[&format!("--kubeconfig={admin}"), &format!("--config={stages}")],
                &files.path().join("kwok.log"),
            ),
        ];
        let cluster = Self {
            _processes: processes,
            files,
            server,
            client,
        };
        cluster.add_nodes().await;
        cluster
    }

    async fn add_nodes(&self) {
        let nodes = Api::<Node>::all(self.client.clone());
        for index in 0..NODES {
            let name = format!("node-{index}");
            let node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
            nodes.create(&PostParams::default(), &node).await.unwrap();
            // Admission gave it a taint that the controller of nodes would take away once it is Ready.
            let patch = Patch::Merge(json!({"spec": {"taints": null}}));
            nodes.patch(&name, &PatchParams::default(), &patch).await.unwrap();
        }
        let ready = eventually(async || {
            let nodes = nodes.list(&ListParams::default()).await.unwrap();
            nodes.iter().all(|node| {
                let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
                conditions.into_iter().any(|condition| condition.type_ == "Ready")
            })
        });
        let log = || std::fs::read_to_string(self.files.path().join("kwok.log")).unwrap();
        assert!(ready.await, "kwok does not make the nodes Ready: {}", log());
    }

    /// Requests so far on the kinds that an operator reads and writes, by anybody but the scheduler, kwok and the benchmark.
    pub async fn requests(&self, workspaces_created: usize) -> Counts {
        const KINDS: &[&str] = &[
            "configmaps",
            "events",
            "networkpolicies",
            "persistentvolumeclaims",
            "pods",
            "rolebindings",
            "roles",
            "secrets",
            "serviceaccounts",
            "services",
            "workspaces",
        ];
        /// By kwok and the scheduler.
        const OTHERS: &[&str] = &["persistentvolumeclaims/status", "pods/binding", "pods/status"];
        let mut counts = requests::counts(&self.client).await;
        counts.retain(|(verb, resource), _| {
            let kind = resource.split('/').next().unwrap_or_default();
            KINDS.contains(&kind) && !OTHERS.contains(&resource.as_str()) && verb != "WATCH"
        });
        let mut subtract = |resource: &str, count: usize| {
            if let Some(posted) = counts.get_mut(&("POST".to_owned(), resource.to_owned())) {
                *posted -= count as u64;
            }
        };
        subtract("workspaces", workspaces_created);
        subtract("events", self.foreign_events().await);
        counts
    }

    async fn foreign_events(&self) -> usize {
        let events = Api::<Event>::namespaced(self.client.clone(), NAMESPACE);
        let events = events.list(&ListParams::default()).await.unwrap();
        let others = ["default-scheduler", "kwok_controller"];
        let by_others = events.iter().filter(|event| {
            let by = event.reporting_controller.as_deref().unwrap_or_default();
            others.contains(&by)
        });
        by_others.count()
    }
}

/// Nothing holds the scheduler back. It does not look at volumes: claims here have no PersistentVolume behind them.
fn scheduler_configuration(kubeconfig: &str) -> Value {
    let volumes = ["VolumeBinding", "VolumeZone", "VolumeRestrictions", "NodeVolumeLimits"];
    let volumes = volumes.map(|name| json!({"name": name}));
    json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig, "qps": 10_000, "burst": 10_000},
        "leaderElection": {"leaderElect": false},
        "profiles": [{"plugins": {"multiPoint": {"disabled": volumes}}}],
    })
}

/// The path of kwok; built when it is missing.
fn kwok() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/operator/kwok.sh");
    let output = Command::new(&script).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{} failed", script.display());
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A process that a small shell ends when this one is gone, however it went.
fn owned(program: &Path, arguments: &[&str], log: &Path) -> Child {
    const OWNER: &str =
        r#"log=$1; shift; "$@" >"$log" 2>&1 </dev/null & read -r _; kill -KILL $! 2>/dev/null; wait 2>/dev/null"#;
    Command::new("bash")
        .args(["-c", OWNER, "owner"])
        .arg(log)
        .arg(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}
