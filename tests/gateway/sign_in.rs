//! Signing in and out at a real provider.

use crate::apiserver::free_ports;
use crate::browser::Browser;
use crate::eventually::eventually;
use crate::front::Front;
use crate::harness::{CLIENT_SECRET, Site};
use crate::wire::Wire;
use hyper::Method;
use url::Url;

const SESSION: &str = "__Host-devplane-session";

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_and_out() {
    let site = Site::new("sign-in").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let browser = Browser::default();

    let first = browser.page(&format!("{origin}/?a=1")).await;
    assert_eq!(
        (first.status, first.header("location")),
        (302, "/login?return=%2F%3Fa%3D1")
    );
    let login = browser.page(first.location().as_str()).await;
    let to_provider = login.location();
    let parameters: std::collections::BTreeMap<_, _> = to_provider.query_pairs().into_owned().collect();
    assert_eq!(parameters["code_challenge_method"], "S256");
    assert_eq!(parameters["response_type"], "code");
    for random in ["state", "nonce", "code_challenge"] {
        assert!(parameters[random].len() >= 20, "{random}: {parameters:?}");
    }
    let [attempt] = login.cookies()[..] else {
        panic!("{login:?}")
    };
    for attribute in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Max-Age=600"] {
        assert!(attempt.contains(attribute), "{attribute} is not in {attempt}");
    }

    let back = browser.sign_in_at_provider(&to_provider, "dev1", &origin).await;
    let callback = browser.page(back.as_str()).await;
    assert_eq!((callback.status, callback.header("location")), (302, "/?a=1"));
    let cookies = callback.cookies();
    let session = cookies.iter().find(|cookie| cookie.starts_with(SESSION)).unwrap();
    for attribute in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
        assert!(session.contains(attribute), "{attribute} is not in {session}");
    }
    assert!(!session.contains("Domain"), "{session}");
    assert_eq!(
        browser.jar(&origin).keys().collect::<Vec<_>>(),
        [SESSION],
        "the attempt is used up"
    );

    let page = browser.page(&format!("{origin}/")).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Your workspace is starting") && page.body.contains("dev1@example.test"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("referrer-policy"), "same-origin");
    assert_eq!(page.header("x-content-type-options"), "nosniff");

    // Reloading the callback after it worked does no harm; the same answer in another browser does nothing.
    assert_eq!(browser.page(back.as_str()).await.header("location"), "/");
    let stranger = Browser::default().page(back.as_str()).await;
    assert_eq!(stranger.status, 400);
    assert!(stranger.body.contains("begun in another browser"), "{}", stranger.body);

    let logout = format!("{origin}/logout");
    for headers in [&[][..], &[("origin", "https://other.test")], &[("origin", "null")]] {
        let refused = browser.request(Method::POST, &logout, headers, "").await.unwrap();
        assert_eq!(refused.status, 403, "{headers:?}");
    }
    assert!(browser.jar(&origin).contains_key(SESSION));
    let out = browser
        .request(Method::POST, &logout, &[("origin", &origin)], "")
        .await
        .unwrap();
    assert!(out.status == 200 && out.body.contains("Signed out"), "{out:?}");
    assert!(browser.jar(&origin).is_empty());
    assert_eq!(browser.page(&format!("{origin}/")).await.status, 302);

    assert_eq!(gateway.audited("oidc.login.redirect").len(), 1);
    let success = gateway.audited("oidc.callback.success");
    assert_eq!(success.len(), 1);
    assert_eq!(success[0]["actor.subject"], "dev1");
    assert_eq!(success[0]["userId"], site.name("dev1"));
    assert_eq!(gateway.audited("oidc.callback.failure")[0]["reason"], "unknown_state");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_do_not_belong_to_the_sign_in_are_refused() {
    let site = Site::new("sign-in-refused").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    for (change, status, reason) in [
        (&[("state", "another-state-altogether")][..], 400, "unknown_state"),
        (&[("code", "another-code")], 502, "code_refused"),
        (&[("iss", "https://other.test")], 502, "issuer"),
        (&[("error", "access_denied")], 403, "access_denied"),
        (&[("error", "server_error")], 503, "provider_unavailable"),
        (&[("error", "<script>")], 502, "provider_error"),
    ] {
        let browser = Browser::default();
        let login = browser.page(&format!("{origin}/login")).await;
        let back = browser.sign_in_at_provider(&login.location(), "dev1", &origin).await;
        let mut changed: Url = back.clone();
        changed.query_pairs_mut().clear().extend_pairs(
            back.query_pairs()
                .filter(|(name, _)| change.iter().all(|(changed, _)| changed != name))
                .chain(change.iter().map(|(name, value)| ((*name).into(), (*value).into()))),
        );
        let answer = browser.page(changed.as_str()).await;
        assert_eq!(answer.status, status, "{reason}: {answer:?}");
        assert!(!browser.jar(&origin).contains_key(SESSION), "{reason}");
        assert!(!answer.body.contains("<script>"), "{}", answer.body);
        let failures = gateway.audited("oidc.callback.failure");
        assert_eq!(failures.last().unwrap()["reason"], reason);
        // The one try is used up, but where the answer belonged to no try at all.
        if reason != "unknown_state" {
            assert_eq!(browser.page(back.as_str()).await.status, 400, "{reason}");
        }
    }
    // A parameter that is there twice.
    let browser = Browser::default();
    let login = browser.page(&format!("{origin}/login")).await;
    let back = browser.sign_in_at_provider(&login.location(), "dev1", &origin).await;
    assert_eq!(browser.page(&format!("{back}&state=x")).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_behind_its_proxy_has_refused_nothing() {
    let [behind] = free_ports();
    let settings = serde_json::json!({"listen": [format!("127.0.0.1:{behind}")]});
    let site = Site::at_provider("sign-in-front", settings).await;
    let issuer: Url = site.issuer.parse().unwrap();
    let front = Front::at(issuer.port().unwrap(), behind).await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    for status in [500, 502, 503] {
        let browser = Browser::default();
        let login = browser.page(&format!("{origin}/login")).await;
        assert_eq!(login.status, 302, "{login:?}");
        let back = browser.sign_in_at_provider(&login.location(), "dev1", &origin).await;
        front.answer(Some(status));
        for url in [back.as_str(), &format!("{origin}/login")] {
            let answer = browser.page(url).await;
            assert_eq!(answer.status, 503, "{url}: {answer:?}");
            assert!(answer.body.contains("be reached"), "{}", answer.body);
        }
        let failures = gateway.audited("oidc.callback.failure");
        assert_eq!(failures.last().unwrap()["reason"], "provider_unavailable");
        front.answer(None);
        let again = eventually(async || browser.page(&format!("{origin}/login")).await.status == 302);
        assert!(again.await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_for_another_issuer_than_the_provider_s_takes_nobody_s_place() {
    let site = Site::new("sign-in-issuer").await;
    let other = site.issuer.replace("127.0.0.1", "localhost");
    let gateway = site.gateway_that_starts(&[("OIDC_ISSUER_URL", &other)]).await;
    let (browser, origin) = (Browser::default(), site.origin());
    let ready = async || {
        let ready = browser.get(&format!("{origin}/readyz?exclude=provider")).await.unwrap();
        (
            ready.status,
            ready.json()["error"].as_str() == Some("provider_unavailable"),
        )
    };
    // Not while the provider was not asked yet, and not when it is known that waiting helps nobody.
    let told = eventually(async || {
        assert_eq!(ready().await, (503, true));
        gateway.log().contains("is another issuer's")
    });
    assert!(told.await, "{}", gateway.log());
    assert_eq!(ready().await, (503, true));
    assert_eq!(browser.get(&format!("{origin}/readyz")).await.unwrap().status, 503);
    assert_eq!(browser.get(&format!("{origin}/health")).await.unwrap().status, 200);
    let login = browser.page(&format!("{origin}/login")).await;
    assert!(login.status == 503 && login.body.contains("be reached"), "{login:?}");
}

/// As many groups as make a session of some thousand bytes.
fn groups(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("cn=group-{number:03},ou=departments,dc=example,dc=test"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_no_cookie_holds_goes_on_in_others() {
    let users = serde_json::json!({
        "two": {"groups": groups(80)},
        "three": {"groups": groups(140)},
        "four": {"groups": groups(200)},
        "five": {"groups": groups(400)},
    });
    let site = Site::at_provider("sign-in-parts", serde_json::json!({"users": users})).await;
    let class = serde_json::json!([{"name": "all", "groups": groups(400)}]).to_string();
    let (gateway, origin) = (site.gateway(&[("WORKSPACE_CLASSES", &class)]).await, site.origin());
    let asked = async |cookies: &[(String, String)]| {
        let cookies: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let headers = [("accept", "text/html"), ("cookie", &cookies.join("; "))];
        let answer = Browser::default().request(Method::GET, &origin, &headers, "").await;
        answer.unwrap().status
    };
    let mut earlier: Option<Vec<(String, String)>> = None;
    for (user, count) in [("two", 2), ("three", 3), ("four", 4)] {
        let browser = Browser::default();
        let signed_in = browser.sign_in(&origin, user).await;
        assert_eq!(signed_in.status, 302, "{signed_in:?}");
        for cookie in signed_in.cookies() {
            assert!(
                cookie.len() <= 4096 && cookie.contains("Secure") && cookie.contains("HttpOnly"),
                "{cookie}"
            );
        }
        let parts: Vec<_> = browser.jar(&origin).into_iter().collect();
        let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
        let expected: Vec<_> = (0..count)
            .map(|part| {
                if part == 0 {
                    SESSION.to_owned()
                } else {
                    format!("{SESSION}-{part}")
                }
            })
            .collect();
        assert_eq!(names, expected, "{user}");
        assert_eq!(asked(&parts).await, 200, "{user}");
        // In whatever order they come.
        let mut turned = parts.clone();
        turned.reverse();
        assert_eq!(asked(&turned).await, 200, "{user}");
        for missing in 0..count {
            let mut some = parts.clone();
            some.remove(missing);
            assert_eq!(asked(&some).await, 302, "{user} without part {missing}");
            if let Some(foreign) = earlier.as_ref().and_then(|parts| parts.get(missing)) {
                some.push(foreign.clone());
                assert_eq!(asked(&some).await, 302, "{user} with another session's part {missing}");
            }
        }
        earlier = Some(parts);
        let headers = [("origin", origin.as_str())];
        let out = browser
            .request(Method::POST, &format!("{origin}/logout"), &headers, "")
            .await;
        assert_eq!(out.unwrap().status, 200);
        assert!(browser.jar(&origin).is_empty(), "{user}: every part goes");
    }
    // With more, a request's head would be larger than proxies take.
    let browser = Browser::default();
    let refused = browser.sign_in(&origin, "five").await;
    assert!(refused.status == 502 && browser.jar(&origin).is_empty(), "{refused:?}");
    assert_eq!(
        gateway.audited("oidc.callback.failure").last().unwrap()["reason"],
        "session_too_large"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_that_the_cluster_was_not_told_of_says_so() {
    let site = Site::new("sign-out-cut-off").await;
    let wire = Wire::to(site.server.port).await;
    let kubeconfig = std::fs::read_to_string(site.server.kubeconfig("gateway")).unwrap();
    let through = site.directory.path().join("kubeconfig");
    let (direct, detour) = (format!(":{}", site.server.port), format!(":{}", wire.port));
    std::fs::write(&through, kubeconfig.replace(&direct, &detour)).unwrap();
    let settings = [("SESSION_WATCH_LOSS", "2m"), ("KUBECONFIG", through.to_str().unwrap())];
    let (gateway, origin) = (site.gateway(&settings).await, site.origin());
    let browser = Browser::default();
    browser.sign_in(&origin, "dev1").await;
    assert_eq!(browser.page(&origin).await.status, 200);
    let copy = browser.frozen(&origin);
    let sign_ins = async || {
        let workspace = site.workspaces().get(&site.name("dev1")).await.unwrap();
        workspace.status.unwrap_or_default().sign_ins
    };
    assert!(eventually(async || sign_ins().await.len() == 1).await);
    let id = sign_ins().await[0].id.clone();
    wire.cut();
    let headers = [("origin", origin.as_str()), ("accept", "text/html")];
    let out = browser
        .request(Method::POST, &format!("{origin}/logout"), &headers, "")
        .await;
    let out = out.unwrap();
    assert_eq!(out.status, 503, "{out:?}");
    for words in [
        "in this browser only",
        &id,
        "sign out at the identity provider",
        "Ask the administrator",
    ] {
        assert!(out.body.contains(words), "no {words:?} in {}", out.body);
    }
    assert!(out.header("refresh").contains("/session/end"));
    assert!(browser.jar(&origin).is_empty(), "gone from this browser all the same");
    assert!(gateway.audited("session.revoked").is_empty());
    assert!(gateway.log().contains("can't be revoked"));
    wire.mend();
    // What the page says is true.
    let stands = eventually(async || copy.page(&origin).await.status == 200);
    assert!(stands.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tabs_sign_in_at_once_and_nobody_is_sent_elsewhere() {
    let site = Site::new("sign-in-tabs").await;
    let (_gateway, origin) = (site.gateway(&[]).await, site.origin());
    let browser = Browser::default();
    let first = browser.page(&format!("{origin}/login?return=/?tab=1")).await;
    let second = browser.page(&format!("{origin}/login?return=//other.test/")).await;
    let back = browser.sign_in_at_provider(&second.location(), "dev1", &origin).await;
    assert_eq!(browser.page(back.as_str()).await.header("location"), "/");
    let back = browser.sign_in_at_provider(&first.location(), "dev1", &origin).await;
    assert_eq!(browser.page(back.as_str()).await.header("location"), "/?tab=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_sessions_and_an_end_of_one_changes_nothing() {
    let site = Site::new("sign-in-replicas").await;
    let (first, second) = tokio::join!(site.gateway(&[]), site.second_gateway());
    let browser = Browser::default();
    browser.sign_in(&first.origin, "dev1").await;
    browser.copy(&first.origin, &second.origin);
    assert_eq!(browser.page(&second.origin).await.status, 200);
    drop(first);
    let _again = site.gateway(&[]).await;
    assert_eq!(browser.page(&site.origin()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token() {
    let site = Site::with_token_lifetime("sign-in-expiry", 3).await;
    let (_gateway, origin) = (site.gateway(&[]).await, site.origin());
    let browser = Browser::default();
    browser.sign_in(&origin, "dev1").await;
    assert_eq!(browser.page(&origin).await.status, 200);
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    // A browser would have dropped the cookie; this one shows it.
    assert_eq!(browser.page(&origin).await.status, 302);
    let api = browser.get(&format!("{origin}/api/workspace")).await.unwrap();
    assert_eq!((api.status, api.json()["error"].as_str()), (401, Some("token_expired")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_is_believed_only_when_it_is_for_this_gateway() {
    let site = Site::new("bearer").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let browser = Browser::default();
    let redirect = format!("{origin}/callback");
    let good = browser
        .id_token(&site.issuer, ("devplane", CLIENT_SECRET), &redirect, "dev1")
        .await;
    let other = browser
        .id_token(&site.issuer, ("other", crate::harness::OTHER_SECRET), &redirect, "dev1")
        .await;
    let (head, rest) = good.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    let encode = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    };
    let unsigned = format!("{}.{claims}.", encode(r#"{"alg":"none"}"#));
    let symmetric = format!("{}.{claims}.{signature}", encode(r#"{"alg":"HS256"}"#));
    let changed = format!("{head}.{}.{signature}", encode(r#"{"sub":"dev2"}"#));
    let api = format!("{origin}/api/workspace");
    let visitor = Browser::default();
    let ask = async |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        visitor.request(Method::GET, &api, &headers, "").await.unwrap()
    };
    for (token, status, code) in [
        (other.as_str(), 403, "forbidden"),
        (&unsigned, 401, "unauthorized"),
        (&symmetric, 401, "unauthorized"),
        (&changed, 401, "unauthorized"),
        ("planted-no-token", 401, "unauthorized"),
    ] {
        let answer = ask(token).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(code)));
        assert!(answer.status == 403 || answer.header("www-authenticate").starts_with("Bearer"));
        assert!(!answer.body.contains(token));
    }
    let answer = ask(&good).await;
    assert_eq!(
        (answer.status, answer.json()["name"].as_str()),
        (200, Some(site.name("dev1").as_str()))
    );

    // A bad token is not made good by a cookie, and none is taken from the URL.
    let headers = [("authorization", "Bearer planted-no-token")];
    browser.sign_in(&origin, "dev1").await;
    assert_eq!(
        browser.request(Method::GET, &api, &headers, "").await.unwrap().status,
        401
    );
    assert_eq!(visitor.get(&format!("{api}?token={good}")).await.unwrap().status, 401);

    // Neither the log nor an audit line has anything of what was shown.
    let log = gateway.log();
    let session = browser.jar(&origin)["__Host-devplane-session"].clone();
    for secret in [&good, &other, signature, "planted-", &session, CLIENT_SECRET] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    assert!(!gateway.audited("auth.token.rejected").is_empty());
}
