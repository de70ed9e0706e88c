//! The catalogue becomes `docs/reference/doctor.md`.

use super::super::catalog::GROUPS;
use super::super::check::{Claim, PATIENCE, Severity};
use std::fmt::Write;

const HEAD: &str = "# What the doctor checks

<!-- Made by `devplane doctor --reference`; do not edit. -->

`devplane doctor` checks an installation and says what to mend.

    devplane doctor --values my-values.yaml --namespace workspace-operator-system

reads the values that `helm install` gets and the cluster of your kubeconfig, before the installation and after it. Without `--values` it takes the settings
of one role (`--role`) from the environment, as in the role's own pod.

Each check is a claim with a code that never changes its meaning. A claim that can't be judged is skipped, and the reason is told. Checks run at once;
none waits longer than its time-out. Nothing is asked but the API server and what the values name. Checks that make objects in the cluster run
with `--probe` alone; what they make has the label `workspace.devplane.io/doctor-probe` and is removed at the end, on Ctrl-C too, and what a run that was
killed has left is removed by the next one that makes any, from 15 minutes on.

| option | meaning |
|---|---|
| `--values FILE` | a values file as for helm; several are merged in their order |
| `--namespace NAME` | the namespace of the release (default `workspace-operator-system`) |
| `--only CODE,…` | only these checks, and what they need; `DP02` means all of that group |
| `--skip CODE,…` | all but these |
| `--probe` | also checks that make objects for a moment |
| `--fail-on warn` | warnings, too, end with exit code 1 |
| `-o text`, `json`, `junit` | for people, for programs ([schema](doctor.schema.json)), for pipelines |

Exit codes: 0 nothing failed, 1 something did, 64 wrong usage, 130 interrupted (Ctrl-C, SIGTERM): what was not through by then is skipped.

";

/// The page.
pub fn page() -> String {
    let mut out = String::from(HEAD);
    for group in GROUPS {
        let _ = writeln!(out, "## {} {}\n", group.prefix, group.title);
        for check in group.checks {
            claim(&mut out, &check.claim);
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn claim(out: &mut String, claim: &Claim) {
    let mut facts = vec![match claim.severity {
        Severity::Error => "error".to_owned(),
        Severity::Warning => "warning".to_owned(),
    }];
    if !claim.needs.is_empty() {
        facts.push(format!("needs {}", claim.needs.join(", ")));
    }
    if claim.probe {
        facts.push("with `--probe` alone".to_owned());
    }
    if claim.patience != PATIENCE {
        facts.push(format!("at most {} s", claim.patience.as_secs()));
    }
    // Writing to a String can't fail.
    let _ = writeln!(
        out,
        "### {}: {}\n\n*{}.* {}\n\n{}\n",
        claim.code,
        claim.title,
        facts.join("; "),
        claim.why,
        claim.docs
    );
}
