//! Keycloak's distribution becomes a server on loopback, shared by the tests of one process, with a realm of its own for each.
//!
//! A small shell owns it: it stops the server and removes its files when the test process is gone, however it went.

use crate::apiserver::free_ports;
use crate::browser::Browser;
use crate::harness::made_by;
use hyper::Method;
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

const ADMIN_PASSWORD: &str = "planted-admin-password";
/// How long a start may take where other tests have the processors too.
const START_WITHIN: Duration = Duration::from_secs(300);
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// `{k}` the distribution, `{d}` a directory for a copy of it, which the database is in, `{p}` the port. Memory is bounded, and the
/// short life of the server does not pay for a second compiler.
const OWNER: &str = r#"
set -u
trap '' TERM INT
cp -a --reflink=auto '{k}' '{d}/keycloak'
export KC_BOOTSTRAP_ADMIN_USERNAME=admin KC_BOOTSTRAP_ADMIN_PASSWORD='{s}'
export JAVA_OPTS_KC_HEAP='-Xms64m -Xmx512m' JAVA_OPTS_APPEND=-XX:TieredStopAtLevel=1
'{d}/keycloak/bin/kc.sh' start --optimized --cache=local --hostname-strict=false --http-enabled=true --http-host=127.0.0.1 --http-port={p} \
  >'{d}/log' 2>&1 </dev/null & server=$!
while kill -0 $server 2>/dev/null; do read -r -t 1 _; [ $? -gt 128 ] || break; done
# The script starts Java as a child, which it does not take along when it is killed itself.
pkill -KILL -P $server; kill -KILL $server 2>/dev/null; wait 2>/dev/null
rm -rf '{d}'
"#;

pub struct Keycloak {
    url: String,
    /// Its standard input keeps the server running.
    owner: Child,
}

/// The one server of this process.
pub async fn shared() -> &'static Keycloak {
    static SERVER: OnceCell<Keycloak> = OnceCell::const_new();
    SERVER.get_or_init(Keycloak::start).await
}

