//! A real operator process under the chart's own rights, and a namespace of its own for it.

use crate::apiserver::{self, ApiServer, free_ports};
use crate::audit_schema;
use crate::eventually::eventually;
use devplane::api::status::ConditionType;
use devplane::api::{Phase, Workspace};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A namespace with the CustomResourceDefinition installed and the operator's Role in it. The Role, which is the chart's, must suffice: a test fails
/// when it ends and the API server has forbidden the operator anything in there, unless [`Site::forbids`] says so.
pub struct Site {
    pub server: &'static ApiServer,
    pub namespace: String,
    pub client: Client,
    forbids: AtomicBool,
}

pub struct Operator {
    child: Child,
    metrics: u16,
    log: tempfile::NamedTempFile,
}

impl Site {
    pub async fn new(namespace: &str) -> Self {
        Self::at(apiserver::shared(), namespace).await
    }

    pub async fn at(server: &'static ApiServer, namespace: &str) -> Self {
        server.install_crd();
        server.kubectl_ok(&["create", "namespace", namespace], None);
        Self::within(server, namespace).await
    }

    /// In a namespace that is there already.
    pub async fn within(server: &'static ApiServer, namespace: &str) -> Self {
        let site = Self {
            server,
            namespace: namespace.to_owned(),
            client: server.client("admin").await,
            forbids: AtomicBool::new(false),
        };
        site.let_operator("list", "workspaces", true);
        site
    }

    /// Takes a verb of a resource out of the operator's Role, or gives it back, and waits until that holds.
    pub fn let_operator(&self, verb: &str, resource: &str, may: bool) {
        let roles = include_str!("roles.yaml").replace("NAMESPACE", &self.namespace);
        let mut lines: Vec<String> = roles.lines().map(str::to_owned).collect();
        if !may {
            let begins = format!("resources: [{resource}], verbs: [");
            let rule = lines.iter_mut().find(|line| line.contains(&begins)).unwrap();
            let (beginning, verbs) = rule.split_once("verbs: [").unwrap();
            let others = verbs.trim_end_matches("]}").split(", ").filter(|other| *other != verb);
            // Kubernetes wants one.
            let others: Vec<&str> = others.chain(["get"]).collect();
            *rule = format!("{beginning}verbs: [{}]}}", others.join(", "));
        }
        self.server.kubectl_ok(&["apply", "-f", "-"], Some(&lines.join("\n")));
        self.wait_until_operator_may(verb, resource, may);
    }

