//! Other spellings of header names, and headers by which proxies tell of users, on a raw socket: none of them changes anything.

use crate::browser::Browser;
use crate::harness::{CLIENT_SECRET, Gateway, Site};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The whole answer to a request whose headers are sent exactly so.
async fn ask(gateway: &Gateway, path: &str, headers: &[&str]) -> String {
    let authority = gateway.origin.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_s_address_comes_from_one_header_of_a_trusted_proxy_however_it_is_spelt() {
    let site = Site::new("headers-address").await;
    let gateway = site.gateway(&[("GATEWAY_TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    let cases: &[(&[&str], &str)] = &[
        (&["X-Forwarded-For: 203.0.113.1"], "203.0.113.1"),
        (&["X-FORWARDED-FOR: 203.0.113.2"], "203.0.113.2"),
        (&["x-forwarded-for: 203.0.113.3"], "203.0.113.3"),
        // Two of them are one list, and it is true from its end.
        (
            &["X-Forwarded-For: 198.51.100.1", "x-forwarded-FOR: 203.0.113.4"],
            "203.0.113.4",
        ),
        (
            &["X-Forwarded-For: 203.0.113.5", "X_Forwarded_For: 198.51.100.2"],
            "203.0.113.5",
        ),
        (
            &["X_Forwarded_For: 198.51.100.3", "X-Forwarded-For: 203.0.113.6"],
            "203.0.113.6",
        ),
        (&["X_Forwarded_For: 198.51.100.4"], "127.0.0.1"),
        (&["X-Forwarded_For: 198.51.100.5"], "127.0.0.1"),
        (&["Forwarded: for=198.51.100.6"], "127.0.0.1"),
        (&["X-Real-IP: 198.51.100.7"], "127.0.0.1"),
        (
            &["X-Client-IP: 198.51.100.8", "True-Client-IP: 198.51.100.9"],
            "127.0.0.1",
        ),
    ];
    for (index, (headers, expected)) in cases.iter().enumerate() {
        let id = format!("twin-{index}");
        let named = format!("X-Request-ID: {id}");
        let answer = ask(&gateway, "/health", &[headers, &[named.as_str()][..]].concat()).await;
        assert_eq!(status(&answer), "200", "{headers:?}");
        let log = gateway.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let seen: Vec<_> = lines
            .filter(|line| line["request_id"] == id.as_str() && !line["client"].is_null())
            .map(|line| line["client"].clone())
            .collect();
        assert_eq!(seen, [*expected], "{headers:?}");
    }
    // Nor does any of them say where the gateway is: the provider sends browsers back to the address of the settings.
    for header in [
        "X-Forwarded-Host: other.test",
        "X_Forwarded_Host: other.test",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 444",
        "X-Forwarded-Prefix: /other",
        "Forwarded: host=other.test;proto=https",
        "X-Original-URL: /other",
        "X-Rewrite-URL: /other",
    ] {
        let answer = ask(&gateway, "/login", &[header]).await;
        let location = answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
        let back = url::Url::parse(location).unwrap();
        let back = back.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1;
        assert_eq!(
            (status(&answer), back.as_ref()),
            ("302", format!("{}/callback", site.origin()).as_str()),
            "{header}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_known_by_a_header_but_by_the_one_token_or_cookie() {
    let site = Site::new("headers-identity").await;
    let (gateway, origin) = (
        site.gateway(&[("GATEWAY_TRUSTED_PROXIES", "127.0.0.0/8")]).await,
        site.origin(),
    );
    let browser = Browser::default();
    browser.sign_in(&origin, "dev1").await;
    let session = browser.jar(&origin)["__Host-devplane-session"].clone();
    let redirect = format!("{origin}/callback");
    let client = ("devplane", CLIENT_SECRET);
    let token = Browser::default()
        .id_token(&site.issuer, client, &redirect, "dev1")
        .await;
    let cookie = format!("Cookie: __Host-devplane-session={session}");
    let bearer = format!("Authorization: Bearer {token}");
    let ask = async |headers: &[&str]| ask(&gateway, "/api/workspace", headers).await;
    let of_others = [
        "X-Forwarded-User: dev2",
        "X_Forwarded_User: dev2",
        "X-Forwarded-Preferred-Username: dev2",
        "X-Forwarded-Email: dev2@example.test",
        "X-Forwarded-Groups: admins",
        "X-Auth-Request-User: dev2",
        "X-Auth-Request-Groups: admins",
        "X-Remote-User: dev2",
        "Remote-User: dev2",
        "REMOTE_USER: dev2",
        "Impersonate-User: dev2",
        "Proxy-Authorization: Basic ZGV2Mjphbnk=",
    ];
    let own = format!("\"{}\"", site.name("dev1"));
    for header in of_others {
        assert_eq!(status(&ask(&[header]).await), "401", "{header}");
        for known in [&cookie, &bearer] {
            let answer = ask(&[header, known.as_str()]).await;
            assert!(status(&answer) == "200" && answer.contains(&own), "{header}: {answer}");
        }
    }
    // A good token or cookie is one under its own name alone.
    for header in [
        format!("Authorization_: Bearer {token}"),
        format!("X-Authorization: Bearer {token}"),
        format!("Proxy-Authorization: Bearer {token}"),
        format!("X-Forwarded-Access-Token: {token}"),
        format!("X_Auth_Request_Access_Token: {token}"),
        format!("Cookie2: __Host-devplane-session={session}"),
        format!("_Cookie: __Host-devplane-session={session}"),
        format!("Cookie: __host-devplane-session={session}"),
        format!("Cookie: __Host_devplane_session={session}"),
        format!("Cookie: devplane-session={session}"),
    ] {
        assert_eq!(
            status(&ask(&[&header]).await),
            "401",
            "{}",
            header.split(' ').next().unwrap()
        );
    }
    // The case of a name means nothing, and two tokens are none.
    let upper = format!("AUTHORIZATION: bearer {token}");
    assert_eq!(status(&ask(&[&upper]).await), "200");
    for twice in [[&bearer, &bearer], [&bearer, &upper]] {
        assert_eq!(status(&ask(&twice.map(String::as_str)).await), "401");
    }
    let workspaces = site.workspaces().list(&kube::api::ListParams::default()).await.unwrap();
    assert_eq!(workspaces.items.len(), 1, "nobody else's was made");
}
