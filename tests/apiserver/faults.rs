//! The operator is killed after each of its writes in the life of a Workspace, and what comes of it is the same.

use crate::eventually::eventually;
use crate::operator::{Operator, Site, phase, spec};
use crate::proxy::Proxy;
use devplane::api::Phase;
use devplane::clock::{Clock, SystemClock};
use futures::{StreamExt, stream};
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Namespaces that are worked in at once.
const LANES: usize = 4;

/// A namespace, and an operator behind a proxy.
struct Lane {
    site: Arc<Site>,
    proxy: Arc<Proxy>,
}

/// What a life has come to.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// The lines of the Workspace and all that it owns, before it is deleted.
    objects: Vec<String>,
    /// How often each object was made. Events are no objects of the Workspace.
    made: BTreeMap<String, usize>,
}

impl Lane {
    async fn new(namespace: &str) -> Self {
        let site = Arc::new(Site::new(namespace).await);
        site.server.collect_garbage();
        let proxy = Arc::new(Proxy::start(site.server).await);
        Self { site, proxy }
    }

    /// An operator that is killed where the proxy cuts it off, and then started again: once, or after each write.
    fn supervised(&self, relentless: bool) -> Supervised {
        let (site, proxy) = (Arc::clone(&self.site), Arc::clone(&self.proxy));
        Supervised(tokio::spawn(async move {
            loop {
                let operator = operator(&site, &proxy);
                proxy.is_cut().await;
                drop(operator);
                if relentless {
                    proxy.cut_again_after(1);
                }
                proxy.next_operator();
            }
        }))
    }

    /// One life, with an operator that is killed after the write with this number. Also says how many writes there were.
    async fn life(&self, id: &str, killed_after: Option<usize>, relentless: bool) -> (Outcome, usize) {
        self.proxy.cut_after(killed_after);
        let operator = self.supervised(relentless);
        let Self { site, proxy } = self;
        let mut given = spec(id);
        given["lifecycle"] = json!({"idleTimeout": "0"});
        site.create(id, &given).await;
        self.becomes_running(id).await;

        site.patch(id, &json!({"spec": {"lifecycle": {"idleTimeout": "1s"}}}))
            .await;
        site.until(id, "Stopped", |w| phase(w) == Some(Phase::Stopped)).await;
        let pod = format!("{id}-workspace-pod");
        assert!(eventually(async || site.pods().get_opt(&pod).await.unwrap().is_none()).await);

        let wake = json!({"workspace.devplane.io/wake-requested-at": SystemClock.now()});
        site.patch(
            id,
            &json!({"metadata": {"annotations": wake}, "spec": {"lifecycle": {"idleTimeout": "0"}}}),
        )
        .await;
        self.becomes_running(id).await;

        let asked = SystemClock.now();
        let restart = json!({"workspace.devplane.io/restart-requested-at": asked});
        site.patch(id, &json!({"metadata": {"annotations": restart}})).await;
        let restarted = |status: &devplane::api::WorkspaceStatus| {
            let at = status.restarted_at.as_ref();
            at.is_some_and(|at| at.0.as_second() == asked.as_second()) && status.phase == Some(Phase::Creating)
        };
        site.until(id, "restarted", |w| w.status.as_ref().is_some_and(restarted))
            .await;
        self.becomes_running(id).await;

        let objects = serde_json::to_string_pretty(&self.objects(id).await).unwrap();
        let objects = objects.lines().map(str::to_owned).collect();
        site.workspaces().delete(id, &DeleteParams::default()).await.unwrap();
        assert!(
            eventually(async || self.objects(id).await.is_empty()).await,
            "{id} leaves {:#?}",
            self.objects(id).await
        );
        operator.end().await;
        let made = proxy.made().into_iter();
        let made = made.map(|(object, times)| (object.replace(id, "ID"), times)).collect();
        (Outcome { objects, made }, proxy.writes().len())
    }

    /// Waits for the pod, is its kubelet, and waits for the Workspace.
    async fn becomes_running(&self, id: &str) {
        let (site, pod) = (&self.site, format!("{id}-workspace-pod"));
        let running = eventually(async || {
            // It may be replaced in the very moment.
            if site.pods().get_opt(&pod).await.unwrap().is_some_and(|pod| {
                pod.status
                    .is_some_and(|status| status.phase.as_deref() == Some("Pending"))
            }) {
                let _ = site.try_make_ready(&pod).await;
            }
            site.workspaces()
                .get(id)
                .await
                .is_ok_and(|workspace| phase(&workspace) == Some(Phase::Running))
        });
        assert!(running.await, "{id} never ran");
    }

