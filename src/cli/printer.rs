//! Results become lines on standard output, failures lines on standard error: the one owner of both.

use std::io::Write;

/// Writes data for a pipe. A reader that has gone away is no failure.
pub fn data(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Standard output as something to write to, for data that need not fit into memory. A reader that has gone away is no failure.
pub struct Pipe;

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match std::io::stdout().write(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            result => result,
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match std::io::stdout().flush() {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

/// Writes what went wrong, each cause on the same line, and what to do next.
pub fn error(error: &anyhow::Error, hint: Option<&str>) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "error: {error:#}");
    if let Some(hint) = hint {
        let _ = writeln!(out, "hint: {hint}");
    }
}
