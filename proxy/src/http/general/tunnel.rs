//! Tunnels: requests of HTTP/2 that ask for bytes both ways, to HTTP/2 or to HTTP/1.1.
//!
//! **Source**: Spec: RFC 9113 §8.5 (CONNECT), RFC 8441 (extended CONNECT).

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::client::conn::http1;
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;
use weft_runtime::clock;
use weft_runtime::digest::websocket_accept;
use weft_runtime::net::TcpStream;
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::chain;

use super::super::h1::{is_host_with_port, is_upgrade_known_safe};
use super::super::refusal::Refusal;
use super::super::session::Outcome;
use super::asked::RequestBody;
use super::incoming::Incoming;
use super::serve::StreamHop;
use crate::inbound::Cut;
use crate::limits::Limits;
use crate::tcp::{Tally, copy_both};
use crate::transport::{Buffer, Timer, Wire};

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
/// Bytes of the value by which a WebSocket server shows that it is one.
///
/// **Source**: Spec: RFC 6455 §4.1.
pub(crate) const NONCE_BYTES: usize = 16;

/// What an HTTP/1.1 service is asked to speak in place of a request for a tunnel.
#[derive(Debug, Clone)]
pub(crate) struct Bridged {
    protocol: HeaderValue,
    /// That we have made, so that its answer is ours to check.
    key: Option<HeaderValue>,
}

/// Whether a request asks for a tunnel to the host that it names.
pub(crate) fn is_plain_connect(parts: &Parts) -> bool {
    parts.method == Method::CONNECT && parts.extensions.get::<Protocol>().is_none()
}

/// Whether a request asks for another protocol than HTTP.
pub(crate) fn is_extended_connect(parts: &Parts) -> bool {
    parts.method == Method::CONNECT && !is_plain_connect(parts)
}

/// Whether a request was made for an HTTP/1.1 service of one that asked for another protocol.
pub(crate) fn is_bridged(parts: &Parts) -> bool {
    parts.extensions.get::<Bridged>().is_some()
}

/// Refuses a request for a protocol that the next hop does not offer to speak.
pub(crate) fn not_offered(whom: &str) -> Refusal {
    let message = format!("{whom} does not offer extended CONNECT (RFC 8441)");
    Refusal::new(502, "connect-not-offered", message).unreached()
}

/// Checks the form of a request for a tunnel.
pub(super) fn check(parts: &Parts) -> Result<(), Refusal> {
    let refuse = |message: &str| Err(Refusal::new(400, "bad-request", message));
    if parts.version != Version::HTTP_2 {
        let message =
            "CONNECT over HTTP/1.1 goes to services that speak http; use HTTP/2 for this one";
        return Err(Refusal::new(403, "connect-not-allowed", message));
    }
    if parts.headers.contains_key(header::CONTENT_LENGTH) {
        return refuse("CONNECT has no body, so it has no Content-Length");
    }
    let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
    match parts.extensions.get::<Protocol>() {
        None if !is_host_with_port(authority.as_bytes()) => {
            refuse("CONNECT names no host with a port")
        }
        None => Ok(()),
        Some(protocol) => {
            let word = protocol.as_str().as_bytes();
            let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._/".contains(byte);
            let is_fit =
                !word.is_empty() && word.iter().all(is_word) && is_upgrade_known_safe(word);
            if is_fit { Ok(()) } else { refuse(":protocol is none that a tunnel may carry") }
        }
    }
}

/// Takes the caller's end of the tunnel that a request asks for, if it asks for one.
pub(super) fn caller_end(parts: &mut Parts) -> Option<OnUpgrade> {
    let end = parts.extensions.remove::<OnUpgrade>();
    end.filter(|_| parts.method == Method::CONNECT)
}

/// Makes a request for an HTTP/1.1 service of one that asks for another protocol.
pub(crate) fn bridge(parts: &mut Parts, nonce: [u8; NONCE_BYTES]) {
    let Some(protocol) = parts.extensions.remove::<Protocol>() else { return };
    // Its form was checked.
    let Ok(protocol) = HeaderValue::from_str(protocol.as_str()) else { return };
    let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    let key = HeaderValue::from_str(&STANDARD.encode(nonce)).ok();
    let key = key.filter(|_| is_websocket && !parts.headers.contains_key(KEY));
    if let Some(key) = &key {
        parts.headers.insert(KEY, key.clone());
    }
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, protocol.clone());
    parts.method = Method::GET;
    parts.extensions.insert(Bridged { protocol, key });
}

/// Whether an HTTP/1.1 service is asked for a tunnel.
pub(crate) fn wants_tunnel(request: &Request<RequestBody>) -> bool {
    request.extensions().get::<Bridged>().is_some() || request.method() == Method::CONNECT
}

/// Asks an HTTP/1.1 service for a tunnel, over a connection of its own. An answer that opens one has
/// the status 200, as in HTTP/2.
///
/// # Errors
/// Those of `open` and of the connection.
pub(crate) async fn ask_http1<F: Future<Output = io::Result<TcpStream>>>(
    mut request: Request<RequestBody>,
    open: impl FnOnce() -> F,
    tasks: &TaskTree,
) -> io::Result<Result<Response<Incoming>, Refusal>> {
    let bridged = request.extensions_mut().remove::<Bridged>();
    let wire = open().await?;
    let (mut sender, driver) =
        http1::handshake(TokioIo::new(wire)).await.map_err(io::Error::other)?;
    tasks.spawn_local("http1 tunnel", async move {
        if let Err(error) = driver.with_upgrades().await {
            debug!(%error, "connection to the local instance ended");
        }
    });
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    Ok(opened(answer.map(Incoming::Hyper), bridged.as_ref()))
}

