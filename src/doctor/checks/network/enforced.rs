//! What pods that were made for a moment reach, becomes the claim that policies are enforced.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::probe_pods::ProbePods;
use crate::connectivity::outcome::Line;
use crate::connectivity::{Observed, Outcome, Verdict};
use std::sync::Arc;

pub const CHECK: Check = Claim::error("DP0810", "NetworkPolicies are enforced")
    .needs(&["DP0201"])
    .why("Where they are not, every workspace reaches the API server, other workspaces and whatever else the network lets it, whatever the settings say.")
    .docs(
        "Three pods run for a moment in the namespace of the workspaces, under Pod Security's `restricted`, on different nodes where there are several: a canary that is policed \
         like a workspace, a neighbour that nobody polices, and one that asks the canary, and tries what it tries. A workspace may not reach \
         another one's terminal port, the API server, a node's kubelet, the clouds' metadata service, or another port of the DNS pods than that for names, and \
         nobody but a gateway its own terminal port; the cluster's DNS must answer it. A refusal counts only beside an answer at the same place to a pod that \
         nobody polices; where there is none, that line is told as not shown, and without the terminal port and the API server the claim is skipped \
         ([security](../topics/security.md)). Everything is removed afterwards, also after Ctrl-C, and what an earlier run has left. It takes the right to make and \
         delete pods and NetworkPolicies there, and reads the canary's ServiceAccount, as which they run where there is one: `workspace.allowedImages` lets nobody else have their image.",
    )
    .probe()
    .patience(300)
    .check(|context| Box::pin(enforced(context)));

async fn enforced(context: Arc<Context>) -> Status {
    let (Ok(client), Some(operator)) = (context.client(), context.installation.operator()) else {
        return Status::skip("the operator's settings are not known");
    };
    let found = match ProbePods::new(&context, client, operator).await {
        Ok(pods) => pods.outcome().await,
        Err(why) => Err(why),
    };
    match found {
        Ok((outcome, not_tried)) => judged(&outcome, not_tried),
        Err(why) => Status::skip(why),
    }
}

/// `not_tried` are lines that are missing, each with its reason.
fn judged(outcome: &Outcome, not_tried: Vec<String>) -> Status {
    let Outcome {
        verdict,
        lines,
        not_shown,
        refused_too_much,
    } = outcome;
    if let Verdict::NotEnforced { passed } = verdict {
        return Status::fail(
            "NetworkPolicies are not enforced",
            format!("an answer to what they refuse: {}", passed.join("; ")),
            "no answer",
            Fix::words(
                "install a network plugin that enforces NetworkPolicies (such as Calico, Cilium or OVN-Kubernetes), or switch its enforcement on; see that its pods are well on every node",
            ),
        );
    }
    if !refused_too_much.is_empty() {
        return Status::fail(
            "what NetworkPolicies allow is refused",
            format!("no answer: {}", refused_too_much.join("; ")),
            "the answer that a pod gets which nobody polices",
            Fix::words(
                "see that workspace.dns says where the cluster's DNS pods are, and on which port (DP0801), and a cache of names on the nodes (DP0804)",
            ),
        );
    }
    match verdict {
        Verdict::Unknown { why } => Status::skip(format!("nothing was shown: {why}")),
        _ => Status::pass(told(lines, not_shown, &not_tried)),
    }
}

fn told(lines: &[Line], not_shown: &[String], not_tried: &[String]) -> String {
    let refused = lines.iter().filter(|line| line.observed == Observed::Refused);
    let refused: Vec<_> = refused.map(|line| line.name.as_str()).collect();
    let mut told = format!("answered: the cluster's DNS; refused: {}", refused.join("; "));
    if !not_shown.is_empty() {
        told.push_str(&format!(
            "; not shown, as nobody answers there: {}",
            not_shown.join("; ")
        ));
    }
    if !not_tried.is_empty() {
        told.push_str(&format!("; not tried: {}", not_tried.join("; ")));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdict: Verdict, refused_too_much: &[&str]) -> Outcome {
        Outcome {
            verdict,
            lines: vec![Line {
                name: "the canary to the API server".to_owned(),
                observed: Observed::Refused,
            }],
            not_shown: vec!["the metadata service".to_owned()],
            refused_too_much: refused_too_much.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn what_was_not_shown_is_told_and_a_refused_name_is_a_fault() {
        let unknown = || Verdict::Unknown { why: "w".to_owned() };
        let passed = Verdict::NotEnforced {
            passed: vec!["p".to_owned()],
        };
        let pass = judged(&outcome(Verdict::Enforced, &[]), vec!["another port".to_owned()]);
        let Status::Pass { evidence } = pass else {
            panic!("{pass:?}")
        };
        for told in [
            "refused: the canary to the API server",
            "nobody answers there: the metadata service",
            "not tried: another port",
        ] {
            assert!(evidence.contains(told), "{evidence}");
        }
        assert!(matches!(judged(&outcome(unknown(), &[]), vec![]), Status::Skip { .. }));
        for (verdict, too_much, found) in [
            (unknown(), &["DNS"][..], "no answer: DNS"),
            (passed, &["DNS"], "an answer to what they refuse: p"),
        ] {
            let Status::Fail(failure) = judged(&outcome(verdict, too_much), vec![]) else {
                panic!()
            };
            assert_eq!(failure.found, found);
        }
    }
}
