//! What the API server itself accepts and refuses.

use crate::operator::Site;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

async fn create(site: &Site, name: &str, spec: Value) -> Result<(), String> {
    let workspace = serde_json::from_value(json!({
        "apiVersion": "workspace.devplane.io/v1alpha1", "kind": "Workspace", "metadata": {"name": name}, "spec": spec,
    }));
    let created = site
        .workspaces()
        .create(&PostParams::default(), &workspace.unwrap())
        .await;
    created.map(drop).map_err(|error| error.to_string())
}

async fn patch(site: &Site, name: &str, spec: Value) -> Result<(), String> {
    let patch = Patch::Merge(json!({ "spec": spec }));
    let patched = site.workspaces().patch(name, &PatchParams::default(), &patch).await;
    patched.map(drop).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_1_1_stay_valid_and_new_fields_are_checked() {
    let site = Site::new("schema-create").await;
    create(&site, "empty-id", json!({"user": {"id": "", "email": ""}}))
        .await
        .unwrap();
    create(&site, "nothing", json!({})).await.unwrap();
    create(
        &site,
        "odd",
        json!({"user": {"id": "Not A Label"}, "resources": {"cpu": "many"}, "aiConfig": {"egressPorts": [0]}}),
    )
    .await
    .unwrap();

    let both = json!({"user": {"id": "a", "issuer": "https://idp.test", "subject": "a"}});
    create(&site, "both", both).await.unwrap();
    for (name, user) in [
        ("issuer-alone", json!({"id": "a", "issuer": "https://idp.test"})),
        ("subject-alone", json!({"id": "a", "subject": "a"})),
        (
            "empty-subject",
            json!({"id": "a", "issuer": "https://idp.test", "subject": ""}),
        ),
        (
            "long-subject",
            json!({"id": "a", "issuer": "https://idp.test", "subject": "a".repeat(256)}),
        ),
        ("no-url", json!({"id": "a", "issuer": "idp.test", "subject": "a"})),
    ] {
        let refused = create(&site, name, json!({ "user": user })).await;
        assert!(refused.is_err(), "{name} was accepted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identity_is_immutable_once_it_is_set() {
    let site = Site::new("schema-update").await;
    create(&site, "w", json!({"user": {"id": "", "email": "a@example.test"}}))
        .await
        .unwrap();
    patch(&site, "w", json!({"user": {"id": "a"}})).await.unwrap();
    patch(
        &site,
        "w",
        json!({"user": {"issuer": "https://idp.test", "subject": "a"}}),
    )
    .await
    .unwrap();
    patch(&site, "w", json!({"resources": {"cpu": "4"}})).await.unwrap();
    for (field, spec) in [
        ("user.id", json!({"user": {"id": "b"}})),
        ("user.email", json!({"user": {"email": "b@example.test"}})),
        ("user.issuer", json!({"user": {"issuer": "https://other.test"}})),
        ("user.subject", json!({"user": {"subject": "b"}})),
        ("user.subject", json!({"user": {"issuer": null, "subject": null}})),
        ("user", json!({"user": null})),
    ] {
        let refused = patch(&site, "w", spec.clone())
            .await
            .expect_err(&format!("{spec} was accepted"));
        assert!(refused.contains(field), "{refused}");
    }
}
