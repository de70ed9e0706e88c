//! Stands between an operator and the API server: passes everything on, keeps a list of what was written, and withholds all answers
//! from a chosen write on, as they are lost to an operator that dies there.

use crate::apiserver::ApiServer;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub struct Proxy {
    state: Arc<State>,
    directory: tempfile::TempDir,
    accepting: JoinHandle<()>,
}

struct State {
    client: Client,
    ledger: Mutex<Ledger>,
    passage: watch::Sender<Passage>,
}

#[derive(Clone, Copy, Default)]
struct Passage {
    cut: bool,
    /// How many operators came before.
    operator: usize,
}

#[derive(Default)]
struct Ledger {
    writes: Vec<Write>,
    cut_after: Option<usize>,
}

/// A write that the API server has taken.
#[derive(Clone, Debug)]
pub struct Write {
    /// `persistentvolumeclaims/dev1-workspace-pvc`.
    pub object: String,
    /// It made the object.
    pub is_new: bool,
}

/// What an operator makes besides.
const NOT_OF_WORKSPACES: [&str; 4] = [
    "events/",
    "leases/",
    "secrets/workspace-terminal-authorities",
    "secrets/workspace-gateway-terminal-tls",
];

impl Proxy {
    /// Passes on to `server`, as the operator.
    pub async fn start(server: &ApiServer) -> Self {
        Self::start_as(server, "operator").await
    }

    /// The same as another user.
    pub async fn start_as(server: &ApiServer, user: &str) -> Self {
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig(user)).unwrap();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        // Each request once: the operator's own client decides.
        config.default_retry = false;
        let state = Arc::new(State {
            client: Client::try_from(config).unwrap(),
            ledger: Mutex::default(),
            passage: watch::Sender::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(directory.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self {
            state,
            directory,
            accepting,
        }
    }

    /// For an operator that is to go through here.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Forgets what was written, and withholds the answer to the write with this number, and whatever comes after it.
    pub fn cut_after(&self, write: Option<usize>) {
        *self.state.ledger.lock().unwrap() = Ledger {
            writes: Vec::new(),
            cut_after: write,
        };
        self.mend();
    }

    /// Waits until that write was done.
    pub async fn is_cut(&self) {
        let mut passage = self.state.passage.subscribe();
        passage.wait_for(|passage| passage.cut).await.unwrap();
    }

    /// Gives the answers that were withheld.
    pub fn mend(&self) {
        self.state.passage.send_modify(|passage| passage.cut = false);
    }

    /// The operator was killed: what it still wanted is never done, and the next one is served.
    pub fn next_operator(&self) {
        self.state.passage.send_modify(|passage| {
            *passage = Passage {
                cut: false,
                operator: passage.operator + 1,
            };
        });
    }

    /// Withholds the answer to the next write but `writes`, too.
    pub fn cut_again_after(&self, writes: usize) {
        let mut ledger = self.state.ledger.lock().unwrap();
        ledger.cut_after = Some(ledger.writes.len() + writes);
    }

    /// How often each object of a Workspace was made.
    pub fn made(&self) -> BTreeMap<String, usize> {
        let mut made = BTreeMap::new();
        for Write { object, is_new } in self.writes() {
            if is_new && !NOT_OF_WORKSPACES.iter().any(|other| object.starts_with(other)) {
                *made.entry(object).or_default() += 1;
            }
        }
        made
    }

    pub fn writes(&self) -> Vec<Write> {
        self.state.ledger.lock().unwrap().writes.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let state = Arc::clone(&state);
        let service = service_fn(move |request| forward(Arc::clone(&state), request));
        // It ends with the operator that made it.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn forward(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, kube::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(kube::Error::HyperError)?.to_bytes();
    if parts.method == Method::GET {
        return state.client.send(Request::from_parts(parts, Body::from(body))).await;
    }
    let operator = state.passage.borrow().operator;
    state.passes(operator).await;
    let object = object(&parts.method, parts.uri.path(), &body);
    let request = Request::from_parts(parts, Body::from(body));
    // To its end, even if nobody waits for the answer any more.
    let response = tokio::spawn(write(Arc::clone(&state), object, request));
    let response = response.await.unwrap()?;
    state.passes(operator).await;
    Ok(response)
}

async fn write(state: Arc<State>, object: String, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
    let response = state.client.send(request).await?;
    // What was refused has written nothing.
    if !response.status().is_success() {
        return Ok(response);
    }
    let is_new = response.status() == StatusCode::CREATED;
    let last = {
        let mut ledger = state.ledger.lock().unwrap();
        ledger.writes.push(Write { object, is_new });
        ledger.cut_after == Some(ledger.writes.len())
    };
    if last {
        state.passage.send_modify(|passage| passage.cut = true);
    }
    Ok(response)
}

impl State {
    /// Waits while the operator is cut off; for ever when it was killed.
    async fn passes(&self, operator: usize) {
        let mut passage = self.passage.subscribe();
        let open = *passage.wait_for(|passage| !passage.cut).await.unwrap();
        if open.operator != operator {
            std::future::pending().await
        }
    }
}

/// What a request is about: the part of its path behind the namespace, and the name in the body of a new object.
fn object(method: &Method, path: &str, body: &[u8]) -> String {
    let mut object = path
        .split_once("/namespaces/")
        .and_then(|(_, rest)| rest.split_once('/'))
        .map_or(path, |(_, object)| object)
        .to_owned();
    if method == Method::POST {
        let new: Value = serde_json::from_slice(body).unwrap_or_default();
        object.push('/');
        object.push_str(new["metadata"]["name"].as_str().unwrap_or_default());
    }
    object
}
