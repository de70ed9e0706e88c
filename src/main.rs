//! The process: its allocator, its TLS provider, and the command line's exit code.

use std::process::ExitCode;

/// musl's own allocator is slow under threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // An earlier provider can't be there: this is the process's first act.
    let _ = rustls::crypto::ring::default_provider().install_default();
    devplane::cli::run()
}
