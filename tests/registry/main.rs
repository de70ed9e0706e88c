//! What registries say of images, asked of a real one: the registry `distribution`, over TLS with an authority of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/authority.rs"]
mod authority;
#[path = "../harness/registry.rs"]
mod registry;
mod tokens;

use authority::Authority;
use devplane::registry::{Credentials, Found, RegistryClient, RegistryError, Stage};
use registry::{Access, PASSWORD, Registry};
use std::collections::BTreeSet;
use std::path::Path;

fn client(bundle: &Path) -> RegistryClient {
    RegistryClient::new(devplane::tls::client(Some(bundle)).unwrap(), BTreeSet::new())
}

fn wanted(architectures: &[&str]) -> BTreeSet<String> {
    architectures.iter().map(|name| (*name).to_owned()).collect()
}

async fn find(
    client: &RegistryClient,
    image: &str,
    credentials: &Credentials,
    architectures: &[&str],
) -> Result<Found, RegistryError> {
    let image = image.parse().unwrap();
    let logins = credentials.of(&image);
    client.find(&image, &logins, &wanted(architectures)).await
}

const KIND: &str = "kubernetes.io/dockerconfigjson";

fn credentials(json: &str) -> Credentials {
    let mut all = Credentials::default();
    all.add("pull", KIND, |_| Some(json.as_bytes())).unwrap();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_found_by_tag_and_digest_with_its_architectures() {
    let registry = Registry::start(Access::Everyone).await;
    let (index, digests) = registry.push_index("team/app", "1", &["amd64", "arm64"]).await;
    let single = registry.push_image("team/app", Some("single"), "arm64").await;
    let client = client(&registry.bundle());
    let (host, nobody) = (&registry.host, Credentials::default());
    for name in [format!("{host}/team/app:1"), format!("{host}/team/app:other@{index}")] {
        let found = find(&client, &name, &nobody, &["amd64", "arm64"]).await.unwrap();
        let expected = Found {
            digest: index.clone(),
            architectures: Some(wanted(&["amd64", "arm64"])),
            secret: None,
        };
        assert_eq!(found, expected, "{name}");
        assert_eq!(found.lacks(&wanted(&["amd64", "s390x"])), ["s390x"]);
    }
    let found = find(&client, &format!("{host}/team/app:single"), &nobody, &["amd64"])
        .await
        .unwrap();
    assert_eq!(
        (found.digest.as_str(), found.lacks(&wanted(&["amd64"]))),
        (single.as_str(), vec!["amd64"])
    );

    // A copy that kept the index, and left out one of what it lists.
    registry.delete("team/app", &digests[0]).await;
    let found = find(&client, &format!("{host}/team/app:1"), &nobody, &["amd64", "arm64"])
        .await
        .unwrap();
    assert_eq!(found.lacks(&wanted(&["amd64", "arm64"])), ["amd64"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_from_what_can_not_be_reached() {
    let registry = Registry::start(Access::Everyone).await;
    registry.push_image("app", Some("1"), "amd64").await;
    let (host, nobody) = (&registry.host, Credentials::default());
    let ours = client(&registry.bundle());
    let absent = format!("{host}/app@sha256:{}", "0".repeat(64));
    for name in [format!("{host}/app:2"), format!("{host}/other:1"), absent] {
        let error = find(&ours, &name, &nobody, &[]).await.unwrap_err();
        assert_eq!(error.stage(), Stage::Find, "{error}");
    }
    let error = find(&ours, "app:1", &nobody, &[]).await.unwrap_err();
    assert!(matches!(error, RegistryError::NoRegistry), "{error}");

    // An authority that is not this registry's.
    let directory = tempfile::tempdir().unwrap();
    let foreign = client(&Authority::new("another one").bundle(directory.path()));
    let error = find(&foreign, &format!("{host}/app:1"), &nobody, &[])
        .await
        .unwrap_err();
    assert!(error.stage() == Stage::Reach && error.tls().is_some(), "{error}");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");

    // A registry that speaks TLS, asked without, because the settings say so.
    let plain = RegistryClient::new(devplane::tls::client(None).unwrap(), BTreeSet::from([host.clone()]));
    let error = find(&plain, &format!("{host}/app:1"), &nobody, &[]).await.unwrap_err();
    assert!(error.stage() == Stage::Reach && error.tls().is_none(), "{error}");

    let gone = host.clone();
    drop(registry);
    let error = find(&ours, &format!("{gone}/app:1"), &nobody, &[]).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_shown_where_it_is_asked_for_and_never_told() {
    let registry = Registry::start(Access::Basic).await;
    let digest = registry.push_image("app", Some("1"), "amd64").await;
    let client = client(&registry.bundle());
    let image = format!("{}/app:1", registry.host);
    let right = credentials(&registry.dockerconfigjson(PASSWORD));
    let found = find(&client, &image, &right, &["amd64"]).await.unwrap();
    assert_eq!((found.digest, found.secret.as_deref()), (digest, Some("pull")));

    let error = find(&client, &image, &Credentials::default(), &[]).await.unwrap_err();
    assert!(matches!(error, RegistryError::NoCredentials { .. }), "{error}");
    let wrong = credentials(&registry.dockerconfigjson("planted-wrong-password"));
    let error = find(&client, &image, &wrong, &[]).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(
        matches!(error, RegistryError::Refused { .. }) && error.stage() == Stage::SignIn,
        "{error}"
    );
    assert!(
        text.contains("puller of Secret pull") && !text.contains("planted"),
        "{text}"
    );
    // Another login that is wrong, and fits better, does not hide the one that is right.
    let mut both = credentials(&format!(
        r#"{{"auths":{{"{}/app":{{"username":"other","password":"x"}}}}}}"#,
        registry.host
    ));
    let json = registry.dockerconfigjson(PASSWORD);
    both.add("right", KIND, |_| Some(json.as_bytes())).unwrap();
    let found = find(&client, &image, &both, &[]).await.unwrap();
    assert_eq!(found.secret.as_deref(), Some("right"));
    // And someone who is let in finds nothing where nothing is.
    let absent = format!("{}/app:2", registry.host);
    let error = find(&client, &absent, &right, &[]).await.unwrap_err();
    assert_eq!(error.stage(), Stage::Find, "{error}");
}
