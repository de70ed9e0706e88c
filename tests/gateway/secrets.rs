//! Secrets are planted everywhere, and no output of the whole run has one: not in plain, not in base64, not encoded for a URL.

use crate::browser::{Answer, Browser};
use crate::eventually::eventually;
use crate::harness::{CLIENT_SECRET, OTHER_SECRET, Site, address, ttyd};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use cookie::Key;
use devplane::clock::{Clock, SystemClock};
use devplane::gateway::session::{Cookies, Presented};
use hyper::Method;
use hyper::header::{COOKIE, HeaderMap, HeaderValue, LOCATION, SET_COOKIE};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use secrecy::ExposeSecret;
use serde_json::json;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Secrets by what they are, and outputs by where they came from.
#[derive(Default)]
struct Hunt {
    secrets: BTreeMap<String, String>,
    outputs: Vec<(String, String)>,
}

impl Hunt {
    fn plant(&mut self, what: &str, secret: &str) {
        assert!(secret.len() >= 8, "{what} is too short to be known again");
        self.secrets
            .insert(format!("{what} {}", self.secrets.len()), secret.to_owned());
    }

    fn saw(&mut self, from: &str, text: String) {
        self.outputs.push((from.to_owned(), text));
    }

    /// All of an answer but what is meant to carry secrets: cookies, and the way to the provider and back.
    fn answer(&mut self, site: &Site, answer: &Answer) {
        let mut text = answer.body.clone();
        for (name, value) in &answer.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            let is_oauth = name == LOCATION && value.starts_with(&site.issuer);
            if name != SET_COOKIE && !is_oauth {
                text.push_str(&format!("\n{name}: {value}"));
            }
        }
        self.saw(answer.url.path(), text);
    }

    fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (what, secret) in &self.secrets {
            for (form, needle) in forms(secret) {
                let places = self.outputs.iter().filter(|(_, text)| text.contains(&needle));
                found.extend(places.map(|(from, _)| format!("{what} ({form}) in {from}")));
            }
        }
        found
    }
}

/// A secret as it may be written. Base64 depends on what stands before: three ways, without what depends on the neighbours.
fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let mut forms = vec![
        ("plain", secret.to_owned()),
        ("URL", url::form_urlencoded::byte_serialize(secret.as_bytes()).collect()),
    ];
    for before in 0..3 {
        let padded = [&vec![0; before][..], secret.as_bytes()].concat();
        let whole = padded.len() / 3 * 3;
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&padded[..whole]);
            forms.push(("base64", encoded[if before == 0 { 0 } else { 4 }..].to_owned()));
        }
    }
    forms
}

