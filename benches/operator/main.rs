//! What many workspaces cost the operator and the API server:
//! `cargo bench --bench operator -- [--workspaces N] [--binary 'PATH ARGUMENT...']... [--user admin]`
//!
//! kube-apiserver, etcd and kube-scheduler are real; kwok plays the kubelets, and binds the claims, which nothing else would do here.
//! The scheduler therefore does not look at volumes. Each operator gets a new cluster and works under the chart's Role, unless
//! `--user admin` is for one that needs more. Without `--binary` it is the one of this build. Requests are those of
//! `apiserver_request_total`; what the scheduler, kwok and the benchmark ask for is left out.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and prints what it found"
)]

#[path = "../../tests/harness/apiserver.rs"]
#[allow(dead_code, reason = "shared with the test tiers")]
mod apiserver;
mod cluster;
#[path = "../../tests/harness/eventually.rs"]
mod eventually;
mod operator;
#[path = "../../tests/harness/requests.rs"]
mod requests;

use cluster::{Cluster, NAMESPACE};
use devplane::api::{Phase, Workspace};
use devplane::labels::FINALIZER;
use futures::StreamExt;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use operator::Operator;
use requests::{Counts, since};
use serde_json::json;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How many Workspaces are created at once, as by people who all come at nine o'clock.
const CREATED_AT_ONCE: usize = 16;
const LONGEST_RUN: Duration = Duration::from_secs(1800);

struct Arguments {
    workspaces: usize,
    binaries: Vec<String>,
    user: String,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments {
        workspaces: 1000,
        binaries: vec![],
        user: "operator".to_owned(),
    };
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--workspaces" => arguments.workspaces = value.parse().expect("a number of Workspaces"),
            "--binary" => arguments.binaries.push(value),
            "--user" => arguments.user = value,
            other => panic!("unknown argument {other}; there are --workspaces, --binary and --user"),
        }
    }
    for command in &mut arguments.binaries {
        if !command.contains(' ') {
            command.push_str(" operator");
        }
    }
    if arguments.binaries.is_empty() {
        arguments
            .binaries
            .push(format!("{} operator", env!("CARGO_BIN_EXE_devplane")));
    }
    arguments
}

#[tokio::main]
async fn main() {
    let arguments = arguments();
    for command in &arguments.binaries {
        println!("{command}, {} Workspaces", arguments.workspaces);
        measure(command, &arguments).await;
    }
}

async fn measure(command: &str, arguments: &Arguments) {
    let count = arguments.workspaces;
    let cluster = Cluster::start().await;
    let mut running = running(cluster.client.clone());
    let operator = Operator::start(&cluster, command, &arguments.user).await;
    let before = cluster.requests(0).await;

    let began = Instant::now();
    let created: HashMap<String, Instant> = futures::stream::iter(0..count)
        .map(|index| create(cluster.client.clone(), format!("user{index}")))
        .buffer_unordered(CREATED_AT_ONCE)
        .collect()
        .await;
    let mut times = HashMap::new();
    while times.len() < count {
        let next = tokio::time::timeout_at((began + LONGEST_RUN).into(), running.recv()).await;
        let Ok(Some((name, at))) = next else {
            panic!("{} of {count} are Running; {}", times.len(), operator.log());
        };
        times.entry(name).or_insert(at);
    }
    let all = began.elapsed();
    operator.quiet().await;
    let made = since(&before, &cluster.requests(count).await);
    let mut waits: Vec<Duration> = times.iter().map(|(name, at)| *at - created[name]).collect();
    waits.sort();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64();
    println!(
        "  all Running after {:.1} s; each after p50 {:.1} s, p99 {:.1} s",
        all.as_secs_f64(),
        at(0.5),
        at(0.99)
    );
    print_requests(&made, count);
    println!(
        "  {:.2} CPU seconds, {:.1} MiB at the peak",
        operator.cpu_seconds(),
        operator.peak_mib()
    );

    let before = cluster.requests(count).await;
    operator.stop();
    let operator = Operator::start(&cluster, command, &arguments.user).await;
    let caught_up = operator.quiet().await;
    let made = since(&before, &cluster.requests(count).await);
    let writes = made
        .iter()
        .filter(|((verb, _), _)| !matches!(verb.as_str(), "GET" | "LIST"));
    println!(
        "  started again: caught up after {:.1} s with {} writes, {:.2} CPU seconds, {:.1} MiB at the peak",
        caught_up.as_secs_f64(),
        writes.map(|(_, count)| count).sum::<u64>(),
        operator.cpu_seconds(),
        operator.peak_mib()
    );
    operator.stop();
}

fn print_requests(made: &Counts, count: usize) {
    let total: u64 = made.values().sum();
    let each = |requests: u64| requests as f64 / count as f64;
    println!("  {:.2} requests for each:", each(total));
    for ((verb, resource), requests) in made {
        println!("    {:<6} {resource:<24} {:.3}", verb, each(*requests));
    }
}

/// Creates one as the gateway does, and tells when that was done.
async fn create(client: Client, id: String) -> (String, Instant) {
    let workspace = json!({
        "metadata": {"name": id, "finalizers": [FINALIZER]},
        "spec": {
            "user": {"id": id, "email": format!("{id}@example.test"), "issuer": "https://idp.test", "subject": id},
            "resources": {"cpu": "1", "memory": "1Gi", "storage": "1Gi"},
            "aiConfig": {"providers": [{"name": "local", "endpoint": "http://llm.ai-system.svc:8000", "models": ["m"]}]},
        },
    });
    let workspace: Workspace = serde_json::from_value(workspace).unwrap();
    let workspaces = Api::<Workspace>::namespaced(client, NAMESPACE);
    workspaces.create(&PostParams::default(), &workspace).await.unwrap();
    (id, Instant::now())
}

/// Tells of every Workspace that is Running, and since when.
fn running(client: Client) -> mpsc::UnboundedReceiver<(String, Instant)> {
    let (tell, running) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let workspaces = Api::<Workspace>::namespaced(client, NAMESPACE);
        let changes = watcher(workspaces, watcher::Config::default()).default_backoff();
        let mut changes = std::pin::pin!(changes.applied_objects());
        while let Some(change) = changes.next().await {
            let Ok(workspace) = change else {
                // The cluster ends before this does.
                if tell.is_closed() {
                    return;
                }
                continue;
            };
            if workspace.status.as_ref().and_then(|status| status.phase) == Some(Phase::Running) {
                let _ = tell.send((workspace.name_any(), Instant::now()));
            }
        }
    });
    running
}
