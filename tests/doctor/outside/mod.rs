//! Faults outside the API server: images, the identity provider, the way in, language models and mirrors.

pub mod servers;
pub mod site;
mod way_in;

use crate::authority::Authority;
use crate::registry::{Access, PASSWORD, Registry};
use hyper::body::Bytes;
use hyper::header::{DATE, HeaderValue};
use serde_json::{Value, json};
use site::{CLIENT_SECRET, PAGES, Site, start_provider};
use std::net::TcpListener;
use std::process::Command;
use url::Url;

/// All that says something of a site whose chart is not installed yet, and of what is outside the cluster.
const GROUPS: &str = "DP01,DP0401,DP0412,DP0413,DP0414,DP05,DP06,DP07,DP10";

/// What is wrong, by the values that lead there, and the code that tells it.
type Fault = (&'static str, Value, &'static str);

async fn each_is_found(site: &Site, only: &str, faults: Vec<Fault>) {
    for (what, changes, code) in faults {
        let report = site.doctor(only, &changes, &[]).await;
        assert_eq!(report.failed(), [code], "{what}: {:#}", report.0);
        let failure = &report.of(code)["failure"];
        for part in [&failure["problem"], &failure["fix"]["text"]] {
            assert!(part.as_str().is_some_and(|text| !text.is_empty()), "{what}: {failure}");
        }
        if let Some(snippet) = report.values_fix(code) {
            let report = site.doctor(only, &changes, std::slice::from_ref(&snippet)).await;
            assert_eq!(
                report.failed(),
                Vec::<&str>::new(),
                "{what}, after {snippet}: {:#}",
                report.0
            );
        }
    }
}

fn workspace(settings: Value) -> Value {
    json!({ "workspace": settings })
}

fn gateway(settings: Value) -> Value {
    json!({ "gateway": settings })
}

fn oidc(settings: Value) -> Value {
    gateway(json!({ "oidc": settings }))
}

