//! One request on its way: sent to the next hop, its answer sent back.

mod attempts;
mod own;
mod unanswered;
mod upload;

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use weft_core::log_format::TIMING_FIELD;
use weft_runtime::clock;
use weft_runtime::telemetry::chain;

use super::changes::Changes;
use super::h1::{
    BodyError, BodyReader, ConnectionField, Emission, Framing, HeadScan, add_field,
    write_response_head,
};
use super::held::{Held, Holding};
use super::kept::Kept;
use super::pump::{Pump, PumpError};
use super::refusal::Refusal;
use super::session::{Hop, Outcome, Reuse, Session, poll_write_all};
use super::watch::{Lateness, Patience, Watch};
use crate::transport::{Buffer, Lease, Wire};
use attempts::Failed;
use unanswered::{Unanswered, body_refusal, has_left, poll_head};
use upload::Upload;

/// How long a body may take to come as far as it is held back.
const HOLD_LIMIT: Duration = Duration::from_secs(60);
/// Bytes of chunked framing beside a body that is held back: an honest sender needs few, and the
/// whole is kept in memory.
const FRAMING_BYTES_MAX: usize = 16 << 10;

/// What becomes of the client's connection.
pub(crate) enum Next<W, P> {
    /// Cut: what was sent is not a complete answer.
    Abort,
    Close,
    KeepAlive,
    /// Close once the client has had time to read.
    Linger,
    /// Bytes both ways.
    Tunnel(Box<Opened<W, P>>),
}

/// A tunnel that a request has opened.
pub(crate) struct Opened<W, P> {
    pub(super) lease: Lease<W>,
    /// What the next hop has sent already.
    pub(super) buffer: Buffer,
    pub(super) plan: P,
    pub(super) status: u16,
    pub(super) started: Instant,
}

impl<C: Wire, H: Hop> Session<C, H> {
    /// Carries out the request whose head is the first `length` bytes of the input.
    pub(super) async fn exchange(&mut self, length: usize) -> Next<H::Wire, H::Plan> {
        let started = clock::instant();
        self.live.set_busy(true);
        if let Err(error) = self.request.parse_up_to(H::FIELDS_MAX, &self.input.filled()[..length])
        {
            return self.refuse_malformed(error).await;
        }
        let held = match self.held(length).await {
            Ok(held) => held,
            Err(refusal) => return self.refuse_and_close(&refusal).await,
        };
        let (plan, (to_head, is_idempotent)) = self.planned(length, held).await;
        let mut plan = match plan {
            Ok(plan) => plan,
            Err(refusal) => return self.refuse(None, &refusal, to_head, started).await,
        };
        if let Some(own) = H::own(&mut plan) {
            // Boxed: rare, and large beside the requests that go on at once.
            let ended = Box::pin(self.own_part(&plan, own, (started, to_head))).await;
            if let Some(next) = ended {
                return next;
            }
        }
        let mut upload = match self.begin_upload(&plan) {
            Ok(upload) => upload,
            Err(refusal) => return self.refuse(Some(&plan), &refusal, to_head, started).await,
        };
        let kind = (to_head, is_idempotent);
        let (lease, buffer, length) =
            match self.attempts(&mut plan, &mut upload, (started, kind)).await {
                Ok(answering) => answering,
                Err(Failed::Unconnected(refusal)) => {
                    return self.refuse(Some(&plan), &refusal, to_head, started).await;
                }
                Err(Failed::Unanswered(unanswered)) => {
                    let sent = (&upload.pump, to_head);
                    return self.give_up(&plan, &unanswered, sent, started).await;
                }
            };
        self.answer(plan, lease, (buffer, length), upload, started).await
    }

    /// Has it decided what becomes of the request; says whether it is a HEAD and may be repeated.
    async fn planned(
        &mut self,
        length: usize,
        held: Option<Held>,
    ) -> (Result<H::Plan, Refusal>, (bool, bool)) {
        let request = self.request.on(&self.input.filled()[..length]);
        let kind = (request.is_head(), request.is_idempotent());
        self.output.clear();
        let plan = match self.hop.ready(request, held).await {
            Ok(ready) => self.hop.plan(request, ready, &mut self.output),
            Err(refusal) => Err(refusal),
        };
        if plan.is_err() {
            self.hop.refuses(request);
        }
        self.input.consume(length);
        (plan, kind)
    }

