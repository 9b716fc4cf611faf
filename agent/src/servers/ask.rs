//! Questions of the agent itself, in the words of the HTTP API.

use bytes::Bytes;
use http::{Request, StatusCode};
use weft_runtime::http::{collect, empty};

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
        let mut request = Request::get(path);
        if let Some(value) = token.and_then(TokenText::header) {
            request = request.header(TokenText::HEADER, value);
        }
        let request = request.body(empty()).map_err(|error| error.to_string())?;
        let answer = self.forward(request).await.map_err(|error| reason(&error))?;
        let (head, body) = answer.into_parts();
        let body = collect(body, ANSWER_BYTES_MAX).await.map_err(|error| reason(&error))?;
        if head.status != StatusCode::OK {
            let text = String::from_utf8_lossy(&body);
            return Err(format!("a server answers {}: {}", head.status, text.trim()));
        }
        let index =
            head.headers.get("x-consul-index").and_then(|it| it.to_str().ok()?.parse().ok());
        Ok((index.unwrap_or(0), body))
    }
}
