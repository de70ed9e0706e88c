//! What the identities of an installation may do, asked of a real API server for every verb of every resource under the chart's rights. The
//! answers are in `snapshots/apiserver__rights__*.snap`, for the least that is installed and for the most: a right more or less is a diff to review.

use crate::apiserver::{self, ApiServer};
use crate::chart;
use crate::cilium_definition::definition;
use crate::operator::{Site, spec};
use futures::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

/// An installation of the chart, by a set of values of its own tests and what is set beside them.
struct Installation {
    values: &'static str,
    others: &'static [&'static str],
    workspaces: &'static str,
    system: &'static str,
    /// The API server knows Cilium's kind of policy.
    has_cilium: bool,
}

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Verbs that discovery does not know of (Kubernetes: "RBAC good practices").
const SPECIAL: &[(&str, &str, &[&str])] = &[
    ("rbac.authorization.k8s.io", "roles", &["bind", "escalate"]),
    ("rbac.authorization.k8s.io", "clusterroles", &["bind", "escalate"]),
    ("", "users", &["impersonate"]),
    ("", "groups", &["impersonate"]),
    ("", "serviceaccounts", &["impersonate"]),
    ("certificates.k8s.io", "signers", &["approve", "sign"]),
];

const PATHS: &[&str] = &[
    "/healthz",
    "/version",
    "/openapi/v3",
    "/metrics",
    "/logs",
    "/debug/pprof",
];

/// A question without the one who asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    place: String,
    /// With the group behind it, and the name of an object that a rule speaks of.
    resource: String,
    verb: String,
}

struct Resource {
    group: String,
    name: String,
    namespaced: bool,
    verbs: BTreeSet<String>,
}

