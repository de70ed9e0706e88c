//! DP09: values become the claims that the chart has every key of them, and that none means something else than when it was written.

mod changes;
mod keys;

use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::super::values::Values;
use changes::CHANGES;
use std::sync::Arc;

pub const CHECKS: &[Check] = &[
    KNOWN.check(|context| Box::pin(on_values(context, known))),
    MEANT.check(|context| Box::pin(on_values(context, meant))),
];

const PAGE: &str = "docs/setup/upgrade-from-1.1.md";

const KNOWN: Claim = Claim::error("DP0901", "the chart has every key of the values")
    .why("Helm refuses values with a key that the chart does not have.")
    .docs(
        "Every key of the values files is looked up in the schema of the chart that belongs to this executable. A key of an earlier version is told with the one that \
         says it now, a misspelt one with the one that is like it. [Upgrade from 1.1](../setup/upgrade-from-1.1.md) has all of them.",
    );

const MEANT: Claim = Claim::warning("DP0902", "no value means something else than in 1.1")
    .why("A release that was upgraded with the values of 1.1 may start programs that are not there, reach less than before, or let in more than it should.")
    .docs(
        "The keys of 1.1 are all there, but some mean more now, or something safer: images, ports that lead outside the cluster alone, who reaches the gateway. Each \
         that the values files have is told until what belongs to it is set. [Upgrade from 1.1](../setup/upgrade-from-1.1.md) explains them key by key.",
    );

async fn on_values(context: Arc<Context>, check: fn(&Values) -> Status) -> Status {
    match &context.installation.values {
        Some(values) => check(values),
        None => Status::skip("the settings are not given as values"),
    }
}

fn known(values: &Values) -> Status {
    let unknown = keys::unknown(values.given());
    if unknown.is_empty() {
        return Status::pass("helm takes every key");
    }
    let told = unknown.iter().map(|key| {
        let key_path = &key.path;
        match (changes::gone(key_path), &key.meant) {
            (Some(change), _) => format!("{key_path}: now {}. {}", change.now, change.note),
            (None, Some(meant)) => format!("{key_path}: {meant} was meant, if it was a slip"),
            (None, None) => format!("{key_path}: there is nothing like it; docs/reference/values.md lists all keys"),
        }
    });
    let paths: Vec<_> = unknown.iter().map(|key| key.path.as_str()).collect();
    Status::fail(
        format!("the chart has no key {}", paths.join(", ")),
        paths.join(", "),
        "keys of the chart's values.schema.json",
        Fix::words(told.collect::<Vec<_>>().join("\n")),
    )
}

fn meant(values: &Values) -> Status {
    let concerned: Vec<_> = CHANGES.iter().filter(|change| change.concerns(values)).collect();
    if concerned.is_empty() {
        return Status::pass("nothing of 1.1 that means something else now");
    }
    let keys: Vec<_> = concerned.iter().map(|change| change.key.as_str()).collect();
    let told = concerned
        .iter()
        .map(|change| format!("{}: {}", change.key, change.note));
    Status::fail(
        format!("the meaning of {} is another one than in 1.1", keys.join(", ")),
        keys.join(", "),
        format!("what {PAGE} says of each"),
        Fix::words(told.collect::<Vec<_>>().join("\n")),
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::check::Failure;
    use super::*;

    const OLD: &str = include_str!("../../../../tests/chart/release-1.1/values.yaml");
    const MENDED: &str = include_str!("../../../../tests/chart/values-2.0.yaml");

    fn values(texts: &[&str]) -> Values {
        let texts: Vec<_> = texts
            .iter()
            .map(|text| ("values".to_owned(), (*text).to_owned()))
            .collect();
        Values::of(&texts).unwrap()
    }

    #[test]
    fn values_of_1_1_are_known_and_told_until_they_are_mended() {
        assert!(matches!(known(&values(&[OLD])), Status::Pass { .. }));
        let Status::Fail(Failure { found, .. }) = meant(&values(&[OLD])) else {
            panic!("nothing is told")
        };
        assert_eq!(
            found,
            "operator.image, gateway.image, gateway.ingress.enabled, workspace.image, workspace.ai.egressPorts, workspace.packageMirrors.pip.trustedHost"
        );
        let trusting = "workspace: {packageMirrors: {pip: {trustedHost: ''}}}";
        let status = meant(&values(&[OLD, MENDED, trusting]));
        assert!(matches!(status, Status::Pass { .. }), "{status:?}");
    }

    #[test]
    fn a_key_that_is_gone_is_told_with_the_new_one_and_a_slip_with_what_was_meant() {
        let given = "gateway: {terminationGracePeriodSeconds: 60, replica: 3}\nnothing: {}";
        let Status::Fail(Failure { problem, fix, .. }) = known(&values(&[given])) else {
            panic!("it passes")
        };
        for key in ["gateway.terminationGracePeriodSeconds", "gateway.replica", "nothing"] {
            assert!(problem.contains(key), "{problem}");
        }
        let Fix::Words(fix) = fix else { panic!("{fix:?}") };
        assert!(
            fix.contains("gateway.terminationGracePeriodSeconds: now gateway.drainSeconds."),
            "{fix}"
        );
        assert!(fix.contains("gateway.replica: replicas was meant"), "{fix}");
        assert!(fix.contains("nothing: there is nothing like it"), "{fix}");
    }
}
