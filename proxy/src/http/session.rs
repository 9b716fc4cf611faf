//! One client connection of HTTP/1: request after request until it ends.
//!
//! The fast path. Which target a request gets is the hop's decision ([`Hop`]); one request's
//! way is `exchange`'s.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use weft_core::limits;
use weft_core::log_format::CalledLatency;
use weft_core::traffic::{AttemptEnd, BodyKept, Throttle};
use weft_runtime::clock;

use super::body_copy::BodyCopy;
use super::changes::Changes;
use super::exchange::{Next, Opened};
use super::h1::{HeadError, HeadScan, MeshFields, RequestHead, RequestRef, ResponseHead};
use super::held::{Held, Holding};
use super::kept::Told;
use super::own::Own;
use super::refusal::Refusal;
use crate::listen::Live;
use crate::tcp::{self, Tally};
use crate::transport::{Buffer, Lease, Timer, Wire};

/// How long what a client still sends is read and thrown away, so that it sees the answer
/// instead of a reset.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
/// Bytes thrown away that way.
const LINGER_BYTES_MAX: usize = 256 << 10;
/// Bytes of the output buffer that an idle connection may keep.
const IDLE_OUTPUT_BYTES_MAX: usize = 4 << 10;

/// One side's decisions: where a request goes and how a connection for it is had.
pub(crate) trait Hop {
    /// The connection to the next hop.
    type Wire: Wire;
    /// What was decided for one request.
    type Plan;
    /// What deciding needs from elsewhere.
    type Ready: Default;

    /// Whether fields that the mesh sets are believed in answers.
    const MESH_FIELDS: MeshFields;

    /// Fields that a request may have.
    const FIELDS_MAX: usize = limits::HTTP_HEADERS_MAX;

    /// Returns how much of the next body is shown to somebody before it goes on.
    fn holding(&mut self) -> Option<Holding> {
        None
    }

    /// Finds out what deciding needs from elsewhere, or that it is refused there.
    async fn ready(
        &mut self,
        _request: RequestRef<'_>,
        _held: Option<Held>,
    ) -> Result<Self::Ready, Refusal> {
        Ok(Self::Ready::default())
    }

    /// Decides, and appends the head that the next hop gets.
    fn plan(
        &mut self,
        request: RequestRef<'_>,
        ready: Self::Ready,
        out: &mut Vec<u8>,
    ) -> Result<Self::Plan, Refusal>;

    /// Takes note of a request that is about to be refused before it has a plan.
    fn refuses(&mut self, _request: RequestRef<'_>) {}

    /// Takes note of the head of a request's answer, which lies in the bytes; the request came at
    /// `started`. Returns what the calling proxy is told of where the time went, if it wants to know.
    fn answered(
        &mut self,
        _plan: &Self::Plan,
        _head: (&ResponseHead, &[u8]),
        _started: Instant,
    ) -> Option<CalledLatency> {
        None
    }

    /// Returns what a route changes of the headers of the answer.
    fn changes(_plan: &Self::Plan) -> Changes<'_> {
        Changes::default()
    }

    /// Takes what the request gets before it goes on, or in place of that, if its route says so.
    fn own(_plan: &mut Self::Plan) -> Option<Box<Own>> {
        None
    }

    /// Returns how fast the body of the answer goes on, if the route slows it down.
    fn throttle(_plan: &Self::Plan) -> Option<Throttle> {
        None
    }

    /// Gets a connection; called again for the next attempt.
    async fn connect(
        &mut self,
        plan: &mut Self::Plan,
        reuse: Reuse,
    ) -> Result<Lease<Self::Wire>, Refusal>;

    /// Takes note of an answer, whose head lies in the bytes, that says that the request reached nobody; it goes
    /// elsewhere.
    fn turned_away(&mut self, _plan: &Self::Plan, _head: (&ResponseHead, &[u8])) {}

    /// Whether a further attempt could go elsewhere.
    fn has_alternative(&self, plan: &Self::Plan) -> bool;

    /// Returns what the next hop is told of further attempts, if the route of a request has some.
    fn may_try_again(&self, _plan: &Self::Plan) -> Option<Told> {
        None
    }

    /// Begins a copy of a request whose head for the next hop is given, if its route wants one.
    fn copy(_plan: &Self::Plan, _head: &[u8]) -> Option<Box<dyn BodyCopy>> {
        None
    }

    /// Returns how long to wait for the head of an answer to one attempt; `None` for as long as to all.
    fn attempt_limit(&self, _plan: &Self::Plan) -> Option<Duration> {
        None
    }

