//! What the apps read of a request and what they answer; no sockets.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Serialize;

/// The part of a request that an app looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
}

impl<'a> Ask<'a> {
    /// Returns what follows the given prefix in the path, if it is one plain segment.
    pub(super) fn segment_after(&self, prefix: &str) -> Option<&'a str> {
        self.path
            .strip_prefix(prefix)
            .filter(|rest| !rest.is_empty() && rest.len() <= ID_BYTES_MAX && !rest.contains('/'))
    }

    /// Returns the first value of a query parameter, taken as it stands.
    pub(super) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// A product id is a short number; anything longer is no product of ours.
const ID_BYTES_MAX: usize = 20;

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Answer {
    /// Makes an answer of JSON.
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let body = serde_json::to_string_pretty(value)
            .expect("the apps' answers are maps with text keys, which always serialise");
        Self { status, content_type: "application/json", body: body + "\n" }
    }

    /// Makes an answer of HTML.
    pub(super) fn html(status: StatusCode, body: String) -> Self {
        Self { status, content_type: "text/html; charset=utf-8", body }
    }

    /// Makes an answer that only says what is wrong.
    pub(super) fn fault(status: StatusCode, error: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": error }))
    }

    /// Makes the answer for a path that an app does not have.
    pub(super) fn not_found() -> Self {
        Self::fault(StatusCode::NOT_FOUND, "there is nothing at this path")
    }
}

/// The headers that an app hands on to what it calls, so that routing by user and traces work
/// across the whole request: W3C trace context, B3, the request id, and Bookinfo's `end-user`.
const PASSED_ON: [&str; 11] = [
    "end-user",
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "baggage",
];

/// Returns the headers of a request that go along with the calls made for it.
pub(super) fn passed_on(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    PASSED_ON
        .iter()
        .filter_map(|name| {
            let value = headers.get(*name)?;
            Some((HeaderName::from_static(name), value.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_and_the_trace_are_passed_on_and_nothing_else() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("end-user", "jason"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("authorization", "Bearer x"),
            ("host", "productpage"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let names: Vec<_> =
            passed_on(&headers).into_iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["end-user", "traceparent"]);
    }

    #[test]
    fn an_id_is_one_short_segment() {
        let headers = HeaderMap::new();
        let ask = |path| Ask { method: &Method::GET, path, query: "", headers: &headers };
        assert_eq!(ask("/details/0").segment_after("/details/"), Some("0"));
        assert_eq!(ask("/details/").segment_after("/details/"), None);
        assert_eq!(ask("/details/0/1").segment_after("/details/"), None);
        assert_eq!(ask("/details/000000000000000000000").segment_after("/details/"), None);
    }
}
