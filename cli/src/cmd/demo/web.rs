//! Plain HTTP calls, as the tour and the apps make them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use weft_runtime::http::HttpClient;

/// Longer than any time-out inside the mesh, so that its words arrive and not ours.
const DEADLINE: Duration = Duration::from_secs(20);

/// The largest answer is a page or a catalog of a few services.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A caller.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    client: HttpClient,
}

/// An answer, read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// The body; what is not UTF-8 is replaced.
    pub(crate) body: String,
}

impl Web {
    /// Makes a caller.
    pub(crate) fn new() -> Self {
        Self { client: HttpClient::new(DEADLINE, BODY_BYTES_MAX) }
    }

    /// Calls `GET`.
    pub(crate) async fn get(&self, url: &str) -> anyhow::Result<Reply> {
        self.call(Method::GET, url, HeaderMap::new(), Bytes::new()).await
    }

    /// Calls `GET` with headers.
    pub(crate) async fn get_with(
        &self,
        url: &str,
        headers: &[(&'static str, &'static str)],
    ) -> anyhow::Result<Reply> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        self.call(Method::GET, url, headers.collect(), Bytes::new()).await
    }

    /// Calls `GET` with headers of another request.
    pub(crate) async fn get_on_behalf(
        &self,
        url: &str,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> anyhow::Result<Reply> {
        self.call(Method::GET, url, headers.into_iter().collect(), Bytes::new()).await
    }

    /// Calls `PUT`.
    pub(crate) async fn put(&self, url: &str, body: String) -> anyhow::Result<Reply> {
        self.call(Method::PUT, url, HeaderMap::new(), Bytes::from(body)).await
    }

    async fn call(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> anyhow::Result<Reply> {
        let answer = self.client.request(method, url, headers, body).await?;
        Ok(Reply { status: answer.status.as_u16(), body: answer.text() })
    }
}

impl Reply {
    /// Returns the body's first line, cut to a length that fits a report.
    pub(crate) fn first_line(&self) -> String {
        const CHARS_MAX: usize = 300;
        self.body.lines().next().unwrap_or_default().chars().take(CHARS_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_is_cut_to_one_short_line() {
        let reply = Reply { status: 200, body: "x".repeat(500) + "\nmore" };
        assert_eq!(reply.first_line().len(), 300);
    }
}
