//! The real API server behind a way in that changes what it says of itself.

use crate::apiserver::ApiServer;
use crate::outside::servers;
use crate::outside::site::Process;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::runtime::Runtime;

pub struct WayIn {
    kubeconfig: tempfile::NamedTempFile,
    _proxy: Process,
    _runtime: Runtime,
}

impl WayIn {
    /// With an administrator's rights. `change` has its way with each answer to `/version`.
    pub fn new(server: &ApiServer, change: impl Fn(&mut Response<Bytes>) + Send + Sync + 'static) -> Self {
        let mut proxy = Command::new(server.binary("kubectl"))
            .arg("--kubeconfig")
            .arg(server.kubeconfig("admin"))
            .args(["proxy", "--port=0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(proxy.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        let proxy = Process(proxy);
        let (_, address) = said.trim().rsplit_once(' ').unwrap();
        let runtime = Runtime::new().unwrap();
        let origin = runtime.block_on(servers::between(
            format!("http://{address}"),
            &[],
            move |path, _, answer| {
                if path == "/version" {
                    change(answer);
                }
            },
        ));
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": origin}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(kubeconfig.path(), config.to_string()).unwrap();
        Self {
            kubeconfig,
            _proxy: proxy,
            _runtime: runtime,
        }
    }

    pub fn kubeconfig(&self) -> &Path {
        self.kubeconfig.path()
    }
}
