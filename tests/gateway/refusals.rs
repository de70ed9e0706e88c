//! What is not allowed, and how it is said.

use crate::browser::Browser;
use crate::harness::Site;
use crate::openmetrics;
use hyper::Method;

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_signed_in_gets_nowhere() {
    let site = Site::new("refusals").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let visitor = Browser::default();
    for (path, status) in [
        ("/", 302),
        ("/anything", 302),
        ("/api/workspace", 401),
        ("/api/workspace/events", 401),
        ("/ws", 426),
        ("/assets/none.js", 404),
        ("/health", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/favicon.ico", 200),
    ] {
        assert_eq!(visitor.page(&format!("{origin}{path}")).await.status, status, "{path}");
    }
    let refused = visitor.terminal(&origin, &[("origin", &origin)]).await;
    assert_eq!(refused.err().unwrap().status, 401);
    for (method, path, allow) in [
        (Method::PUT, "/logout", "GET, HEAD, POST"),
        (Method::DELETE, "/api/workspace", "GET, HEAD, POST"),
        (Method::POST, "/", "GET, HEAD"),
        (Method::OPTIONS, "/api/workspace", "GET, HEAD, POST"),
        (Method::POST, "/ws", "GET"),
    ] {
        let answer = visitor
            .request(method, &format!("{origin}{path}"), &[], "")
            .await
            .unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, allow), "{path}");
    }
    // JSON for programs, a page for people, both with the request's id.
    let headers = [("x-request-id", "mine-1")];
    let api = format!("{origin}/api/workspace");
    let answer = visitor.request(Method::GET, &api, &headers, "").await.unwrap();
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert_eq!(answer.json()["requestId"], "mine-1");
    assert_eq!(answer.json()["error"], "unauthorized");
    assert!(!answer.json()["message"].as_str().unwrap().is_empty());
    let metrics = visitor.get(&format!("{origin}/metrics")).await.unwrap().body;
    let counted = r#"devplane_gateway_json_api_errors_total{http_status="401",error_code="unauthorized"}"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert!(gateway.audited("workspace.ensure_exists").is_empty());
    assert!(
        site.workspaces()
            .list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_change_nothing_and_open_no_terminal() {
    let site = Site::new("refusals-origin").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let browser = Browser::default();
    browser.sign_in(&origin, "dev1").await;
    let api = format!("{origin}/api/workspace");
    for foreign in [
        "https://other.test",
        "null",
        "http://127.0.0.1",
        &origin.replace("http", "https"),
    ] {
        let headers = [("origin", foreign)];
        let answer = browser.request(Method::POST, &api, &headers, "").await.unwrap();
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (403, Some("forbidden")),
            "{foreign}"
        );
        let refused = browser.terminal(&origin, &headers).await.err().unwrap();
        assert_eq!(refused.status, 403, "{foreign}");
    }
    assert_eq!(browser.request(Method::POST, &api, &[], "").await.unwrap().status, 403);
    assert_eq!(browser.terminal(&origin, &[]).await.err().unwrap().status, 403);
    assert!(gateway.audited("workspace.ensure_exists").is_empty());
    let own = browser
        .request(Method::POST, &api, &[("origin", &origin)], "")
        .await
        .unwrap();
    assert_eq!(own.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_refused_until_later() {
    let site = Site::new("refusals-rate").await;
    let settings = [
        ("GATEWAY_RL_LIFECYCLE_PER_USER_RPS", "0.01"),
        ("GATEWAY_RL_LIFECYCLE_PER_USER_BURST", "2"),
    ];
    let (gateway, origin) = (site.gateway(&settings).await, site.origin());
    let (one, other) = (Browser::default(), Browser::default());
    one.sign_in(&origin, "dev1").await;
    other.sign_in(&origin, "dev2").await;
    let api = format!("{origin}/api/workspace");
    for _ in 0..2 {
        assert_eq!(one.get(&api).await.unwrap().status, 200);
    }
    let refused = one.get(&api).await.unwrap();
    assert_eq!(
        (refused.status, refused.json()["error"].as_str()),
        (429, Some("rate_limited"))
    );
    assert!(
        (50..=100).contains(&refused.header("retry-after").parse::<u32>().unwrap()),
        "{refused:?}"
    );
    assert_eq!(
        other.get(&api).await.unwrap().status,
        200,
        "another user's requests are their own"
    );
    let metrics = one.get(&format!("{origin}/metrics")).await.unwrap().body;
    let counted = r#"devplane_gateway_rate_limit_hits_total{endpoint="lifecycle",scope="user"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    openmetrics::assert_as_documented(&metrics, "The gateway");
    assert_eq!(gateway.audited("rate_limit.exceeded")[0]["actor.subject"], "dev1");
}