impl Keycloak {
    async fn start() -> Self {
        let distribution = made_by("tests/keycloak/keycloak.sh");
        let directory = tempfile::Builder::new()
            .prefix("devplane-keycloak-")
            .tempdir()
            .unwrap()
            .keep();
        let [port] = free_ports();
        let script = OWNER
            .replace("{k}", distribution.to_str().unwrap())
            .replace("{d}", directory.to_str().unwrap())
            .replace("{s}", ADMIN_PASSWORD)
            .replace("{p}", &port.to_string());
        let owner = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Self {
            url: format!("http://127.0.0.1:{port}"),
            owner,
        };
        let (visitor, deadline) = (Browser::default(), Instant::now() + START_WITHIN);
        let ready = format!("{}/realms/master", server.url);
        let mut log = String::new();
        while visitor.get(&ready).await.is_none_or(|answer| answer.status != 200) {
            // When it has ended, its files are gone.
            log = std::fs::read_to_string(directory.join("log")).unwrap_or(log);
            let is_running = server.owner.try_wait().unwrap().is_none();
            assert!(
                is_running && Instant::now() < deadline,
                "Keycloak does not start:\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        server
    }

    pub fn issuer(&self, realm: &str) -> String {
        format!("{}/realms/{realm}", self.url)
    }

    /// Asks the administration interface, which is `path` below `/admin/realms`; gives the JSON that it answers with.
    pub async fn administer(&self, method: Method, path: &str, body: &Value) -> Value {
        let visitor = Browser::default();
        let url = format!("{}/realms/master/protocol/openid-connect/token", self.url);
        let form = format!("grant_type=password&client_id=admin-cli&username=admin&password={ADMIN_PASSWORD}");
        // It is good for a minute, so each request gets its own.
        let token = visitor
            .request(Method::POST, &url, &[FORM], &form)
            .await
            .unwrap()
            .json();
        let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        let url = format!("{}/admin/realms{path}", self.url);
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = visitor.request(method, &url, &headers, &body).await.unwrap();
        assert!((200..300).contains(&answer.status), "{path}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap_or_default()
    }

    /// The id of a user, which is the `sub` of their tokens.
    pub async fn subject(&self, realm: &str, user: &str) -> String {
        let path = format!("/{realm}/users?exact=true&username={user}");
        let found = self.administer(Method::GET, &path, &Value::Null).await;
        found[0]["id"].as_str().unwrap().to_owned()
    }
}

/// A realm with one client, whose refresh tokens are good for once, and two users: `dev1` in the group `developers`, `guest` in none.
pub fn realm(name: &str, origin: &str, secret: &str, token_seconds: u32) -> Value {
    let user = |name: &str, groups: &[&str]| {
        json!({
            "username": name, "enabled": true, "email": format!("{name}@example.test"), "emailVerified": true,
            "firstName": name, "lastName": "Tester", "groups": groups,
            "credentials": [{"type": "password", "value": password(name), "temporary": false}],
        })
    };
    json!({
        "realm": name, "enabled": true, "sslRequired": "none", "accessTokenLifespan": token_seconds,
        "revokeRefreshToken": true, "refreshTokenMaxReuse": 0,
        "groups": [{"name": "developers"}],
        "users": [user("dev1", &["/developers"]), user("guest", &[])],
        "clients": [{
            "clientId": "devplane", "secret": secret, "publicClient": false, "standardFlowEnabled": true, "directAccessGrantsEnabled": false,
            "redirectUris": [format!("{origin}/callback")],
            "attributes": {
                "pkce.code.challenge.method": "S256",
                "backchannel.logout.url": format!("{origin}/backchannel-logout"),
                "backchannel.logout.session.required": "true",
                "post.logout.redirect.uris": format!("{origin}/signed-out"),
            },
            "protocolMappers": [{
                "name": "groups", "protocol": "openid-connect", "protocolMapper": "oidc-group-membership-mapper",
                "config": {"claim.name": "groups", "full.path": "false", "id.token.claim": "true"},
            }],
        }],
    })
}

fn password(user: &str) -> String {
    format!("planted-password-of-{user}")
}

/// From Keycloak's own page to where it sends the browser back, which is not asked yet.
pub async fn sign_in(browser: &Browser, gateway: &str, user: &str) -> url::Url {
    let login = browser.page(&format!("{gateway}/login")).await;
    assert_eq!(login.status, 302, "{login:?}");
    let page = browser.page(login.location().as_str()).await;
    // Whoever is signed in there is asked nothing.
    if page.status == 302 {
        return page.location();
    }
    let form = format!("username={user}&password={}", password(user));
    let answer = submit(browser, &page, &form).await;
    assert_eq!(answer.status, 302, "{answer:?}");
    answer.location()
}

/// Sends the first form of a page, with what its hidden fields hold.
pub async fn submit(browser: &Browser, page: &crate::browser::Answer, fields: &str) -> crate::browser::Answer {
    let between = |text: &str, start: &str| {
        let (_, behind) = text.split_once(start).unwrap_or_else(|| panic!("no {start} in {text}"));
        behind.split('"').next().unwrap().replace("&amp;", "&")
    };
    let (_, form) = page
        .body
        .split_once("<form")
        .unwrap_or_else(|| panic!("no form: {page:?}"));
    let target = page.url.join(&between(form, "action=\"")).unwrap();
    let mut body = fields.to_owned();
    for tag in form
        .split('<')
        .filter(|tag| tag.contains("type=\"hidden\"") && tag.contains("value=\""))
    {
        body = format!("{body}&{}={}", between(tag, "name=\""), between(tag, "value=\""));
    }
    let headers = [FORM];
    browser
        .request(Method::POST, target.as_str(), &headers, &body)
        .await
        .unwrap()
}
