//! The operator asks a canary that this test stands for: pods have no network here, so loopback addresses are those of the pod and of the API server,
//! and connections to them are let through or refused. Then the real canary, alone.

use crate::chart;
use crate::eventually::eventually;
use crate::operator::{Operator, Site, phase, reason, spec};
use crate::workspaces::until_nothing_is_written;
use devplane::api::status::ConditionType;
use devplane::api::{Phase, Workspace};
use devplane::connectivity::report::Tried;
use devplane::connectivity::{Observed, Report};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

const TERMINAL: u16 = 7681;
const REPORT: u16 = 7680;
const INTERVAL: Duration = Duration::from_secs(30);

/// Says one word to whoever connects.
async fn speaks(address: SocketAddr) -> JoinHandle<()> {
    says(address, || "word\n".to_owned()).await
}

async fn says(address: SocketAddr, words: impl Fn() -> String + Send + 'static) -> JoinHandle<()> {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(words().as_bytes()).await;
        }
    })
}

/// A canary's pod with a network around it. It begins with policies enforced.
struct Network {
    pod: IpAddr,
    report: Arc<Mutex<Report>>,
    terminal: Option<JoinHandle<()>>,
    listeners: Vec<JoinHandle<()>>,
}

impl Network {
    /// Of the loopback addresses, those with `of` in them.
    async fn new(of: u8) -> Self {
        let address = |host| IpAddr::from([127, of, 0, host]);
        let api_server: SocketAddr = (address(1), 6443).into();
        let report = Arc::new(Mutex::new(Report {
            own_terminal: Observed::Answered,
            names: Observed::Answered,
            api_server: Observed::Refused,
            api_server_address: api_server,
            places: vec![],
        }));
        let (pod, told) = (address(2), Arc::clone(&report));
        let listeners = vec![
            speaks(api_server).await,
            says((pod, REPORT).into(), move || told.lock().unwrap().line()).await,
        ];
        Self {
            pod,
            report,
            terminal: None,
            listeners,
        }
    }

    /// No policy is enforced, in either direction.
    async fn open(&mut self) {
        self.report.lock().unwrap().api_server = Observed::Answered;
        self.terminal = Some(speaks((self.pod, TERMINAL).into()).await);
    }

    fn close(&mut self) {
        self.report.lock().unwrap().api_server = Observed::Refused;
        self.terminal.take().unwrap().abort();
    }

    /// The operator's settings for it.
    fn settings(&self) -> [(&'static str, String); 4] {
        let api_server = self.report.lock().unwrap().api_server_address;
        [
            ("CANARY_ENABLED", "true".to_owned()),
            ("CANARY_INTERVAL", "30s".to_owned()),
            ("KUBERNETES_SERVICE_HOST", api_server.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT", api_server.port().to_string()),
        ]
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for listener in self.listeners.iter().chain(&self.terminal) {
            listener.abort();
        }
    }
}

fn operator(site: &Site, network: &Network, more: &[(&str, &str)]) -> Operator {
    let settings = network.settings();
    let mut settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    settings.extend(more);
    site.operator(&settings)
}

/// The canary as the chart makes it, and what its controller and its node would do.
async fn run_canary(site: &Site, network: &Network) {
    let objects = chart::rendered(site.server, "minimal", "elsewhere", &site.namespace);
    let of_canary = |kind: &str| {
        let mut of_kind = objects.iter().filter(|object| object["kind"] == kind);
        of_kind
            .find(|object| object["metadata"]["name"] == "workspace-canary")
            .unwrap()
            .clone()
    };
    let mut pod = of_canary("Deployment")["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("workspace-canary-1");
    site.create_objects(&json!({"apiVersion": "v1", "kind": "List", "items": [of_canary("ServiceAccount"), pod]}));
    let address = network.pod.to_string();
    let status = json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    });
    site.set_pod_status("workspace-canary-1", &status).await.unwrap();
}

/// Status and message of the condition.
fn enforced(workspace: &Workspace) -> Option<(&str, &str)> {
    let condition = workspace.status.as_ref()?.condition(ConditionType::PolicyEnforced)?;
    Some((&condition.status, &condition.message))
}

async fn until_enforced_is(site: &Site, name: &str, status: &str) -> Workspace {
    let is = |workspace: &Workspace| enforced(workspace).is_some_and(|(is, _)| is == status);
    site.until(name, &format!("PolicyEnforced={status}"), is).await
}

async fn events(site: &Site, reason: &str) -> Vec<String> {
    let events: Api<Event> = Api::namespaced(site.client.clone(), &site.namespace);
    let all = events.list(&ListParams::default()).await.unwrap();
    let of_reason = all
        .items
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some(reason));
    of_reason.filter_map(|event| event.note).collect()
}