    /// The Workspace and all objects with its user's label, without what differs from one life to the next.
    async fn objects(&self, id: &str) -> Vec<Value> {
        let site = &self.site;
        let mut objects = Vec::new();
        for (group, version, kind) in OWNED {
            let kind = kube::core::GroupVersionKind::gvk(group, version, kind);
            let plural = if kind.kind == "NetworkPolicy" {
                "networkpolicies".to_owned()
            } else {
                format!("{}s", kind.kind.to_lowercase())
            };
            let resource = ApiResource::from_gvk_with_plural(&kind, &plural);
            let api: Api<DynamicObject> = Api::namespaced_with(site.client.clone(), &site.namespace, &resource);
            let of_user = ListParams::default().labels(&format!("user={id}"));
            for object in api.list(&of_user).await.unwrap() {
                objects.push(comparable(&serde_json::to_value(object).unwrap(), id, &site.namespace));
            }
        }
        if let Some(workspace) = site.workspaces().get_opt(id).await.unwrap() {
            objects.push(comparable(
                &serde_json::to_value(workspace).unwrap(),
                id,
                &site.namespace,
            ));
        }
        objects
    }
}

const OWNED: [(&str, &str, &str); 8] = [
    ("", "v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("", "v1", "Service"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "Secret"),
    ("", "v1", "Pod"),
];

fn operator(site: &Site, proxy: &Proxy) -> Operator {
    site.operator(&[("KUBECONFIG", proxy.kubeconfig().to_str().unwrap())])
}

/// An operator that is started again whenever it is killed.
struct Supervised(JoinHandle<()>);

impl Supervised {
    /// Kills the operator for good, and waits until it has ended: it must not go on in the next life. Panics when its audit lines are wrong.
    async fn end(self) {
        self.0.abort();
        let ended = self.0.await.unwrap_err();
        assert!(ended.is_cancelled(), "{ended}");
    }
}

/// Times, versions and identities are other ones each time.
fn comparable(object: &Value, id: &str, namespace: &str) -> Value {
    const VARYING: &[&str] = &[
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "lastTransitionTime",
        "managedFields",
        "lastAccessed",
        "generation",
        "observedGeneration",
        // Of the pod's environment, which holds the user's id.
        "workspace.devplane.io/template-hash",
        "workspace.devplane.io/terminal-authority",
        "workspace.devplane.io/issued-at",
        "workspace.devplane.io/wake-requested-at",
        "workspace.devplane.io/restart-requested-at",
        "restartedAt",
        "terminalAuthority",
        // Certificates.
        "data",
    ];
    match object {
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| !VARYING.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), comparable(value, id, namespace)))
            .collect(),
        Value::Array(items) => items.iter().map(|item| comparable(item, id, namespace)).collect(),
        Value::String(text) => Value::String(text.replace(id, "ID").replace(namespace, "NAMESPACE")),
        other => other.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_any_write_it_comes_to_the_same() {
    let lanes = (0..LANES).map(async |lane| Lane::new(&format!("killed-{lane}")).await);
    let lanes: Vec<Lane> = stream::iter(lanes).buffer_unordered(LANES).collect().await;
    let (undisturbed, writes) = lanes[0].life("calm", None, false).await;
    assert!(writes > 20, "{writes}");
    let next = AtomicUsize::new(1);
    let (undisturbed, next) = (&undisturbed, &next);
    let different = Mutex::new(Vec::new());
    // A killed operator leads to a few writes more, so the end is a life that did not have so many.
    let work = lanes.iter().map(async |lane| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let (outcome, writes) = lane.life(&format!("k{number}k"), Some(number), false).await;
            if writes < number {
                return;
            }
            if let Some(difference) = outcome.difference(undisturbed) {
                different
                    .lock()
                    .unwrap()
                    .push(format!("killed after write {number}: {difference}"));
            }
        }
    });
    futures::future::join_all(work).await;
    assert_eq!(different.into_inner().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_every_write_it_still_gets_there() {
    let lane = Lane::new("killed-always").await;
    let (undisturbed, _) = lane.life("calm", None, false).await;
    let (outcome, writes) = lane.life("often", Some(1), true).await;
    assert_eq!(outcome.difference(&undisturbed), None, "{writes} writes");
}

/// The Workspace goes, whatever was made of it, and nothing of it stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_half_made_can_be_deleted() {
    let lanes = (0..LANES).map(async |lane| Lane::new(&format!("half-{lane}")).await);
    let lanes: Vec<Lane> = stream::iter(lanes).buffer_unordered(LANES).collect().await;
    let next = AtomicUsize::new(1);
    let work = lanes.iter().map(async |lane| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            // With an operator that is only slow, and with one that dies.
            for dies in [false, true] {
                if !lane.is_deleted_after(number, dies).await {
                    return;
                }
            }
        }
    });
    futures::future::join_all(work).await;
    assert!(next.into_inner() > 10, "a Workspace takes more writes than that");
}

