//! The layers import downwards only: a program never another program, a rim never another rim, pure code nothing that acts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// What each module of the crate may import of the others. A module that is missing here is a new one: give it a place.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("identity", &[]),
    ("names", &["identity"]),
    ("labels", &["identity"]),
    ("units", &[]),
    ("clock", &[]),
    ("causes", &[]),
    ("config", &["api", "units"]),
    ("policy", &["api", "labels", "names", "units"]),
    ("render", &["api", "identity", "labels", "names", "policy", "units"]),
    ("audit", &["api"]),
    ("telemetry", &["api", "audit"]),
    ("cluster", &["clock"]),
    ("serve", &[]),
    ("tls", &[]),
    ("certificates", &[]),
    ("http_client", &["causes"]),
    ("registry", &["http_client"]),
    ("connectivity", &[]),
    ("oidc", &["clock", "config", "http_client", "identity"]),
    ("proxy", &["api"]),
    ("recording", &["clock", "config"]),
    (
        "operator",
        &[
            "api",
            "audit",
            "certificates",
            "clock",
            "cluster",
            "config",
            "connectivity",
            "identity",
            "labels",
            "names",
            "policy",
            "render",
            "serve",
            "telemetry",
            "units",
        ],
    ),
    (
        "gateway",
        &[
            "api",
            "audit",
            "certificates",
            "clock",
            "cluster",
            "config",
            "identity",
            "labels",
            "names",
            "oidc",
            "proxy",
            "recording",
            "serve",
            "telemetry",
            "tls",
            "units",
        ],
    ),
    (
        "doctor",
        &[
            "api",
            "causes",
            "clock",
            "cluster",
            "config",
            "connectivity",
            "http_client",
            "labels",
            "names",
            "oidc",
            "policy",
            "recording",
            "registry",
            "tls",
            "units",
        ],
    ),
    ("canary", &["config", "connectivity", "names", "serve"]),
    (
        "cli",
        &[
            "api",
            "canary",
            "clock",
            "cluster",
            "config",
            "doctor",
            "gateway",
            "operator",
            "recording",
            "serve",
            "telemetry",
            "tls",
            "units",
        ],
    ),
];

#[test]
fn imports_go_downwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in sources(&src) {
        let relative = file.strip_prefix(&src).unwrap();
        let module = relative
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        if module == "lib" || module == "main" {
            continue;
        }
        let allowed = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == module)
            .map(|(_, allowed)| *allowed);
        let allowed = allowed.unwrap_or_else(|| panic!("{module} has no place in the layers"));
        let text = fs::read_to_string(&file).unwrap();
        for import in text.split("crate::").skip(1) {
            let import: String = import
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if import != module && !import.is_empty() && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", relative.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.chain(directories.iter().flat_map(|directory| sources(directory)))
        .collect()
}

/// `FILE: NAME` between backticks on the page about security: a promise is worth what holds it.
#[test]
fn the_security_page_names_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/topics/security.md")).unwrap();
    let named: Vec<(&str, &str)> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once(": "))
        .collect();
    assert!(named.len() > 20, "{} tests are named", named.len());
    let is_there = |file: &str, name: &str| {
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        text.contains(&format!("fn {name}(")) || text.contains(&format!("\"{name}\""))
    };
    let missing: Vec<_> = named.iter().filter(|(file, name)| !is_there(file, name)).collect();
    assert_eq!(missing, Vec::<&(&str, &str)>::new());
}
