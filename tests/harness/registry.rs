//! A real registry over TLS on a loopback address, and images that a test pushes to it through its API.

use crate::authority::Authority;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use devplane::http_client::{DEFAULT_LIMITS, HttpClient};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const USER: &str = "puller";
pub const PASSWORD: &str = "planted-pull-password-0123";
/// Of the password, by bcrypt.
const HTPASSWD: &str = "puller:$2y$05$abcdefghijklmnopqrstuuzh0Vtva0bhtlQ6YGbAOwAkVZYH2GSli\n";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Who may pull.
pub enum Access {
    Everyone,
    /// Who knows the password.
    Basic,
    /// Who has a token of another server, signed by the key of the certificate in `roots`.
    Token {
        realm: String,
        service: String,
        issuer: String,
        roots: PathBuf,
    },
}

/// A registry that ends with the test.
pub struct Registry {
    process: Child,
    /// Host and port.
    pub host: String,
    pub authority: Authority,
    directory: tempfile::TempDir,
    client: HttpClient,
    authorization: Option<String>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    pub async fn start(access: Access) -> Self {
        Self::start_with(access, Authority::new("a registry's authority")).await
    }

    pub async fn start_with(access: Access, authority: Authority) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/harness/registry.sh");
        let made = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(made.status.success(), "registry.sh failed");
        let program = String::from_utf8(made.stdout).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let served = authority.serve(&["localhost", "127.0.0.1"], directory.path());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let auth = match &access {
            Access::Everyone => json!({}),
            Access::Basic => {
                let file = directory.path().join("htpasswd");
                std::fs::write(&file, HTPASSWD).unwrap();
                json!({"htpasswd": {"realm": "a registry", "path": file}})
            }
            Access::Token {
                realm,
                service,
                issuer,
                roots,
            } => {
                json!({"token": {"realm": realm, "service": service, "issuer": issuer, "rootcertbundle": roots}})
            }
        };
        let mut config = json!({
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": directory.path().join("data")}, "delete": {"enabled": true}},
            "http": {"addr": format!("127.0.0.1:{port}"), "secret": "of-a-test", "tls": {"certificate": served.certificate, "key": served.key}},
        });
        if auth != json!({}) {
            config["auth"] = auth;
        }
        // JSON is YAML.
        let file = directory.path().join("config.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let process = Command::new(program.trim())
            .args(["serve".as_ref(), file.as_os_str()])
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let tls = devplane::tls::client(Some(&authority.bundle(directory.path()))).unwrap();
        let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let registry = Self {
            process,
            host: format!("localhost:{port}"),
            authority,
            directory,
            client: HttpClient::new(tls, DEFAULT_LIMITS),
            authorization: matches!(access, Access::Basic).then_some(basic),
        };
        for _ in 0..200 {
            let url = format!("https://{}/v2/", registry.host);
            let request = Request::get(url).body(Full::default()).unwrap();
            if registry.client.ask(request).await.is_ok() {
                return registry;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the registry never answers");
    }

    /// A file with the authority to trust.
    pub fn bundle(&self) -> PathBuf {
        self.authority.bundle(self.directory.path())
    }

    /// With what tokens come with from now on.
    pub fn authorize(&mut self, authorization: String) {
        self.authorization = Some(authorization);
    }

    /// The credentials for this registry as a Secret has them.
    pub fn dockerconfigjson(&self, password: &str) -> String {
        json!({"auths": {&self.host: {"username": USER, "password": password}}}).to_string()
    }

    /// An image of one small layer; gives its digest.
    pub async fn push_image(&self, repository: &str, version: Option<&str>, architecture: &str) -> String {
        let layer = self.push_blob(repository, b"no layer is ever pulled").await;
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        });
        let mut config = self.push_blob(repository, config.to_string().as_bytes()).await;
        config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        let mut layer = layer;
        layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        self.push_manifest(repository, version, MANIFEST, &manifest).await
    }

    /// An index of an image for each architecture; gives its digest, and theirs.
    pub async fn push_index(&self, repository: &str, tag: &str, architectures: &[&str]) -> (String, Vec<String>) {
        let (mut manifests, mut digests) = (vec![], vec![]);
        for architecture in architectures {
            let digest = self.push_image(repository, None, architecture).await;
            manifests.push(json!({
                "mediaType": MANIFEST, "digest": digest, "size": 1,
                "platform": {"architecture": architecture, "os": "linux"},
            }));
            digests.push(digest);
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        (self.push_manifest(repository, Some(tag), INDEX, &index).await, digests)
    }

    pub async fn delete(&self, repository: &str, digest: &str) {
        let url = format!("https://{}/v2/{repository}/manifests/{digest}", self.host);
        let answer = self.ask(Method::DELETE, &url, "", vec![]).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{:?}", answer.body());
    }

    async fn push_manifest(&self, repository: &str, version: Option<&str>, kind: &str, manifest: &Value) -> String {
        let bytes = manifest.to_string().into_bytes();
        let digest = format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(&bytes)));
        let version = version.unwrap_or(&digest);
        let url = format!("https://{}/v2/{repository}/manifests/{version}", self.host);
        let answer = self.ask(Method::PUT, &url, kind, bytes).await;
        assert_eq!(answer.status(), StatusCode::CREATED, "{:?}", answer.body());
        digest
    }

    /// Gives its descriptor, without a media type.
    async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Value {
        let digest = format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(bytes)));
        let url = format!("https://{}/v2/{repository}/blobs/uploads/", self.host);
        let answer = self.ask(Method::POST, &url, "", vec![]).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{:?}", answer.body());
        let location = answer.headers()[LOCATION].to_str().unwrap();
        let url = format!("{location}&digest={digest}");
        let answer = self
            .ask(Method::PUT, &url, "application/octet-stream", bytes.to_vec())
            .await;
        assert_eq!(answer.status(), StatusCode::CREATED, "{:?}", answer.body());
        json!({"digest": digest, "size": bytes.len()})
    }

    async fn ask(&self, method: Method, url: &str, kind: &str, body: Vec<u8>) -> Response<Bytes> {
        let mut request = Request::builder().method(method).uri(url);
        if !kind.is_empty() {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.client.ask(request.body(Full::from(body)).unwrap()).await.unwrap()
    }
}
