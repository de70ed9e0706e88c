//! Who may enter, as the provider's token says.

use crate::browser::Browser;
use crate::harness::{CLIENT_SECRET, Site};
use devplane::gateway::session::{Cookies, Presented};
use devplane::gateway::session_keys;
use hyper::Method;
use hyper::header::COOKIE;
use serde_json::json;

const SESSION: &str = "__Host-devplane-session";

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_enter_is_told_why_and_whom_to_ask() {
    let users = json!({
        "dev1": {"groups": ["staff", "dev", "cn=admins,ou=it"]},
        "dev2": {"groups": ["dev"]},
        "stranger": {"groups": ["dev"]},
        "guest": {"groups": ["guests"]},
        "outside": {"groups": ["dev"], "email": "outside@other.test"},
        "unverified": {"groups": ["dev"], "emailVerified": false},
    });
    let site = Site::at_provider("entry", json!({"users": users})).await;
    let settings = [
        ("OIDC_ALLOWED_GROUPS", r#"["dev","cn=ops,ou=it"]"#),
        ("OIDC_ALLOWED_EMAIL_DOMAINS", "Example.test"),
        (
            "OIDC_REQUIRED_CLAIMS",
            r#"{"preferred_username":["dev1","dev2","guest","outside","unverified"]}"#,
        ),
        ("OIDC_ADMIN_GROUPS", r#"["cn=admins,ou=it"]"#),
        ("SUPPORT_CONTACT", "<platform@example.test>"),
    ];
    let (gateway, origin) = (site.gateway(&settings).await, site.origin());
    let welcome = Browser::default();
    assert_eq!(welcome.sign_in(&origin, "dev1").await.status, 302);
    assert_eq!(welcome.page(&origin).await.status, 200);
    let other = Browser::default();
    other.sign_in(&origin, "dev2").await;
    assert_eq!(other.page(&origin).await.status, 200);

    // Who is an administrator is in the session alone, which the keys of the gateways open.
    let cookies = Cookies::new(session_keys::load(&site.client, &site.namespace).await.unwrap());
    for (browser, is_admin) in [(&welcome, true), (&other, false)] {
        let cookie = format!("{SESSION}={}", browser.jar(&origin)[SESSION]);
        let headers = [(COOKIE, cookie.parse().unwrap())].into_iter().collect();
        let Presented::Session(session) = cookies.session(&headers) else {
            panic!("no session")
        };
        assert_eq!(session.person.is_admin, is_admin, "{}", session.person.identity.subject);
    }

    let (redirect, api) = (format!("{origin}/callback"), format!("{origin}/api/workspace"));
    for (user, reason, why) in [
        ("guest", "group_not_allowed", "none of the groups"),
        ("outside", "email_domain_not_allowed", "not of a domain"),
        ("unverified", "email_not_verified", "not verified"),
        ("stranger", "claim_not_allowed", "does not say of you what is required"),
    ] {
        let browser = Browser::default();
        let refused = browser.sign_in(&origin, user).await;
        assert_eq!(refused.status, 403, "{refused:?}");
        // Text, not markup.
        for part in [
            why,
            "Whom to ask: &#60;platform@example.test&#62;",
            refused.header("x-request-id"),
        ] {
            assert!(refused.body.contains(part), "{part} is not in {}", refused.body);
        }
        assert!(browser.jar(&origin).is_empty(), "no session");
        assert_eq!(
            gateway.audited("oidc.callback.failure").last().unwrap()["reason"],
            reason
        );

        let token = browser
            .id_token(&site.issuer, ("devplane", CLIENT_SECRET), &redirect, user)
            .await;
        let authorization = format!("Bearer {token}");
        // No header says which groups someone is in.
        let headers = [
            ("authorization", authorization.as_str()),
            ("x-forwarded-groups", "dev"),
            ("x-auth-request-groups", "dev"),
        ];
        let refused = browser.request(Method::GET, &api, &headers, "").await.unwrap();
        assert_eq!(
            (refused.status, refused.json()["error"].as_str()),
            (403, Some("forbidden"))
        );
        assert_eq!(gateway.audited("auth.token.rejected").last().unwrap()["reason"], reason);
    }
    let workspaces = site.workspaces().list(&kube::api::ListParams::default()).await.unwrap();
    assert_eq!(workspaces.items.len(), 2, "only of who may enter");
}
