//! A real provider, a real ttyd and real gateways, each a process of its own on loopback addresses.

use crate::apiserver::{self, ApiServer, free_ports};
use crate::audit_schema;
use crate::browser::Browser;
use crate::eventually::eventually;
use devplane::api::Workspace;
use devplane::identity::{Identity, UserId};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

pub const CLIENT_SECRET: &str = "planted-client-secret-0123456789";
/// Another client of the provider, whose tokens are for it alone.
pub const OTHER_SECRET: &str = "planted-other-secret-0123456789";

const SHELL: &[&str] = &["bash", "--norc", "--noprofile", "-i"];

/// A process that ends with the test.
pub struct Process(Child);

impl Process {
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a script of this repository prints: the path of what it made.
pub fn made_by(script: &str) -> PathBuf {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new(&script).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{} failed", script.display());
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A provider, a namespace of the API server, and the address at which their gateways are to be.
pub struct Site {
    pub server: &'static ApiServer,
    pub namespace: String,
    pub client: Client,
    pub issuer: String,
    ports: [u16; 2],
    provider: Mutex<Option<Process>>,
    pub directory: tempfile::TempDir,
}

impl Site {
    pub async fn new(namespace: &str) -> Self {
        Self::at_provider(namespace, json!({})).await
    }

    /// `seconds` until an ID token ends, and with it a session: the provider gives no refresh tokens.
    pub async fn with_token_lifetime(namespace: &str, seconds: u32) -> Self {
        let settings = json!({"ttl": {"idToken": seconds}, "client": {"refresh": false}});
        Self::at_provider(namespace, settings).await
    }

    /// At a provider that is there already, with the gateways on `ports`.
    pub async fn at_issuer(namespace: &str, ports: [u16; 2], issuer: String) -> Self {
        let server = apiserver::shared();
        server.install_crd();
        server.kubectl_ok(&["create", "namespace", namespace], None);
        let roles = include_str!("roles.yaml").replace("NAMESPACE", namespace);
        server.kubectl_ok(&["apply", "-f", "-"], Some(&roles));
        Self {
            server,
            namespace: namespace.to_owned(),
            client: server.client("admin").await,
            provider: Mutex::new(None),
            issuer,
            ports,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// With settings of the provider that are others than usual; `client` are those of the gateway there, `tls` makes it speak HTTPS.
    pub async fn at_provider(namespace: &str, settings: Value) -> Self {
        let [provider_port, first, second] = free_ports();
        let scheme = if settings["tls"].is_null() { "http" } else { "https" };
        let issuer = format!("{scheme}://127.0.0.1:{provider_port}");
        let site = Self::at_issuer(namespace, [first, second], issuer.clone()).await;
        let redirect = format!("http://127.0.0.1:{first}/callback");
        let mut config = json!({
            "issuer": issuer,
            "clients": [
                {"id": "devplane", "secret": CLIENT_SECRET, "redirectUris": [redirect], "backchannelLogoutUri": redirect.replace("/callback", "/backchannel-logout")},
                {"id": "other", "secret": OTHER_SECRET, "redirectUris": [redirect]},
            ],
            // So that its tokens outlive it.
            "jwksFile": site.directory.path().join("keys.json"),
            "users": {"dev1": {}, "dev2": {}, "Dev.1": {}},
        });
        for (key, value) in settings.as_object().unwrap() {
            match key.as_str() {
                "client" => {
                    let client = config["clients"][0].as_object_mut().unwrap();
                    client.extend(value.as_object().unwrap().clone());
                }
                key => config[key] = value.clone(),
            }
        }
        let file = site.directory.path().join("provider.json");
        std::fs::write(&file, config.to_string()).unwrap();
        *site.provider.lock().unwrap() = Some(start_provider(&file));
        site
    }

    /// The provider is away.
    pub fn stop_provider(&self) {
        *self.provider.lock().unwrap() = None;
    }

    /// It takes questions, and answers none until it is let go on.
    pub fn halt_provider(&self, is_halted: bool) {
        let provider = self.provider.lock().unwrap();
        let pid = provider.as_ref().unwrap().0.id().to_string();
        let signal = if is_halted { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// The provider is there again, and has forgotten every session and every refresh token.
    pub fn start_provider(&self) {
        self.stop_provider();
        let provider = start_provider(&self.directory.path().join("provider.json"));
        *self.provider.lock().unwrap() = Some(provider);
    }

    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// That of the site's address.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    pub fn workspaces(&self) -> Api<Workspace> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn identity(&self, subject: &str) -> Identity {
        Identity {
            issuer: self.issuer.clone(),
            subject: subject.to_owned(),
        }
    }

    /// The name of the Workspace that is made for a user.
    pub fn name(&self, subject: &str) -> String {
        UserId::of(&self.identity(subject)).to_string()
    }

    pub async fn create(&self, name: &str, user: Value) {
        let object = json!({
            "apiVersion": "workspace.devplane.io/v1alpha1", "kind": "Workspace", "metadata": {"name": name},
            "spec": {
                "user": user, "resources": {"cpu": "1", "memory": "1Gi", "storage": "1Gi"},
                "aiConfig": {"providers": [{"name": "local", "endpoint": "http://llm:8000", "models": ["m"]}]},
            },
        });
        let workspace = serde_json::from_value(object).unwrap();
        self.workspaces()
            .create(&PostParams::default(), &workspace)
            .await
            .unwrap();
    }

    /// What the operator would write.
    pub async fn set_status(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        let (workspaces, parameters) = (self.workspaces(), PatchParams::default());
        workspaces.patch_status(name, &parameters, &patch).await.unwrap();
    }

    /// Deletes a Workspace, and takes the finalizer off as the operator does, which does not run here.
    pub async fn delete(&self, name: &str) {
        let workspaces = self.workspaces();
        workspaces.delete(name, &DeleteParams::default()).await.unwrap();
        let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        workspaces.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn set_running(&self, name: &str, endpoint: &str) {
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "Running", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let conditions = [
            "VolumeBound",
            "PodScheduled",
            "ImagePulled",
            "ContainerStarted",
            "Ready",
        ]
        .map(condition);
        self.set_status(
            name,
            json!({"phase": "Running", "serviceEndpoint": endpoint, "conditions": conditions}),
        )
        .await;
    }

    /// A user's own Workspace, with its terminal at `endpoint`.
    pub async fn create_running(&self, subject: &str, endpoint: &str) {
        let name = self.name(subject);
        let user = json!({"id": name, "email": "a@example.test", "issuer": self.issuer, "subject": subject});
        self.create(&name, user).await;
        self.set_running(&name, endpoint).await;
    }

    /// A gateway under the chart's own rights, at the site's address.
    pub async fn gateway(&self, settings: &[(&str, &str)]) -> Gateway {
        self.gateway_at(self.ports[0], settings).await
    }

    /// Another replica, behind the same address as far as browsers know.
    pub async fn second_gateway(&self) -> Gateway {
        self.second_gateway_with(&[]).await
    }

    pub async fn second_gateway_with(&self, settings: &[(&str, &str)]) -> Gateway {
        self.gateway_at(self.ports[1], settings).await
    }

    /// One behind something else, which has the site's address.
    pub async fn gateway_at(&self, port: u16, settings: &[(&str, &str)]) -> Gateway {
        self.gateway_of(Path::new(env!("CARGO_BIN_EXE_devplane")), port, settings)
            .await
    }

    /// One that starts while its provider is away.
    pub async fn gateway_without_provider(&self) -> Gateway {
        let program = Command::new(env!("CARGO_BIN_EXE_devplane"));
        self.start(program, self.ports[0], &[], "/readyz?exclude=provider")
            .await
    }

    /// One that may never get ready.
    pub async fn gateway_that_starts(&self, settings: &[(&str, &str)]) -> Gateway {
        let program = Command::new(env!("CARGO_BIN_EXE_devplane"));
        self.start(program, self.ports[0], settings, "/health").await
    }

    /// The one of a binary.
    pub async fn gateway_of(&self, binary: &Path, port: u16, settings: &[(&str, &str)]) -> Gateway {
        self.start(Command::new(binary), port, settings, "/readyz").await
    }

    /// A gateway that has a disk of its own at `directory`, with room for 256 KiB. It is there in the gateway's own mount namespace
    /// only, and goes away with it.
    pub async fn gateway_with_small_disk(&self, directory: &Path, settings: &[(&str, &str)]) -> Gateway {
        let script = r#"mount -t tmpfs -o size=256k recordings "$1" && shift && exec "$@""#;
        let mut program = Command::new("unshare");
        program
            .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(directory)
            .arg(env!("CARGO_BIN_EXE_devplane"));
        self.start(program, self.ports[0], settings, "/readyz").await
    }

    /// A gateway that has a disk of its own at `directory`, of 128 MiB and with a filesystem that can be frozen: for a disk that takes
    /// nothing. It is there in the gateway's own mount namespace only, and goes away with it.
    pub async fn gateway_with_freezable_disk(&self, directory: &Path, settings: &[(&str, &str)]) -> Gateway {
        let image = tempfile::NamedTempFile::new_in(self.directory.path()).unwrap();
        image.as_file().set_len(128 << 20).unwrap();
        let script = r#"mkfs.ext4 -q -F "$2" && mount -o loop "$2" "$1" && shift 2 && exec "$@""#;
        let mut program = Command::new("unshare");
        program
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(directory)
            .arg(image.path())
            .arg(env!("CARGO_BIN_EXE_devplane"));
        self.start(program, self.ports[0], settings, "/readyz").await
    }

    async fn start(&self, mut program: Command, port: u16, settings: &[(&str, &str)], probe: &str) -> Gateway {
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = program
            .arg("gateway")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("KUBECONFIG", self.server.kubeconfig("gateway"))
            .env("NAMESPACE", &self.namespace)
            .env("POD_NAMESPACE", &self.namespace)
            .env("PORT", port.to_string())
            .env("OIDC_ISSUER_URL", &self.issuer)
            .env("OIDC_CLIENT_ID", "devplane")
            .env("OIDC_CLIENT_SECRET", CLIENT_SECRET)
            .env("OIDC_REDIRECT_URL", format!("{}/callback", self.origin()))
            .env("OIDC_CLOCK_SKEW", "0")
            .env(
                "AI_PROVIDERS_JSON",
                r#"[{"name":"local","endpoint":"http://llm:8000","models":["m"]}]"#,
            )
            .env("LOG_LEVEL", "debug")
            .envs(settings.iter().copied())
            .stderr(Stdio::from(log.as_file().try_clone().unwrap()))
            .stdout(Stdio::from(log.as_file().try_clone().unwrap()))
            .spawn()
            .unwrap();
        let gateway = Gateway {
            process: Process(child),
            origin: format!("http://127.0.0.1:{port}"),
            log,
        };
        let visitor = Browser::default();
        let ready = eventually(async || {
            let answer = visitor.get(&format!("{}{probe}", gateway.origin)).await;
            answer.is_some_and(|answer| answer.status == 200)
        });
        assert!(ready.await, "the gateway never gets ready:\n{}", gateway.log());
        gateway
    }
}

/// Starts the provider, again where Node.js hangs before it runs anything, as it does once in some hundred starts.
fn start_provider(config: &std::path::Path) -> Process {
    let program = made_by("deploy/local/oidc-provider.sh").join("provider.mjs");
    for _ in 0..3 {
        let mut child = Command::new("node")
            .arg(&program)
            .arg("--config")
            .arg(config)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let process = Process(child);
        let (tell, told) = mpsc::channel();
        // To the end: it may go on writing.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = tell.send(line.starts_with("ready "));
            }
        });
        match told.recv_timeout(Duration::from_secs(20)) {
            Ok(ready) => {
                assert!(ready, "the provider did not start");
                return process;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => panic!("the provider ended"),
        }
    }
    panic!("the provider does not start");
}

/// A gateway process.
pub struct Gateway {
    process: Process,
    pub origin: String,
    log: tempfile::NamedTempFile,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            audit_schema::check(&self.log());
        }
    }
}

impl Gateway {
    /// Its log and audit lines.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// The audit lines of one event, such as `oidc.callback.success`.
    pub fn audited(&self, event: &str) -> Vec<Value> {
        audit_schema::lines(&self.log(), event)
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Freezes the disk that the gateway has at `directory`, until the result is dropped, or for a minute.
    pub fn freeze(&self, directory: &Path) -> Frozen {
        // Whatever becomes of this process: one that waits for a frozen disk can't be killed.
        let script = r#"fsfreeze -f "$1" && echo frozen && read -t 60 line; fsfreeze -u "$1""#;
        let mut child = Command::new("nsenter")
            .args([
                "--target",
                &self.pid().to_string(),
                "--mount",
                "bash",
                "-c",
                script,
                "bash",
            ])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "frozen\n");
        Frozen(child)
    }

    pub fn terminate(&self) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        self.process.0.wait().unwrap().code()
    }
}

/// A disk that takes nothing.
pub struct Frozen(Child);

impl Drop for Frozen {
    fn drop(&mut self) {
        // The end of its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A loopback address of a workspace that no other test has, nor another run beside this one: terminals are all at the same port.
pub fn address() -> &'static str {
    static GIVEN: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let number = GIVEN.fetch_add(1, Ordering::Relaxed) + 1;
    format!("127.{}.{low}.{number}", 64 + high % 128).leak()
}

/// A real ttyd with a shell in tmux's place, at `address`:7681.
pub fn ttyd(address: &str) -> Process {
    ttyd_with(address, SHELL)
}

/// The same with another program.
pub fn ttyd_with(address: &str, program: &[&str]) -> Process {
    listening(
        &mut ttyd_command(&["--interface", address, "--port", "7681"], program),
        address,
    )
}

/// The same behind a real stunnel that asks for a gateway's certificate, set up in `directory` as the workspace image does it.
pub fn ttyd_behind_tls(address: &str, directory: &Path) -> [Process; 2] {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let mut ttyd = ttyd_command(&["--interface", &path("ttyd.sock")], SHELL);
    let ttyd = ttyd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let ttyd = ttyd.spawn();
    let settings = include_str!("../../deploy/images/workspace/terminal-tls.conf")
        .replace("@ACCEPT@", &format!("{address}:7681"))
        .replace("@SOCKET@", &path("ttyd.sock"))
        .replace("@DIRECTORY@", directory.to_str().unwrap());
    std::fs::write(path("stunnel.conf"), settings).unwrap();
    let stunnel = made_by("tests/gateway/ttyd.sh").with_file_name("stunnel");
    let stunnel = listening(Command::new(stunnel).arg(path("stunnel.conf")), address);
    [stunnel, Process(ttyd.unwrap())]
}

fn ttyd_command(listening: &[&str], program: &[&str]) -> Command {
    let mut ttyd = Command::new(made_by("tests/gateway/ttyd.sh"));
    ttyd.args(listening).arg("--writable").args(program).env("PS1", "$ ");
    ttyd
}

/// Starts what listens at `address`:7681. What ends instead is quoted.
fn listening(command: &mut Command, address: &str) -> Process {
    let mut words = tempfile::tempfile().unwrap();
    let output = || Stdio::from(words.try_clone().unwrap());
    let command = command.stdin(Stdio::null()).stdout(output()).stderr(output());
    let mut process = Process(command.spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect((address, 7681)).is_err() {
        if let Some(status) = process.0.try_wait().unwrap() {
            let mut said = String::new();
            words.rewind().unwrap();
            words.read_to_string(&mut said).unwrap();
            panic!("what should listen at {address} has ended ({status}): {said}");
        }
        assert!(Instant::now() < deadline, "nothing listens at {address}");
        std::thread::sleep(Duration::from_millis(50));
    }
    process
}
