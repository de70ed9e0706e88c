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

/// Writes over the last line of a terminal on standard error; nothing erases it.
pub fn status(line: &str) {
    let mut out = std::io::stderr().lock();
    // Back to the first column, and what stands there erased (ECMA-48, EL).
    let _ = write!(out, "\r\x1b[K{line}");
    let _ = out.flush();
}

/// Writes what went wrong, each cause on the same line, and what to do next.
pub fn error(error: &anyhow::Error, hint: Option<&str>) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "error: {error:#}");
    if let Some(hint) = hint {
        let _ = writeln!(out, "hint: {hint}");
    }
}

/// Writes what a reader of the data should know, and what is no failure.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "note: {text}");
}
