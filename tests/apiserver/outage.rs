//! The API server is away for a minute, and the operator comes back by itself.

use crate::apiserver::ApiServer;
use crate::operator::{Operator, Site, spec};
use std::time::{Duration, Instant};

const OUTAGE: Duration = Duration::from_secs(60);

/// Eleven watches and a Lease, each tried again after longer and longer, leave no more lines than that in a minute.
const MOST_LINES: usize = 250;

/// The longest pause of a watch, and time for the work.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(40);

/// Starts the operator again when it has ended, as a kubelet does. Gives all that it has logged.
async fn kept_running(site: &Site, mut operator: Operator, duration: Duration) -> (Operator, String) {
    let mut log = String::new();
    let started = tokio::time::Instant::now();
    while started.elapsed() < duration {
        if operator.has_exited() {
            log += &operator.log();
            operator = leader(site);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    log += &operator.log();
    (operator, log)
}

fn leader(site: &Site) -> Operator {
    site.operator(&[("LEADER_ELECT", "true"), ("POD_NAME", "leader")])
}

async fn makes(site: &Site, name: &str) {
    site.create(name, &spec(name)).await;
    site.until(name, "made", |w| {
        w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_was_away_is_served_again() {
    let server: &ApiServer = Box::leak(Box::new(ApiServer::start()));
    let (alone, elected) = (Site::at(server, "alone").await, Site::at(server, "elected").await);
    // It does so for a moment when it starts.
    alone.forbids();
    elected.forbids();
    let mut operator = alone.operator(&[]);
    let leader = leader(&elected);
    makes(&alone, "before").await;
    makes(&elected, "before").await;

    server.stop();
    let (leader, log) = kept_running(&elected, leader, OUTAGE).await;
    assert!(
        log.contains("the Lease could not be renewed in time"),
        "who can't renew must stop: {log}"
    );
    assert!(!operator.has_exited(), "{}", operator.log());
    for log in [&operator.log(), &log] {
        let lines = log.lines().count();
        assert!(lines < MOST_LINES, "{lines} lines in a minute: {log}");
    }

    server.start_again();
    let (_leader, _) = kept_running(&elected, leader, Duration::from_secs(1)).await;
    let back = Instant::now();
    makes(&alone, "after").await;
    makes(&elected, "after").await;
    assert!(back.elapsed() < COMES_BACK_WITHIN, "{:?}", back.elapsed());
    // What it forbids when it starts is outlasted, too.
    assert!(!operator.has_exited());
    server.stop();
}

/// Nothing is known of the certificates then, and nothing is said of them: it is waited for what the API server says.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_starts_before_its_api_server_blames_no_certificates() {
    let server: &ApiServer = Box::leak(Box::new(ApiServer::start()));
    let site = Site::at(server, "early").await;
    site.forbids();
    let first = site.operator(&[]);
    makes(&site, "before").await;
    assert_eq!(first.stop(), Some(0));
    site.create("after", &spec("after")).await;
    server.stop();
    let operator = site.operator(&[]);
    tokio::time::sleep(Duration::from_secs(25)).await;
    server.start_again();
    site.until("after", "made", |w| {
        w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
    })
    .await;
    let log = operator.log();
    assert!(!log.contains("CertificatesUnavailable"), "{log}");
    server.stop();
}
