//! Copies of requests for another target, as their route says. Their answers are thrown away, and nothing that
//! becomes of them changes what becomes of the request.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::{Body, Frame, SizeHint};
use weft_core::limits::HTTP_HEADERS_MAX;
use weft_runtime::clock;

use super::route::Plan;
use super::stream::attempt;
use crate::http::general::{AskedError, Incoming, PartsView, Replay, RequestBody, set_authority};
use crate::http::h1::RequestHead;
use crate::http::{BodyCopy, MADE_FIELDS_MAX, Outcome, Refusal};
use crate::inbound::WholeRequest;

/// Copies that one worker has under way: a target that takes long must not fill the memory.
const UNDER_WAY_MAX: u32 = 256;
/// How long one may take whose target does not say: as long as Envoy's routes wait.
const LIMIT_DEFAULT: Duration = Duration::from_secs(15);

/// A request that is copied while it goes on.
struct Copying {
    body: Vec<u8>,
    room: usize,
    /// By what the copy goes, and its head; `None` once there will be none, or it has gone.
    going: Option<(Plan, Parts)>,
}

impl Plan {
    /// Begins a copy of a request whose head was written for HTTP/1, if its route wants one.
    pub(super) fn copy_written(&self, head: &[u8]) -> Option<Box<dyn BodyCopy>> {
        let copied = self.mirrored()?;
        let mut read = RequestHead::default();
        // What was written by this proxy can be read by it.
        read.parse_up_to(HTTP_HEADERS_MAX + MADE_FIELDS_MAX, head).ok()?;
        Copying::begin(copied, &read.on(head))
    }

    /// Has a request copied that is a value, if its route wants it.
    pub(super) fn copied(&self, request: Request<RequestBody>) -> Request<RequestBody> {
        let Some(copied) = self.mirrored() else { return request };
        let (parts, body) = request.into_parts();
        let body = match Copying::begin(copied, &PartsView(&parts)) {
            Some(copy) => body.copied_to(copy),
            None => body,
        };
        Request::from_parts(parts, body)
    }
}

impl Copying {
    /// Begins; `None` where there can be no copy.
    fn begin(plan: Plan, request: &dyn WholeRequest) -> Option<Box<dyn BodyCopy>> {
        let room = plan.worker.limits.retry_body_bytes;
        let head = head(request, plan.upstream().service.as_str());
        let is_inside = plan.target().outside.is_none();
        // A worker that has too much to do does nothing that nobody waits for.
        let Some(head) = head.filter(|_| is_inside && !plan.worker.load.is_limited()) else {
            skip(&plan);
            return None;
        };
        Some(Box::new(Self { body: Vec::new(), room, going: Some((plan, head)) }))
    }
}

impl std::fmt::Debug for Copying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copying").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl BodyCopy for Copying {
    fn take(&mut self, content: &[u8]) {
        if content.len() <= self.room {
            self.room -= content.len();
            self.body.extend_from_slice(content);
        } else if let Some((plan, _)) = self.going.take() {
            self.body = Vec::new();
            skip(&plan);
        }
    }

    fn end(mut self: Box<Self>) {
        let Some((plan, mut head)) = self.going.take() else { return };
        let Some(under_way) = UnderWay::begin(&plan.worker.mirrors) else { return skip(&plan) };
        let body = std::mem::take(&mut self.body);
        if !body.is_empty() {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let replay = Replay::new(Whole(Some(body.into()).filter(|it: &Bytes| !it.is_empty())), 0);
        let request = Request::from_parts(head, replay.begin());
        let tasks = plan.worker.tasks.clone();
        tasks.spawn_local("mirrored request", async move {
            carry_out(plan, request).await;
            drop(under_way);
        });
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.going.take().iter().for_each(|(plan, _)| skip(plan));
    }
}

/// Counts a request of which there is no copy, though there should be one.
fn skip(plan: &Plan) {
    plan.local_target().series.deed("mirror-skipped");
}

