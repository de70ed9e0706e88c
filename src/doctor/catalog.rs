//! Every claim that the doctor checks, with its code. Add at the end of its group; never use a code again.

use super::check::{Claim, Severity};

const fn error(code: &'static str, title: &'static str) -> Claim {
    Claim {
        code,
        title,
        severity: Severity::Error,
    }
}

// DP01xx: configuration.
pub const CONFIGURATION: Claim = error("DP0101", "the configuration is complete and valid");

// DP02xx: the API server.
pub const API_SERVER: Claim = error("DP0201", "the API server answers and is Kubernetes 1.27 or newer");
pub const CRD: Claim = error(
    "DP0202",
    "the CustomResourceDefinition is installed and is this version's",
);
pub const PERMISSIONS: Claim = error("DP0203", "this identity may do what its role needs");

/// All of them, in the order of the report.
pub const ALL: &[Claim] = &[CONFIGURATION, API_SERVER, CRD, PERMISSIONS];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_used_once_and_in_order() {
        assert!(ALL.windows(2).all(|pair| pair[0].code < pair[1].code));
    }
}
