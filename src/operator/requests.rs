//! The annotations of a Workspace become what its user, or someone for them, last asked for.

use super::pod_state::shortened;
use crate::api::{Workspace, WorkspaceStatus};
use crate::clock::{CLOCKS_DIFFER_BY, is_ahead};
use crate::labels;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use std::sync::Arc;

/// What the user, or someone for them, last did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// The wake annotation, or the restart annotation when that is later.
    pub wake_requested_at: Option<Timestamp>,
    /// The restart annotation, in whole seconds: the status keeps no more of the one that was acted upon (Kubernetes API: `Time`),
    /// and what is left of a second would look like another request for ever.
    pub restart_requested_at: Option<Timestamp>,
}

/// What counts now, and what does not yet or never will.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub requests: Requests,
    /// Which annotations are passed over, and why; `None` when none is.
    pub passed_over: Option<PassedOver>,
    /// When the first of those begins to count that are dated ahead.
    pub look_again_at: Option<Timestamp>,
}

/// Annotations that do not count, in words for the status. They do not change while the annotations do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    pub reason: &'static str,
    pub message: Arc<str>,
}

impl Requests {
    /// As they are written down, whatever the time.
    pub fn of(workspace: &Workspace) -> Self {
        let at = |key: &str| workspace.annotations().get(key)?.parse().ok();
        Self::at(at(labels::WAKE_REQUESTED_AT), at(labels::RESTART_REQUESTED_AT))
    }

    fn at(wake: Option<Timestamp>, restart: Option<Timestamp>) -> Self {
        Self {
            wake_requested_at: wake.max(restart),
            restart_requested_at: restart.and_then(in_whole_seconds),
        }
    }
}

impl Asked {
    /// A request that is dated ahead of the clock counts when its time has come: taken for one of now, it would keep the workspace from
    /// ever being idle, and every later request from being one.
    pub fn of(workspace: &Workspace, now: Timestamp) -> Self {
        let mut asked = Self::default();
        let [wake, restart] = [labels::WAKE_REQUESTED_AT, labels::RESTART_REQUESTED_AT].map(|key| {
            let text = workspace.annotations().get(key)?;
            let time = text.parse().ok();
            let counts = time.filter(|time| !is_ahead(*time, now));
            if counts.is_none() {
                asked.pass_over(key, text, time);
            }
            counts
        });
        asked.requests = Requests::at(wake, restart);
        asked
    }

    fn pass_over(&mut self, annotation: &str, text: &str, time: Option<Timestamp>) {
        let counts_at = time.map(|time| time - CLOCKS_DIFFER_BY);
        let message = match counts_at {
            Some(counts_at) => {
                format!(
                    "the annotation {annotation} is dated {text}, ahead of the operator's clock, and counts from {counts_at} on"
                )
            }
            None => {
                let text = shortened(text);
                format!(
                    "the annotation {annotation} is passed over: expected an RFC 3339 time such as 2026-01-31T12:00:00Z, found {text:?}"
                )
            }
        };
        let reason = if counts_at.is_some() { "DatedAhead" } else { "NoTime" };
        let before = self.passed_over.take().map(|before| format!("{}; ", before.message));
        let message = format!("{}{message}", before.unwrap_or_default()).into();
        self.passed_over = Some(PassedOver { reason, message });
        self.look_again_at = self.look_again_at.into_iter().chain(counts_at).min();
    }
}

/// The last status without times that can't be: a clock that was wrong, or a hand, has written them. What has happened has happened by
/// `now`.
pub fn believed(mut last: WorkspaceStatus, now: Timestamp) -> WorkspaceStatus {
    let WorkspaceStatus {
        last_accessed,
        last_connected,
        stopped_at,
        restarted_at,
        ..
    } = &mut last;
    for time in [last_accessed, last_connected, stopped_at, restarted_at] {
        if time.as_ref().is_some_and(|time| is_ahead(time.0, now)) {
            *time = Some(Time(now));
        }
    }
    last
}

/// Without what is behind the second.
fn in_whole_seconds(time: Timestamp) -> Option<Timestamp> {
    let down = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Floor);
    time.round(down).ok()
}