fn parameter(url: &url::Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_in_any_output() {
    let place = address();
    let site = Site::at_provider("secrets", json!({"ttl": {"idToken": 2}})).await;
    let settings = [
        ("SESSION_REFRESH_INTERVAL", "1s"),
        ("LOG_LEVEL", "trace"),
        ("GATEWAY_RL_SIGN_IN_PER_ADDRESS_RPS", "0"),
        ("GATEWAY_DRAIN_TIMEOUT", "0"),
    ];
    let (mut gateway, origin, mut hunt) = (site.gateway(&settings).await, site.origin(), Hunt::default());
    let _ttyd = ttyd(place);
    site.create_running("dev1", place).await;
    hunt.plant("client secret", CLIENT_SECRET);
    hunt.plant("another client's secret", OTHER_SECRET);

    // The keys, and with them what cookies hold.
    let secrets: Api<Secret> = Api::namespaced(site.client.clone(), &site.namespace);
    let secret = secrets.get("workspace-gateway-session-keys").await.unwrap();
    let lines = String::from_utf8(secret.data.unwrap()["keys"].0.clone()).unwrap();
    let line = lines.lines().next().unwrap().trim();
    hunt.plant("session key", line);
    let cookies = Cookies::new(vec![Key::from(&STANDARD.decode(line).unwrap())]);
    let presented = |browser: &Browser| {
        let jar = browser.jar(&origin);
        let pairs: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&pairs.join("; ")).unwrap())])
    };

    // A sign-in, step by step.
    let browser = Browser::default();
    let login = browser.page(&format!("{origin}/login")).await;
    let there = login.location();
    for name in ["state", "nonce"] {
        hunt.plant(name, &parameter(&there, name));
    }
    let (attempt, _) = cookies
        .attempt(&presented(&browser), &parameter(&there, "state"), SystemClock.now())
        .unwrap();
    let attempt = serde_json::to_value(&attempt).unwrap();
    hunt.plant("PKCE verifier", attempt["verifier"].as_str().unwrap());
    for value in browser.jar(&origin).values() {
        hunt.plant("login cookie", value);
    }
    hunt.answer(&site, &login);
    let back = browser.sign_in_at_provider(&there, "dev1", &origin).await;
    hunt.plant("code", &parameter(&back, "code"));
    hunt.answer(&site, &browser.page(back.as_str()).await);
    // Once more, used up; and one whose code the provider does not know.
    hunt.answer(&site, &browser.page(back.as_str()).await);
    let stranger = Browser::default();
    hunt.answer(&site, &stranger.page(back.as_str()).await);
    let login = stranger.page(&format!("{origin}/login")).await;
    let state = parameter(&login.location(), "state");
    hunt.plant("state", &state);
    hunt.plant("bad code", "planted-code-4711");
    let bad = format!("{origin}/callback?state={state}&code=planted-code-4711");
    hunt.answer(&site, &stranger.page(&bad).await);
    hunt.plant("provider's error", "planted-error-4711");
    let bad = format!(
        "{origin}/callback?state=planted-state-4711&error=planted-error-4711&error_description=planted-error-4711"
    );
    hunt.plant("bad state", "planted-state-4711");
    hunt.answer(&site, &stranger.page(&bad).await);

    let token_of = |browser: &Browser| match cookies.session(&presented(browser)) {
        Presented::Session(session) => session.refresh.unwrap().token.expose_secret().to_owned(),
        Presented::Nothing => panic!("no session"),
    };
    let first = token_of(&browser);
    hunt.plant("refresh token", &first);
    for value in browser.jar(&origin).values() {
        hunt.plant("session cookie", value);
    }

    // A terminal, and refreshes meanwhile.
    let mut terminal = browser.own_terminal(&origin, &origin).await;
    terminal.hello().await;
    hunt.plant("typed", "planted-typed-4711");
    terminal.type_keys("echo planted-typed-4711\r").await;
    terminal.until("planted-typed-4711").await;
    let refreshed = eventually(async || {
        browser.page(&origin).await;
        token_of(&browser) != first
    });
    assert!(refreshed.await, "no refresh");
    hunt.plant("refresh token", &token_of(&browser));
    for value in browser.jar(&origin).values() {
        hunt.plant("session cookie", value);
    }
    hunt.answer(&site, &browser.page(&origin).await);

    // Programs, and what is no token.
    let api = format!("{origin}/api/workspace");
    let redirect = format!("{origin}/callback");
    let mut headers = vec![
        ("authorization", "Bearer planted-bearer-4711".to_owned()),
        ("authorization", "Basic cGxhbnRlZC1iYXNpYy00NzEx".to_owned()),
        ("authorization", "Bearer planted.jwt.4711 planted.jwt.4711".to_owned()),
        ("cookie", "__Host-devplane-session=planted-cookie-4711".to_owned()),
        (
            "cookie",
            "__Host-devplane-session=9:planted-cookie-4711; a=\"planted-cookie-4711".to_owned(),
        ),
        ("x-request-id", "planted request id 4711".to_owned()),
    ];
    for planted in [
        "planted-bearer-4711",
        "cGxhbnRlZC1iYXNpYy00NzEx",
        "planted.jwt.4711",
        "planted-cookie-4711",
        "planted request id 4711",
    ] {
        hunt.plant("header", planted);
    }
    for client in [("devplane", CLIENT_SECRET), ("other", OTHER_SECRET)] {
        let token = Browser::default()
            .id_token(&site.issuer, client, &redirect, "dev1")
            .await;
        hunt.plant("ID token", &token);
        headers.push(("authorization", format!("Bearer {token}")));
        // Its signature is spoilt.
        headers.push(("authorization", format!("Bearer {}AAAA", &token[..token.len() - 4])));
    }
    hunt.plant("query", "planted-query-4711");
    for (name, value) in &headers {
        let visitor = Browser::default();
        for path in ["?token=planted-query-4711", "/events?access_token=planted-query-4711"] {
            if path.starts_with("/events") && value.len() > 200 {
                continue;
            }
            let url = format!("{api}{path}");
            let answer = visitor.request(Method::GET, &url, &[(name, value)], "").await.unwrap();
            hunt.answer(&site, &answer);
        }
        if let Err(answer) = visitor
            .terminal(
                &origin,
                &[(name, value), ("sec-websocket-protocol", "tty, planted-query-4711")],
            )
            .await
        {
            hunt.answer(&site, &answer);
        }
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    hunt.plant("logout token", "planted.logout.4711");
    let logout = format!("{origin}/backchannel-logout");
    let answer = browser
        .request(Method::POST, &logout, &form, "logout_token=planted.logout.4711")
        .await;
    hunt.answer(&site, &answer.unwrap());
    for head in [
        "GET /planted-query-4711 HTTP/1.1\r\nHost: a\r\nX: planted-bearer-4711\n\r\n",
        "GET /?planted-query-4711 HTTP/1.1\r\nAuthorization: Bearer planted-bearer-4711\r\n\r\n",
        "POST /logout HTTP/1.1\r\nHost: a\r\nCookie: a=planted-cookie-4711\r\nTransfer-Encoding: planted-bearer-4711\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(origin.strip_prefix("http://").unwrap())
            .await
            .unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        hunt.saw("a raw socket", answer);
    }

    // The provider forgets everyone, and the session ends; another one is ended by its user.
    site.start_provider();
    assert_eq!(terminal.closed().await, 4401);
    let leaving = Browser::default();
    leaving.sign_in(&origin, "dev1").await;
    hunt.plant("refresh token", &token_of(&leaving));
    let own = [("origin", origin.as_str())];
    let out = leaving
        .request(Method::POST, &format!("{origin}/logout"), &own, "")
        .await
        .unwrap();
    assert_eq!(out.status, 200);
    hunt.answer(&site, &out);

    hunt.answer(&site, &browser.page(&format!("{origin}/metrics")).await);
    for kind in ["events", "workspaces"] {
        let listed = site
            .server
            .kubectl_ok(&["-n", &site.namespace, "get", kind, "-o", "json"], None);
        hunt.saw(kind, listed);
    }
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    hunt.saw("the log", gateway.log());
    assert!(hunt.outputs.len() > 30 && hunt.secrets.len() > 20);
    assert_eq!(hunt.found(), Vec::<String>::new());
    // It would find them.
    for text in [
        CLIENT_SECRET.to_owned(),
        STANDARD.encode(format!("ab{CLIENT_SECRET}")),
        STANDARD.encode(CLIENT_SECRET),
    ] {
        let mut sure = Hunt::default();
        sure.plant("client secret", CLIENT_SECRET);
        sure.saw("here", text);
        assert!(!sure.found().is_empty());
    }
}