    /// Takes the end of an attempt at a request whose body is kept or not, and which ends at some time. Returns after
    /// what pause there is another attempt, if there is one.
    fn attempt_ended(
        &mut self,
        _plan: &mut Self::Plan,
        _end: &AttemptEnd,
        _request: (BodyKept, Option<Instant>),
    ) -> Option<Duration> {
        None
    }

    /// Returns how long to wait for the head of an answer; `None` for ever.
    fn answer_limit(&self, plan: &Self::Plan) -> Option<Duration>;

    /// Returns how long nothing may move on a request, if its route says so.
    fn idle_limit(_plan: &Self::Plan) -> Option<Duration> {
        None
    }

    /// Takes note of how a request ended; without a plan it was refused before there was one.
    fn record(&mut self, plan: Option<&Self::Plan>, outcome: &Outcome);
}

/// Whether a waiting connection may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    Allowed,
    Fresh,
}

/// How one request ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// The status that the client got; 0 when it got none.
    pub(crate) status: u16,
    /// The cause, when the proxy answered itself or the exchange broke off.
    pub(crate) cause: Option<&'static str>,
    /// The status that gRPC gives after an answer's body; `None` where it is not gRPC, or gives none.
    pub(crate) grpc_status: Option<u8>,
    /// Bytes of the request's body.
    pub(crate) request_bytes: u64,
    /// Bytes of the answer's body.
    pub(crate) response_bytes: u64,
    /// How long it took, from the head's arrival to the answer's last byte.
    pub(crate) duration: Duration,
}

/// One client connection.
pub(crate) struct Session<C, H> {
    pub(super) client: C,
    pub(super) hop: H,
    pub(super) live: Rc<Live>,
    pub(super) input: Buffer,
    pub(super) output: Vec<u8>,
    pub(super) request: RequestHead,
    pub(super) response: ResponseHead,
    pub(super) timer: Timer,
}

/// What waiting for a head ended with.
enum Arrival {
    Closed,
    Head(usize),
    Malformed(HeadError),
    TimedOut,
}

/// Counts a tunnel when it is dropped: what drops it unasked cuts it.
struct TunnelEnd<H: Hop> {
    hop: H,
    plan: H::Plan,
    status: u16,
    started: Instant,
    cause: Option<&'static str>,
    tally: Tally,
}

impl<H: Hop> Drop for TunnelEnd<H> {
    fn drop(&mut self) {
        let outcome = Outcome {
            status: self.status,
            cause: self.cause,
            grpc_status: None,
            request_bytes: self.tally.sent.get(),
            response_bytes: self.tally.received.get(),
            duration: clock::instant() - self.started,
        };
        self.hop.record(Some(&self.plan), &outcome);
    }
}

impl<C: Wire, H: Hop> Session<C, H> {
    /// Makes a session; `input` may hold what was read to find out the protocol.
    pub(crate) fn new(client: C, hop: H, live: Rc<Live>, input: Buffer) -> Self {
        Self {
            client,
            hop,
            live,
            input,
            output: Vec::new(),
            request: RequestHead::default(),
            response: ResponseHead::default(),
            timer: Timer::default(),
        }
    }

    /// Serves until the connection ends.
    pub(crate) async fn run(mut self) {
        loop {
            let next = match self.next_head().await {
                Arrival::Closed => break,
                Arrival::Head(length) => self.exchange(length).await,
                Arrival::Malformed(error) => self.refuse_malformed(error).await,
                Arrival::TimedOut => {
                    let refusal = Refusal::new(408, "head-timeout", "the head took too long");
                    self.refuse_and_close(&refusal).await
                }
            };
            match next {
                Next::Abort => {
                    self.client.mark_broken();
                    return;
                }
                Next::Close => break,
                Next::KeepAlive => {}
                Next::Linger => {
                    self.linger().await;
                    return;
                }
                Next::Tunnel(opened) => {
                    Box::pin(self.tunnel(*opened)).await;
                    return;
                }
            }
        }
        // The peer may be gone already, or take nothing; then there is no one to say goodbye to.
        let by = Some(clock::instant() + LINGER_LIMIT);
        let _ = self.timer.bound(by, self.client.shutdown()).await;
    }

    /// Carries bytes between the client and the next hop, and counts them at the end.
    async fn tunnel(self, opened: Opened<H::Wire, H::Plan>) {
        let Opened { lease, buffer, plan, status, started } = opened;
        self.live.set_busy(true);
        let (cause, tally) = (Some("connection-cut"), Tally::default());
        let mut end = TunnelEnd { hop: self.hop, plan, status, started, cause, tally };
        let limits = (self.live.limits(), &end.tally);
        let ends = ((self.client, self.input), (lease, buffer));
        let failed = tcp::tunnel(ends.0, ends.1, limits, self.timer).await;
        end.cause = failed.map(|_| "connection-broken");
    }