    /// Gets a connection in time.
    async fn connected(
        &mut self,
        plan: &mut H::Plan,
        reuse: Reuse,
        by: Option<Instant>,
    ) -> Result<Lease<H::Wire>, Refusal> {
        let connected = self.timer.bound(by, self.hop.connect(plan, reuse)).await;
        connected.unwrap_or_else(|_| Err(Lateness::Answer.refusal()))
    }

    /// Reads as much of the body as is to be held back; the head has this length.
    async fn held(&mut self, length: usize) -> Result<Option<Held>, Refusal> {
        let Some(holding) = self.hop.holding() else { return Ok(None) };
        // Boxed: rare, and large beside the requests that go on at once.
        let held = Box::pin(self.hold(length, holding)).await;
        held.map(Some).map_err(|unanswered| match unanswered {
            Unanswered::Late(_) => Refusal::new(408, "body-timeout", "the body took too long"),
            other => other.refusal(),
        })
    }

    /// Ends a request that has got no answer.
    async fn give_up(
        &mut self,
        plan: &H::Plan,
        unanswered: &Unanswered,
        (upload, to_head): (&Pump, bool),
        started: Instant,
    ) -> Next<H::Wire, H::Plan> {
        let refusal = match unanswered {
            Unanswered::Client(error @ PumpError::TooLarge) => body_refusal(error),
            Unanswered::Client(_) => {
                self.record(plan, 0, Some("client-gone"), started, (upload, None));
                return Next::Abort;
            }
            Unanswered::Late(_) | Unanswered::Malformed(_) | Unanswered::Upstream { .. } => {
                unanswered.refusal()
            }
        };
        self.refuse(Some(plan), &refusal, to_head, started).await
    }

    /// Reads the body that follows a head of this length, as far as it is held back. It stays in
    /// the input.
    async fn hold(&mut self, length: usize, holding: Holding) -> Result<Held, Unanswered> {
        let (mut reader, mut content) = (BodyReader::new(self.request.framing), Vec::new());
        let mut seen = length;
        let mut is_told = !self.request.expects_continue;
        let by = clock::instant() + HOLD_LIMIT;
        loop {
            let came = &self.input.filled()[seen..];
            let taken = reader.take(came, |part| content.extend_from_slice(part));
            let malformed = |error| Unanswered::Client(PumpError::Body(error));
            seen += taken.map_err(malformed)?;
            let framing = seen - length - content.len();
            if framing > FRAMING_BYTES_MAX.max(content.len() * 8) {
                return Err(malformed(BodyError::Chunk));
            }
            if !holding.wants_more(content.len(), reader.is_done()) {
                return Ok(holding.held(content, reader.is_done()));
            }
            if !std::mem::replace(&mut is_told, true) {
                // Else the caller would wait for the service, which waits for us.
                self.output.clear();
                self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                let gone = |error| Unanswered::Client(PumpError::To(error));
                self.write_output().await.map_err(gone)?;
            }
            let Self { client, input, timer, .. } = self;
            let read = poll_fn(|cx| match input.poll_fill(cx, client) {
                Poll::Ready(read) => Poll::Ready(Some(read)),
                Poll::Pending => timer.poll_past(cx, by).map(|()| None),
            });
            let gone = |error| Unanswered::Client(PumpError::From(error));
            if read.await.ok_or(Unanswered::Late(Lateness::Answer))?.map_err(gone)? == 0 {
                reader.end().map_err(malformed)?;
            }
        }
    }

    /// Puts what has come of the body behind the head that is to be sent.
    fn begin_upload(&mut self, plan: &H::Plan) -> Result<Upload, Refusal> {
        let bytes_max = self.live.limits().body_bytes;
        if matches!(self.request.framing, Framing::Length(length) if length > bytes_max) {
            return Err(body_refusal(&PumpError::TooLarge));
        }
        let mut pump = Pump::new(self.request.framing, Emission::Verbatim);
        let is_tunnel = self.request.wants_upgrade || self.request.is_connect;
        if !is_tunnel && let Some(told) = self.hop.may_try_again(plan) {
            let room = self.live.limits().retry_body_bytes;
            pump.kept = Some(Kept::new((self.output.len(), told), room));
        }
        if !is_tunnel {
            pump.copy_to(H::copy(plan, &self.output));
        }
        let taken = pump.take_first(&mut self.input, &mut self.output);
        taken.map_err(|error| body_refusal(&error))?;
        pump.end_copy();
        if pump.moved > bytes_max {
            return Err(body_refusal(&PumpError::TooLarge));
        }
        let is_done = pump.is_read();
        Ok(Upload { pump, is_done, bytes_max, has_failed: false })
    }

