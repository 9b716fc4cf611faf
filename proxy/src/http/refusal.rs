//! Answers that the proxy gives itself, each with its cause in words.

use std::fmt::Write as _;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use weft_core::config_entry::FaultAbort;
use weft_core::traffic::MadeAnswer;

use super::changes::Changes;

/// Why the proxy answers instead of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The status code.
    pub(crate) status: u16,
    /// The cause in one word, for `x-weft-cause` and metrics.
    pub(crate) cause: &'static str,
    /// The cause for people.
    pub(crate) message: String,
    /// Fields of the answer beside those of each refusal.
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    /// The body, where it is not the cause in words.
    pub(crate) own_body: Option<Vec<u8>>,
    /// The status of gRPC, where it is not the one that goes with the status.
    pub(crate) grpc_status: Option<u8>,
    /// Whether the request certainly did not reach an application.
    pub(crate) is_unreached: bool,
}

impl Refusal {
    /// Makes a refusal.
    pub(crate) fn new(status: u16, cause: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            cause,
            message: message.into(),
            fields: Vec::new(),
            own_body: None,
            grpc_status: None,
            is_unreached: false,
        }
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
            "HTTP/1.1 {} {reason}\r\n{}x-weft-cause: {}\r\n{}{}",
            self.status,
            match self.status {
                // They have none, and may not say that they had (RFC 9110 §8.6).
                204 | 304 => String::new(),
                _ => format!("content-length: {}\r\n", body.len()),
            },
            self.cause,
            if self.is_unreached { "x-weft-unreached: 1\r\n" } else { "" },
            if closes { "connection: close\r\n" } else { "" },
        );
        out.extend_from_slice(text.as_bytes());
        if self.own_body.is_none() {
            out.extend_from_slice(b"content-type: text/plain; charset=utf-8\r\n");
        }
        for (name, value) in &self.fields {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !to_head {
            out.extend_from_slice(&body);
        }
    }

    /// Returns the body: the cause for people, or what somebody else answers with.
    pub(crate) fn body(&self) -> Vec<u8> {
        match &self.own_body {
            Some(body) => body.clone(),
            None => format!("weft: {}\n", self.message).into_bytes(),
        }
    }

    /// Makes an answer that a route gives in place of a service.
    pub(crate) fn of_route(made: MadeAnswer, changes: &Changes<'_>) -> Self {
        let mut headers = HeaderMap::new();
        let (name, value) = made.header;
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
        changes.apply(&mut headers);
        let mut refusal = Self::new(made.status, made.cause, "the route answers by itself");
        refusal.own_body = Some(made.body);
        for (name, value) in &headers {
            refusal.fields.push((name.clone(), value.clone()));
        }
        refusal
    }

    /// Makes the answer that a fault gives in place of a service.
    pub(crate) fn of_fault(abort: &FaultAbort) -> Self {
        let message = "the route's Fault ends this request";
        let mut refusal = Self::new(abort.http_status(), "fault-injected", message);
        refusal.grpc_status = abort.grpc_status;
        refusal
    }

    /// Adds when the caller may ask again: soon, as what is too much changes from moment to moment.
    pub(crate) fn with_retry_after(self) -> Self {
        self.with_field(http::header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// Adds a field to the answer.
    pub(crate) fn with_field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.push((name, value));
        self
    }
}