/// The id of the request that had the workspace made, or asked for its last start; empty when that was somebody else.
pub fn request_id(workspace: &Workspace) -> &str {
    let text = |key: &str| workspace.annotations().get(key).map(String::as_str);
    let asked = [labels::WAKE_REQUESTED_AT, labels::RESTART_REQUESTED_AT].map(text);
    let Some(requested_by) = text(labels::REQUESTED_BY) else {
        return "";
    };
    let (id, at) = match requested_by.rsplit_once('@') {
        Some((id, at)) => (id, Some(at)),
        None => (requested_by, None),
    };
    let time = |text: Option<&str>| text.and_then(|text| text.parse::<Timestamp>().ok());
    let last = asked.into_iter().max_by_key(|text| time(*text)).flatten();
    if at == last { id } else { "" }
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests as given;
    use super::*;

    #[test]
    fn the_request_is_the_one_that_asked_last() {
        let (one, two) = ("2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z");
        for (by, wake, restart, expected) in [
            (None, None, None, ""),
            (Some("r1"), None, None, "r1"),
            // Somebody else has asked since.
            (Some("r1"), None, Some(one), ""),
            (Some("r2@2027-01-15T08:00:00Z"), Some(one), None, "r2"),
            (Some("r2@2027-01-15T08:00:00Z"), Some(one), Some(two), ""),
            (Some("a@b@2027-01-15T09:00:00Z"), Some(one), Some(two), "a@b"),
            (Some("r2@2027-01-15T08:00:00Z"), None, None, ""),
        ] {
            let mut workspace = given::workspace(given::spec());
            for (key, value) in [
                (labels::REQUESTED_BY, by),
                (labels::WAKE_REQUESTED_AT, wake),
                (labels::RESTART_REQUESTED_AT, restart),
            ] {
                if let Some(value) = value {
                    workspace.annotations_mut().insert(key.to_owned(), value.to_owned());
                }
            }
            assert_eq!(request_id(&workspace), expected, "{by:?} {wake:?} {restart:?}");
        }
    }

    #[test]
    fn what_is_dated_ahead_counts_when_its_time_has_come() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let of = |wake: Option<&str>, restart: Option<&str>| {
            let mut workspace = given::workspace(given::spec());
            for (key, value) in [
                (labels::WAKE_REQUESTED_AT, wake),
                (labels::RESTART_REQUESTED_AT, restart),
            ] {
                let annotations = workspace.annotations_mut();
                annotations.extend(value.map(|value| (key.to_owned(), value.to_owned())));
            }
            Asked::of(&workspace, at(0))
        };
        let (now, soon, later) = (at(0).to_string(), at(60).to_string(), at(61).to_string());
        let both = |at| Requests {
            wake_requested_at: at,
            restart_requested_at: at,
        };
        for (wake, restart, requests, reason, again) in [
            (Some(&now), Some(&now), both(Some(at(0))), None, None),
            // Clocks differ.
            (None, Some(&soon), both(Some(at(60))), None, None),
            (None, Some(&later), both(None), Some("DatedAhead"), Some(at(1))),
            (
                Some(&later),
                Some(&now),
                both(Some(at(0))),
                Some("DatedAhead"),
                Some(at(1)),
            ),
            (
                Some(&later),
                Some(&"2100-01-01T00:00:00Z".to_owned()),
                both(None),
                Some("DatedAhead"),
                Some(at(1)),
            ),
            (None, Some(&"soon".to_owned()), both(None), Some("NoTime"), None),
        ] {
            let asked = of(wake.map(String::as_str), restart.map(String::as_str));
            assert_eq!(asked.requests, requests, "{wake:?} {restart:?}");
            assert_eq!(
                asked.passed_over.as_ref().map(|passed| passed.reason),
                reason,
                "{wake:?} {restart:?}"
            );
            assert_eq!(asked.look_again_at, again, "{wake:?} {restart:?}");
        }
        let told = of(Some(&later), Some("soon")).passed_over.unwrap().message;
        for part in [
            "wake-requested-at is dated 2027-01-15T08:01:01Z, ahead of the operator's clock, and counts from 2027-01-15T08:00:01Z on",
            "restart-requested-at is passed over",
            "\"soon\"",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn what_has_happened_has_happened_by_now() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let status = |seconds| WorkspaceStatus {
            last_accessed: Some(Time(at(seconds))),
            stopped_at: Some(Time(at(seconds))),
            restarted_at: Some(Time(at(seconds))),
            ..WorkspaceStatus::default()
        };
        for (written, expected) in [(-5, -5), (60, 60), (61, 0), (1_000_000_000, 0)] {
            assert_eq!(believed(status(written), at(0)), status(expected), "{written}");
        }
        assert_eq!(believed(WorkspaceStatus::default(), at(0)), WorkspaceStatus::default());
    }

    #[test]
    fn a_restart_is_known_again_by_what_the_status_keeps_of_it() {
        for (annotation, wake, restart) in [
            (
                "2027-01-15T08:00:00Z",
                Some("2027-01-15T08:00:00Z"),
                Some("2027-01-15T08:00:00Z"),
            ),
            (
                "2027-01-15T08:00:00.639472Z",
                Some("2027-01-15T08:00:00.639472Z"),
                Some("2027-01-15T08:00:00Z"),
            ),
            ("soon", None, None),
        ] {
            let mut workspace = given::workspace(given::spec());
            let annotations = workspace.annotations_mut();
            annotations.insert(labels::RESTART_REQUESTED_AT.to_owned(), annotation.to_owned());
            let expected = [wake, restart].map(|time| time.map(|time| time.parse::<Timestamp>().unwrap()));
            let Requests {
                wake_requested_at,
                restart_requested_at,
            } = Requests::of(&workspace);
            assert_eq!([wake_requested_at, restart_requested_at], expected, "{annotation}");
        }
    }
}
