//! A site as an installation finds it: a registry, an identity provider, a language model server and mirrors, all real or on loopback,
//! under one private authority; and the values that fit it.

use super::servers;
use crate::apiserver::{ApiServer, free_ports};
use crate::authority::Authority;
use crate::doctor_report;
use crate::registry::{Access, PASSWORD, Registry};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

pub const CLIENT_SECRET: &str = "planted-client-secret-0123456789";
pub const PAGES: &[(&str, &str)] = &[
    (
        "/v1/models",
        r#"{"object":"list","data":[{"id":"qwen3"},{"id":"glm"}]}"#,
    ),
    ("/simple/pip/", "<a href=pip.whl>pip</a>"),
    ("/npm/npm", r#"{"name":"npm"}"#),
];

/// A process that ends with the test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Site {
    pub server: &'static ApiServer,
    /// The release's; the Workspaces' is the same with `-ws`.
    pub namespace: String,
    pub authority: Authority,
    pub registry: Registry,
    pub issuer: String,
    /// The same provider without TLS.
    pub plain_issuer: String,
    /// Where a gateway may be: registered as such at the provider.
    pub gateway_port: u16,
    values: Value,
    directory: tempfile::TempDir,
    _providers: [Process; 2],
}

/// One of our own: the nodes that are made there are nobody else's.
fn api_server() -> &'static ApiServer {
    static SERVER: OnceLock<ApiServer> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = ApiServer::start();
        make_nodes(&server);
        server
    })
}

/// One node of each of two architectures, which nobody runs.
fn make_nodes(server: &ApiServer) {
    for architecture in ["amd64", "arm64"] {
        let name = format!("node-{architecture}");
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/arch": architecture}}});
        server.kubectl_ok(&["apply", "-f", "-"], Some(&node.to_string()));
        let info = json!({"status": {"nodeInfo": {
            "architecture": architecture, "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
            "kubeletVersion": "v1.35.0", "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": "",
        }}});
        let patch = info.to_string();
        server.kubectl_ok(
            &[
                "patch",
                "node",
                &name,
                "--subresource=status",
                "--type=merge",
                "-p",
                &patch,
            ],
            None,
        );
    }
}

impl Site {
    pub async fn new(namespace: &str) -> Self {
        let server = api_server();
        let workspaces = format!("{namespace}-ws");
        for name in [namespace, &workspaces] {
            server.kubectl_ok(&["create", "namespace", name], None);
        }
        let registry = Registry::start(Access::Basic).await;
        registry.push_index("devplane", "1", &["amd64", "arm64"]).await;
        registry.push_index("workspace", "1", &["amd64", "arm64"]).await;
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("the authority of a site");
        let [tls_port, plain_port, gateway_port] = free_ports();
        let redirects = [
            format!("http://localhost:{gateway_port}/callback"),
            "https://dev.example.test/callback".to_owned(),
        ];
        let issuer = format!("https://localhost:{tls_port}");
        let plain_issuer = format!("http://localhost:{plain_port}");
        let served = authority.serve(&["localhost"], directory.path());
        let config = |issuer: &str| {
            let port = issuer.rsplit(':').next().unwrap();
            json!({
                "issuer": issuer, "listen": [format!("127.0.0.1:{port}")], "users": {"dev1": {}},
                "clients": [{"id": "devplane", "secret": CLIENT_SECRET, "redirectUris": redirects}],
            })
        };
        let mut over_tls = config(&issuer);
        over_tls["tls"] = json!({"cert": served.certificate, "key": served.key});
        let providers = [
            start_provider(&directory.path().join("tls.json"), &over_tls),
            start_provider(&directory.path().join("plain.json"), &config(&plain_issuer)),
        ];
        let mirrors = servers::pages(Some(servers::tls(&authority, 2099)), PAGES).await;
        let values = json!({
            "image": format!("{}/devplane:1", registry.host), "imagePullSecrets": [{"name": "pull"}],
            "customCA": {"pem": format!("{}{}", authority.pem, registry.authority.pem)},
            "gateway": {
                "workspaceNamespace": workspaces,
                "oidc": {
                    "issuerURL": issuer, "clientID": "devplane", "clientSecret": CLIENT_SECRET,
                    "redirectURL": "https://dev.example.test/callback",
                },
            },
            "workspace": {
                "image": format!("{}/workspace:1", registry.host), "pod": {"imagePullSecrets": ["pull"]},
                "ai": {"providers": [{"name": "local", "endpoint": mirrors, "models": ["qwen3"]}]},
                "packageMirrors": {"pip": {"indexUrl": format!("{mirrors}/simple")}, "npm": {"registry": format!("{mirrors}/npm")}},
            },
        });
        let site = Self {
            server,
            namespace: namespace.to_owned(),
            authority,
            registry,
            issuer,
            plain_issuer,
            gateway_port,
            values,
            directory,
            _providers: providers,
        };
        site.set_pull_secret(PASSWORD);
        site
    }

