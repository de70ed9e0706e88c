//! One request id from end to end: a gateway, an operator and a recording tell of it alike.

use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{CLIENT_SECRET, Site, address, ttyd};
use crate::operator;
use devplane::api::Phase;
use devplane::recording::seal::TrustedKeys;
use devplane::recording::verify;
use hyper::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_known_by_its_id_at_the_gateway_the_operator_and_in_the_recording() {
    let place = address();
    const ID: &str = "journey-4711";
    let site = Site::new("journey").await;
    let cluster = operator::Site::within(site.server, &site.namespace).await;
    let operator = cluster.operator(&[("TERMINAL_TLS", "false")]);
    let recordings = tempfile::tempdir().unwrap();
    let settings = [
        ("TERMINAL_TLS", "false"),
        ("GATEWAY_WORKSPACE_ADDRESS", "podIP"),
        ("SESSION_RECORDING_ENABLED", "true"),
        ("SESSION_RECORDING_DIR", recordings.path().to_str().unwrap()),
    ];
    let (gateway, origin) = (site.gateway(&settings).await, site.origin());
    let _ttyd = ttyd(place);

    let browser = Browser::default();
    let client = ("devplane", CLIENT_SECRET);
    let token = browser
        .id_token(&site.issuer, client, &format!("{origin}/callback"), "dev1")
        .await;
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-request-id", ID),
        ("origin", origin.as_str()),
    ];
    let url = format!("{origin}/api/workspace");
    let answer = browser.request(Method::POST, &url, &headers, "").await.unwrap();
    assert_eq!((answer.status, answer.header("x-request-id")), (200, ID));

    let name = site.name("dev1");
    let pod = format!("{name}-workspace-pod");
    cluster
        .until(&name, "made", |w| {
            w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
        })
        .await;
    cluster.run_at(&pod, place).await.unwrap();
    cluster
        .until(&name, "Running", |w| operator::phase(w) == Some(Phase::Running))
        .await;
    let mut opened = None;
    let open = eventually(async || {
        opened = browser.terminal(&origin, &headers).await.ok();
        opened.is_some()
    });
    assert!(open.await, "{}", gateway.log());
    let mut terminal = opened.unwrap();
    terminal.hello().await;
    terminal.until("$ ").await;
    drop(terminal);
    assert!(eventually(async || gateway.audited("ws.session.end").len() == 1).await);

    let id = json!(ID);
    for event in ["workspace.ensure_exists", "ws.session.start", "ws.session.end"] {
        let lines = gateway.audited(event);
        assert!(
            !lines.is_empty() && lines.iter().all(|line| line["devplane.request_id"] == id),
            "{event}: {lines:?}"
        );
    }
    let transitions = operator.audited("workspace.phase_transition");
    assert!(
        transitions.iter().any(|line| line["toPhase"] == "Running"),
        "{transitions:?}"
    );
    assert!(
        transitions.iter().all(|line| line["devplane.request_id"] == id),
        "{transitions:?}"
    );
    let verdict = verify::directory(recordings.path(), &TrustedKeys::default()).unwrap();
    let [session] = &verdict.sessions[..] else {
        panic!("{verdict:?}")
    };
    assert_eq!(session.manifest.as_ref().unwrap().meta.request_id, ID);
    assert_eq!(gateway.audited("ws.session.start")[0]["recording"], session.id.as_str());
}
