//! Logout tokens at the gateway's own address, signed by the provider's key: each with one thing wrong, and what a good one does twice.

use crate::browser::Browser;
use crate::harness::{CLIENT_SECRET, Gateway, Site, address};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use devplane::clock::{Clock, SystemClock};
use hyper::Method;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The provider's signing key, which it keeps in a file.
pub struct Key {
    pair: RsaKeyPair,
    public: Value,
}

impl Key {
    pub fn of(site: &Site) -> Self {
        let file = std::fs::read_to_string(site.directory.path().join("keys.json")).unwrap();
        let key = serde_json::from_str::<Value>(&file).unwrap()["keys"][0].clone();
        let part = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
        let components = KeyPairComponents {
            public_key: PublicKeyComponents {
                n: part("n"),
                e: part("e"),
            },
            d: part("d"),
            p: part("p"),
            q: part("q"),
            dP: part("dp"),
            dQ: part("dq"),
            qInv: part("qi"),
        };
        let public = json!({"kty": "RSA", "n": key["n"], "e": key["e"], "kid": key["kid"]});
        Self {
            pair: RsaKeyPair::from_components(&components).unwrap(),
            public,
        }
    }

    /// A good token of the provider, with these claims besides.
    pub fn logout(&self, site: &Site, claims: &Value) -> String {
        let now = SystemClock.now().as_second();
        let header = json!({"alg": "RS256", "kid": self.public["kid"], "typ": "logout+jwt"});
        let common =
            json!({"iss": site.issuer, "aud": "devplane", "iat": now, "exp": now + 120, "events": {EVENT: {}}});
        self.sign(&header, &changed(&common, claims).to_string())
    }

    fn sign(&self, header: &Value, claims: &str) -> String {
        let message = message(header, claims);
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message.as_bytes(),
                &mut signature,
            )
            .unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn message(header: &Value, claims: &str) -> String {
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims)
    )
}

fn changed(value: &Value, change: &Value) -> Value {
    let mut changed = value.clone();
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            changed.as_object_mut().unwrap().remove(name);
        } else {
            changed[name] = value.clone();
        }
    }
    changed
}

