//! The form of a line about a request or connection: compiled once, then filled in.
//!
//! The words between `%` are Envoy's command operators. What a request brought is bounded, hidden
//! where it is a secret, and escaped, so that no caller can write lines of its own.

mod attributes;
mod captured;
mod escape;
mod header_form;
mod latency;
mod operator;
mod record;
mod start_time;
mod template;

pub use attributes::Attribute;
pub use captured::{Captured, shown_query};
pub use escape::shown_text;
pub use header_form::{HeaderForm, HeaderSide};
pub use latency::{CalledLatency, LatencyPart, LatencySplit, TIMING_ASKED, TIMING_FIELD};
pub use record::{LogRecord, LogScope, flag_of, is_failure};
pub use template::{LogFormat, PLAIN_LOG_FORMAT};

/// Bytes that are kept of one text of a request, such as its path: more tells nobody anything.
pub const LOG_TEXT_BYTES_MAX: usize = 2048;

/// Envoy's short words for what became of a request, in the order of its documentation.
///
/// **Source**: Envoy: access log format, `%RESPONSE_FLAGS%`.
pub const RESPONSE_FLAGS: [&str; 28] = [
    "DC", "DF", "DI", "DO", "DPE", "DT", "FI", "IH", "LH", "LR", "NC", "NFCF", "NR", "OM", "RFCF",
    "RL", "RLSE", "SI", "UAEX", "UC", "UF", "UH", "UMSDR", "UO", "UPE", "UR", "URX", "UT",
];

/// States why a form cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidLogFormat {
    /// Where in a JSON form, such as `.request.path`; empty for a text.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

#[cfg(test)]
mod tests;