/// Sends a copy and reads its answer to the end.
async fn carry_out(mut plan: Plan, request: Request<RequestBody>) {
    let started = clock::instant();
    plan.local_target().series.deed("mirrored");
    let limit = plan.request_timeout.unwrap_or(LIMIT_DEFAULT);
    let asked = async {
        let answer = attempt(&mut plan, request).await.map_err(|unsent| *unsent.refusal)?;
        read_off(answer).await
    };
    let late = || Err(Refusal::new(504, "request-timeout", "the copy has not been answered"));
    let ended = tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| late());
    let duration = clock::instant() - started;
    let outcome = match ended {
        Ok((status, response_bytes)) => {
            Outcome { response_bytes, cause: None, ..Outcome::refused(status, "", duration) }
        }
        Err(refusal) => {
            plan.local_target().series.deed("mirror-failed");
            Outcome::refused(refusal.status, refusal.cause, duration)
        }
    };
    plan.record(&outcome);
}

/// Reads an answer that nobody gets; returns its status and the length of its body.
async fn read_off(answer: Response<Incoming>) -> Result<(u16, u64), Refusal> {
    let status = answer.status().as_u16();
    let (mut body, mut bytes) = (answer.into_body(), 0);
    loop {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => {
                return Err(Refusal::new(502, "answer-broken", "the copy's answer broke off"));
            }
            None => return Ok((status, bytes)),
        }
    }
}

/// Makes the head of a copy: that of the request as it goes on, to a host that tells it from others.
///
/// **Source**: Envoy: `RouteAction.RequestMirrorPolicy`, the host has `-shadow` behind it.
fn head(request: &dyn WholeRequest, service: &str) -> Option<Parts> {
    let mut target = String::from_utf8(request.path().to_vec()).ok()?;
    if let Some(query) = request.query() {
        target.push('?');
        target.push_str(std::str::from_utf8(query).ok()?);
    }
    let mut builder = Request::builder().method(request.method()).uri(&*target);
    let mut host = None;
    request.each_field(&mut |name, value| {
        if name.eq_ignore_ascii_case(b"host") {
            host = host.take().or_else(|| String::from_utf8(value.to_vec()).ok());
        } else if let Some(headers) = builder.headers_mut()
            && let (Ok(name), Ok(value)) =
                (header::HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    });
    let (mut parts, ()) = builder.body(()).ok()?.into_parts();
    for name in [header::CONTENT_LENGTH, header::EXPECT, header::TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    set_authority(&mut parts, &target, &shadow(host.as_deref().unwrap_or(service)));
    parts.version = Version::HTTP_2;
    Some(parts)
}

/// Returns the host of a copy.
fn shadow(host: &str) -> String {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match host.rsplit_once(':') {
        // An address in brackets has no other name.
        _ if host.starts_with('[') => host.to_owned(),
        Some((name, port)) if is_port(port) => format!("{name}-shadow:{port}"),
        Some(_) | None => format!("{host}-shadow"),
    }
}

/// A copy that is under way. It counts until it is dropped.
struct UnderWay(Rc<Cell<u32>>);

impl UnderWay {
    fn begin(count: &Rc<Cell<u32>>) -> Option<Self> {
        if count.get() >= UNDER_WAY_MAX {
            return None;
        }
        count.set(count.get() + 1);
        Some(Self(count.clone()))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A body that is there whole; `None` once it has been read.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = AskedError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AskedError>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_request_for_another_host_with_nothing_of_its_framing() {
        let mut read = RequestHead::default();
        let head_bytes = b"POST /a?b=c HTTP/1.1\r\nhost: web:81\r\nx-a: 1\r\nx-a: 2\r\n\
            transfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n";
        read.parse_up_to(HTTP_HEADERS_MAX, head_bytes).expect("a head");
        let parts = head(&read.on(head_bytes), "web").expect("a copy");
        assert_eq!(parts.uri, "http://web-shadow:81/a?b=c");
        assert_eq!((parts.method.as_str(), parts.headers.len()), ("POST", 2));
        for (host, want) in [("web", "web-shadow"), ("[::1]:80", "[::1]:80"), ("[::1]", "[::1]")] {
            assert_eq!(shadow(host), want);
        }
    }

    #[test]
    fn so_many_copies_are_under_way_and_no_more() {
        let count = Rc::new(Cell::new(UNDER_WAY_MAX - 1));
        let last = UnderWay::begin(&count);
        assert!(last.is_some() && UnderWay::begin(&count).is_none());
        drop(last);
        assert!(UnderWay::begin(&count).is_some());
    }
}
