//! Faults that are made on purpose on a healthy installation: each is found by exactly the claim that is for it, and gone after the printed fix.
//!
//! A row of a table is one fault. To add one, add a row to `cluster.rs`, or a table of another file to a test here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "other tiers do more with it")]
#[path = "../harness/apiserver.rs"]
mod apiserver;
#[path = "../harness/authority.rs"]
mod authority;
#[path = "../harness/cilium.rs"]
mod cilium_definition;
mod cluster;
mod install;
mod outside;
#[allow(dead_code, reason = "other tiers do more with it")]
#[path = "../harness/registry.rs"]
mod registry;
mod site;

use serde_json::Value;
use site::{Site, examine, failures};

/// Groups that say something about the cluster alone.
const GROUPS: &str = "DP01,DP02,DP03,DP04,DP08,DP11";

/// What does not hold, and what there was no right to know.
fn unread(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let skipped = findings.filter(|finding| finding["because"].as_str().is_some_and(|why| why.contains(" may not ")));
    let skipped = skipped.map(|finding| format!("{}: {}", finding["code"], finding["because"]));
    failures(report).into_iter().chain(skipped).collect()
}

#[test]
fn each_fault_in_the_cluster_is_found_and_mended() {
    let site = Site::new("cluster", cluster::VALUES);
    site.file("cilium.yaml", &cilium_definition::definition());
    site.script(cluster::HEALTHY);
    site.settle();
    site.expect_healthy(GROUPS);
    assert_eq!(unread(&site.doctor_in_the_cluster(GROUPS)), Vec::<String>::new());
    assert_eq!(site.interrupt_probe(), "", "what a probe has made is removed on Ctrl-C");
    assert_eq!(
        failures(&site.try_volume(cluster::KEEPING_DRIVER)),
        Vec::<String>::new()
    );
    site.script(cluster::IS_LET_GO);
    site.script(cluster::NO_VOLUMES);
    assert_eq!(failures(&site.try_volume("")), ["DP0406"], "a quota without volumes");
    site.script("kubectl delete quota no-volumes -n workspaces >/dev/null");
    let failed: Vec<_> = cluster::ROWS
        .iter()
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
        cluster::ROWS.len(),
        failed.join("\n")
    );
}
