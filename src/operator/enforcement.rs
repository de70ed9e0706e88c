//! What each round of the canary shows becomes what is known of the enforcement of policies, and what follows from it. Pure.
//!
//! A packet may get lost and a pod be policed a moment late, so a change for the better or the worse takes some rounds that agree, also in a
//! process that has just begun. A round in between that shows nothing takes nothing from them, nor does it clear anybody.

use crate::connectivity::Verdict;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Rounds in a row that must agree on a change.
const AGREEING: u32 = 3;

/// What one round takes, as long as nothing answers.
const LONGEST_ROUND: Duration = Duration::from_secs(4);

/// After another round that shows nothing.
const UNKNOWN_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Enforcement {
    /// Nobody looks.
    #[default]
    Unwatched,
    /// This process has not heard of it yet: what was known before it began still stands.
    Pending,
    Enforced,
    /// These forbidden connections were answered when it was found out.
    NotEnforced {
        passed: Arc<str>,
    },
    Unknown,
}

impl Enforcement {
    /// The word in metrics.
    pub fn word(&self) -> Option<&'static str> {
        match self {
            Self::Unwatched => None,
            Self::Pending | Self::Unknown => Some("unknown"),
            Self::Enforced => Some("enforced"),
            Self::NotEnforced { .. } => Some("not_enforced"),
        }
    }
}

/// Whether a workspace may start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Gate {
    #[default]
    Open,
    /// It will be known in a moment.
    Waits,
    Closed,
    /// Its terminal would have no certificate.
    Uncertified,
}

impl Gate {
    /// `required`: whether anything may start only while policies are known to be enforced.
    pub fn of(enforcement: &Enforcement, required: bool) -> Self {
        match enforcement {
            _ if !required => Self::Open,
            Enforcement::Unwatched | Enforcement::Enforced => Self::Open,
            Enforcement::Pending => Self::Waits,
            Enforcement::NotEnforced { .. } | Enforcement::Unknown => Self::Closed,
        }
    }
}

/// Follows the rounds.
#[derive(Debug)]
pub struct Tracker {
    interval: Duration,
    known: Enforcement,
    /// When they were last shown to be enforced, or this process began.
    since: Timestamp,
    /// What the last rounds have shown, whether policies are enforced, and how many of them agree.
    shown: Option<(bool, u32)>,
}

impl Tracker {
    pub fn new(interval: Duration, now: Timestamp) -> Self {
        Self {
            interval,
            known: Enforcement::Pending,
            since: now,
            shown: None,
        }
    }

    pub fn known(&self) -> &Enforcement {
        &self.known
    }

    /// Takes what a round has shown, and gives the time until the next.
    pub fn take(&mut self, verdict: &Verdict, now: Timestamp) -> Duration {
        match verdict {
            Verdict::Enforced => {
                self.since = now;
                if self.agree(true) {
                    self.known = Enforcement::Enforced;
                }
            }
            Verdict::NotEnforced { passed } => {
                if self.agree(false) && !matches!(self.known, Enforcement::NotEnforced { .. }) {
                    self.known = Enforcement::NotEnforced {
                        passed: passed.join("; ").into(),
                    };
                }
            }
            Verdict::Unknown { .. } => {
                let long = SignedDuration::try_from(self.interval.saturating_mul(2)).unwrap_or(SignedDuration::MAX);
                let is_old = now.duration_since(self.since) > long;
                if is_old && matches!(self.known, Enforcement::Pending | Enforcement::Enforced) {
                    self.known = Enforcement::Unknown;
                }
            }
        }
        match (&self.known, verdict) {
            (Enforcement::Enforced, Verdict::Enforced)
            | (Enforcement::NotEnforced { .. }, Verdict::NotEnforced { .. }) => self.between(),
            (Enforcement::Unknown | Enforcement::NotEnforced { .. }, Verdict::Unknown { .. }) => {
                self.between().min(UNKNOWN_AGAIN_AFTER)
            }
            _ => self.pause(),
        }
    }

    /// Whether enough rounds have shown the same.
    fn agree(&mut self, enforced: bool) -> bool {
        let before = self
            .shown
            .filter(|(same, _)| *same == enforced)
            .map_or(0, |(_, rounds)| rounds);
        let rounds = before.saturating_add(1);
        self.shown = Some((enforced, rounds));
        rounds >= AGREEING
    }

    /// Before another look at what is not settled.
    fn pause(&self) -> Duration {
        (self.interval / 20).min(Duration::from_secs(10))
    }

