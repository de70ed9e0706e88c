//! The annotations of a Workspace become what its user, or someone for them, last asked for.

use crate::api::Workspace;
use crate::labels;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use kube::ResourceExt;

/// What the user, or someone for them, last did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// The wake annotation, or the restart annotation when that is later.
    pub wake_requested_at: Option<Timestamp>,
    /// The restart annotation, in whole seconds: the status keeps no more of the one that was acted upon (Kubernetes API: `Time`),
    /// and what is left of a second would look like another request for ever.
    pub restart_requested_at: Option<Timestamp>,
}

impl Requests {
    pub fn of(workspace: &Workspace) -> Self {
        let at = |key: &str| -> Option<Timestamp> {
            let text = workspace.annotations().get(key)?;
            let time = text.parse();
            if time.is_err() {
                tracing::warn!(
                    workspace = workspace.name_any(),
                    annotation = key,
                    value = text,
                    "the annotation is no RFC 3339 time such as 2026-01-31T12:00:00Z and is passed over"
                );
            }
            time.ok()
        };
        let restart_requested_at = at(labels::RESTART_REQUESTED_AT);
        Self {
            wake_requested_at: at(labels::WAKE_REQUESTED_AT).max(restart_requested_at),
            restart_requested_at: restart_requested_at.and_then(in_whole_seconds),
        }
    }
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