    /// Waits for a complete head. An idle connection holds no buffer.
    async fn next_head(&mut self) -> Arrival {
        self.live.set_busy(false);
        if self.output.capacity() > IDLE_OUTPUT_BYTES_MAX {
            self.output = Vec::new();
        }
        let Self { client, input, live, timer, .. } = self;
        let mut scan = HeadScan::default();
        let mut idle_by: Option<Instant> = None;
        let mut head_by: Option<Instant> = None;
        poll_fn(|cx| {
            loop {
                match scan.find_end(input.filled()) {
                    Ok(Some(length)) => return Poll::Ready(Arrival::Head(length)),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Arrival::Malformed(error)),
                }
                let is_idle = input.is_empty();
                if is_idle && live.is_leaving() {
                    return Poll::Ready(Arrival::Closed);
                }
                match client.poll_fill_ready(cx, input) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Arrival::Closed),
                    Poll::Pending if is_idle => {
                        input.release();
                        let by =
                            *idle_by.get_or_insert_with(|| clock::instant() + live.limits().idle);
                        ready!(timer.poll_past(cx, by));
                        return Poll::Ready(Arrival::Closed);
                    }
                    Poll::Pending => {
                        let by =
                            *head_by.get_or_insert_with(|| clock::instant() + live.limits().head);
                        ready!(timer.poll_past(cx, by));
                        return Poll::Ready(Arrival::TimedOut);
                    }
                }
            }
        })
        .await
    }

    /// Answers a head that is refused; nothing after it can be trusted.
    pub(super) async fn refuse_malformed(&mut self, error: HeadError) -> Next<H::Wire, H::Plan> {
        let status = match error {
            HeadError::TooLong | HeadError::TooManyHeaders => 431,
            HeadError::Version => 505,
            HeadError::Expectation => 417,
            _ => 400,
        };
        let refusal = Refusal::new(status, "bad-request", error.to_string());
        self.refuse_and_close(&refusal).await
    }

    /// Answers and ends the connection.
    pub(super) async fn refuse_and_close(&mut self, refusal: &Refusal) -> Next<H::Wire, H::Plan> {
        let outcome = Outcome {
            status: refusal.status,
            cause: Some(refusal.cause),
            grpc_status: None,
            request_bytes: 0,
            response_bytes: 0,
            duration: Duration::ZERO,
        };
        self.hop.record(None, &outcome);
        self.output.clear();
        refusal.write(false, true, &mut self.output);
        match self.write_output().await {
            Ok(()) => Next::Linger,
            Err(_) => Next::Abort,
        }
    }

    /// Writes the output buffer to the client.
    pub(super) async fn write_output(&mut self) -> io::Result<()> {
        let Self { client, output, timer, live, .. } = self;
        let deadline = Some(clock::instant() + live.limits().head);
        let mut written = 0;
        let write = poll_fn(|cx| poll_write_all(cx, client, output, &mut written));
        timer.bound(deadline, write).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Closes in a way that lets the client read the answer first.
    async fn linger(&mut self) {
        let Self { client, input, timer, .. } = self;
        let deadline = Some(clock::instant() + LINGER_LIMIT);
        if !matches!(timer.bound(deadline, client.shutdown()).await, Ok(Ok(()))) {
            return;
        }
        let mut left = LINGER_BYTES_MAX;
        let drain = poll_fn(|cx| {
            loop {
                input.consume(usize::MAX);
                match ready!(client.poll_fill(cx, input)) {
                    Ok(count @ 1..) if count < left => left -= count,
                    Ok(_) | Err(_) => return Poll::Ready(()),
                }
            }
        });
        // Time out or not: the connection ends here.
        let _ = timer.bound(deadline, drain).await;
    }
}

/// Writes and flushes all of `bytes`; `written` carries the progress from call to call.
pub(super) fn poll_write_all<W: Wire>(
    cx: &mut Context<'_>,
    to: &mut W,
    bytes: &[u8],
    written: &mut usize,
) -> Poll<io::Result<()>> {
    while *written < bytes.len() {
        match ready!(Pin::new(&mut *to).poll_write(cx, &bytes[*written..]))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => *written += count,
        }
    }
    Pin::new(to).poll_flush(cx)
}
