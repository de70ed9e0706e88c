//! Events of `tracing` become lines on standard error: one JSON object each, or text for people.
//!
//! Audit events (target [`crate::audit::TARGET`]) pass whatever the level says: they are evidence, not diagnostics.

use tracing_subscriber::filter::{EnvFilter, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Text,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Directives of `tracing_subscriber::EnvFilter`, such as `info` or `info,devplane::proxy=debug`.
    pub directives: String,
    pub format: Format,
}

/// Checks filter directives without installing them.
///
/// # Errors
/// When they are none.
pub fn check_directives(text: &str) -> Result<(), ParseError> {
    EnvFilter::builder().parse(text).map(drop)
}

/// Installs the process's one subscriber. A second call changes nothing.
///
/// # Errors
/// When the directives can't be parsed.
pub fn install(config: &LogConfig) -> Result<(), ParseError> {
    let directives = format!("{},{}=info", config.directives, crate::audit::TARGET);
    let filter = EnvFilter::builder().parse(directives)?;
    let lines = match config.format {
        Format::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed(),
        Format::Text => fmt::layer().with_ansi(false).with_writer(std::io::stderr).boxed(),
    };
    // Spans of libraries are in no line of JSON, and cost time at every poll.
    let without_spans = (config.format == Format::Json).then(|| filter_fn(|metadata| metadata.is_event()));
    // An earlier subscriber, as in tests, stays.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(without_spans)
        .with(lines)
        .try_init();
    Ok(())
}