#[tokio::test(flavor = "multi_thread")]
async fn images_and_their_registries() {
    let site = Site::new("doctor-images").await;
    let report = site.doctor(GROUPS, &json!({}), &[]).await;
    assert_eq!(report.failed(), Vec::<&str>::new(), "{:#}", report.0);
    for code in [
        "DP0507", "DP0508", "DP0604", "DP0608", "DP0609", "DP1002", "DP1003", "DP1004",
    ] {
        assert_eq!(report.of(code)["status"], "ok", "{:#}", report.of(code));
    }
    assert_eq!(report.of("DP0704")["status"], "skipped", "nothing is installed yet");

    let host = &site.registry.host;
    site.registry.push_image("workspace", Some("amd64-only"), "amd64").await;
    let (_, digests) = site.registry.push_index("sparse", "1", &["amd64", "arm64"]).await;
    site.registry.delete("sparse", &digests[1]).await;
    let foreign = Registry::start(Access::Everyone).await;
    foreign.push_index("workspace", "1", &["amd64", "arm64"]).await;
    // As behind a firewall that drops: it takes connections, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().port();
    let image = |name: &str| workspace(json!({"image": format!("{host}/{name}")}));
    let class = |name: &str, pod: Value| {
        workspace(json!({"classes": [{"name": "other", "image": format!("{host}/{name}"), "pod": pod}]}))
    };
    let expired = Authority::until("an old authority", 2020);
    let trusted = |more: &Authority| json!({"customCA": {"pem": format!("{}{}{}", site.authority.pem, site.registry.authority.pem, more.pem)}});
    let faults = vec![
        ("a missing tag", image("workspace:2"), "DP0507"),
        ("a missing repository", image("absent:1"), "DP0507"),
        (
            "another digest",
            image(&format!("workspace@sha256:{}", "0".repeat(64))),
            "DP0507",
        ),
        ("an image for one architecture", image("workspace:amd64-only"), "DP0508"),
        ("a mirror without what its index lists", image("sparse:1"), "DP0508"),
        (
            "no registry",
            workspace(json!({"image": "devplane-workspace:1"})),
            "DP0504",
        ),
        (
            "a malformed name",
            workspace(json!({"image": format!("{host}/Workspace:1")})),
            "DP0503",
        ),
        (
            "a registry that is not there",
            workspace(json!({"image": "localhost:1/workspace:1"})),
            "DP0505",
        ),
        (
            "a registry that never answers",
            workspace(json!({"image": format!("localhost:{silent}/workspace:1")})),
            "DP0505",
        ),
        (
            "a registry of an unknown authority",
            workspace(json!({"image": format!("{}/workspace:1", foreign.host)})),
            "DP0505",
        ),
        (
            "no pull secret",
            workspace(json!({"pod": {"imagePullSecrets": []}})),
            "DP0506",
        ),
        (
            "a class whose pods have no pull secret",
            class("workspace:1", json!({"imagePullSecrets": []})),
            "DP0506",
        ),
        (
            "a class on nodes that its image is not for",
            class(
                "workspace:amd64-only",
                json!({"nodeSelector": {"kubernetes.io/arch": "arm64"}}),
            ),
            "DP0508",
        ),
        (
            "a pull secret that is not there",
            workspace(json!({"pod": {"imagePullSecrets": ["absent"]}})),
            "DP0412",
        ),
        (
            "only an expired authority",
            json!({"customCA": {"pem": expired.pem}}),
            "DP0501",
        ),
        (
            "no certificate",
            json!({"customCA": {"pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}}),
            "DP0501",
        ),
        ("an expired authority among others", trusted(&expired), "DP0502"),
    ];
    each_is_found(&site, GROUPS, faults).await;
    let suited = class(
        "workspace:amd64-only",
        json!({"nodeSelector": {"kubernetes.io/arch": "amd64"}}),
    );
    let report = site.doctor(GROUPS, &suited, &[]).await;
    assert_eq!(report.failed(), Vec::<&str>::new(), "{:#}", report.0);

    // What nodes have already is asked for nowhere, and nothing is said to be right about it.
    let on_nodes = json!({"imagePullPolicy": "Never", "image": "localhost:1/devplane:1", "workspace": {"image": "localhost:1/workspace:1"}});
    let report = site.doctor(GROUPS, &on_nodes, &[]).await;
    assert_eq!(report.failed(), Vec::<&str>::new(), "{:#}", report.0);
    assert_eq!(report.of("DP0505")["status"], "skipped", "{:#}", report.of("DP0505"));
    let why = report.of("DP0505").to_string();
    assert!(why.contains("imagePullPolicy is Never"), "{why}");
    let some = json!({"workspace": {"imagePullPolicy": "Never", "image": "localhost:1/workspace:1"}});
    let report = site.doctor(GROUPS, &some, &[]).await;
    for code in ["DP0505", "DP0507"] {
        assert_eq!(report.of(code)["status"], "ok", "{:#}", report.of(code));
    }

    site.set_pull_secret("planted-wrong-password");
    each_is_found(&site, GROUPS, vec![("a wrong password", json!({}), "DP0506")]).await;
    site.set_pull_secret(PASSWORD);
    // A ConfigMap that is not there is made by the command that is told.
    let absent = gateway(json!({"tls": {"customCABundle": {"configMapName": "site-ca"}}}));
    each_is_found(&site, GROUPS, vec![("no ConfigMap", absent.clone(), "DP0413")]).await;
    let command = site.doctor(GROUPS, &absent, &[]).await;
    let command = command.of("DP0413")["failure"]["fix"]["text"]
        .as_str()
        .unwrap()
        .to_owned();
    let directory = tempfile::tempdir().unwrap();
    let bundle = format!("{}{}", site.authority.pem, site.registry.authority.pem);
    std::fs::write(directory.path().join("ca.crt"), bundle).unwrap();
    let kubeconfig = site.server.kubeconfig("admin");
    let path = format!("{}:/usr/bin:/bin", site.server.binary("").display());
    let made = std::process::Command::new("sh")
        .args(["-c", &command])
        .current_dir(directory.path())
        .env("KUBECONFIG", kubeconfig)
        .env("PATH", path)
        .status();
    assert!(made.unwrap().success(), "{command}");
    let report = site.doctor(GROUPS, &absent, &[]).await;
    assert_eq!(report.failed(), Vec::<&str>::new(), "{:#}", report.0);
}

/// A way in to the site's provider that changes its discovery document, under an issuer of its own.
async fn provider_with(site: &Site, patch: Value) -> Value {
    let origin = servers::between(site.plain_issuer.clone(), &[], move |path, origin, answer| {
        if path == "/.well-known/openid-configuration" {
            let mut document: Value = serde_json::from_slice(answer.body()).unwrap();
            document["issuer"] = json!(origin);
            for (key, value) in patch.as_object().unwrap() {
                document[key] = value.clone();
            }
            *answer.body_mut() = Bytes::from(document.to_string());
        }
    });
    oidc(json!({"issuerURL": origin.await}))
}

/// Values with the scope that is not asked for unless they say so.
fn asking_offline(mut values: Value) -> Value {
    values["gateway"]["oidc"]["scopes"] = json!(["openid", "offline_access"]);
    values
}

async fn provider_that(site: &Site, change: fn(&str, &mut hyper::Response<Bytes>)) -> Value {
    let origin = servers::between(site.plain_issuer.clone(), &[], move |path, origin, answer| {
        if path == "/.well-known/openid-configuration" {
            let text = String::from_utf8(answer.body().to_vec()).unwrap();
            let document: Value = serde_json::from_str(&text).unwrap();
            let issuer = document["issuer"].as_str().unwrap();
            let text = text.replace(&format!("\"issuer\":\"{issuer}\""), &format!("\"issuer\":\"{origin}\""));
            *answer.body_mut() = Bytes::from(text);
        }
        change(path, answer);
    });
    oidc(json!({"issuerURL": origin.await}))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identity_provider() {
    let site = Site::new("doctor-oidc").await;
    let directory = tempfile::tempdir().unwrap();
    let stranger = Authority::new("a stranger's authority");
    let [port] = crate::apiserver::free_ports();
    let served = stranger.serve(&["localhost"], directory.path());
    let strange = format!("https://localhost:{port}");
    let _provider = start_provider(
        &directory.path().join("strange.json"),
        &json!({
            "issuer": strange, "listen": [format!("127.0.0.1:{port}")], "users": {"dev1": {}},
            "tls": {"cert": served.certificate, "key": served.key},
            "clients": [{"id": "devplane", "secret": CLIENT_SECRET, "redirectUris": ["https://dev.example.test/callback"]}],
        }),
    );
    let issuer = |suffix: &str| oidc(json!({"issuerURL": format!("{}{suffix}", site.issuer)}));
    let late = |_: &str, answer: &mut hyper::Response<Bytes>| {
        answer
            .headers_mut()
            .insert(DATE, HeaderValue::from_static("Wed, 01 Jan 2020 00:00:00 GMT"));
    };
    let hmac = |path: &str, answer: &mut hyper::Response<Bytes>| {
        if path == "/jwks" {
            *answer.body_mut() = Bytes::from_static(br#"{"keys":[{"kty":"oct","alg":"HS256","use":"sig"}]}"#);
        }
    };
    let unknown = json!({
        "oidc": {"redirectURL": "https://other.example.test/callback"},
    });
    let faults = vec![
        ("an issuer with a slash too many", issuer("/"), "DP0604"),
        ("an issuer with a wrong path", issuer("/realms/devplane"), "DP0603"),
        (
            "nobody at the issuer",
            oidc(json!({"issuerURL": "https://localhost:1"})),
            "DP0601",
        ),
        (
            "a provider of another authority",
            oidc(json!({"issuerURL": strange})),
            "DP0602",
        ),
        (
            "a wrong client secret",
            oidc(json!({"clientSecret": "planted-wrong-secret"})),
            "DP0608",
        ),
        ("a wrong client id", oidc(json!({"clientID": "someone"})), "DP0608"),
        ("a redirect URL that is not registered", gateway(unknown), "DP0609"),
        (
            "no code flow",
            provider_with(&site, json!({"response_types_supported": ["id_token"]})).await,
            "DP0605",
        ),
        (
            "an endpoint in the clear",
            provider_with(&site, json!({"token_endpoint": "http://idp.example.test/token"})).await,
            "DP0605",
        ),
        (
            "no PKCE",
            provider_with(&site, json!({"code_challenge_methods_supported": ["plain"]})).await,
            "DP0606",
        ),
        (
            "only HMAC",
            provider_with(&site, json!({"id_token_signing_alg_values_supported": ["HS256"]})).await,
            "DP0607",
        ),
        (
            "a key set with an HMAC key alone",
            provider_that(&site, hmac).await,
            "DP0607",
        ),
        ("a clock of years ago", provider_that(&site, late).await, "DP0610"),
        (
            "no refresh tokens",
            provider_with(&site, json!({"grant_types_supported": ["authorization_code"]})).await,
            "DP0611",
        ),
        (
            "no offline_access",
            asking_offline(provider_with(&site, json!({"scopes_supported": ["openid"]})).await),
            "DP0611",
        ),
        (
            "no back-channel logout",
            provider_with(&site, json!({"backchannel_logout_supported": false})).await,
            "DP0612",
        ),
    ];
    each_is_found(&site, GROUPS, faults).await;
    let report = site.doctor(GROUPS, &provider_with(&site, json!({})).await, &[]).await;
    assert_eq!(
        report.failed(),
        Vec::<&str>::new(),
        "the way in between changes nothing else: {:#}",
        report.0
    );
    let in_secret = oidc(
        json!({"existingSecret": "provider", "issuerURL": "", "clientID": "", "clientSecret": "", "redirectURL": ""}),
    );
    site.script(&format!(
        "kubectl create secret generic provider -n {} --from-literal=issuer-url={}/ --from-literal=client-id=devplane \
         --from-literal=client-secret={CLIENT_SECRET} --from-literal=redirect-url=https://dev.example.test/callback",
        site.namespace, site.issuer
    ));
    let report = site.doctor(GROUPS, &in_secret, &[]).await;
    assert_eq!(
        report.failed(),
        ["DP0604"],
        "a Secret with a slash too many: {:#}",
        report.0
    );
    let fix = report.command_fix("DP0604").unwrap();
    // With a gateway that runs, and before there is one.
    site.script(&fix);
    site.gateway_is_ready();
    site.script(&fix);
    let report = site.doctor(GROUPS, &in_secret, &[]).await;
    assert_eq!(report.of("DP0604")["status"], "ok", "after {fix}: {:#}", report.0);
}

/// Of this machine, and not loopback.
fn own_address() -> String {
    let listed = Command::new("ip")
        .args(["-4", "-o", "address", "show", "scope", "global"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let range = listed.split_whitespace().nth(3);
    let range = range.expect(
        "this machine has an IPv4 address that is not loopback (tests/run.sh doctor skips this test where it has none)",
    );
    range.split('/').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_the_gateway_s_policy_keeps_it_from() {
    let site = Site::new("doctor-policed").await;
    let directory = tempfile::tempdir().unwrap();
    let (address, [port]) = (own_address(), crate::apiserver::free_ports());
    let served = site.authority.serve(&[&address], directory.path());
    let issuer = format!("https://{address}:{port}");
    let _provider = start_provider(
        &directory.path().join("provider.json"),
        &json!({
            "issuer": issuer, "listen": [format!("{address}:{port}")], "users": {"dev1": {}},
            "tls": {"cert": served.certificate, "key": served.key},
            "clients": [{"id": "devplane", "secret": CLIENT_SECRET, "redirectUris": ["https://dev.example.test/callback"]}],
        }),
    );
    let with = |policy: Value| {
        let mut changes = oidc(json!({"issuerURL": issuer}));
        changes["networkPolicy"] = policy;
        changes
    };
    let elsewhere = json!({"cidrs": ["192.0.2.1/32"]});
    let faults = vec![
        (
            "a policy for another port",
            with(json!({"oidc": {"ports": [443]}})),
            "DP0613",
        ),
        (
            "a policy for another address",
            with(json!({"oidc": {"to": [{"cidr": "192.0.2.7/32"}]}, "apiServer": elsewhere})),
            "DP0613",
        ),
    ];
    each_is_found(&site, GROUPS, faults).await;
    for fine in [json!({}), json!({"enabled": false, "oidc": {"ports": [443]}})] {
        let report = site.doctor(GROUPS, &with(fine), &[]).await;
        assert_eq!(report.failed(), Vec::<&str>::new(), "{:#}", report.0);
        assert_eq!(report.of("DP0613")["status"], "ok", "{:#}", report.of("DP0613"));
    }
    // What may be pods is not known: by a rule that selects some, and by an address that nodes lead to some.
    let unknown = async |policy: &Value| {
        let report = site.doctor(GROUPS, &with(policy.clone()), &[]).await;
        assert_eq!(report.failed(), Vec::<&str>::new(), "{:#}", report.0);
        assert_eq!(report.of("DP0613")["status"], "skipped", "{:#}", report.of("DP0613"));
    };
    unknown(&json!({"oidc": {"to": [{"namespace": "keycloak"}]}, "apiServer": elsewhere})).await;
    let balancer = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "idp", "namespace": site.namespace},
        "spec": {"type": "LoadBalancer", "ports": [{"port": port, "targetPort": 8443}], "selector": {"app": "idp"}},
    });
    site.server
        .kubectl_ok(&["apply", "-f", "-"], Some(&balancer.to_string()));
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}}).to_string();
    let patch = [
        "patch",
        "service",
        "idp",
        "-n",
        &site.namespace,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ];
    site.server.kubectl_ok(&patch, None);
    unknown(&json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_mirrors() {
    let site = Site::new("doctor-models").await;
    let empty = servers::pages(None, &[]).await;
    let foreign = servers::pages(Some(servers::tls(&Authority::new("unknown"), 2099)), PAGES).await;
    let closed = servers::pages(None, PAGES).await;
    let ai = |endpoint: &str, model: &str| {
        workspace(json!({"ai": {"providers": [{"name": "local", "endpoint": endpoint, "models": [model]}]}}))
    };
    let mirrors = |pip: &str, npm: &str| {
        workspace(json!({"packageMirrors": {
            "pip": {"indexUrl": format!("{pip}/simple")}, "npm": {"registry": format!("{npm}/npm")},
        }}))
    };
    let faults = vec![
        ("a model that is not loaded", ai(&closed, "qwen4"), "DP1002"),
        ("no such server", ai("http://localhost:1", "qwen3"), "DP1001"),
        ("a server of something else", ai(&empty, "qwen3"), "DP1001"),
        ("a server of an unknown authority", ai(&foreign, "qwen3"), "DP1001"),
        ("a wrong index for pip", mirrors(&empty, &closed), "DP1003"),
        ("a wrong registry for npm", mirrors(&closed, &empty), "DP1004"),
        ("an index of an unknown authority", mirrors(&foreign, &closed), "DP1003"),
        (
            "a mirror that was left out",
            workspace(json!({"pod": {"env": {"GOPROXY": "https://proxy.golang.org"}}})),
            "DP0509",
        ),
    ];
    each_is_found(&site, GROUPS, faults).await;
    // What pip is told to trust is not looked at.
    let host = Url::parse(&foreign).unwrap();
    let trusting = workspace(json!({"packageMirrors": {
        "pip": {"indexUrl": format!("{foreign}/simple"), "trustedHost": format!("localhost:{}", host.port().unwrap())},
    }}));
    let report = site.doctor("DP10", &trusting, &[]).await;
    assert_eq!(report.failed(), Vec::<&str>::new(), "{:#}", report.0);
    // A Service's name is known in the cluster alone.
    let inside = ai("http://vllm.ai-system.svc:8000", "qwen3");
    let report = site.doctor("DP10", &inside, &[]).await;
    assert_eq!(report.of("DP1001")["status"], "skipped", "{:#}", report.0);
    assert_eq!(report.failed(), Vec::<&str>::new(), "{:#}", report.0);
    // Of a namespace that the policies do not name.
    let dropped = ai("http://vllm.models.svc.cluster.local:8000", "qwen3");
    each_is_found(&site, "DP10", vec![("a server that policies drop", dropped, "DP1005")]).await;
}
