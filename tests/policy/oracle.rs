//! The evaluator's judgement is compared with that of an analyser that others have written: cyclonus, in `tests/policy-oracle`.

use crate::evaluator::{Traffic, allows};
use crate::site::{any_egress, any_traffic, policies};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde::Serialize;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const SETTINGS: usize = 400;
const TRAFFIC_EACH: usize = 12;

/// One line of the analyser's input.
#[derive(Serialize)]
struct Case {
    policies: Vec<NetworkPolicy>,
    traffic: Vec<Traffic>,
}

/// From a fixed seed, so that every run asks the same.
fn cases() -> Vec<Case> {
    let mut runner = TestRunner::deterministic();
    let some = any_egress().prop_flat_map(|egress| {
        let traffic = any_traffic(&egress);
        (Just(egress), prop::collection::vec(traffic, TRAFFIC_EACH))
    });
    (0..SETTINGS)
        .map(|_| {
            let (egress, mut traffic) = some.new_tree(&mut runner).unwrap().current();
            for end in traffic
                .iter_mut()
                .flat_map(|traffic| [&mut traffic.source, &mut traffic.destination])
            {
                // Go reads an IPv4-mapped address as the IPv4 address, whatever it is written as.
                end.ip = end.ip.to_canonical();
            }
            Case {
                policies: policies(&egress),
                traffic,
            }
        })
        .collect()
}

/// One letter for each of the traffic: `+` is allowed and `-` refused.
fn judged_by_the_oracle(cases: &[Case]) -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy-oracle");
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("policy-oracle");
    let built = Command::new("go")
        .args(["build", "-mod=readonly", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(source)
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "go build of tests/policy-oracle failed"
    );
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines: Vec<String> = cases.iter().map(|case| serde_json::to_string(case).unwrap()).collect();
    let writer = std::thread::spawn(move || {
        for line in lines {
            writeln!(stdin, "{line}").unwrap();
        }
    });
    let answers = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .collect();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    answers
}

#[test]
fn an_analyser_that_others_have_written_agrees_on_every_case() {
    let cases = cases();
    let answers = judged_by_the_oracle(&cases);
    assert_eq!(answers.len(), cases.len());
    let (mut allowed, mut refused) = (0, 0);
    // Of these, to an IPv6 address: no real node of these tests has any.
    let (mut allowed_by_ipv6, mut refused_by_ipv6) = (0, 0);
    for (case, answer) in cases.iter().zip(&answers) {
        let ours: String = case
            .traffic
            .iter()
            .map(|traffic| if allows(&case.policies, traffic) { '+' } else { '-' })
            .collect();
        for ((traffic, ours), theirs) in case.traffic.iter().zip(ours.chars()).zip(answer.chars()) {
            assert_eq!(
                ours,
                theirs,
                "{traffic:?}\n{}",
                serde_json::to_string_pretty(&case.policies).unwrap()
            );
            match (traffic.destination.ip.is_ipv6(), ours) {
                (true, '+') => allowed_by_ipv6 += 1,
                (true, _) => refused_by_ipv6 += 1,
                (false, _) => {}
            }
        }
        assert_eq!(ours.len(), answer.len());
        allowed += ours.matches('+').count();
        refused += ours.matches('-').count();
    }
    assert!(
        allowed > 500 && refused > 500,
        "the cases say something: {allowed} allowed, {refused} refused"
    );
    assert!(
        allowed_by_ipv6 > 200 && refused_by_ipv6 > 200,
        "so do those of IPv6: {allowed_by_ipv6} allowed, {refused_by_ipv6} refused"
    );
}