/// Every resource that the API server serves, subresources too.
async fn resources(client: &Client) -> Vec<Resource> {
    let get = async |path: &str| {
        client
            .request::<Value>(http::Request::get(path).body(vec![]).unwrap())
            .await
            .unwrap()
    };
    let mut lists = vec![(String::new(), get("/api/v1").await)];
    for group in get("/apis").await["groups"].as_array().unwrap() {
        let version = group["preferredVersion"]["groupVersion"].as_str().unwrap();
        lists.push((
            group["name"].as_str().unwrap().to_owned(),
            get(&format!("/apis/{version}")).await,
        ));
    }
    let mut resources = Vec::new();
    for (group, list) in &lists {
        for resource in list["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap().to_owned();
            let mut verbs: BTreeSet<String> = resource["verbs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|verb| verb.as_str().unwrap().to_owned())
                .collect();
            if !name.contains('/') {
                verbs.extend(VERBS.iter().map(|verb| (*verb).to_owned()));
            }
            resources.push(Resource {
                group: group.clone(),
                name,
                namespaced: resource["namespaced"] == true,
                verbs,
            });
        }
    }
    for (group, name, verbs) in SPECIAL {
        let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
        resources.push(Resource {
            group: (*group).to_owned(),
            name: (*name).to_owned(),
            namespaced: matches!(*name, "roles" | "serviceaccounts"),
            verbs,
        });
    }
    resources
}

/// The names that rules are narrowed down to: group, resource, name.
fn names(objects: &[Value]) -> BTreeSet<(String, String, String)> {
    let texts = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let mut names = BTreeSet::new();
    for rule in objects
        .iter()
        .flat_map(|object| object["rules"].as_array().into_iter().flatten())
    {
        for (group, resource) in texts(&rule["apiGroups"]).iter().flat_map(|group| {
            texts(&rule["resources"])
                .into_iter()
                .map(move |resource| (group.clone(), resource))
        }) {
            names.extend(
                texts(&rule["resourceNames"])
                    .into_iter()
                    .map(|name| (group.clone(), resource.clone(), name)),
            );
        }
    }
    names
}

fn questions(
    places: [&str; 5],
    resources: &[Resource],
    names: &BTreeSet<(String, String, String)>,
) -> Vec<(Question, SubjectAccessReviewSpec)> {
    let mut questions = Vec::new();
    for place in places {
        // What is in no namespace is asked of the cluster alone, and what is in one, also of the cluster as a whole.
        for Resource { group, name, verbs, .. } in resources
            .iter()
            // What is asked of one namespace is asked within it.
            .filter(|resource| resource.namespaced || place.is_empty() || resource.name == "namespaces")
        {
            let objects = names.iter().filter(|(of, resource, _)| of == group && resource == name);
            let objects = objects.map(|(_, _, object)| Some(object.clone())).chain([None]);
            for (object, verb) in objects.flat_map(|object| verbs.iter().map(move |verb| (object.clone(), verb))) {
                let (resource, subresource) = match name.split_once('/') {
                    Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
                    None => (name.as_str(), None),
                };
                let dotted = if group.is_empty() {
                    name.clone()
                } else {
                    format!("{name}.{group}")
                };
                let question = Question {
                    place: if place.is_empty() {
                        "the cluster".to_owned()
                    } else {
                        place.to_owned()
                    },
                    resource: object
                        .as_ref()
                        .map_or(dotted.clone(), |object| format!("{dotted} {object}")),
                    verb: verb.clone(),
                };
                let attributes = ResourceAttributes {
                    namespace: (!place.is_empty()).then(|| place.to_owned()),
                    group: Some(group.clone()),
                    resource: Some(resource.to_owned()),
                    subresource,
                    name: object,
                    verb: Some(verb.clone()),
                    ..ResourceAttributes::default()
                };
                questions.push((
                    question,
                    SubjectAccessReviewSpec {
                        resource_attributes: Some(attributes),
                        ..Default::default()
                    },
                ));
            }
        }
    }
    for path in PATHS {
        let question = Question {
            place: "the server".to_owned(),
            resource: (*path).to_owned(),
            verb: "get".to_owned(),
        };
        let attributes = NonResourceAttributes {
            path: Some((*path).to_owned()),
            verb: Some("get".to_owned()),
        };
        questions.push((
            question,
            SubjectAccessReviewSpec {
                non_resource_attributes: Some(attributes),
                ..Default::default()
            },
        ));
    }
    questions
}

/// What `user`, who is in the groups of every service account, may do.
async fn allowed(
    client: &Client,
    user: &str,
    namespace: &str,
    questions: &[(Question, SubjectAccessReviewSpec)],
) -> BTreeSet<Question> {
    let groups = [
        "system:authenticated",
        "system:serviceaccounts",
        &format!("system:serviceaccounts:{namespace}"),
    ]
    .map(str::to_owned);
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    stream::iter(questions)
        .map(|(question, spec)| {
            let spec = SubjectAccessReviewSpec {
                user: Some(user.to_owned()),
                groups: Some(groups.to_vec()),
                ..spec.clone()
            };
            let review = SubjectAccessReview {
                spec,
                ..SubjectAccessReview::default()
            };
            let reviews = reviews.clone();
            async move {
                let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
                answer.status.unwrap().allowed.then(|| question.clone())
            }
        })
        .buffer_unordered(32)
        .filter_map(async |question| question)
        .collect()
        .await
}

fn table(who: &str, rights: &BTreeSet<Question>) -> String {
    let mut rows: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for Question { place, resource, verb } in rights {
        rows.entry((place, resource)).or_default().push(verb);
    }
    let mut text = format!("{who}\n");
    if rows.is_empty() {
        text.push_str("  nothing\n");
    }
    for ((place, resource), verbs) in rows {
        text.push_str(&format!("  {place:<18} {resource:<58} {}\n", verbs.join(" ")));
    }
    text
}

/// A table for each of its accounts.
async fn rights(server: &'static ApiServer, installation: &Installation) -> String {
    let Installation {
        values,
        others,
        workspaces,
        system,
        has_cilium,
    } = installation;
    let site = Site::at(server, workspaces).await;
    if *has_cilium {
        // It is not in the Role of this tier's operator, but in the chart's.
        site.forbids();
    }
    server.kubectl_ok(&["create", "namespace", system], None);
    let objects = chart::rendered_with(server, values, system, workspaces, others);
    let rbac = chart::of_kinds(
        &objects,
        &[
            "ServiceAccount",
            "Role",
            "RoleBinding",
            "ClusterRole",
            "ClusterRoleBinding",
        ],
    );
    server.kubectl_ok(&["apply", "-f", "-"], Some(&rbac.to_string()));
    // The accounts of workspaces are as the operator makes them.
    let classes = r#"[{"name": "helped", "rights": ["readWorkspace", "readPod", "restartPod", "readVolume"], "pod": {"automountServiceAccountToken": true}}]"#;
    let operator = site.operator(&[("WORKSPACE_CLASSES", classes)]);
    let mut names = names(&objects);
    for (id, class) in [("dev1", ""), ("dev2", "helped")] {
        let mut given = spec(id);
        given["className"] = json!(class);
        site.apply(id, &given);
        site.until(id, "made", |w| {
            w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
        })
        .await;
        let own = [
            ("workspace.devplane.io", "workspaces", id.to_owned()),
            ("", "pods", format!("{id}-workspace-pod")),
            ("", "persistentvolumeclaims", format!("{id}-workspace-pvc")),
            ("", "secrets", format!("{id}-workspace-tls")),
        ];
        names.extend(own.map(|(group, resource, name)| (group.to_owned(), resource.to_owned(), name)));
    }
    drop(operator);

    let places = [workspaces, system, "kube-system", "default", ""];
    let questions = questions(places, &resources(&site.client).await, &names);
    assert!(questions.len() > 2000, "{} questions", questions.len());
    let everyone = allowed(
        &site.client,
        "system:serviceaccount:elsewhere:nobody",
        "elsewhere",
        &questions,
    )
    .await;
    let mut text = format!(
        "What may be done in an installation with tests/chart/values/{values}.yaml and [{}]; whatever is not here is refused.\n\n",
        others.join(", ")
    );
    text.push_str(&table(
        "everyone who is known to the API server, by Kubernetes' own roles",
        &everyone,
    ));
    let of_chart: BTreeSet<(String, &str, String)> = objects
        .iter()
        .filter(|object| object["kind"] == "ServiceAccount")
        .map(|account| {
            let [name, namespace] = ["name", "namespace"].map(|field| account["metadata"][field].as_str().unwrap());
            (format!("the account {name}"), namespace, name.to_owned())
        })
        .collect();
    let of_workspaces = [
        ("a workspace, dev1", "dev1-workspace"),
        ("a workspace of a class with every right, dev2", "dev2-workspace"),
    ];
    let of_workspaces = of_workspaces.map(|(who, account)| (who.to_owned(), *workspaces, account.to_owned()));
    for (who, namespace, account) in of_chart.into_iter().chain(of_workspaces) {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let rights = allowed(&site.client, &user, namespace, &questions).await;
        let more = rights.difference(&everyone).cloned().collect();
        text.push_str(&format!("\n{}", table(&format!("{who}, besides"), &more)));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn every_identity_may_do_what_is_written_down_and_nothing_else() {
    let minimal = Installation {
        values: "minimal",
        others: &[],
        workspaces: "rights-workspaces",
        system: "rights-system",
        has_cilium: false,
    };
    insta::assert_snapshot!("rights", rights(apiserver::shared(), &minimal).await);
}

/// What the chart can be told to do besides, all at once: a cluster whose ranges are found, Cilium, recording, and the doctor after each change, who
/// sees all of the cluster.
#[tokio::test(flavor = "multi_thread")]
async fn with_everything_switched_on_too() {
    static OWN: OnceLock<ApiServer> = OnceLock::new();
    let server = OWN.get_or_init(ApiServer::start);
    server.kubectl_ok(&["create", "-f", "-"], Some(&definition()));
    let full = Installation {
        values: "full",
        others: &["clusterCIDRs=null", "doctor.hook=true", "doctor.clusterWide=true"],
        workspaces: "rights-workspaces",
        system: "rights-system",
        has_cilium: true,
    };
    insta::assert_snapshot!("rights_with_everything", rights(server, &full).await);
}