    /// In both namespaces.
    pub fn set_pull_secret(&self, password: &str) {
        let json = self.registry.dockerconfigjson(password);
        for namespace in [self.namespace.clone(), format!("{}-ws", self.namespace)] {
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
                "metadata": {"name": "pull", "namespace": namespace},
                "data": {".dockerconfigjson": STANDARD.encode(&json)},
            });
            self.server.kubectl_ok(&["apply", "-f", "-"], Some(&secret.to_string()));
        }
    }

    /// As if the chart's Deployment of the gateway had a pod that is ready.
    pub fn gateway_is_ready(&self) {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "workspace-gateway", "namespace": self.namespace, "labels": {"app": "workspace-gateway"}},
            "spec": {
                "selector": {"matchLabels": {"app": "g"}},
                "template": {"metadata": {"labels": {"app": "g"}}, "spec": {"containers": [{"name": "g", "image": "g"}]}},
            },
        });
        self.server
            .kubectl_ok(&["apply", "-f", "-"], Some(&deployment.to_string()));
        let patch = json!({"status": {"replicas": 1, "readyReplicas": 1}}).to_string();
        let namespace = self.namespace.as_str();
        self.server.kubectl_ok(
            &[
                "patch",
                "deployment",
                "workspace-gateway",
                "-n",
                namespace,
                "--subresource=status",
                "--type=merge",
                "-p",
                &patch,
            ],
            None,
        );
    }

    /// A real gateway at `gateway_port`.
    pub async fn gateway(&self) -> Process {
        let own = format!("http://localhost:{}", self.gateway_port);
        self.gateway_of(self.gateway_port, &own).await
    }

    /// Another one, to which browsers come at an origin that may be another server's.
    pub async fn gateway_of(&self, port: u16, origin: &str) -> Process {
        let bundle = self.authority.bundle(self.directory.path());
        let child = Command::new(env!("CARGO_BIN_EXE_devplane"))
            .arg("gateway")
            .env_clear()
            .env("KUBECONFIG", self.server.kubeconfig("admin"))
            .env("NAMESPACE", format!("{}-ws", self.namespace))
            .env("POD_NAMESPACE", &self.namespace)
            .env("PORT", port.to_string())
            .env("OIDC_ISSUER_URL", &self.issuer)
            .env("OIDC_CLIENT_ID", "devplane")
            .env("OIDC_CLIENT_SECRET", CLIENT_SECRET)
            .env("OIDC_REDIRECT_URL", format!("{origin}/callback"))
            .env("CA_BUNDLE_FILE", bundle)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Process(child);
        for _ in 0..400 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return process;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the gateway never listens");
    }

    /// Runs a bash script, such as a printed fix, with an administrator's rights.
    pub fn script(&self, text: &str) {
        let kubectl = self.server.binary("kubectl");
        let path = format!("{}:/usr/bin:/bin", kubectl.parent().unwrap().display());
        let mut bash = Command::new("bash");
        bash.args(["-euc", text]).env("PATH", path);
        let output = bash
            .env("KUBECONFIG", self.server.kubeconfig("admin"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Runs the doctor with the site's values and `changes` merged over them, and others given as YAML.
    pub async fn doctor(&self, only: &str, changes: &Value, more: &[String]) -> Report {
        let mut files = vec![self.values.to_string(), changes.to_string()];
        files.extend_from_slice(more);
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_devplane"));
        command
            .args([
                "doctor",
                "-o",
                "json",
                "--fail-on",
                "warn",
                "--only",
                only,
                "-n",
                &self.namespace,
            ])
            .env_clear()
            .env("KUBECONFIG", self.server.kubeconfig("admin"));
        for (number, text) in files.iter().enumerate() {
            let path = directory.path().join(format!("{number}.yaml"));
            std::fs::write(&path, text).unwrap();
            command.arg("--values").arg(path);
        }
        // Not on a thread that serves what the doctor asks.
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains("planted"), "a secret is told:\n{text}");
        assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        Report(doctor_report::read(text.as_bytes()))
    }
}

/// What the doctor has found.
pub struct Report(pub Value);

impl Report {
    fn fix(&self, code: &str, kind: &str) -> Option<String> {
        let fix = &self.of(code)["failure"]["fix"];
        (fix["kind"] == kind).then(|| fix["text"].as_str().unwrap().to_owned())
    }

    fn findings(&self) -> &[Value] {
        self.0["findings"].as_array().unwrap()
    }

    /// The codes of claims that do not hold.
    pub fn failed(&self) -> Vec<&str> {
        let failed = self.findings().iter().filter(|finding| finding["status"] == "failed");
        failed.map(|finding| finding["code"].as_str().unwrap()).collect()
    }

    pub fn of(&self, code: &str) -> &Value {
        self.findings().iter().find(|finding| finding["code"] == code).unwrap()
    }

    /// The fix that is a snippet for the values file, where it is one.
    pub fn values_fix(&self, code: &str) -> Option<String> {
        self.fix(code, "values")
    }

    /// The fix that is to be run, where it is one.
    pub fn command_fix(&self, code: &str) -> Option<String> {
        self.fix(code, "command")
    }
}

pub fn start_provider(file: &std::path::Path, config: &Value) -> Process {
    std::fs::write(file, config.to_string()).unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/local/oidc-provider.sh");
    let made = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    let program = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim()).join("provider.mjs");
    let mut child = Command::new("node")
        .arg(program)
        .arg("--config")
        .arg(file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let process = Process(child);
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("ready "), "{first}");
    // To the end: it may go on writing.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    process
}
