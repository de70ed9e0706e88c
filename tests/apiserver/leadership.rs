//! Two operators, and the one that leads is killed.

use crate::eventually::eventually;
use crate::operator::{Operator, Site, phase, spec};
use crate::proxy::Proxy;
use devplane::api::Phase;
use futures::{StreamExt, stream};
use kube::ResourceExt;
use kube::api::ListParams;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WORKSPACES: usize = 200;

/// Far from the first write, and far from the last.
const KILLED_AFTER: usize = 1000;

/// What the operator makes for one Workspace.
const OBJECTS: usize = 10;

fn candidate(site: &Site, proxy: &Proxy, name: &str) -> Operator {
    site.operator(&[
        ("KUBECONFIG", proxy.kubeconfig().to_str().unwrap()),
        ("LEADER_ELECT", "true"),
        ("POD_NAME", name),
    ])
}

/// Is the kubelet of every pod that comes.
async fn run_pods(site: Arc<Site>) {
    loop {
        let pods = site.pods().list(&ListParams::default()).await.unwrap();
        let pending = pods.items.into_iter().filter(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            phase == Some("Pending")
        });
        let started = stream::iter(pending).for_each_concurrent(16, async |pod| {
            site.make_ready(&pod.name_any()).await;
        });
        started.await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_one_finishes_what_the_leader_began() {
    let site = Arc::new(Site::new("leadership").await);
    let (first_proxy, second_proxy) = (Proxy::start(site.server).await, Proxy::start(site.server).await);
    first_proxy.cut_after(Some(KILLED_AFTER));
    let first = candidate(&site, &first_proxy, "first");
    while !first.log().contains("leadership acquired") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let second = candidate(&site, &second_proxy, "second");
    let pods = tokio::spawn(run_pods(Arc::clone(&site)));
    let names = (0..WORKSPACES).map(|number| format!("user-{number}"));
    stream::iter(names)
        .for_each_concurrent(16, async |name| drop(site.create(&name, &spec(&name)).await))
        .await;
    first_proxy.is_cut().await;
    assert!(!second.log().contains("leadership acquired"), "two lead");
    drop(first);

    // On a machine that is busy with others it takes minutes.
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let workspaces = site.workspaces().list(&ListParams::default()).await.unwrap();
        let running = workspaces.iter().filter(|w| phase(w) == Some(Phase::Running)).count();
        if running == WORKSPACES {
            break;
        }
        assert!(Instant::now() < deadline, "{running} run: {}", second.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    pods.abort();
    let mut made: BTreeMap<String, usize> = first_proxy.made();
    for (object, times) in second_proxy.made() {
        *made.entry(object).or_default() += times;
    }
    let twice: Vec<_> = made.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "made more than once: {twice:?}");
    assert_eq!(made.len(), WORKSPACES * OBJECTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_operators_leads_and_the_other_takes_over() {
    let site = Site::new("leader").await;
    let leads = |name: &str| {
        let holder = site.server.kubectl(
            &[
                "get",
                "lease",
                "workspace-operator",
                "-n",
                "leader",
                "-o",
                "jsonpath={.spec.holderIdentity}",
            ],
            None,
        );
        String::from_utf8_lossy(&holder.stdout) == name
    };
    let mut first = Some(site.operator(&[("LEADER_ELECT", "true"), ("POD_NAME", "first")]));
    assert!(eventually(async || leads("first")).await);
    let second = site.operator(&[("LEADER_ELECT", "true"), ("POD_NAME", "second")]);
    site.apply("dev1", &spec("dev1"));
    site.until("dev1", "made", |w| {
        w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
    })
    .await;
    assert!(!second.log().contains("leadership acquired"));
    // SIGKILL: nothing is given up, the Lease has to run out.
    drop(first.take());
    assert!(eventually(async || leads("second")).await, "{}", second.log());
    site.apply("dev2", &spec("dev2"));
    site.until("dev2", "made", |w| {
        w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
    })
    .await;
    assert_eq!(second.stop(), Some(0));
}