    /// The API server's authorizer hears of Roles from a watch: later than whoever has written one.
    pub fn wait_until_operator_may(&self, verb: &str, resource: &str, may: bool) {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let group = match resource {
            "workspaces" => "workspace.devplane.io",
            "ciliumnetworkpolicies" => "cilium.io",
            _ => "",
        };
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "operator", "resourceAttributes": {
                "namespace": self.namespace, "group": group, "resource": resource, "subresource": subresource, "verb": verb,
            }},
        });
        let arguments = ["create", "-f", "-", "-o", "jsonpath={.status.allowed}"];
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.server.kubectl_ok(&arguments, Some(&review.to_string())) != may.to_string() {
            assert!(
                Instant::now() < deadline,
                "{verb} {resource} in {}: not {may}",
                self.namespace
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// In this test the API server forbids something by intent.
    pub fn forbids(&self) {
        self.forbids.store(true, Ordering::Relaxed);
    }

    pub fn workspaces(&self) -> Api<Workspace> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A Workspace in YAML, as a person would write it.
    pub fn apply(&self, name: &str, spec: &Value) {
        let object = json!({
            "apiVersion": "workspace.devplane.io/v1alpha1", "kind": "Workspace",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        });
        self.server
            .kubectl_ok(&["apply", "--validate=strict", "-f", "-"], Some(&object.to_string()));
    }

    /// The same without kubectl.
    pub async fn create(&self, name: &str, spec: &Value) -> Workspace {
        let object = json!({
            "apiVersion": "workspace.devplane.io/v1alpha1", "kind": "Workspace", "metadata": {"name": name}, "spec": spec,
        });
        let object = serde_json::from_value(object).unwrap();
        self.workspaces().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Changes a Workspace (RFC 7396).
    pub async fn patch(&self, name: &str, patch: &Value) {
        self.workspaces()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// What the kubelet would write: there is none in this tier.
    pub async fn make_ready(&self, pod: &str) {
        self.try_make_ready(pod).await.unwrap();
    }

    /// The same for a pod that may be gone in this moment.
    pub async fn try_make_ready(&self, pod: &str) -> Result<(), kube::Error> {
        self.run_at(pod, "192.0.2.7").await
    }

    /// The same with an address.
    pub async fn run_at(&self, pod: &str, address: &str) -> Result<(), kube::Error> {
        self.set_pod_status(
            pod,
            &json!({
                "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "workspace", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}}],
            }),
        )
        .await
    }

    /// Creates an object, or a list of some.
    pub fn create_objects(&self, objects: &Value) {
        self.server.kubectl_ok(
            &["create", "-n", &self.namespace, "-f", "-"],
            Some(&objects.to_string()),
        );
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let arguments: Vec<&str> = [&["-n", &self.namespace], arguments].concat();
        self.server.kubectl_ok(&arguments, None)
    }

    /// Changes the status of a pod (RFC 7396).
    pub async fn set_pod_status(&self, pod: &str, status: &Value) -> Result<(), kube::Error> {
        let patch = Patch::Merge(json!({ "status": status }));
        self.pods()
            .patch_status(pod, &PatchParams::default(), &patch)
            .await
            .map(drop)
    }

    /// Waits until the Workspace is as `holds` says.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&Workspace) -> bool) -> Workspace {
        let mut last = None;
        let found = eventually(async || {
            last = self.workspaces().get_opt(name).await.unwrap();
            last.as_ref().is_some_and(&holds)
        })
        .await;
        assert!(
            found,
            "{name} never became {what}: {}",
            serde_json::to_string_pretty(&last).unwrap()
        );
        last.unwrap()
    }

    /// Makes the pod of a Workspace ready, and waits until it runs.
    pub async fn runs(&self, id: &str) -> Workspace {
        self.until(id, "made", |w| {
            w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
        })
        .await;
        self.make_ready(&format!("{id}-workspace-pod")).await;
        self.until(id, "Running", |w| phase(w) == Some(Phase::Running)).await
    }

    pub fn operator(&self, settings: &[(&str, &str)]) -> Operator {
        let [metrics, probes] = free_ports();
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_devplane"))
            .arg("operator")
            .env_clear()
            .env("KUBECONFIG", self.server.kubeconfig("operator"))
            .env("NAMESPACE", &self.namespace)
            .env("POD_NAMESPACE", &self.namespace)
            .env("GATEWAY_NAMESPACE", &self.namespace)
            .env("WORKSPACE_IMAGE", "registry.test/devplane-workspace:1")
            .env("CLUSTER_CIDRS", "10.96.0.0/16,10.244.0.0/16")
            .env("METRICS_BIND_ADDRESS", format!("127.0.0.1:{metrics}"))
            .env("HEALTH_PROBE_BIND_ADDRESS", format!("127.0.0.1:{probes}"))
            .envs(settings.iter().copied())
            .stderr(Stdio::from(log.reopen().unwrap()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Operator { child, metrics, log }
    }
}

/// What a Workspace needs at least.
pub fn spec(id: &str) -> Value {
    json!({
        "user": {"id": id, "email": format!("{id}@example.test"), "issuer": "https://idp.test", "subject": id},
        "resources": {"cpu": "1", "memory": "1Gi", "storage": "1Gi"},
        "aiConfig": {"providers": [{"name": "local", "endpoint": "http://llm.ai-system.svc:8000", "models": ["m"]}]},
    })
}

pub fn phase(workspace: &Workspace) -> Option<Phase> {
    workspace.status.as_ref().and_then(|status| status.phase)
}

/// Of the condition `Ready`.
pub fn reason(workspace: &Workspace) -> String {
    let ready = workspace
        .status
        .as_ref()
        .and_then(|status| status.condition(ConditionType::Ready));
    ready.map(|ready| ready.reason.clone()).unwrap_or_default()
}

pub fn message(workspace: &Workspace) -> &str {
    workspace.status.as_ref().map_or("", |status| &status.message)
}

impl Operator {
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// The audit lines of one event, such as `workspace.phase_transition`.
    pub fn audited(&self, event: &str) -> Vec<Value> {
        audit_schema::lines(&self.log(), event)
    }

    pub fn metrics(&self) -> String {
        let answer = get(self.metrics, "/metrics").unwrap_or_default();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        body.to_owned()
    }

    /// Whether it has ended by itself.
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            audit_schema::check(&self.log());
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.forbids.load(Ordering::Relaxed) {
            let forbidden = self.server.forbidden("operator", &self.namespace);
            assert!(forbidden.is_empty(), "forbidden in {}: {forbidden:#?}", self.namespace);
        }
    }
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