    /// So that what comes right behind a round is found, and agreed upon, within the interval.
    fn between(&self) -> Duration {
        let agreed = (LONGEST_ROUND + self.pause()) * AGREEING;
        self.interval.saturating_sub(agreed).max(self.interval / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn passed() -> Verdict {
        Verdict::NotEnforced {
            passed: vec!["a".into(), "b".into()],
        }
    }

    fn unknown() -> Verdict {
        Verdict::Unknown { why: "x".into() }
    }

    fn not_enforced() -> Enforcement {
        Enforcement::NotEnforced { passed: "a; b".into() }
    }

    fn tracker() -> Tracker {
        Tracker::new(Duration::from_secs(300), at(0))
    }

    #[test]
    fn a_change_takes_rounds_that_agree() {
        let mut tracker = tracker();
        assert_eq!(tracker.known(), &Enforcement::Pending);
        let rounds = [
            (Verdict::Enforced, Enforcement::Pending),
            (passed(), Enforcement::Pending),
            (Verdict::Enforced, Enforcement::Pending),
            (Verdict::Enforced, Enforcement::Pending),
            (Verdict::Enforced, Enforcement::Enforced),
            (passed(), Enforcement::Enforced),
            (passed(), Enforcement::Enforced),
            (Verdict::Enforced, Enforcement::Enforced),
            (passed(), Enforcement::Enforced),
            (passed(), Enforcement::Enforced),
            (unknown(), Enforcement::Enforced),
            (passed(), not_enforced()),
            (Verdict::Enforced, not_enforced()),
            (Verdict::Enforced, not_enforced()),
            (passed(), not_enforced()),
            (unknown(), not_enforced()),
            (Verdict::Enforced, not_enforced()),
            (Verdict::Enforced, not_enforced()),
            (Verdict::Enforced, Enforcement::Enforced),
        ];
        for (index, (verdict, expected)) in rounds.into_iter().enumerate() {
            tracker.take(&verdict, at(index as i64));
            assert_eq!(tracker.known(), &expected, "round {index}");
        }
    }

    #[test]
    fn what_was_shown_holds_for_two_intervals_and_what_passed_until_it_is_refused() {
        let mut tracker = tracker();
        tracker.take(&unknown(), at(600));
        assert_eq!(tracker.known(), &Enforcement::Pending);
        tracker.take(&unknown(), at(601));
        assert_eq!(tracker.known(), &Enforcement::Unknown);
        for _ in 0..AGREEING {
            assert_eq!(tracker.known(), &Enforcement::Unknown);
            tracker.take(&Verdict::Enforced, at(700));
        }
        assert_eq!(tracker.known(), &Enforcement::Enforced);
        tracker.take(&unknown(), at(1300));
        assert_eq!(tracker.known(), &Enforcement::Enforced);
        tracker.take(&unknown(), at(1301));
        assert_eq!(tracker.known(), &Enforcement::Unknown);
        for _ in 0..AGREEING {
            tracker.take(&passed(), at(1400));
        }
        tracker.take(&unknown(), at(1_000_000));
        assert_eq!(tracker.known(), &not_enforced());
    }

    #[test]
    fn nothing_starts_where_it_must_be_known_and_is_not() {
        for (enforcement, required) in [
            (Enforcement::Unwatched, Gate::Open),
            (Enforcement::Pending, Gate::Waits),
            (Enforcement::Enforced, Gate::Open),
            (Enforcement::Unknown, Gate::Closed),
            (not_enforced(), Gate::Closed),
        ] {
            assert_eq!(Gate::of(&enforcement, true), required, "{enforcement:?}");
            assert_eq!(Gate::of(&enforcement, false), Gate::Open, "{enforcement:?}");
        }
    }

    proptest! {
        #[test]
        fn what_begins_to_pass_is_told_within_the_interval(interval in 30u64..86_400, offset in 0u64..86_400) {
            let interval = Duration::from_secs(interval);
            let mut tracker = Tracker::new(interval, at(0));
            // It begins to pass somewhere between a round and the next.
            let wait = (0..AGREEING).map(|_| tracker.take(&Verdict::Enforced, at(0))).last().unwrap();
            let begins = Duration::from_secs(offset).min(wait);
            let mut passed_for = wait - begins;
            while tracker.known() == &Enforcement::Enforced {
                passed_for += LONGEST_ROUND;
                passed_for += match tracker.take(&passed(), at(0)) {
                    _ if tracker.known() != &Enforcement::Enforced => Duration::ZERO,
                    wait => wait,
                };
            }
            prop_assert!(passed_for <= interval, "{passed_for:?} of {interval:?}");
        }
    }
}
