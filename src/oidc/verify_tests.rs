//! Tokens that this program must not believe, each with one thing wrong, at a provider that serves keys of ours.

use super::*;
use crate::clock::Clock;
use crate::config::entry::Entry;
use crate::config::gateway::OidcConfig;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const NOW: i64 = 1_800_000_000;
const SKEW: i64 = 5;
const CLIENT_SECRET: &str = "planted-client-secret";
const ACCESS_TOKEN: &str = "an-access-token";

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn ec_key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap()
}

fn ec_jwk(key: &EcdsaKeyPair, kid: &str, usage: &str) -> Value {
    let point = &key.public_key().as_ref()[1..];
    let (x, y) = point.split_at(32);
    json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y), "kid": kid, "use": usage})
}

/// A provider's discovery document and keys over HTTP, and what was asked of it.
struct Served {
    provider: Provider,
    issuer: String,
    keys: Arc<Mutex<Value>>,
    keys_asked: Arc<AtomicUsize>,
    others_asked: Arc<AtomicUsize>,
    signing: EcdsaKeyPair,
    encrypting: EcdsaKeyPair,
    edwards: Ed25519KeyPair,
}

impl Served {
    async fn new() -> Self {
        let (signing, encrypting) = (ec_key(), ec_key());
        let edwards = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let edwards = Ed25519KeyPair::from_pkcs8(edwards.as_ref()).unwrap();
        let public = base64url(edwards.public_key());
        let keys = Arc::new(Mutex::new(json!({"keys": [
            ec_jwk(&signing, "sig", "sig"), ec_jwk(&encrypting, "enc", "enc"),
            {"kty": "OKP", "crv": "Ed25519", "x": public, "kid": "ed", "use": "sig"},
        ]})));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let (keys_asked, others_asked) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let document = json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"), "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        let (served, asked, others) = (Arc::clone(&keys), Arc::clone(&keys_asked), Arc::clone(&others_asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let body = match head.split(|byte| *byte == b' ').nth(1).unwrap() {
                    b"/keys" => {
                        asked.fetch_add(1, Ordering::Relaxed);
                        served.lock().unwrap().to_string()
                    }
                    b"/.well-known/openid-configuration" => document.to_string(),
                    _ => {
                        others.fetch_add(1, Ordering::Relaxed);
                        "{}".to_owned()
                    }
                };
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
                let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let settings = OidcConfig {
            issuer: issuer.clone(),
            client_id: "devplane".into(),
            client_secret: CLIENT_SECRET.to_owned().into(),
            redirect_url: "http://127.0.0.1/callback".parse().unwrap(),
            audience: "devplane".into(),
            clock_skew: Duration::from_secs(SKEW as u64),
            groups_claim: "groups".into(),
            known_groups: Vec::new(),
            entry: Entry::default(),
            scopes: Vec::new(),
        };
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let provider = Provider::new(settings, tls, Arc::new(Still));
        let following = async {
            while !provider.is_discovered() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = following => {}
            () = provider.follow() => {}
        }
        Self {
            provider,
            issuer,
            keys,
            keys_asked,
            others_asked,
            signing,
            encrypting,
            edwards,
        }
    }

    /// Claims with which nothing is wrong, but for a change: `null` takes one away.
    fn claims(&self, change: Value) -> String {
        let mut claims = json!({
            "iss": self.issuer, "aud": "devplane", "sub": "dev1", "exp": NOW + 300, "iat": NOW, "nonce": "n1",
        });
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims.to_string()
    }

    /// A token of these claims, with a change of its header.
    fn token(&self, header: Value, claims: &str) -> String {
        signed_by(&self.signing, &self.header(header), claims)
    }

    fn header(&self, change: Value) -> String {
        let mut header = json!({"alg": "ES256", "kid": "sig", "typ": "JWT"});
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                header.as_object_mut().unwrap().remove(name);
            } else {
                header[name] = value.clone();
            }
        }
        header.to_string()
    }