    /// Sends the request and waits for the head of its final answer; interim ones are passed on.
    async fn ask(
        &mut self,
        lease: &mut Lease<H::Wire>,
        buffer: &mut Buffer,
        upload: &mut Upload,
        (patience, answer_by): (Patience, Option<Instant>),
        to_head: bool,
    ) -> Result<usize, Unanswered> {
        let upstream = lease.wire.as_mut().expect("a lease from `connect` has a connection");
        let mut written = 0;
        let mut watch = Watch::new(patience, answer_by);
        loop {
            let Self { client, input, output, timer, .. } = self;
            let mut scan = HeadScan::default();
            let length = poll_fn(|cx| {
                if !upload.has_failed && written <= output.len() {
                    match poll_write_all(cx, upstream, output, &mut written) {
                        Poll::Ready(Ok(())) => written = usize::MAX,
                        // It may have answered before it closed; reading tells.
                        Poll::Ready(Err(_)) => upload.has_failed = true,
                        Poll::Pending => return upload.watched(cx, timer, &mut watch).map(Err),
                    }
                }
                if let Poll::Ready(Err(error)) = upload.poll(cx, client, input, upstream) {
                    return Poll::Ready(Err(Unanswered::Client(error)));
                }
                match poll_head(cx, upstream, buffer, &mut scan) {
                    Poll::Ready(found) => Poll::Ready(found),
                    Poll::Pending if upload.is_done && has_left(cx, client, input) => {
                        let error = io::ErrorKind::ConnectionAborted.into();
                        Poll::Ready(Err(Unanswered::Client(PumpError::From(error))))
                    }
                    Poll::Pending => upload.watched(cx, timer, &mut watch).map(Err),
                }
            })
            .await?;
            self.response.to_connect = self.request.is_connect;
            self.response
                .parse(&buffer.filled()[..length], to_head)
                .map_err(|error| Unanswered::Malformed(error.to_string()))?;
            if !self.response.is_interim() {
                return Ok(length);
            }
            if !self.request.is_http10 {
                // Who has had a part of an answer gets the rest of it, not that of another one.
                upload.pump.kept.iter_mut().for_each(|kept| kept.lose());
                let interim = buffer.filled()[..length].to_vec();
                let mut out = Vec::with_capacity(interim.len());
                let how = (Emission::Verbatim, H::MESH_FIELDS, Changes::default());
                write_response_head(&self.response, &interim, ConnectionField::None, how, &mut out);
                let mut sent = 0;
                let Self { client, timer, .. } = &mut *self;
                let write = poll_fn(|cx| poll_write_all(cx, client, &out, &mut sent));
                timer
                    .bound(Some(clock::instant() + patience.stall), write)
                    .await
                    .unwrap_or(Err(io::ErrorKind::TimedOut.into()))
                    .map_err(|error| Unanswered::Client(PumpError::To(error)))?;
            }
            buffer.consume(length);
        }
    }

