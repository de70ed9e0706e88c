//! What comes late, or is away for a while, signs nobody out: the provider, and the API server.

use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{Site, address, ttyd};
use crate::sessions::{counted, sign_ins, signed_in, terminals, two};
use crate::wire::Wire;
use crate::workspaces::Events;
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_late_and_can_not_be_written_at_once_signs_nobody_out() {
    let place = address();
    let site = Site::new("late-refresh").await;
    let wire = Wire::to(site.server.port).await;
    let kubeconfig = std::fs::read_to_string(site.server.kubeconfig("gateway")).unwrap();
    let through = site.directory.path().join("kubeconfig");
    let (direct, detour) = (format!(":{}", site.server.port), format!(":{}", wire.port));
    std::fs::write(&through, kubeconfig.replace(&direct, &detour)).unwrap();
    let settings = [
        ("SESSION_REFRESH_INTERVAL", "3s"),
        ("SESSION_REFRESH_GRACE", "5m"),
        ("SESSION_WATCH_LOSS", "2m"),
        ("KUBECONFIG", through.to_str().unwrap()),
    ];
    let (first, second) = two(&site, place, &settings).await;
    let _ttyd = ttyd(place);
    let browser = signed_in(&site, &second).await;
    // Each asks by itself when it is time to.
    let mut both = terminals(&site, &browser, &second).await;
    assert!(eventually(async || sign_ins(&site).await.len() == 1).await);
    site.halt_provider(true);
    let claimed = eventually(async || sign_ins(&site).await[0].refreshing.is_some());
    assert!(claimed.await);
    // Longer than a document may take. The provider has the question, and what was asked with is used up when it goes on.
    sleep(Duration::from_secs(13)).await;
    // The claim looks as if it had been left. The one that took it still has the answer to write when both hear of the API server again.
    wire.cut();
    let name = site.name("dev1");
    let mut entries = json!(sign_ins(&site).await);
    entries[0]["refreshing"]["since"] = json!("2026-01-01T00:00:00.000000Z");
    site.set_status(&name, json!({"signIns": entries})).await;
    let confirmed = || counted([&first, &second], "session_refreshes", "confirmed");
    let before = confirmed().await;
    site.halt_provider(false);
    let confirms = eventually(async || confirmed().await > before);
    assert!(confirms.await, "{}{}", first.log(), second.log());
    sleep(Duration::from_secs(2)).await;
    wire.mend();

    let goes_on = eventually(async || confirmed().await > before + 1);
    assert!(goes_on.await, "{}{}", first.log(), second.log());
    assert_eq!(counted([&first, &second], "session_refreshes", "refused").await, 0);
    for (terminal, gateway) in both.iter_mut().zip([&first, &second]) {
        terminal.type_keys("echo st$((1))ll\r").await;
        terminal.until("st1ll").await;
        assert_eq!(browser.page(&gateway.origin).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_before_its_provider_lets_in_who_is_signed_in() {
    let site = Site::new("late-provider").await;
    let (origin, browser) = (site.origin(), Browser::default());
    let before = site.gateway(&[]).await;
    browser.sign_in(&origin, "dev1").await;
    assert_eq!(browser.page(&origin).await.status, 200);
    drop(before);
    site.stop_provider();
    let _gateway = site.gateway_without_provider().await;
    let ready = format!("{origin}/readyz");
    let answer = browser.get(&ready).await.unwrap();
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (503, &json!("provider_unavailable"))
    );
    assert_eq!(
        browser.get(&format!("{ready}?exclude=provider")).await.unwrap().status,
        200
    );
    assert_eq!(browser.page(&origin).await.status, 200);
    let stranger = Browser::default();
    assert_eq!(stranger.page(&format!("{origin}/login")).await.status, 503);

    site.start_provider();
    assert!(eventually(async || browser.get(&ready).await.unwrap().status == 200).await);
    assert_eq!(stranger.sign_in(&origin, "dev2").await.status, 302);
    assert_eq!(stranger.page(&origin).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_s_streams_leave_room_for_others() {
    let site = Site::new("late-streams").await;
    let _gateway = site.gateway(&[]).await;
    let (origin, browser, other) = (site.origin(), Browser::default(), Browser::default());
    for (browser, user) in [(&browser, "dev1"), (&other, "dev2")] {
        browser.sign_in(&origin, user).await;
        assert_eq!(browser.page(&origin).await.status, 200);
    }
    let url = format!("{origin}/api/workspace/events");
    let mut streams = Vec::new();
    for _ in 0..32 {
        let mut stream = Events::of(&browser, &origin).await;
        assert_eq!(stream.next().await.unwrap().0, "workspace");
        streams.push(stream);
    }
    let refused = browser.get(&url).await.unwrap();
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (429, &json!("too_many_streams"))
    );
    assert!(!refused.header("retry-after").is_empty());
    let _others = Events::of(&other, &origin).await;
    // The place of one that ends is free again.
    streams.pop();
    let again = eventually(async || {
        let next = tokio::time::timeout(Duration::from_secs(2), browser.get(&url)).await;
        // A stream that is let in does not end.
        next.is_err()
    });
    assert!(again.await);
}
