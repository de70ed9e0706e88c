//! Results become lines on standard output, failures lines on standard error: the one owner of both.

use std::io::Write;

/// Writes data for a pipe. A reader that has gone away is no failure.
pub fn data(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes what went wrong, each cause on the same line, and what to do next.
pub fn error(error: &anyhow::Error, hint: Option<&str>) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "error: {error:#}");
    if let Some(hint) = hint {
        let _ = writeln!(out, "hint: {hint}");
    }
}
