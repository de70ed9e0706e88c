//! The checkout becomes the commit that `devplane --version` names.

#![expect(clippy::disallowed_methods, reason = "a build script is told by its environment")]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=DEVPLANE_COMMIT");
    println!("cargo:rerun-if-changed=build.rs");
    let commit = std::env::var("DEVPLANE_COMMIT")
        .ok()
        .or_else(commit)
        .unwrap_or_else(|| "unknown commit".to_owned());
    println!("cargo:rustc-env=DEVPLANE_COMMIT={commit}");
}

/// The short hash of the commit that is checked out; `None` outside a git checkout.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}
