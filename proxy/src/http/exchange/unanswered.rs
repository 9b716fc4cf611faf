//! Requests that get no answer: why, and what their caller is told instead.

use std::io;
use std::task::{Context, Poll, ready};

use weft_core::traffic::AttemptEnd;
use weft_runtime::telemetry::chain;

use super::super::h1::HeadScan;
use super::super::pump::PumpError;
use super::super::refusal::Refusal;
use super::super::watch::Lateness;
use crate::transport::{Buffer, Wire};

/// States why there is no answer.
pub(super) enum Unanswered {
    /// The client is gone or sent a malformed body.
    Client(PumpError),
    /// It took too long.
    Late(Lateness),
    /// The next hop closed or failed; `silent` when it had not sent a byte.
    Upstream { error: io::Error, silent: bool },
    /// The next hop does not speak HTTP/1.
    Malformed(String),
}

impl Unanswered {
    /// Whether the other proxy has said that it has not looked at the request.
    pub(super) fn is_refused(&self) -> bool {
        let Self::Upstream { error, silent: true } = self else { return false };
        error.kind() == io::ErrorKind::ConnectionRefused
    }

    /// Returns how the attempt ended; `None` where there can be no further one.
    pub(super) fn end(&self) -> Option<AttemptEnd> {
        match self {
            Self::Client(_) | Self::Late(_) => None,
            Self::Upstream { .. } if self.is_refused() => Some(AttemptEnd::Refused),
            Self::Malformed(_) | Self::Upstream { .. } => {
                Some(AttemptEnd::Reset { has_begun: true })
            }
        }
    }

    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Client(error) => Refusal::new(400, "bad-request", chain(error)),
            Self::Late(lateness) => lateness.refusal(),
            Self::Malformed(error) => Refusal::new(
                502,
                "upstream-malformed",
                format!("the next hop's answer is malformed: {error}"),
            ),
            Self::Upstream { error, .. } => Refusal::new(
                502,
                "upstream-failed",
                format!("the next hop closed the connection without an answer: {error}"),
            ),
        }
    }
}

/// Whether the client has closed while it waits for its answer; the next hop need not work on.
/// What it sends instead is its next request, and is kept.
pub(super) fn has_left<C: Wire>(cx: &mut Context<'_>, client: &mut C, input: &mut Buffer) -> bool {
    if !input.is_empty() || client.poll_readable(cx).is_pending() {
        return false;
    }
    let read = client.poll_fill(cx, input);
    input.release();
    matches!(read, Poll::Ready(Ok(0) | Err(_)))
}

/// Reads until a head is complete.
pub(super) fn poll_head<U: Wire>(
    cx: &mut Context<'_>,
    upstream: &mut U,
    buffer: &mut Buffer,
    scan: &mut HeadScan,
) -> Poll<Result<usize, Unanswered>> {
    loop {
        match scan.find_end(buffer.filled()) {
            Ok(Some(length)) => return Poll::Ready(Ok(length)),
            Ok(None) => {}
            Err(error) => return Poll::Ready(Err(Unanswered::Malformed(error.to_string()))),
        }
        let silent = buffer.is_empty();
        let error = match ready!(upstream.poll_fill(cx, buffer)) {
            Ok(0) => io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => continue,
            Err(error) => error,
        };
        return Poll::Ready(Err(Unanswered::Upstream { error, silent }));
    }
}

pub(super) fn body_refusal(error: &PumpError) -> Refusal {
    match error {
        PumpError::TooLarge => Refusal::new(413, "body-limit", error.to_string()),
        PumpError::Body(_) | PumpError::From(_) | PumpError::Idle | PumpError::To(_) => {
            Refusal::new(400, "bad-request", chain(error))
        }
    }
}
