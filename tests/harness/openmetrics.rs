//! What a process exposes becomes the families that the reference parser of OpenMetrics 1.0 reads in it.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The families, as `name type unit`.
fn families(exposition: &str) -> Result<BTreeSet<String>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut parser = Command::new(root.join("tests/harness/openmetrics.sh"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Dropped at once: the parser reads to the end.
    parser.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
    let output = parser.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect())
}

/// It is OpenMetrics, and its families are those that docs/reference/metrics.md lists under `heading`.
pub fn assert_as_documented(exposition: &str, heading: &str) {
    // The parser is one that refuses.
    assert!(families("# TYPE a counter\na 1\n# EOF\n").is_err());
    let found = families(exposition).unwrap_or_else(|error| panic!("{error}\n{exposition}"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/reference/metrics.md")).unwrap();
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .unwrap();
    let listed: BTreeSet<String> = section
        .lines()
        .filter(|line| line.starts_with("| `devplane_"))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let name = cells[1].trim_matches('`');
            let unit = if cells[4].is_empty() { "-" } else { cells[4] };
            format!("{} {} {unit}", name.strip_suffix("_total").unwrap_or(name), cells[2])
        })
        .collect();
    assert_eq!(found, listed);
}
