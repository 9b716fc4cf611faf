//! Logs: structured events on standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

use super::tap;

/// The environment variable whose filter beats the configured level, e.g. `debug` or
/// `info,weft_server::raft=trace`.
pub const ENVIRONMENT: &str = "WEFT_LOG";

/// The level of parts that nobody asked about: INFO is what an operator cares for.
const DEFAULT_FILTER: &str = "info";

/// Lines of libraries below this level help only whoever debugs the library.
const QUIET: [&str; 9] = [
    "openraft=warn",
    // Tells again, at shutdown, what its callers are told as a result.
    "openraft::raft::raft_inner=off",
    "sled=warn",
    "hyper=warn",
    "h2=warn",
    "tower=warn",
    // It warns of each malformed option of a query, which anybody can send at will; such a query gets
    // its answer, and answers are counted by code.
    "hickory_proto=error",
    "hickory_server=warn",
    // It warns of each malformed extension of a hello, which strangers can send at will.
    "rustls=error",
];

/// The levels, from none to all.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The form of a line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line, for collectors.
    Json,
    /// For people.
    #[default]
    Text,
}

/// States why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It is set up already.
    #[error("logging is already set up")]
    Again,
    /// The filter is malformed.
    #[error(
        "{filter:?} is not a log filter; write a level such as \"info\", or \"info,weft_agent=debug\""
    )]
    Filter {
        /// The filter given.
        filter: String,
    },
}

/// Starts logging for the whole process; called once, first of all.
///
/// `filter` is the configured level or filter; [`ENVIRONMENT`] beats it.
///
/// # Errors
/// [`LogError`] when the filter is malformed, or logging was started before.
pub fn init(format: LogFormat, filter: Option<&str>) -> Result<(), LogError> {
    let environment = std::env::var(ENVIRONMENT).ok().filter(|text| !text.is_empty());
    let filter = parse(environment.as_deref().or(filter).unwrap_or(DEFAULT_FILTER))?;
    let lines =
        fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => lines.with_filter(filter).boxed(),
    };
    // Each decides for itself what it wants; without somebody who watches, the copies want nothing.
    tracing_subscriber::registry()
        .with(lines)
        .with(tap::layer(LogFormat::Text))
        .with(tap::layer(LogFormat::Json))
        .try_init()
        .map_err(|_| LogError::Again)
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    // Later directives beat earlier ones of the same target: what was asked for comes last.
    let is_plain_level = !filter.contains(['=', ',']);
    let directives =
        if is_plain_level { format!("{},{filter}", QUIET.join(",")) } else { filter.to_owned() };
    // A single unknown word would be taken for the name of a target.
    let is_level = LEVELS.iter().any(|level| filter.eq_ignore_ascii_case(level));
    let fault = || LogError::Filter { filter: filter.to_owned() };
    if is_plain_level && !is_level {
        return Err(fault());
    }
    EnvFilter::builder().parse(directives).map_err(|_| fault())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_taken_and_other_words_refused() {
        for good in ["info", "DEBUG", "off", "info,weft_server::raft=trace", "weft_agent=debug"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["loud", "", "info,weft=loud"] {
            let error = parse(bad).expect_err(bad).to_string();
            assert!(error.contains("is not a log filter"), "{error}");
        }
    }
}
