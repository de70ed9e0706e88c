//! The local cluster's binaries become a real kube-apiserver with etcd on loopback, shared by the tests of one process.
//!
//! A small shell owns both: it stops them and removes their files when the test process is gone, however it went.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, OnceLock};
use std::time::{Duration, Instant};

pub struct ApiServer {
    directory: PathBuf,
    binaries: PathBuf,
    pub port: u16,
    /// Its standard input keeps the processes running.
    owner: Mutex<Child>,
    crd: Once,
    garbage: Once,
}

/// `{b}` binaries, `{d}` directory, `{e}` and `{p}` etcd's ports, `{a}` the API server's. Its audit log stays one file, which is read as a whole (the size is in
/// megabytes; the default is some hundred of them). It takes orders from its standard input.
const OWNER: &str = r#"
set -u
# A signal to the whole process group must not end it before the others.
trap '' TERM INT
start() {
  '{b}/etcd' --name test --data-dir '{d}/etcd' --listen-client-urls http://127.0.0.1:{e} --advertise-client-urls http://127.0.0.1:{e} \
    --listen-peer-urls http://127.0.0.1:{p} --initial-advertise-peer-urls http://127.0.0.1:{p} --initial-cluster test=http://127.0.0.1:{p} \
    --unsafe-no-fsync --log-level warn >>'{d}/etcd.log' 2>&1 </dev/null & etcd=$!
  '{b}/kube-apiserver' --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --secure-port={a} --cert-dir='{d}/certs' \
    --etcd-servers=http://127.0.0.1:{e} --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=RBAC --allow-privileged=true \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file='{d}/sa.pub' --service-account-signing-key-file='{d}/sa.key' \
    --audit-policy-file='{d}/audit-policy.yaml' --audit-log-path='{d}/audit.log' --audit-log-maxsize=1000000 \
    --token-auth-file='{d}/tokens.csv' --disable-admission-plugins=ServiceAccount --endpoint-reconciler-type=none >>'{d}/apiserver.log' 2>&1 </dev/null & api=$!
}
# Not by SIGTERM: an API server whose etcd goes first never ends by itself.
stop() { [ -z "$api" ] || kill -KILL "$api" "$etcd"; wait "$api" "$etcd" 2>/dev/null; api= etcd=; }
controllers=
start
while read -r order; do
  case $order in
    start) start ;;
    stop) stop ;;
    control=*)
      '{b}/kube-controller-manager' --kubeconfig='{d}/admin.kubeconfig' --controllers="${order#control=}" \
        --leader-elect=false --secure-port=0 >>'{d}/controllers.log' 2>&1 </dev/null & controllers="$controllers $!" ;;
  esac
done
[ -z "$controllers" ] || kill -KILL $controllers
stop; wait 2>/dev/null; rm -rf '{d}'
"#;

const TOKENS: &str = "admin-token,admin,1,system:masters\noperator-token,operator,2\ngateway-token,gateway,3\n";

/// What it notes of requests: those of ours, when they are answered.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
"rules": [{"level": "Metadata", "users": ["operator", "gateway"]}, {"level": "None"}]}"#;

/// The one server of this process.
pub fn shared() -> &'static ApiServer {
    static SERVER: OnceLock<ApiServer> = OnceLock::new();
    SERVER.get_or_init(ApiServer::start)
}

