//! Answers on their way back: passed through and counted, or made by the proxy.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use weft_core::traffic::Throttle;
use weft_runtime::clock;

use super::super::refusal::Refusal;
use super::incoming::{BrokenBody, Incoming};
use super::progress::Progress;
use super::slow_body::SlowBody;
use super::web::WebBody;
use crate::inbound::Cut;
use crate::transport::Timer;

/// The body of an answer.
pub(crate) enum AnswerBody {
    /// Of the next hop.
    Passed {
        body: Incoming,
        bytes: u64,
        is_whole: bool,
        /// What ends it from outside.
        cut: Option<Rc<Cut>>,
        /// What ends it when nothing moves.
        idle: Option<Box<Idle>>,
        /// What slows it down.
        slowed: Option<Box<SlowBody>>,
        passage: Box<dyn Passage>,
    },
    /// Of the proxy.
    Own(Option<Bytes>),
    /// For a caller that speaks gRPC-Web.
    Web(Box<WebBody>),
}

/// Takes note of how a body gets on.
pub(crate) trait Passage {
    /// The fields after it have come.
    fn trailed(&self, trailers: &HeaderMap);

    /// The last byte of so many has gone, or none will, for which there is a cause.
    fn ended(&self, bytes: u64, cause: Option<&'static str>);
}

/// Ends an answer's body when nothing has moved for as long as the route allows.
pub(crate) struct Idle {
    limit: Duration,
    /// Of the request, which may still be on its way.
    asked: Rc<Progress>,
    moved: u64,
    by: Option<Instant>,
    timer: Timer,
    is_over: bool,
}

impl Idle {
    pub(super) fn new(limit: Duration, asked: Rc<Progress>) -> Box<Self> {
        let timer = Timer::default();
        Box::new(Self { limit, asked, moved: 0, by: None, timer, is_over: false })
    }

    /// Whether nothing has moved for too long, of which so many bytes of the answer have come.
    fn poll_over(&mut self, cx: &mut Context<'_>, bytes: u64) -> bool {
        let moved = bytes.saturating_add(self.asked.bytes());
        if self.moved != moved {
            (self.moved, self.by) = (moved, None);
        }
        let by = *self.by.get_or_insert_with(|| clock::instant() + self.limit);
        self.is_over = self.timer.poll_past(cx, by).is_ready();
        self.is_over
    }
}

/// States why an answer breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("nothing has moved for the route's idle timeout")]
    Idle,
    #[error("the next hop's answer broke off")]
    NextHop(#[source] BrokenBody),
    #[error("the intentions were changed, and do not allow this request any more")]
    NoLongerAllowed,
}

impl AnswerBody {
    /// Makes a body that reports how many bytes have passed, and whether that was all.
    pub(super) fn passed(
        body: Incoming,
        (cut, idle): (Option<Rc<Cut>>, Option<Box<Idle>>),
        passage: Box<dyn Passage>,
    ) -> Self {
        let is_whole = body.is_end_stream();
        Self::Passed { body, bytes: 0, is_whole, cut, idle, slowed: None, passage }
    }

