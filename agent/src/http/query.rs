//! The query of a request: `?name=value&flag`.

use std::time::Duration;

use http::Uri;
use weft_core::filter::{Filter, Schema};
use weft_core::limits;
use weft_core::time::Span;

use super::answer::ApiError;

/// Parameters read of one query; more is not a request of this API.
const PARAMETERS_MAX: usize = 64;

/// A decoded query.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes the query of a URI. What is not valid percent-encoding stands as it is.
    pub(super) fn of(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.take(PARAMETERS_MAX).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(decoded.collect())
    }

    /// Returns the first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the names of all parameters.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Returns every value of a parameter.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the parameter is there and does not say `false`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !value.eq_ignore_ascii_case("false"))
    }

    /// Returns how long a request that waits for a change may take.
    ///
    /// # Errors
    /// When the text is no duration.
    pub(super) fn wait(&self) -> Result<Duration, ApiError> {
        match self.get("wait") {
            None | Some("") => Ok(limits::BLOCKING_WAIT_DEFAULT),
            Some(text) => {
                let span: Span = text.parse().map_err(|error: weft_core::time::InvalidSpan| {
                    ApiError::Query(format!("wait: {error}"))
                })?;
                Ok(span.0.min(limits::BLOCKING_WAIT_MAX))
            }
        }
    }

    /// Returns the filter of a list.
    ///
    /// # Errors
    /// When the text is no filter, or names fields that the records do not have.
    pub(super) fn filter(&self, schema: &Schema) -> Result<Option<Filter>, ApiError> {
        let Some(text) = self.get("filter").filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let parsed = Filter::parse_for(text, schema);
        parsed
            .map(Some)
            .map_err(|error| ApiError::Query(format!("Failed to create filter: {error}")))
    }

    /// Returns the index after which an answer is wanted; 0 for any.
    ///
    /// # Errors
    /// When the text is no number.
    pub(super) fn index(&self) -> Result<u64, ApiError> {
        match self.get("index") {
            None | Some("") => Ok(0),
            Some(text) => text.parse().map_err(|_| ApiError::Query("Invalid index".to_owned())),
        }
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_as_forms_are() {
        let query =
            Query::of(&"/x?a=1&b&c=x%20y+z%&pretty=false&a=2&wait=90s".parse().expect("a URI"));
        assert_eq!(query.get("a"), Some("1"));
        assert_eq!(query.get("c"), Some("x y z%"));
        assert!(query.has("b") && !query.has("pretty") && !query.has("d"));
        assert_eq!(query.wait().expect("a duration"), Duration::from_secs(90));
        let long = Query::of(&"/x?wait=1h&index=x".parse().expect("a URI"));
        assert_eq!(long.wait().expect("a duration"), limits::BLOCKING_WAIT_MAX);
        assert!(long.index().is_err());
    }
}