/// Checks that an answer opens what was asked for, if it opens anything.
fn opened(
    mut answer: Response<Incoming>,
    bridged: Option<&Bridged>,
) -> Result<Response<Incoming>, Refusal> {
    let malformed = |message: &str| Err(Refusal::new(502, "upstream-malformed", message));
    let is_opened = match bridged {
        None => answer.status().is_success(),
        Some(_) => answer.status() == StatusCode::SWITCHING_PROTOCOLS,
    };
    if !is_opened {
        return match answer.status().is_success() {
            // In HTTP/2 it would say that the tunnel is open.
            true => malformed("the service answers without changing the protocol"),
            false => Ok(answer),
        };
    }
    if let Some(Bridged { protocol, key }) = bridged {
        let says = |name: &HeaderName, want: &[u8]| {
            let said = answer.headers().get(name);
            said.is_some_and(|said| said.as_bytes().eq_ignore_ascii_case(want))
        };
        if !says(&header::UPGRADE, protocol.as_bytes()) {
            return malformed("the service changes to another protocol than it was asked for");
        }
        if let Some(key) = key {
            let accept = websocket_accept(key.as_bytes());
            let said = answer.headers_mut().remove(ACCEPT);
            if said.is_none_or(|said| said.as_bytes() != accept.as_bytes()) {
                return malformed("the service does not show that it speaks WebSocket");
            }
        }
    }
    answer.headers_mut().remove(header::UPGRADE);
    answer.headers_mut().remove(header::TRANSFER_ENCODING);
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    *answer.status_mut() = StatusCode::OK;
    Ok(answer)
}

/// A tunnel from its opening until this is dropped; counted then.
pub(super) struct Carrying<H: StreamHop> {
    pub(super) hop: Rc<RefCell<H>>,
    pub(super) plan: H::Plan,
    pub(super) started: Instant,
    status: Cell<u16>,
    /// Why it ends; what drops it unasked cuts it.
    cause: Cell<Option<&'static str>>,
    tally: Tally,
}

impl<H: StreamHop> Drop for Carrying<H> {
    fn drop(&mut self) {
        let outcome = Outcome {
            status: self.status.get(),
            cause: self.cause.get(),
            grpc_status: None,
            request_bytes: self.tally.sent.get(),
            response_bytes: self.tally.received.get(),
            duration: clock::instant() - self.started,
        };
        self.hop.borrow().record(Some(&self.plan), &outcome);
    }
}

impl<H: StreamHop> Carrying<H> {
    pub(super) fn new(hop: Rc<RefCell<H>>, plan: H::Plan, started: Instant) -> Self {
        let cause = Cell::new(Some("connection-cut"));
        Self { hop, plan, started, status: Cell::new(200), cause, tally: Tally::default() }
    }

    /// Counts it as one that was not opened.
    pub(super) fn refused(self, refusal: &Refusal) {
        self.status.set(refusal.status);
        self.cause.set(Some(refusal.cause));
    }

    /// Carries bytes once both ends are there, until both have ended or it is cut.
    pub(super) async fn run(
        self,
        (caller, there): (OnUpgrade, OnUpgrade),
        limits: Rc<Limits>,
        cut: Option<Rc<Cut>>,
    ) {
        let carrying = self.carry((caller, there), &limits);
        let failed = match &cut {
            None => Some(carrying.await),
            Some(cut) => cut.guard(carrying).await,
        };
        match failed {
            None => {}
            Some(None) => self.cause.set(None),
            Some(Some(error)) => {
                debug!(error = chain(&error), "tunnel broke off");
                self.cause.set(Some("connection-broken"));
            }
        }
    }

    async fn carry(
        &self,
        (caller, there): (OnUpgrade, OnUpgrade),
        limits: &Limits,
    ) -> Option<io::Error> {
        // That of the service is there with its answer, that of the caller once ours was sent.
        let there = match there.await {
            Ok(there) => there,
            Err(error) => return Some(io::Error::other(error)),
        };
        let mut caller = match caller.await {
            Ok(caller) => End(TokioIo::new(caller)),
            Err(error) => return Some(io::Error::other(error)),
        };
        let (from_caller, how) = (Buffer::default(), (limits, &self.tally));
        match there.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => {
                let (mut stream, mut read) = (parts.io.into_inner(), Buffer::default());
                read.append(&parts.read_buf);
                let ends = ((&mut caller, from_caller), (&mut stream, read));
                copy_both(ends.0, ends.1, how, Timer::default()).await
            }
            Err(there) => {
                let mut there = End(TokioIo::new(there));
                let ends = ((&mut caller, from_caller), (&mut there, Buffer::default()));
                copy_both(ends.0, ends.1, how, Timer::default()).await
            }
        }
    }
}

/// A stream of HTTP/2 that has become an end of a tunnel.
struct End(TokioIo<Upgraded>);

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Wire for End {
    fn poll_readable(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It cannot tell without reading.
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        let filled = buffer.poll_fill(cx, self);
        if filled.is_pending() {
            // A silent tunnel holds no buffer.
            buffer.release();
        }
        filled
    }
}