impl Lane {
    /// False when the operator has nothing more to write.
    async fn is_deleted_after(&self, number: usize, dies: bool) -> bool {
        let Self { site, proxy } = self;
        let id = format!("d{number}{dies}");
        proxy.cut_after(Some(number));
        let mut operator = operator(site, proxy);
        site.create(&id, &spec(&id)).await;
        let settled = async {
            site.until(&id, "made", |w| {
                w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
            })
            .await;
            // An Event comes behind.
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        let cut = tokio::select! {
            () = proxy.is_cut() => true,
            () = settled => false,
        };
        site.workspaces().delete(&id, &DeleteParams::default()).await.unwrap();
        if dies {
            drop(operator);
            proxy.next_operator();
            operator = self::operator(site, proxy);
        } else {
            proxy.mend();
        }
        assert!(
            eventually(async || self.objects(&id).await.is_empty()).await,
            "deleted after write {number}, and left: {:#?}; {}",
            self.objects(&id).await,
            operator.log()
        );
        cut
    }
}

/// With it goes the operator's Role, too: the order is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_can_be_deleted_while_workspaces_are_made_in_it() {
    let work = [1, 5, 10].map(async |number| {
        let namespace = format!("gone-{number}");
        let Lane { site, proxy } = Lane::new(&namespace).await;
        site.forbids();
        let operator = operator(&site, &proxy);
        let mut stopped = spec("dev2");
        stopped["suspended"] = json!(true);
        site.create("dev2", &stopped).await;
        site.until("dev2", "stopped", |w| phase(w) == Some(Phase::Stopped))
            .await;
        proxy.cut_after(Some(number));
        site.create("dev1", &spec("dev1")).await;
        proxy.is_cut().await;
        site.server
            .kubectl_ok(&["delete", "namespace", &namespace, "--wait=false"], None);
        proxy.mend();
        let gone = async || {
            let found = site.server.kubectl(&["get", "namespace", &namespace], None);
            !found.status.success()
        };
        // It takes some rounds of its controller.
        assert!(
            eventually(gone).await || eventually(gone).await,
            "{namespace} stays: {}",
            operator.log()
        );
    });
    futures::future::join_all(work).await;
}

/// Nothing is made there, so that nothing that is refused tells of it; and the operator's Role may be the first to go.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_nothing_but_settled_workspaces_can_be_deleted() {
    let work = (0..8).map(async |number| {
        let namespace = format!("settled-{number}");
        let site = Site::new(&namespace).await;
        site.server.collect_garbage();
        let operator = site.operator(&[]);
        site.forbids();
        for id in ["stopped", "kept", "running"] {
            let mut given = spec(id);
            given["suspended"] = json!(id == "stopped");
            given["persistence"] = json!({"reclaimPolicy": if id == "kept" { "Retain" } else { "Delete" }});
            site.create(id, &given).await;
        }
        site.until("stopped", "stopped", |w| phase(w) == Some(Phase::Stopped))
            .await;
        site.runs("kept").await;
        site.runs("running").await;
        site.server
            .kubectl_ok(&["delete", "namespace", &namespace, "--wait=false"], None);
        let gone = async || {
            !site
                .server
                .kubectl(&["get", "namespace", &namespace], None)
                .status
                .success()
        };
        let gone = eventually(gone).await || eventually(gone).await;
        let workspaces = site
            .server
            .kubectl(&["get", "workspaces", "-n", &namespace, "-o", "yaml"], None);
        let left = String::from_utf8_lossy(&workspaces.stdout).into_owned();
        (!gone).then(|| format!("{namespace} stays: {left} {}", operator.log()))
    });
    let stay: Vec<String> = futures::future::join_all(work).await.into_iter().flatten().collect();
    assert!(stay.is_empty(), "{} of 8: {}", stay.len(), stay[0]);
}

/// Whoever deletes the namespace and installs anew has an operator that ran all the while.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_made_anew_is_served() {
    let site = Site::new("made-anew").await;
    site.forbids();
    site.server.collect_garbage();
    let operator = site.operator(&[("LEADER_ELECT", "false")]);
    site.create("dev1", &spec("dev1")).await;
    site.runs("dev1").await;
    site.server
        .kubectl_ok(&["delete", "namespace", "made-anew", "--wait=false"], None);
    let is_there = || {
        site.server
            .kubectl(&["get", "namespace", "made-anew"], None)
            .status
            .success()
    };
    assert!(
        eventually(async || !is_there()).await || eventually(async || !is_there()).await,
        "{}",
        operator.log()
    );
    let anew = Site::at(site.server, "made-anew").await;
    anew.forbids();
    anew.create("dev2", &spec("dev2")).await;
    // The authority of its terminal went with the namespace: a pod that was made before there is another is replaced.
    let runs = async || {
        let _ = anew.try_make_ready("dev2-workspace-pod").await;
        phase(&anew.workspaces().get("dev2").await.unwrap()) == Some(Phase::Running)
    };
    assert!(eventually(runs).await, "{}", operator.log());
}

impl Outcome {
    /// Where it differs from the `other` one.
    fn difference(&self, other: &Self) -> Option<String> {
        let lines = self.objects.iter().zip(&other.objects);
        let differing = lines.filter(|(line, other)| line != other).take(5);
        let made = (self.made != other.made).then(|| format!("made {:?}, and undisturbed {:?}", self.made, other.made));
        let objects = (self.objects != other.objects).then(|| format!("{:?}", differing.collect::<Vec<_>>()));
        let differences: Vec<String> = made.into_iter().chain(objects).collect();
        (!differences.is_empty()).then(|| differences.join("; "))
    }
}
