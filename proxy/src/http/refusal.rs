//! Answers that the proxy gives itself, each with its cause in words.

use std::fmt::Write as _;

/// Why the proxy answers instead of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The status code.
    pub(crate) status: u16,
    /// The cause in one word, for `x-weft-cause` and metrics.
    pub(crate) cause: &'static str,
    /// The cause for people.
    pub(crate) message: String,
    /// Whether the request certainly did not reach an application.
    pub(crate) is_unreached: bool,
}

impl Refusal {
    /// Makes a refusal.
    pub(crate) fn new(status: u16, cause: &'static str, message: impl Into<String>) -> Self {
        Self { status, cause, message: message.into(), is_unreached: false }
    }

    /// Adds that no application has seen the request, so that it may be sent elsewhere.
    pub(crate) fn unreached(mut self) -> Self {
        self.is_unreached = true;
        self
    }

    /// Appends the answer; a HEAD gets no body.
    pub(crate) fn write(&self, to_head: bool, closes: bool, out: &mut Vec<u8>) {
        let mut text = String::with_capacity(256 + self.message.len());
        let reason = http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Refused");
        let body = self.body();
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "HTTP/1.1 {} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: {}\r\nx-weft-cause: {}\r\n{}{}\r\n{}",
            self.status,
            body.len(),
            self.cause,
            if self.is_unreached { "x-weft-unreached: 1\r\n" } else { "" },
            if closes { "connection: close\r\n" } else { "" },
            if to_head { "" } else { &body },
        );
        out.extend_from_slice(text.as_bytes());
    }

    /// Returns the text for people.
    pub(crate) fn body(&self) -> String {
        format!("weft: {}\n", self.message)
    }
}