    /// Sends the answer to the client while the rest of the request's body may still go out.
    async fn answer(
        &mut self,
        plan: H::Plan,
        mut lease: Lease<H::Wire>,
        (mut buffer, length): (Buffer, usize),
        mut upload: Upload,
        started: Instant,
    ) -> Next<H::Wire, H::Plan> {
        let status = self.response.status;
        let is_upgraded = status == 101;
        if is_upgraded && !self.request.wants_upgrade {
            let refusal = Refusal::new(502, "upstream-malformed", "an upgrade nobody asked for");
            return self.refuse(Some(&plan), &refusal, false, started).await;
        }
        let is_tunnel = is_upgraded || self.response.opens_tunnel();
        let emission = Emission::of(self.response.framing, self.request.is_http10);
        // What follows a CONNECT that is refused was meant for the tunnel.
        let keeps = self.request.is_persistent
            && !self.request.is_connect
            && upload.is_sent()
            && !self.live.is_draining()
            && emission != Emission::Unframed;
        let connection = match (is_upgraded, keeps, self.request.is_http10) {
            (true, _, _) => ConnectionField::Upgrade,
            (false, false, _) if is_tunnel => ConnectionField::None,
            (false, false, _) => ConnectionField::Close,
            (false, true, true) => ConnectionField::KeepAlive,
            (false, true, false) => ConnectionField::None,
        };
        self.output.clear();
        let head = &buffer.filled()[..length];
        let told = self.hop.answered(&plan, (&self.response, head), started);
        let how = (emission, H::MESH_FIELDS, H::changes(&plan));
        write_response_head(&self.response, head, connection, how, &mut self.output);
        if let Some(told) = told {
            add_field(TIMING_FIELD, &told.to_string(), &mut self.output);
        }
        buffer.consume(length);
        let mut download = Pump::new(self.response.framing, emission);
        download.slow_down(H::throttle(&plan));
        if let Err(error) = download.take_first(&mut buffer, &mut self.output) {
            let refusal = Unanswered::Malformed(chain(&error)).refusal();
            return self.refuse(Some(&plan), &refusal, false, started).await;
        }
        let upstream = lease.wire.as_mut().expect("a lease that answered has a connection");
        let stall = self.live.limits().stall;
        let patience = Patience { answer: None, stall, idle: H::idle_limit(&plan) };
        let ends = (upstream, &mut buffer);
        let sent = self.send(ends, &mut download, &mut upload, patience).await;
        let cause = sent.as_ref().err().map(PumpError::answer_cause);
        if is_tunnel && sent.is_ok() {
            // Counted at its end.
            return Next::Tunnel(Box::new(Opened { lease, buffer, plan, status, started }));
        }
        self.record(&plan, status, cause, started, (&upload.pump, Some(&download)));
        if sent.is_err() {
            return Next::Abort;
        }
        // Bytes after the answer belong to no request: such a connection is not used again.
        if self.response.is_persistent && upload.is_sent() && buffer.is_empty() {
            lease.give_back(clock::instant());
        }
        match (keeps, upload.is_sent() && !self.request.is_connect) {
            (true, _) => Next::KeepAlive,
            (false, true) => Next::Close,
            (false, false) => Next::Linger,
        }
    }

    /// Writes head and body; a broken upload does not stop the answer.
    async fn send(
        &mut self,
        (upstream, buffer): (&mut H::Wire, &mut Buffer),
        download: &mut Pump,
        upload: &mut Upload,
        patience: Patience,
    ) -> Result<(), PumpError> {
        let Self { client, input, output, timer, .. } = self;
        let mut written = 0;
        let mut watch = Watch::new(patience, None);
        poll_fn(|cx| {
            if written <= output.len() {
                match poll_write_all(cx, client, output, &mut written) {
                    Poll::Ready(Ok(())) => written = usize::MAX,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::To(error))),
                    Poll::Pending => {
                        return watch
                            .poll_moved(cx, timer, 0)
                            .map(|late| Err(PumpError::late(late)));
                    }
                }
            }
            if let Poll::Ready(Err(_)) = upload.poll(cx, client, input, upstream) {
                upload.has_failed = true;
            }
            match download.poll(cx, (upstream, buffer), client) {
                Poll::Ready(done) => Poll::Ready(done),
                Poll::Pending => {
                    let moved = download.progress() + upload.pump.moved;
                    watch.poll_moved(cx, timer, moved).map(|late| Err(PumpError::late(late)))
                }
            }
        })
        .await
    }

    /// Answers in place of an application. Keeps the connection when nothing of the request is
    /// left in it.
    async fn refuse(
        &mut self,
        plan: Option<&H::Plan>,
        refusal: &Refusal,
        to_head: bool,
        started: Instant,
    ) -> Next<H::Wire, H::Plan> {
        let outcome = Outcome {
            status: refusal.status,
            cause: Some(refusal.cause),
            grpc_status: None,
            request_bytes: 0,
            response_bytes: 0,
            duration: clock::instant() - started,
        };
        self.hop.record(plan, &outcome);
        let has_no_body = self.request.framing == Framing::Empty;
        let keeps = has_no_body
            && self.request.is_persistent
            && !self.request.is_connect
            && !self.request.is_http10
            && !self.live.is_draining();
        self.output.clear();
        refusal.write(to_head, !keeps, &mut self.output);
        match (self.write_output().await, keeps) {
            (Err(_), _) => Next::Abort,
            (Ok(()), true) => Next::KeepAlive,
            (Ok(()), false) => Next::Linger,
        }
    }

    fn record(
        &mut self,
        plan: &H::Plan,
        status: u16,
        cause: Option<&'static str>,
        started: Instant,
        (upload, download): (&Pump, Option<&Pump>),
    ) {
        let outcome = Outcome {
            status,
            cause,
            grpc_status: None,
            request_bytes: upload.moved,
            response_bytes: download.map_or(0, |download| download.moved),
            duration: clock::instant() - started,
        };
        self.hop.record(Some(plan), &outcome);
    }
}

#[cfg(test)]
mod tests;
