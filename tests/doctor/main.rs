//! Faults that are made on purpose on a healthy installation: each is found by exactly the claim that is for it, and gone after the printed fix.
//!
//! A row of a table is one fault. To add one, add a row to a file of `cluster`, or a table of another file to a test here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "other tiers do more with it")]
#[path = "../harness/apiserver.rs"]
mod apiserver;
#[path = "../harness/authority.rs"]
mod authority;
#[path = "../harness/cilium.rs"]
mod cilium_definition;
mod cluster;
#[path = "../harness/doctor_report.rs"]
mod doctor_report;
mod install;
mod outside;
#[allow(dead_code, reason = "other tiers do more with it")]
#[path = "../harness/registry.rs"]
mod registry;
mod site;
mod way_to_api_server;

use devplane::clock::{Clock, SystemClock};
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{DATE, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use site::{Site, examine, failure, failures};

/// Groups that say something about the cluster alone.
const GROUPS: &str = "DP01,DP02,DP03,DP04,DP08,DP11";

/// What does not hold, and what there was no right to know.
fn unread(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let skipped = findings.filter(|finding| finding["because"].as_str().is_some_and(|why| why.contains(" may not ")));
    let skipped = skipped.map(|finding| format!("{}: {}", finding["code"], finding["because"]));
    failures(report).into_iter().chain(skipped).collect()
}

/// As an API server of long ago calls itself.
fn is_too_old(answer: &mut Response<Bytes>) {
    let mut version: Value = serde_json::from_slice(answer.body()).unwrap();
    version["minor"] = json!("26+");
    version["gitVersion"] = json!("v1.26.15-site");
    *answer.body_mut() = Bytes::from(version.to_string());
}

/// An API server when what is made now is older than any run of the doctor lasts.
fn is_later(answer: &mut Response<Bytes>) {
    let later: Timestamp = SystemClock.now() + SignedDuration::from_mins(20);
    let date = later.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    answer.headers_mut().insert(DATE, HeaderValue::from_str(&date).unwrap());
}

#[test]
fn each_fault_in_the_cluster_is_found_and_mended() {
    let site = Site::new("cluster", cluster::VALUES);
    site.file("cilium.yaml", &cilium_definition::definition());
    site.script(cluster::HEALTHY);
    site.settle();
    site.expect_healthy(GROUPS);
    assert_eq!(unread(&site.doctor_in_the_cluster(GROUPS)), Vec::<String>::new());
    let report = site.doctor_at(site.api_server_that(|_| ()).kubeconfig(), GROUPS, &[]);
    assert_eq!(failures(&report), Vec::<String>::new(), "the way in changes nothing");
    let report = site.doctor_at(site.api_server_that(is_too_old).kubeconfig(), GROUPS, &[]);
    assert_eq!(failures(&report), ["DP0201"], "{report:#}");
    assert_eq!(failure(&report, "DP0201")["found"], "v1.26.15-site");
    assert_eq!(site.interrupt_probe(), "", "what a probe has made is removed on Ctrl-C");
    assert_eq!(
        failures(&site.try_volume(cluster::KEEPING_DRIVER)),
        Vec::<String>::new()
    );
    site.script(cluster::IS_LET_GO);
    site.script(cluster::KEPT_VOLUME);
    site.script(cluster::LIMITS_FROM_BELOW);
    assert_eq!(failures(&site.try_volume(cluster::BINDER)), Vec::<String>::new());
    site.script("kubectl delete limitrange below -n workspaces >/dev/null");
    site.script(cluster::IS_KEPT);
    site.script(cluster::AUTHORITIES);
    let values = [site.file("new.yaml", cluster::NEW_NAMESPACE)];
    let report = site.doctor("DP0413", &values);
    assert_eq!(failures(&report), ["DP0413"], "{report:#}");
    site.script(failure(&report, "DP0413")["fix"]["text"].as_str().unwrap());
    assert_eq!(failures(&site.doctor("DP0413,DP0402", &values)), Vec::<String>::new());
    site.script(cluster::NO_AUTHORITIES);
    site.script(cluster::NO_ROOM);
    assert_eq!(failures(&site.try_volume("")), ["DP0407"], "a quota without volumes");
    site.script(cluster::ROOM);
    site.script(cluster::NO_TRIAL);
    site.script(cluster::LEFT_BY_ANOTHER_RUN);
    assert_eq!(failures(&site.try_volume("")), ["DP0406"], "a policy against volumes");
    site.script(cluster::IS_THERE);
    let later = site.api_server_that(is_later);
    assert_eq!(failures(&site.try_volume_at(later.kubeconfig())), ["DP0406"]);
    site.script(cluster::IS_REMOVED);
    site.script(cluster::TRIAL);
    let failed: Vec<_> = cluster::rows()
        .filter_map(|row| {
            examine(&site, GROUPS, row)
                .err()
                .map(|why| format!("{}: {why}", row.name))
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {}:\n{}",
        failed.len(),
        cluster::rows().count(),
        failed.join("\n")
    );
}