    async fn reason(&self, token: &str) -> &'static str {
        let (nonce, access_token) = (Nonce::new("n1".into()), AccessToken::new(ACCESS_TOKEN.into()));
        let origin = Origin::SignIn {
            nonce: &nonce,
            access_token: &access_token,
        };
        match self.provider.verify(token, &origin).await {
            Ok(person) => {
                assert_eq!(person.identity.subject, "dev1");
                "believed"
            }
            Err(error) => error.reason(),
        }
    }

    /// Each token with what is to be said of it; what differs is told together.
    async fn check(&self, table: Vec<(&str, String, &'static str)>) {
        let mut wrong = Vec::new();
        for (what, token, expected) in table {
            let found = self.reason(&token).await;
            if found != expected {
                wrong.push(format!("{what}: {found}, and not {expected}"));
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
    }
}

fn signed_by(key: &EcdsaKeyPair, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", base64url(header), base64url(claims));
    let signature = key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    format!("{message}.{}", base64url(signature))
}

fn authenticated_by(secret: &[u8], header: &str, claims: &str) -> String {
    let message = format!("{}.{}", base64url(header), base64url(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", base64url(tag))
}

/// The left half of the access token's hash (OpenID Connect Core 1.0, section 3.1.3.6).
fn at_hash(access_token: &str) -> String {
    base64url(&Sha256::digest(access_token)[..16])
}

#[tokio::test]
async fn every_claim_of_an_id_token_counts() {
    let served = Served::new().await;
    let of = |change: Value| served.token(json!({}), &served.claims(change));
    let table = vec![
        ("as it should be", of(json!({})), "believed"),
        ("a list of us", of(json!({"aud": ["devplane"]})), "believed"),
        (
            "others beside us, and azp",
            of(json!({"aud": ["devplane", "other"], "azp": "devplane"})),
            "believed",
        ),
        ("azp alone", of(json!({"azp": "devplane"})), "believed"),
        ("exp within the skew", of(json!({"exp": NOW - SKEW + 1})), "believed"),
        ("nbf within the skew", of(json!({"nbf": NOW + SKEW})), "believed"),
        ("iat within the skew", of(json!({"iat": NOW + SKEW})), "believed"),
        (
            "the right at_hash",
            of(json!({"at_hash": at_hash(ACCESS_TOKEN)})),
            "believed",
        ),
        ("another issuer", of(json!({"iss": "https://other.test"})), "issuer"),
        (
            "a slash behind the issuer",
            of(json!({"iss": format!("{}/", served.issuer)})),
            "issuer",
        ),
        (
            "the issuer in capitals",
            of(json!({"iss": served.issuer.replace("http", "HTTP")})),
            "issuer",
        ),
        ("no issuer", of(json!({"iss": null})), "malformed"),
        ("an empty issuer", of(json!({"iss": ""})), "malformed"),
        (
            "an issuer that is a list",
            of(json!({"iss": [served.issuer]})),
            "malformed",
        ),
        ("another audience", of(json!({"aud": "other"})), "audience"),
        ("the audience in capitals", of(json!({"aud": "DevPlane"})), "audience"),
        (
            "a list without us",
            of(json!({"aud": ["other", "another"]})),
            "audience",
        ),
        ("an empty list", of(json!({"aud": []})), "audience"),
        ("no audience", of(json!({"aud": null})), "audience"),
        (
            "others beside us, and no azp",
            of(json!({"aud": ["devplane", "other"]})),
            "authorized_party",
        ),
        (
            "others beside us, and their azp",
            of(json!({"aud": ["devplane", "other"], "azp": "other"})),
            "authorized_party",
        ),
        ("azp of another one", of(json!({"azp": "other"})), "authorized_party"),
        ("an empty azp", of(json!({"azp": ""})), "authorized_party"),
        ("exp at the end of the skew", of(json!({"exp": NOW - SKEW})), "expired"),
        ("exp long ago", of(json!({"exp": NOW - 3600})), "expired"),
        ("no exp", of(json!({"exp": null})), "malformed"),
        ("exp as text", of(json!({"exp": "later"})), "malformed"),
        (
            "nbf beyond the skew",
            of(json!({"nbf": NOW + SKEW + 2})),
            "not_yet_valid",
        ),
        (
            "iat beyond the skew",
            of(json!({"iat": NOW + SKEW + 2})),
            "not_yet_valid",
        ),
        ("no iat", of(json!({"iat": null})), "malformed"),
        ("no nonce", of(json!({"nonce": null})), "nonce"),
        ("another nonce", of(json!({"nonce": "n2"})), "nonce"),
        ("an empty nonce", of(json!({"nonce": ""})), "nonce"),
        (
            "the hash of another access token",
            of(json!({"at_hash": at_hash("another")})),
            "access_token_hash",
        ),
        ("an empty at_hash", of(json!({"at_hash": ""})), "access_token_hash"),
        ("no subject", of(json!({"sub": null})), "malformed"),
        ("an empty subject", of(json!({"sub": ""})), "malformed"),
        (
            "a subject with a control character",
            of(json!({"sub": "dev1\n"})),
            "malformed",
        ),
        (
            "a subject that is too long",
            of(json!({"sub": "a".repeat(256)})),
            "malformed",
        ),
    ];
    served.check(table).await;
}

/// Who was let in with it would be sent away again at once, and again.
#[tokio::test]
async fn a_token_that_ended_within_the_skew_is_believed_until_the_skew_is_over() {
    let served = Served::new().await;
    let token = served.token(json!({}), &served.claims(json!({"exp": NOW - 1})));
    let person = served.provider.verify_bearer(&token).await.unwrap();
    assert_eq!(person.expires.as_second(), NOW - 1 + SKEW);
}

#[tokio::test]
async fn only_the_provider_s_signing_keys_are_believed() {
    let served = Served::new().await;
    let claims = served.claims(json!({}));
    let own = ec_key();
    let point = served.signing.public_key().as_ref().to_vec();
    let jwk = ec_jwk(&served.signing, "sig", "sig").to_string();
    let hmac = |secret: &[u8]| authenticated_by(secret, &served.header(json!({"alg": "HS256"})), &claims);
    let unsigned = |alg: &str| {
        format!(
            "{}.{}.",
            base64url(served.header(json!({"alg": alg}))),
            base64url(&claims)
        )
    };
    let good = served.token(json!({}), &claims);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let edwards_message = format!(
        "{}.{}",
        base64url(served.header(json!({"alg": "EdDSA", "kid": "ed"}))),
        base64url(&claims)
    );
    let edwards = base64url(served.edwards.sign(edwards_message.as_bytes()));
    let own_jwk = ec_jwk(&own, "own", "sig");
    let forged = |header: Value| signed_by(&own, &served.header(header), &claims);
    let mut cut = URL_SAFE_NO_PAD.decode(signature).unwrap();
    cut.truncate(63);
    let table = vec![
        ("ES256", good.clone(), "believed"),
        ("EdDSA", format!("{edwards_message}.{edwards}"), "believed"),
        ("no kid", served.token(json!({"kid": null}), &claims), "believed"),
        ("no algorithm", unsigned("none"), "signature"),
        ("no algorithm, in other letters", unsigned("nOnE"), "malformed"),
        (
            "no algorithm, and a signature",
            format!("{}{signature}", unsigned("none")),
            "signature",
        ),
        ("no signature", format!("{message}."), "signature"),
        ("HMAC by the client secret", hmac(CLIENT_SECRET.as_bytes()), "signature"),
        ("HMAC by the public key's point", hmac(&point), "signature"),
        ("HMAC by the public key as JSON", hmac(jwk.as_bytes()), "signature"),
        ("HMAC by nothing", hmac(b""), "signature"),
        ("another key's signature", forged(json!({})), "signature"),
        ("another key's, and no kid", forged(json!({"kid": null})), "signature"),
        (
            "a key that comes along",
            forged(json!({"kid": null, "jwk": own_jwk})),
            "signature",
        ),
        (
            "a key that comes along, with a kid of the provider",
            forged(json!({"jwk": own_jwk})),
            "signature",
        ),
        (
            "keys elsewhere",
            forged(json!({"jku": format!("{}/other-keys", served.issuer)})),
            "signature",
        ),
        (
            "a certificate elsewhere",
            forged(json!({"x5u": format!("{}/certificate", served.issuer)})),
            "signature",
        ),
        (
            "a certificate that comes along",
            forged(json!({"x5c": ["MIIB"]})),
            "signature",
        ),
        ("an unknown kid", forged(json!({"kid": "own"})), "signature"),
        (
            "an encryption key",
            signed_by(&served.encrypting, &served.header(json!({"kid": "enc"})), &claims),
            "signature",
        ),
        (
            "RS256 with an EC key",
            served.token(json!({"alg": "RS256"}), &claims),
            "signature",
        ),
        (
            "EdDSA with an EC key",
            served.token(json!({"alg": "EdDSA"}), &claims),
            "signature",
        ),
        (
            "ES384 with a P-256 key",
            served.token(json!({"alg": "ES384"}), &claims),
            "signature",
        ),
        (
            "ES256 with an Edwards key",
            format!(
                "{}.{}.{edwards}",
                base64url(served.header(json!({"kid": "ed"}))),
                base64url(&claims)
            ),
            "signature",
        ),
        (
            "an algorithm that nobody knows",
            served.token(json!({"alg": "XS1"}), &claims),
            "malformed",
        ),
        (
            "a signature that is cut",
            format!("{message}.{}", base64url(cut)),
            "signature",
        ),
        (
            "other claims",
            format!(
                "{}.{}.{signature}",
                base64url(served.header(json!({}))),
                base64url(served.claims(json!({"sub": "dev2"})))
            ),
            "signature",
        ),
        (
            "an extension that must be understood",
            served.token(json!({"crit": ["b64"], "b64": false}), &claims),
            "malformed",
        ),
        (
            "an empty list of those",
            served.token(json!({"crit": []}), &claims),
            "malformed",
        ),
    ];
    served.check(table).await;
    assert_eq!(
        served.others_asked.load(Ordering::Relaxed),
        0,
        "what a token points to is not fetched"
    );
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let served = Served::new().await;
    let claims = served.claims(json!({}));
    let of = |claims: &str| served.token(json!({}), claims);
    let good = of(&claims);
    let parts: Vec<_> = good.split('.').collect();
    let twice = |name: &str, value: &str| claims.replacen('{', &format!("{{\"{name}\":{value},"), 1);
    let table = vec![
        ("nothing", String::new(), "malformed"),
        ("two parts", parts[..2].join("."), "malformed"),
        ("four parts", format!("{good}.{}", parts[2]), "malformed"),
        ("five parts, as of an encrypted one", format!("{good}.a.b"), "malformed"),
        (
            "a header that is no base64url",
            format!("*.{}.{}", parts[1], parts[2]),
            "malformed",
        ),
        (
            "claims that are no base64url",
            format!("{}.*.{}", parts[0], parts[2]),
            "malformed",
        ),
        (
            "a header that is no JSON",
            signed_by(&served.signing, "ES256", &claims),
            "malformed",
        ),
        (
            "a header that is a list",
            signed_by(&served.signing, "[]", &claims),
            "malformed",
        ),
        ("claims that are no JSON", of("dev1"), "malformed"),
        ("claims that are a list", of("[]"), "malformed"),
        ("claims and more", of(&format!("{claims}{{}}")), "malformed"),
        ("two subjects", of(&twice("sub", "\"dev2\"")), "malformed"),
        ("two issuers", of(&twice("iss", "\"https://other.test\"")), "malformed"),
        ("two audiences", of(&twice("aud", "\"other\"")), "malformed"),
        (
            "two lists of groups",
            of(&twice("groups", "[]").replacen('{', "{\"groups\":[\"admins\"],", 1)),
            "malformed",
        ),
        ("a blank behind", format!("{good} "), "malformed"),
        (
            "too long",
            of(&served.claims(json!({"filler": "a".repeat(MAX_TOKEN)}))),
            "malformed",
        ),
    ];
    served.check(table).await;
}

#[tokio::test]
async fn an_unknown_key_has_the_keys_fetched_once_in_a_while() {
    let served = Served::new().await;
    let claims = served.claims(json!({}));
    let newer = ec_key();
    let of_newer = signed_by(&newer, &served.header(json!({"kid": "newer"})), &claims);
    let fetched = served.keys_asked.load(Ordering::Relaxed);
    // The provider has a new key: nobody need restart.
    served.keys.lock().unwrap()["keys"]
        .as_array_mut()
        .unwrap()
        .push(ec_jwk(&newer, "newer", "sig"));
    assert_eq!(served.reason(&of_newer).await, "believed");
    assert_eq!(served.keys_asked.load(Ordering::Relaxed), fetched + 1);
    // Whatever anyone shows now.
    let unknown = (0..50).map(|number| {
        let token = signed_by(
            &newer,
            &served.header(json!({"kid": format!("unknown-{number}")})),
            &claims,
        );
        let served = &served;
        async move { served.reason(&token).await }
    });
    let reasons = futures::future::join_all(unknown).await;
    assert!(reasons.iter().all(|reason| *reason == "signature"), "{reasons:?}");
    assert_eq!(served.keys_asked.load(Ordering::Relaxed), fetched + 1);
    assert_eq!(served.reason(&of_newer).await, "believed");
    assert_eq!(served.reason(&served.token(json!({}), &claims)).await, "believed");
}