impl ApiServer {
    /// One of its own, for a test that stops it. It ends with the process.
    pub fn start() -> Self {
        let binaries = binaries();
        let directory = tempfile::Builder::new()
            .prefix("devplane-apiserver-")
            .tempdir()
            .unwrap()
            .keep();
        std::fs::write(directory.join("tokens.csv"), TOKENS).unwrap();
        std::fs::write(directory.join("audit-policy.yaml"), AUDIT_POLICY).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(directory.join("sa.key"), key.serialize_pem()).unwrap();
        std::fs::write(directory.join("sa.pub"), key.public_key_pem()).unwrap();
        let [etcd, peer, port] = free_ports();
        let script = OWNER
            .replace("{b}", binaries.to_str().unwrap())
            .replace("{d}", directory.to_str().unwrap())
            .replace("{e}", &etcd.to_string())
            .replace("{p}", &peer.to_string())
            .replace("{a}", &port.to_string());
        let owner = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let server = Self {
            directory,
            binaries,
            port,
            owner: Mutex::new(owner),
            crd: Once::new(),
            garbage: Once::new(),
        };
        server.write_kubeconfigs();
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        // The API server writes its own certificate at its first start.
        while !self.ca().exists() || !self.kubectl(&["get", "--raw", "/readyz"], None).status.success() {
            let log = std::fs::read_to_string(self.directory.join("apiserver.log")).unwrap_or_default();
            let failed = log.contains("command failed");
            assert!(
                !failed && Instant::now() < deadline,
                "kube-apiserver does not get ready:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn ca(&self) -> PathBuf {
        self.directory.join("certs/apiserver.crt")
    }

    /// One of the local cluster's binaries.
    #[allow(dead_code, reason = "not every user of this module runs more than the API server")]
    pub fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// The kubeconfig of `user`: `admin`, `operator` or `gateway`.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.directory.join(format!("{user}.kubeconfig"))
    }

    fn write_kubeconfigs(&self) {
        for user in ["admin", "operator", "gateway"] {
            let text = format!(
                r#"{{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{{"name":"c","cluster":{{"server":"https://127.0.0.1:{}","certificate-authority":"{}"}}}}],
"users":[{{"name":"u","user":{{"token":"{user}-token"}}}}],
"contexts":[{{"name":"c","context":{{"cluster":"c","user":"u"}}}}]}}"#,
                self.port,
                self.ca().display(),
            );
            std::fs::write(self.kubeconfig(user), text).unwrap();
        }
    }

    /// Installs the CustomResourceDefinition that this build prints, once.
    pub fn install_crd(&self) {
        self.crd.call_once(|| {
            let printed = Command::new(env!("CARGO_BIN_EXE_devplane"))
                .arg("crd-gen")
                .output()
                .unwrap();
            let crd = String::from_utf8(printed.stdout).unwrap();
            // Plainly and strictly, and then as the documentation says.
            self.kubectl_ok(&["apply", "--validate=strict", "-f", "-"], Some(&crd));
            self.kubectl_ok(&["apply", "--server-side", "--force-conflicts", "-f", "-"], Some(&crd));
            let established = [
                "wait",
                "--for=condition=Established",
                "crd/workspaces.workspace.devplane.io",
                "--timeout=60s",
            ];
            self.kubectl_ok(&established, None);
        });
    }

    pub async fn client(&self, user: &str) -> Client {
        // The first caller of a process installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig(user)).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        Client::try_from(config).unwrap()
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> Output {
        let mut child = Command::new(self.binaries.join("kubectl"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig("admin"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.unwrap_or_default().as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    /// Runs kubectl and shows what it said when it fails.
    pub fn kubectl_ok(&self, arguments: &[&str], input: Option<&str>) -> String {
        let output = self.kubectl(arguments, input);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}

#[allow(dead_code, reason = "not every tier has something go wrong with its API server")]
impl ApiServer {
    fn order(&self, order: &str) {
        let mut owner = self.owner.lock().unwrap();
        writeln!(owner.stdin.as_mut().unwrap(), "{order}").unwrap();
    }

    /// Requests of `user` in `namespace` that it has answered with 403, from the beginning: `verb resource name: message`.
    pub fn forbidden(&self, user: &str, namespace: &str) -> Vec<String> {
        // Nothing was asked yet where there is none.
        let log = std::fs::read_to_string(self.directory.join("audit.log")).unwrap_or_default();
        let refused = log.lines().filter(|line| line.contains("\"code\":403"));
        let requests = refused.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let theirs = requests.filter(|request| {
            request["user"]["username"] == user
                && request["objectRef"]["namespace"] == namespace
                && request["responseStatus"]["code"] == 403
        });
        let told = theirs.map(|request| {
            let object = &request["objectRef"];
            let message = &request["responseStatus"]["message"];
            format!(
                "{} {} {}: {message}",
                request["verb"], object["resource"], object["name"]
            )
        });
        told.collect()
    }

    /// SIGKILL for etcd and the API server. What they have stored stays.
    pub fn stop(&self) {
        self.order("stop");
        let address = ("127.0.0.1", self.port);
        while TcpStream::connect(address).is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts both again, where they were.
    pub fn start_again(&self) {
        self.order("start");
        self.wait_until_ready();
    }

    /// Deletes what has lost its owner, and what is in a deleted namespace, from now on. The definition must be installed before: what
    /// comes later is noticed late.
    pub fn collect_garbage(&self) {
        self.garbage.call_once(|| {
            self.order(
                "control=garbage-collector-controller,namespace-controller,persistentvolumeclaim-protection-controller",
            );
        });
    }

    /// Binds claims to volumes that are there, and says which claims have lost theirs, from now on.
    pub fn bind_volumes(&self) {
        self.order("control=persistentvolume-binder-controller");
    }
}

/// Where `etcd`, `kube-apiserver` and `kubectl` are; built when they are missing.
fn binaries() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join("deploy/local/hyperkube.sh"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "deploy/local/hyperkube.sh failed");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Ports that were free a moment ago, below those that the kernel gives to clients: no connection takes one before its server does. Tests of
/// this process never get the same one, and processes begin at different ones.
pub fn free_ports<const N: usize>() -> [u16; N] {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    std::array::from_fn(|_| {
        loop {
            let offset = std::process::id()
                .wrapping_mul(127)
                .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let port = u16::try_from(FIRST + offset % COUNT).unwrap();
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    })
}
