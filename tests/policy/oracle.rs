//! The evaluator's judgement is compared with that of analysers that others have written: cyclonus, in `tests/policy-oracle`, and Cilium's own engine of
//! policies, in `tests/cilium-oracle`.

use crate::central::{Central, any_central, any_traffic};
use crate::evaluator::{Traffic, allows};
use crate::site::dev;
use devplane::api::egress::{Fqdn, PolicyBackend};
use devplane::policy::cilium::CiliumNetworkPolicy;
use devplane::policy::{Egress, never};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
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
fn settings_and_traffic() -> Vec<(Central, Vec<Traffic>)> {
    let mut runner = TestRunner::deterministic();
    let some = any_central().prop_flat_map(|central| {
        let traffic = any_traffic(&central);
        (Just(central), prop::collection::vec(traffic, TRAFFIC_EACH))
    });
    (0..SETTINGS)
        .map(|_| {
            let (central, mut traffic) = some.new_tree(&mut runner).unwrap().current();
            for end in traffic
                .iter_mut()
                .flat_map(|traffic| [&mut traffic.source, &mut traffic.destination])
            {
                // Go reads an IPv4-mapped address as the IPv4 address, whatever it is written as.
                end.ip = end.ip.to_canonical();
            }
            (central, traffic)
        })
        .collect()
}

/// One letter for each of the traffic: `+` is allowed and `-` refused, as the Go program `tests/NAME` says.
fn judged_by(name: &str, cases: &[impl Serialize]) -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    // Go leaves it as it is while its sources are.
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let built = Command::new("go")
        .args(["build", "-mod=readonly", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(source)
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "go build of tests/{name} failed"
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
    let answers: Vec<String> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .collect();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(answers.len(), cases.len());
    answers
}

#[test]
fn an_analyser_that_others_have_written_agrees_on_every_case() {
    let cases: Vec<Case> = settings_and_traffic()
        .into_iter()
        .map(|(central, traffic)| Case {
            policies: central.policies(),
            traffic,
        })
        .collect();
    let answers = judged_by("policy-oracle", &cases);
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

/// One line of the input of Cilium's engine.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CiliumCase {
    policies: Vec<NetworkPolicy>,
    cilium_policies: Vec<CiliumNetworkPolicy>,
    traffic: Vec<Value>,
}

/// The name that an address outside was told for, of some.
const NAME: &str = "git.corp.example";

/// Whether a name opens it to dev1.
fn by_name(central: &Central, traffic: &Traffic) -> bool {
    let Egress {
        dns,
        fqdns,
        cluster_cidrs,
        ..
    } = &central.common;
    let name: Fqdn = NAME.parse().unwrap();
    let address = traffic.destination.ip;
    let is_closed = never()
        .chain(cluster_cidrs.iter().copied())
        .any(|range| range.contains(&address));
    let ports = central.ports();
    traffic.protocol == "TCP"
        && fqdns.iter().any(|listed| listed.covers(&name))
        && ports.iter().any(|port| port.get() == traffic.resolved_port)
        && !cluster_cidrs.is_empty()
        // A cache of names on the node is open, so that names are resolved.
        && (!is_closed || dns.node_local.contains(&address))
}

#[test]
fn cilium_s_own_engine_agrees_on_every_case() {
    let names = [
        &[][..],
        &["git.corp.example"],
        &["*.corp.example", "nexus.example.test"],
        &["*.git.corp.example"],
    ];
    let mut cases = Vec::new();
    let mut ours = Vec::new();
    let mut opened_by_name = 0;
    for (index, (mut central, mut traffic)) in settings_and_traffic().into_iter().enumerate() {
        central.common.fqdns = names[index % names.len()]
            .iter()
            .map(|name| name.parse().unwrap())
            .collect();
        // Which Cilium knows only where a setting of its own says so.
        traffic.retain(|traffic| traffic.protocol != "SCTP");
        let in_words_of_kubernetes = central.policies();
        let mut said = String::new();
        let mut asked = Vec::new();
        for (index, mut traffic) in traffic.into_iter().enumerate() {
            let outside = traffic.destination.internal.is_none();
            let named = outside && traffic.source == dev("dev1") && index % 2 == 0;
            // On a port that a name opens, where there is one.
            if named && let Some(port) = central.ports().first() {
                (traffic.resolved_port, traffic.protocol) = (port.get(), "TCP");
            }
            if named && index % 4 == 0 {
                traffic.destination.ip = IpAddr::from([203, 0, 113, 9]);
            }
            let mut words = serde_json::to_value(&traffic).unwrap();
            if named {
                words["Destination"]["Name"] = json!(NAME);
            }
            // To Cilium a range never means a pod, whatever address that has.
            if !outside {
                traffic.destination.ip = IpAddr::from([127, 0, 0, 1]);
            }
            let mut is_let = allows(&in_words_of_kubernetes, &traffic);
            if !is_let && named && by_name(&central, &traffic) {
                is_let = true;
                opened_by_name += 1;
            }
            said.push(if is_let { '+' } else { '-' });
            asked.push(words);
        }
        let workspaces = central.workspaces(PolicyBackend::Cilium);
        cases.push(CiliumCase {
            policies: workspaces
                .iter()
                .flat_map(|workspace| workspace.policies.clone())
                .collect(),
            cilium_policies: workspaces
                .into_iter()
                .filter_map(|workspace| workspace.cilium_policy)
                .collect(),
            traffic: asked,
        });
        ours.push(said);
    }
    let theirs = judged_by("cilium-oracle", &cases);
    for ((case, ours), theirs) in cases.iter().zip(&ours).zip(&theirs) {
        let differs = ours
            .chars()
            .zip(theirs.chars())
            .position(|(ours, theirs)| ours != theirs);
        let asked = differs.map(|index| &case.traffic[index]);
        assert_eq!(
            ours,
            theirs,
            "{asked:?}\n{}",
            serde_json::to_string_pretty(case).unwrap()
        );
    }
    let count = |verdict| ours.iter().map(|said| said.matches(verdict).count()).sum::<usize>();
    assert!(
        count('+') > 500 && count('-') > 500,
        "the cases say something: {} allowed, {} refused",
        count('+'),
        count('-')
    );
    assert!(opened_by_name > 20, "so do those of names: {opened_by_name}");
}
