//! Every claim that the doctor checks, by group. Codes stay what they are for ever: add at the end of a group, never use a code again.

use super::check::{Check, Claim};
use super::checks;

/// Claims about one thing. Its codes begin with its prefix.
pub struct Group {
    /// `DP` and two digits.
    pub prefix: &'static str,
    pub title: &'static str,
    /// By code.
    pub checks: &'static [Check],
}

/// All groups, in the order of the report.
pub const GROUPS: &[Group] = &[
    group("DP01", "Settings and values", checks::configuration::CHECKS),
    group("DP02", "API server and definition", checks::api::CHECKS),
    group("DP03", "Permissions", checks::permissions::CHECKS),
    group("DP04", "Namespaces, storage and room", checks::cluster::CHECKS),
    group("DP05", "Authorities, registries and images", checks::images::CHECKS),
    group("DP06", "Identity provider", checks::oidc::CHECKS),
    group("DP07", "The way in", checks::exposure::CHECKS),
    group("DP08", "Names and network", checks::network::CHECKS),
    group("DP09", "Values and versions", checks::upgrade::CHECKS),
    group("DP10", "Language models and mirrors", checks::models::CHECKS),
    group("DP11", "Health of what is installed", checks::health::CHECKS),
];

const fn group(prefix: &'static str, title: &'static str, checks: &'static [Check]) -> Group {
    Group { prefix, title, checks }
}

/// Every check, in the order of the report.
pub fn all() -> impl Iterator<Item = &'static Check> {
    GROUPS.iter().flat_map(|group| group.checks)
}

/// The group that a claim belongs to.
pub fn group_of(claim: &Claim) -> Option<&'static Group> {
    GROUPS.iter().find(|group| claim.code.starts_with(group.prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_used_once_in_order_and_in_their_group() {
        let codes: Vec<_> = all().map(|check| check.claim.code).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        for group in GROUPS {
            for check in group.checks {
                let code = check.claim.code;
                let digits = code.strip_prefix(group.prefix).unwrap_or_default();
                assert!(
                    digits.len() == 2 && digits.bytes().all(|c| c.is_ascii_digit()),
                    "{code} in {}",
                    group.prefix
                );
            }
        }
    }

    /// Probes come last, so that they may need what is behind them, and nothing else may need them: it would be waited for without end.
    #[test]
    fn claims_say_why_and_need_earlier_ones_or_no_probes() {
        let mut earlier = Vec::new();
        for Check { claim, .. } in all() {
            for need in claim.needs {
                let is_earlier = earlier.contains(need);
                let is_probe = all().find(|other| other.claim.code == *need).unwrap().claim.probe;
                let is_right = if claim.probe {
                    is_earlier || !is_probe
                } else {
                    is_earlier && !is_probe
                };
                assert!(is_right, "{} can't need {need}", claim.code);
            }
            assert!(!claim.why.is_empty() && !claim.docs.is_empty(), "{}", claim.code);
            earlier.push(claim.code);
        }
    }
}
