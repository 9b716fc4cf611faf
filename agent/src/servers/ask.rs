//! Questions of the agent itself, in the words of the HTTP API.

use bytes::Bytes;
use http::{Request, StatusCode, request, response};
use weft_runtime::http::{Body, collect, empty, full};

use super::{Servers, reason};
use crate::config::TokenText;

/// Bytes of an answer: some ten thousand checks.
const ANSWER_BYTES_MAX: usize = 16 << 20;

impl Servers {
    /// Asks for a path; the answer is its index, 0 where it has none, and its body. The deadline
    /// is the caller's.
    ///
    /// # Errors
    /// In words, when no server answers, or refuses.
    pub(crate) async fn ask(
        &self,
        path: &str,
        token: Option<&TokenText>,
    ) -> Result<(u64, Bytes), String> {
        let (head, body) = self.exchange(Request::get(path), empty(), token).await?;
        if head.status != StatusCode::OK {
            let text = String::from_utf8_lossy(&body);
            return Err(format!("a server answers {}: {}", head.status, text.trim()));
        }
        let index =
            head.headers.get("x-consul-index").and_then(|it| it.to_str().ok()?.parse().ok());
        Ok((index.unwrap_or(0), body))
    }

    /// Sends a transaction; the answer is its status and its body. The deadline is the caller's.
    ///
    /// # Errors
    /// In words, when no server answers; it is not known then whether the transaction holds.
    pub(crate) async fn transact(
        &self,
        operations: Bytes,
        token: Option<&TokenText>,
    ) -> Result<(StatusCode, Bytes), String> {
        let request = Request::put("/v1/txn");
        let (head, body) = self.exchange(request, full(operations), token).await?;
        Ok((head.status, body))
    }

    async fn exchange(
        &self,
        mut request: request::Builder,
        body: Body,
        token: Option<&TokenText>,
    ) -> Result<(response::Parts, Bytes), String> {
        if let Some(value) = token.and_then(TokenText::header) {
            request = request.header(TokenText::HEADER, value);
        }
        let request = request.body(body).map_err(|error| error.to_string())?;
        let answer = self.forward(request).await.map_err(|error| reason(&error))?;
        let (head, body) = answer.into_parts();
        let body = collect(body, ANSWER_BYTES_MAX).await.map_err(|error| reason(&error))?;
        Ok((head, body))
    }
}
