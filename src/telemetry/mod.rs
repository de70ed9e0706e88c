//! What happens inside becomes log lines and metrics.

pub mod log;
pub mod metrics;
pub mod request_id;