/// Waits until its metrics say so.
async fn tells(operator: &Operator, state: &str) {
    let line = format!("devplane_operator_policy_enforcement{{state=\"{state}\"}} 1\n");
    let told = eventually(async || operator.metrics().contains(&line));
    assert!(told.await, "{}{}", operator.metrics(), operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_told_by_everything_and_cleared_again() {
    let site = Site::new("canary-passes").await;
    let mut network = Network::new(71).await;
    run_canary(&site, &network).await;
    let operator = operator(&site, &network, &[]);
    site.apply("dev1", &spec("dev1"));
    site.runs("dev1").await;
    until_enforced_is(&site, "dev1", "True").await;
    tells(&operator, "enforced").await;
    assert_eq!(events(&site, "PoliciesNotEnforced").await, Vec::<String>::new());

    // Policed like a workspace, and owned by what the chart makes.
    let policies: Api<NetworkPolicy> = Api::namespaced(site.client.clone(), &site.namespace);
    let mine = policies.get("workspace-canary-deny-all").await.unwrap();
    assert_eq!(mine.owner_references()[0].name, "workspace-canary");
    let of = async |name: &str| policies.get(name).await.unwrap().spec.unwrap();
    let (canary, workspace) = (of("workspace-canary-egress").await, of("dev1-workspace-egress").await);
    assert_eq!(canary.egress, workspace.egress);

    // Rounds that find the same write nothing.
    until_nothing_is_written(&site, Duration::from_secs(20)).await;

    network.open().await;
    let opened = Instant::now();
    let told = until_enforced_is(&site, "dev1", "False").await;
    assert!(opened.elapsed() < INTERVAL, "{:?}", opened.elapsed());
    let (_, message) = enforced(&told).unwrap();
    for part in [
        "the operator to the canary's terminal port at 127.71.0.2",
        "the canary to the API server at 127.71.0.1:6443",
        "network plugin enforces NetworkPolicies on every node",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(phase(&told), Some(Phase::Running), "nobody is cut off");
    tells(&operator, "not_enforced").await;
    assert!(eventually(async || events(&site, "PoliciesNotEnforced").await.len() == 1).await);
    // It was not said that anything has to wait.
    site.apply("dev2", &spec("dev2"));
    site.runs("dev2").await;

    // An operator that was just started contradicts nothing.
    let since = |workspace: &Workspace| {
        let condition = workspace
            .status
            .as_ref()
            .unwrap()
            .condition(ConditionType::PolicyEnforced);
        condition.unwrap().last_transition_time.clone()
    };
    assert_eq!(operator.stop(), Some(0));
    let operator = self::operator(&site, &network, &[]);
    tells(&operator, "not_enforced").await;
    assert_eq!(since(&until_enforced_is(&site, "dev1", "False").await), since(&told));

    network.close();
    until_enforced_is(&site, "dev1", "True").await;
    until_enforced_is(&site, "dev2", "True").await;
    tells(&operator, "enforced").await;
    assert!(eventually(async || !events(&site, "PoliciesEnforced").await.is_empty()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_while_enforcement_is_required_and_not_shown() {
    let site = Site::new("canary-required").await;
    let mut network = Network::new(72).await;
    network.open().await;
    run_canary(&site, &network).await;
    let _operator = operator(&site, &network, &[("POLICY_ENFORCEMENT_REQUIRED", "true")]);
    site.apply("dev1", &spec("dev1"));
    let held = site.until("dev1", "held", |w| reason(w) == "PoliciesNotEnforced").await;
    assert_eq!(phase(&held), Some(Phase::Failed));
    assert_eq!(
        site.pods()
            .list(&ListParams::default().labels("user=dev1"))
            .await
            .unwrap()
            .items
            .len(),
        0
    );
    assert_eq!(
        site.kubectl(&["get", "secrets", "-o", "name"]).matches("dev1").count(),
        0
    );
    network.close();
    site.runs("dev1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shows_nothing_is_told_as_unknown() {
    let site = Site::new("canary-unknown").await;
    let network = Network::new(73).await;
    // The canary resolves no name: it may be cut off from everything, by whatever.
    network.report.lock().unwrap().names = Observed::Refused;
    run_canary(&site, &network).await;
    let operator = operator(&site, &network, &[]);
    site.apply("dev1", &spec("dev1"));
    assert!(
        eventually(async || operator.log().contains("the canary to the API server at 127.73.0.1:6443: refused, but so was what is allowed: the canary to the cluster's DNS")).await,
        "{}",
        operator.log()
    );
    tells(&operator, "unknown").await;
    let made = site.workspaces().get("dev1").await.unwrap();
    assert_eq!(enforced(&made), None, "nothing is known yet");
    tokio::time::sleep(INTERVAL).await;
    let told = until_enforced_is(&site, "dev1", "Unknown").await;
    assert!(enforced(&told).unwrap().1.contains("neither"), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_canary_tells_what_it_reaches() {
    let address = |host: u8| IpAddr::from([127, 74, 0, host]);
    let name_server = UdpSocket::bind((address(4), 0)).await.unwrap();
    let names_at = name_server.local_addr().unwrap();
    let names = tokio::spawn(async move {
        let mut question = [0; 512];
        loop {
            let (length, from) = name_server.recv_from(&mut question).await.unwrap();
            name_server.send_to(&question[..length], from).await.unwrap();
        }
    });
    let mut process = Command::new(env!("CARGO_BIN_EXE_devplane"))
        .args([
            "canary",
            "--place=a node's kubelet=127.74.0.5:10250",
            "--place=nobody=127.74.0.6:80",
        ])
        .env_clear()
        .env("CANARY_ADDRESS", address(2).to_string())
        .env("CANARY_NAME_SERVER", names_at.to_string())
        .env("KUBERNETES_SERVICE_HOST", address(1).to_string())
        .env("KUBERNETES_SERVICE_PORT", "6443")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let kubelet = speaks((address(5), 10250).into()).await;
    let tried = |place: &str, observed| Tried {
        place: place.parse().unwrap(),
        observed,
    };
    let report = SocketAddr::from((address(2), REPORT));
    assert!(eventually(async || TcpStream::connect((address(2), TERMINAL)).await.is_ok()).await);
    let mut greeting = String::new();
    let mut terminal = TcpStream::connect((address(2), TERMINAL)).await.unwrap();
    terminal.read_to_string(&mut greeting).await.unwrap();
    assert_eq!(greeting, "devplane canary: this is no terminal\n");
    let expected = Report {
        own_terminal: Observed::Answered,
        names: Observed::Answered,
        api_server: Observed::Refused,
        api_server_address: (address(1), 6443).into(),
        places: vec![
            tried("a node's kubelet=127.74.0.5:10250", Observed::Answered),
            tried("nobody=127.74.0.6:80", Observed::Refused),
        ],
    };
    assert_eq!(Report::fetch(report).await.unwrap(), expected);
    let api_server = speaks((address(1), 6443).into()).await;
    names.abort();
    let _ = names.await;
    let expected = Report {
        names: Observed::Refused,
        api_server: Observed::Answered,
        ..expected
    };
    assert_eq!(Report::fetch(report).await.unwrap(), expected);
    api_server.abort();
    kubelet.abort();

    let pid = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(process.wait().unwrap().code(), Some(0));
}