pub async fn told(gateway: &Gateway, token: &str) -> u16 {
    let url = format!("{}/backchannel-logout", gateway.origin);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("logout_token={token}");
    let answer = Browser::default()
        .request(Method::POST, &url, &headers, &body)
        .await
        .unwrap();
    assert!(answer.header("cache-control").contains("no-store"), "{answer:?}");
    answer.status
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_tokens_with_anything_wrong_end_no_session() {
    let site = Site::new("logout-tokens").await;
    site.create_running("dev1", address()).await;
    let (first, second) = tokio::join!(site.gateway(&[]), site.second_gateway());
    let browser = Browser::default();
    browser.sign_in(&site.origin(), "dev1").await;
    browser.copy(&site.origin(), &second.origin);
    assert_eq!(browser.page(&second.origin).await.status, 200);
    let key = Key::of(&site);
    // Whole seconds, and not before the session began.
    let now = SystemClock.now().as_second() + 1;
    let header = json!({"alg": "RS256", "kid": key.public["kid"], "typ": "logout+jwt"});
    let claims = json!({
        "iss": site.issuer, "aud": "devplane", "iat": now, "exp": now + 120, "jti": "never-used", "events": {EVENT: {}}, "sub": "dev1",
    });
    let of = |change: Value| key.sign(&header, &changed(&claims, &change).to_string());
    let headed = |change: Value| key.sign(&changed(&header, &change), &claims.to_string());
    let hmac = |secret: &[u8]| {
        let message = message(&changed(&header, &json!({"alg": "HS256"})), &claims.to_string());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let unsigned = format!(
        "{}.",
        message(&changed(&header, &json!({"alg": "none"})), &claims.to_string())
    );
    let twice = claims.to_string().replacen('{', "{\"sub\":\"dev2\",", 1);
    let good = of(json!({}));
    let (_, signature) = good.rsplit_once('.').unwrap();
    let forged = format!(
        "{}.{signature}",
        message(&header, &changed(&claims, &json!({"sub": "dev2"})).to_string())
    );
    for (what, token, reason) in [
        ("another issuer", of(json!({"iss": "https://other.test"})), "issuer"),
        (
            "a slash behind the issuer",
            of(json!({"iss": format!("{}/", site.issuer)})),
            "issuer",
        ),
        ("no issuer", of(json!({"iss": null})), "issuer"),
        ("another audience", of(json!({"aud": "other"})), "audience"),
        ("a list without us", of(json!({"aud": ["other"]})), "audience"),
        ("no audience", of(json!({"aud": null})), "audience"),
        (
            "an old one",
            of(json!({"iat": now - 3600, "exp": now + 120})),
            "expired",
        ),
        ("one that has ended", of(json!({"exp": now - 1})), "expired"),
        (
            "one of the future",
            of(json!({"iat": now + 600, "exp": now + 700})),
            "not_yet_valid",
        ),
        ("no time", of(json!({"iat": null})), "malformed"),
        ("no events", of(json!({"events": null})), "event"),
        (
            "another event",
            of(json!({"events": {"http://schemas.openid.net/event/other": {}}})),
            "event",
        ),
        (
            "an event that is no object",
            of(json!({"events": {EVENT: true}})),
            "event",
        ),
        ("a nonce", of(json!({"nonce": "n"})), "nonce"),
        ("neither a subject nor a session", of(json!({"sub": null})), "nobody"),
        ("no name", of(json!({"jti": null})), "malformed"),
        ("another type", headed(json!({"typ": "at+jwt"})), "type"),
        (
            "the type of an ID token",
            headed(json!({"typ": "id_token+jwt"})),
            "type",
        ),
        ("no algorithm", unsigned, "signature"),
        ("HMAC by the client secret", hmac(CLIENT_SECRET.as_bytes()), "signature"),
        (
            "HMAC by the public key",
            hmac(key.public.to_string().as_bytes()),
            "signature",
        ),
        ("another algorithm", headed(json!({"alg": "RS512"})), "signature"),
        ("an unknown key", headed(json!({"kid": "other"})), "signature"),
        (
            "an extension that must be understood",
            headed(json!({"crit": ["exp"]})),
            "signature",
        ),
        ("other claims", forged, "signature"),
        ("two subjects", key.sign(&header, &twice), "malformed"),
        ("claims that are no object", key.sign(&header, "[]"), "malformed"),
        ("too long", of(json!({"filler": "a".repeat(40_000)})), "malformed"),
    ] {
        assert_eq!(told(&first, &token).await, 400, "{what}");
        let rejected = first.audited("auth.token.rejected");
        assert_eq!(rejected.last().unwrap()["reason"], reason, "{what}");
        assert!(!first.log().contains(&token), "{what} is in the log");
    }
    for gateway in [&first, &second] {
        assert_eq!(browser.page(&gateway.origin).await.status, 200, "the session stands");
    }

    // With nothing wrong: once at a gateway. At another one the same token changes nothing that was not so.
    assert_eq!(told(&first, &good).await, 200);
    for gateway in [&first, &second] {
        let over = crate::eventually::eventually(async || browser.page(&gateway.origin).await.status == 302);
        assert!(over.await);
    }
    assert_eq!(told(&first, &good).await, 400);
    assert_eq!(
        first.audited("auth.token.rejected").last().unwrap()["reason"],
        "replayed"
    );
    // The same person again: a session that began in a second after the one in which the token was made.
    let later = crate::eventually::eventually(async || SystemClock.now().as_second() > now);
    assert!(later.await);
    browser.sign_in(&site.origin(), "dev1").await;
    browser.copy(&site.origin(), &second.origin);
    assert_eq!(browser.page(&second.origin).await.status, 200);
    assert_eq!(told(&second, &good).await, 200);
    assert_eq!(told(&second, &good).await, 400);
    for gateway in [&first, &second] {
        assert_eq!(
            browser.page(&gateway.origin).await.status,
            200,
            "a replay ends no newer session"
        );
    }
}
