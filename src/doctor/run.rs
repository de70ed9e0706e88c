//! Selected checks become findings: all at once, each after those that it needs, none for longer than its patience.

use super::check::{Check, Finding, Fix, Status};
use super::context::Context;
use super::select::{Kind, Selected, Selection};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// What happens while checks run.
pub enum Event<'a> {
    Started(&'static Check),
    /// `false` for one that is not told.
    Finished(&'a Finding, bool),
}

/// Runs them until all are through, or `stop`. The findings are in the order of the catalogue, those of other kinds than wanted only where
/// they do not hold. What probes have made is removed before this returns.
pub async fn run(
    selection: &Selection,
    context: &Arc<Context>,
    stop: &CancellationToken,
    mut tell: impl FnMut(Event<'_>),
) -> Vec<Finding> {
    let mut run = Running {
        context,
        waiting: selection.checks.clone(),
        done: BTreeMap::new(),
        running: FuturesUnordered::new(),
    };
    loop {
        run.start(&mut tell);
        let finished = tokio::select! {
            finished = run.running.next() => finished,
            () = stop.cancelled() => None,
        };
        let Some((one, finding)) = finished else { break };
        run.finish(one, finding, &mut tell);
    }
    run.give_up(selection, &mut tell);
    context.probes.sweep().await;
    let told = selection.checks.iter().filter_map(|one| {
        let finding = run.done.remove(one.check.claim.code)?;
        is_told(*one, &finding).then_some(finding)
    });
    told.collect()
}

struct Running<'a> {
    context: &'a Arc<Context>,
    waiting: Vec<Selected>,
    done: BTreeMap<&'static str, Finding>,
    running: FuturesUnordered<BoxFuture<'static, (Selected, Finding)>>,
}

impl Running<'_> {
    /// Starts what waits for nothing any more. What can't be known is through at once, which may set others free.
    fn start(&mut self, tell: &mut impl FnMut(Event<'_>)) {
        while let Some(place) = self.waiting.iter().position(|one| self.is_free(one)) {
            let one = self.waiting.remove(place);
            match self.hindrance(one) {
                Some(why) => self.finish(one, finding(one.check, Status::Skip { why }, Duration::ZERO), tell),
                None => {
                    tell(Event::Started(one.check));
                    let context = Arc::clone(self.context);
                    self.running
                        .push(Box::pin(async move { (one, patiently(one.check, context).await) }));
                }
            }
        }
    }

    /// Probes come last and one at a time: what they make takes room that quotas and nodes have, and others look at.
    fn is_free(&self, one: &Selected) -> bool {
        let is_last = || self.running.is_empty() && self.waiting.iter().all(|other| other.check.claim.probe);
        if one.check.claim.probe && !is_last() {
            return false;
        }
        one.check.claim.needs.iter().all(|need| {
            let is_waiting = self.waiting.iter().any(|other| other.check.claim.code == *need);
            !is_waiting && self.done.contains_key(need)
        })
    }

    fn hindrance(&self, one: Selected) -> Option<String> {
        if one.kind == Kind::Skipped {
            return Some("--skip leaves it out".to_owned());
        }
        let claim = one.check.claim;
        let unmet = claim.needs.iter().find_map(|need| match &self.done.get(need)?.status {
            Status::Pass { .. } => None,
            Status::Fail(_) => Some(format!("{need} failed")),
            Status::Skip { .. } => Some(format!("{need} was skipped")),
        });
        unmet.or_else(|| {
            (claim.probe && !self.context.probes.allowed)
                .then(|| "it makes objects in the cluster for a moment, which --probe allows".to_owned())
        })
    }

    fn finish(&mut self, one: Selected, finding: Finding, tell: &mut impl FnMut(Event<'_>)) {
        tell(Event::Finished(&finding, is_told(one, &finding)));
        self.done.insert(finding.claim.code, finding);
    }

    /// After an interruption: what is not through is skipped.
    fn give_up(&mut self, selection: &Selection, tell: &mut impl FnMut(Event<'_>)) {
        self.running.clear();
        for one in &selection.checks {
            if !self.done.contains_key(one.check.claim.code) {
                let status = Status::skip("the run was interrupted");
                self.finish(*one, finding(one.check, status, Duration::ZERO), tell);
            }
        }
    }
}

fn is_told(one: Selected, finding: &Finding) -> bool {
    one.kind != Kind::Needed || !matches!(finding.status, Status::Pass { .. })
}

async fn patiently(check: &'static Check, context: Arc<Context>) -> Finding {
    let begin = Instant::now();
    let patience = check.claim.patience;
    let status = timeout(patience, (check.run)(context)).await;
    let status = status.unwrap_or_else(|_| {
        Status::fail(
            "the check did not come to an end",
            format!("no answer within {} s", patience.as_secs()),
            "an answer",
            Fix::words("see whether what it asks is reachable from here, and try again with --only and this code"),
        )
    });
    finding(check, status, begin.elapsed())
}

fn finding(check: &Check, status: Status, took: Duration) -> Finding {
    Finding {
        claim: check.claim,
        status,
        took,
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Claim;
    use super::super::installation::{Installation, OidcSource};
    use super::super::probe::Probes;
    use super::super::values::Values;
    use super::*;
    use crate::cluster::client::ConnectError;
    use jiff::Timestamp;
    use rustls_pki_types::InvalidDnsNameError;
    use std::future::pending;
    use tokio::time::sleep;

    const CHECKS: &[Check] = &[
        Claim::error("DP9901", "silent").check(|_| Box::pin(pending())),
        Claim::error("DP9902", "silent for longer")
            .patience(25)
            .check(|_| Box::pin(pending())),
        Claim::error("DP9903", "fine").check(|_| Box::pin(async { Status::pass("it answers") })),
        Claim::error("DP9904", "after silence")
            .needs(&["DP9901"])
            .check(|_| Box::pin(async { Status::pass("never") })),
    ];

    fn all(checks: &'static [Check]) -> Selection {
        let checks = checks.iter().map(|check| Selected {
            check,
            kind: Kind::Wanted,
        });
        Selection {
            checks: checks.collect(),
        }
    }

    fn context(with_probes: bool) -> Arc<Context> {
        let values = Values::try_from("{}").unwrap();
        let nowhere = ConnectError::ServerName {
            name: String::new(),
            source: InvalidDnsNameError,
        };
        Arc::new(Context::new(
            Installation::of_values(values, "control", OidcSource::Values),
            Err(nowhere),
            Probes::new(with_probes, "run".to_owned()),
            Timestamp::UNIX_EPOCH,
        ))
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_given_up_and_keeps_nobody_waiting() {
        let begin = Instant::now();
        let mut events = Vec::new();
        let (selection, context, stop) = (all(CHECKS), context(false), CancellationToken::new());
        let findings = run(&selection, &context, &stop, |event| {
            let at = begin.elapsed().as_secs();
            events.push(match event {
                Event::Started(check) => (at, "starts", check.claim.code),
                Event::Finished(finding, _) => (at, "ends", finding.claim.code),
            });
        });
        let findings = findings.await;
        assert_eq!(
            events,
            [
                (0, "starts", "DP9901"),
                (0, "starts", "DP9902"),
                (0, "starts", "DP9903"),
                (0, "ends", "DP9903"),
                (10, "ends", "DP9901"),
                (10, "ends", "DP9904"),
                (25, "ends", "DP9902"),
            ]
        );
        let Status::Fail(failure) = &findings[1].status else {
            panic!("{findings:?}")
        };
        assert_eq!(
            (failure.problem.as_str(), failure.found.as_str()),
            ("the check did not come to an end", "no answer within 25 s")
        );
        assert_eq!(findings[2].status, Status::pass("it answers"));
        assert_eq!(findings[3].status, Status::skip("DP9901 failed"));
    }

    async fn after(seconds: u64) -> Status {
        sleep(Duration::from_secs(seconds)).await;
        Status::pass("it is there")
    }

    #[tokio::test(start_paused = true)]
    async fn probes_come_last_and_one_at_a_time() {
        const MIXED: &[Check] = &[
            Claim::error("DP9905", "a probe").probe().check(|_| Box::pin(after(2))),
            Claim::error("DP9906", "none").check(|_| Box::pin(after(3))),
            Claim::error("DP9907", "another probe")
                .probe()
                .check(|_| Box::pin(after(1))),
            Claim::error("DP9908", "another one")
                .needs(&["DP9906"])
                .check(|_| Box::pin(after(1))),
        ];
        let (begin, mut started) = (Instant::now(), Vec::new());
        let (selection, context, stop) = (all(MIXED), context(true), CancellationToken::new());
        let findings = run(&selection, &context, &stop, |event| {
            if let Event::Started(check) = event {
                started.push((begin.elapsed().as_secs(), check.claim.code));
            }
        });
        assert_eq!(findings.await.len(), MIXED.len());
        assert_eq!(started, [(0, "DP9906"), (3, "DP9908"), (4, "DP9905"), (6, "DP9907")]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_through_at_an_interruption_is_skipped() {
        let (selection, context, stop) = (all(CHECKS), context(false), CancellationToken::new());
        let findings = run(&selection, &context, &stop, |event| {
            if let Event::Finished(_, _) = event {
                stop.cancel();
            }
        });
        let findings = findings.await;
        let interrupted = Status::skip("the run was interrupted");
        for (finding, expected) in
            findings
                .iter()
                .zip([&interrupted, &interrupted, &Status::pass("it answers"), &interrupted])
        {
            assert_eq!(&finding.status, expected, "{}", finding.claim.code);
        }
        assert_eq!(findings.len(), CHECKS.len());
    }
}