    /// Has a body of the next hop go on slowly.
    pub(super) fn slowed_down(mut self, by: Option<Throttle>) -> Self {
        if let Self::Passed { slowed, .. } = &mut self {
            *slowed = by.map(SlowBody::new);
        }
        self
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if let Self::Passed { bytes, is_whole, idle, passage, .. } = self {
            let is_idle = idle.as_ref().is_some_and(|idle| idle.is_over);
            let cause = if is_idle { "idle-timeout" } else { "answer-broken" };
            passage.ended(*bytes, (!*is_whole).then_some(cause));
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match &mut *self {
            Self::Passed { cut: Some(cut), .. } if cut.poll_is_cut(cx) => {
                Poll::Ready(Some(Err(AnswerError::NoLongerAllowed)))
            }
            Self::Passed { body, bytes, is_whole, idle, slowed, passage, .. } => {
                let polled = match slowed {
                    Some(slowed) => slowed.poll_frame(cx, body),
                    None => Pin::new(&mut *body).poll_frame(cx),
                };
                match &polled {
                    Poll::Pending if idle.as_mut().is_some_and(|it| it.poll_over(cx, *bytes)) => {
                        return Poll::Ready(Some(Err(AnswerError::Idle)));
                    }
                    Poll::Ready(Some(Ok(frame))) => {
                        *bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                        *is_whole |= waiting(slowed.as_deref()) == 0 && body.is_end_stream();
                        if let Some(trailers) = frame.trailers_ref() {
                            passage.trailed(trailers);
                        }
                    }
                    Poll::Ready(None) => *is_whole = true,
                    Poll::Ready(Some(Err(_))) | Poll::Pending => {}
                }
                polled.map_err(AnswerError::NextHop)
            }
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Web(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Passed { body, slowed, .. } => {
                waiting(slowed.as_deref()) == 0 && body.is_end_stream()
            }
            Self::Own(bytes) => bytes.is_none(),
            Self::Web(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Passed { body, slowed: None, .. } => body.size_hint(),
            Self::Passed { body, slowed: Some(slowed), .. } => {
                let (rest, waiting) = (body.size_hint(), slowed.waiting() as u64);
                let mut whole = SizeHint::new();
                whole.set_lower(rest.lower().saturating_add(waiting));
                if let Some(upper) = rest.upper() {
                    whole.set_upper(upper.saturating_add(waiting));
                }
                whole
            }
            Self::Web(body) => body.size_hint(),
            Self::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}

/// Returns how many bytes of a body that is slowed down wait.
fn waiting(slowed: Option<&SlowBody>) -> usize {
    slowed.map_or(0, SlowBody::waiting)
}

/// Turns a refusal into an answer; gRPC callers get it as a status of theirs.
pub(super) fn refuse(refusal: &Refusal, is_grpc: bool) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Own(None));
    let headers = response.headers_mut();
    headers.insert("x-weft-cause", HeaderValue::from_static(refusal.cause));
    if refusal.is_unreached {
        headers.insert("x-weft-unreached", HeaderValue::from_static("1"));
    }
    if is_grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(grpc_code(refusal))));
        let mut said = refusal.fields.iter().filter(|(name, _)| name == header::RETRY_AFTER);
        if let Some((name, seconds)) = said.next() {
            headers.insert(name, seconds.clone());
        }
        if let Ok(message) = HeaderValue::from_str(&grpc_message(&refusal.message)) {
            headers.insert("grpc-message", message);
        }
    } else {
        if refusal.own_body.is_none() {
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, kind);
        }
        for (name, value) in &refusal.fields {
            headers.append(name, value.clone());
        }
        *response.status_mut() =
            StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY);
        *response.body_mut() = AnswerBody::Own(Some(refusal.body().into()));
    }
    response
}

/// **Source**: Spec: gRPC over HTTP, mapping of HTTP status codes; 504 is a deadline.
pub(super) fn grpc_code(refusal: &Refusal) -> u8 {
    if let Some(status) = refusal.grpc_status {
        return status;
    }
    match refusal.status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        504 => 4,
        _ => 14,
    }
}

/// **Source**: Spec: gRPC over HTTP/2, Status-Message is percent-encoded.
fn grpc_message(message: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => text.push(byte as char),
            // Writing into a String cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_callers_terms() {
        let refusal = Refusal::new(403, "intention-denied", "no → entry");
        let plain = refuse(&refusal, false);
        assert_eq!(plain.status(), 403);
        assert_eq!(plain.headers()["x-weft-cause"], "intention-denied");
        let grpc = refuse(&refusal, true);
        assert_eq!(grpc.status(), 200);
        assert_eq!(grpc.headers()["grpc-status"], "7");
        assert_eq!(grpc.headers()["grpc-message"], "no %E2%86%92 entry");
    }
}
