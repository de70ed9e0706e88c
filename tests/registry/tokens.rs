//! A registry that believes another server's tokens, as most do; that server is the test's own.

use crate::authority::{Authority, Served};
use crate::registry::{Access, PASSWORD, Registry, USER};
use crate::{client, credentials, find};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use devplane::registry::{Credentials, RegistryError};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const SERVICE: &str = "the registry of a test";
const ISSUER: &str = "the token server of a test";

/// Makes tokens.
struct Minter {
    key: EcdsaKeyPair,
    certificate: CertificateDer<'static>,
}

impl Minter {
    fn new(served: &Served) -> Self {
        let key = PrivateKeyDer::from_pem_file(&served.key).unwrap();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        Self {
            key: EcdsaKeyPair::from_pkcs8(algorithm, key.secret_der(), &SystemRandom::new()).unwrap(),
            certificate: CertificateDer::from_pem_file(&served.certificate).unwrap(),
        }
    }

    /// A token for what a scope such as `repository:app:pull` says; for nothing when it is empty.
    fn token(&self, scope: &str) -> String {
        let now = now();
        let access: Vec<_> = scope
            .rsplit_once(':')
            .and_then(|(name, actions)| Some((name.strip_prefix("repository:")?, actions)))
            .map(|(name, actions)| json!({"type": "repository", "name": name, "actions": actions.split(',').collect::<Vec<_>>()}))
            .into_iter()
            .collect();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate)]});
        let claims = json!({
            "iss": ISSUER, "sub": USER, "aud": SERVICE, "iat": now, "nbf": now - 60, "exp": now + 300, "jti": "1", "access": access,
        });
        let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a real registry compares tokens with the time that it is"
)]
fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Gives a token for the scope `repository:app:pull` to who knows the password, for nothing to others that it knows.
fn answer(minter: &Minter, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    let parameters: std::collections::BTreeMap<_, _> = query.into_owned().collect();
    assert_eq!(parameters["service"], SERVICE);
    let login = |name: &str| format!("Basic {}", STANDARD.encode(format!("{name}:{PASSWORD}")));
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .map(|value| value.to_str().unwrap());
    let scope = match given {
        Some(given) if given == login(USER) => parameters["scope"].as_str(),
        Some(given) if given == login("guest") => "",
        None => "",
        Some(_) => {
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
            return answer;
        }
    };
    let body = json!({"access_token": minter.token(scope), "expires_in": 300});
    Response::new(Full::from(body.to_string()))
}

/// A registry whose token server is at `realm`'s address, and what the latter was asked.
async fn registry(scheme: &str) -> (Registry, Arc<Mutex<Vec<String>>>) {
    let authority = Authority::new("a site's authority");
    let directory = tempfile::tempdir().unwrap();
    let served = authority.serve(&["localhost"], directory.path());
    let minter = Arc::new(Minter::new(&served));
    let chain = vec![minter.certificate.clone()];
    let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&served.key).unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let realm = format!("{scheme}://localhost:{}/token", listener.local_addr().unwrap().port());
    let asked = Arc::new(Mutex::new(vec![]));
    let (acceptor, serving, told) = (
        TlsAcceptor::from(Arc::new(tls)),
        Arc::clone(&minter),
        Arc::clone(&asked),
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let (minter, told) = (Arc::clone(&serving), Arc::clone(&told));
            let service = service_fn(move |request: Request<Incoming>| {
                told.lock()
                    .unwrap()
                    .push(request.uri().query().unwrap_or_default().to_owned());
                let answer = answer(&minter, &request);
                async { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let roots = authority.bundle(directory.path());
    let access = Access::Token {
        realm,
        service: SERVICE.to_owned(),
        issuer: ISSUER.to_owned(),
        roots,
    };
    let mut registry = Registry::start_with(access, authority).await;
    registry.authorize(format!("Bearer {}", minter.token("repository:app:pull,push")));
    (registry, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_with_the_login_and_for_this_repository_alone() {
    let (registry, asked) = registry("https").await;
    registry.push_index("app", "1", &["amd64"]).await;
    let client = client(&registry.bundle());
    let image = format!("{}/app:1", registry.host);
    let right = credentials(&registry.dockerconfigjson(PASSWORD));
    let found = find(&client, &image, &right, &["amd64"]).await.unwrap();
    assert_eq!(found.lacks(&crate::wanted(&["amd64"])), Vec::<&str>::new());
    assert_eq!(found.secret.as_deref(), Some("pull"));
    let scopes: Vec<_> = asked.lock().unwrap().drain(..).collect();
    assert!(
        matches!(&scopes[..], [one] if one.contains("scope=repository%3Aapp%3Apull") && !one.contains("push")),
        "{scopes:?}"
    );

    // Nobody in particular gets a token, but not for this repository.
    let error = find(&client, &image, &Credentials::default(), &[]).await.unwrap_err();
    assert!(matches!(error, RegistryError::NoCredentials { .. }), "{error}");
    let wrong = credentials(&registry.dockerconfigjson("planted-wrong"));
    let error = find(&client, &image, &wrong, &[]).await.unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("planted"), "{error:?}");
    let guest = registry.dockerconfigjson(PASSWORD).replace(USER, "guest");
    let error = find(&client, &image, &credentials(&guest), &[]).await.unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_login_goes_to_a_token_server_in_the_clear() {
    let (registry, asked) = registry("http").await;
    let right = credentials(&registry.dockerconfigjson(PASSWORD));
    let image = format!("{}/app:1", registry.host);
    let error = find(&client(&registry.bundle()), &image, &right, &[])
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Realm { .. }), "{error}");
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
}
