//! A connection that lives on a worker, as the worker sees it: it can be told to drain, and it
//! can be cut.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use weft_core::identity::SpiffeId;
use weft_core::intention::{Asked, Call};
use weft_core::log_format::LogRecord;
use weft_core::name::ServiceName;
use weft_core::time::Timestamp;
use weft_runtime::clock;
use weft_runtime::tls::rustls::pki_types::CertificateDer;

use crate::inbound::UnderWay;
use crate::limits::Limits;
use crate::observe::{Asking, Flow};

/// The worker's handle on one connection; shared with the task that serves it.
#[derive(Debug, Default)]
pub(crate) struct Live {
    number: u64,
    is_busy: Cell<bool>,
    is_cut: Cell<bool>,
    is_draining: Cell<bool>,
    is_retired: Cell<bool>,
    is_plaintext: Cell<bool>,
    is_shared: Cell<bool>,
    /// Whether streams come on it, each with a life of its own.
    is_carrier: Cell<bool>,
    /// Whether no further ones are let in.
    is_closed: Cell<bool>,
    pub(crate) under_way: Rc<UnderWay>,
    caller: RefCell<Option<Rc<Caller>>>,
    /// When that was known.
    since: Cell<Option<Instant>>,
    /// What the proxy that was called has shown, leaf first.
    server: RefCell<Option<Vec<CertificateDer<'static>>>>,
    waker: RefCell<Option<Waker>>,
    limits: Arc<Limits>,
}

/// Who called, and what it has shown.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) id: SpiffeId,
    pub(crate) service: ServiceName,
    /// Where it called from, without the zone of an address that has one; `None` when that cannot
    /// be told.
    pub(crate) remote: Option<SocketAddr>,
    /// Where it came in; `None` when that cannot be told.
    pub(crate) called: Option<SocketAddr>,
    /// The server name that it gave in TLS; `None` when it gave none.
    pub(crate) sni: Option<Box<str>>,
    pub(crate) tls_version: &'static str,
    /// Leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Until when the leaf is valid.
    pub(crate) valid_before: Timestamp,
    /// Counts of what it asks for.
    pub(crate) flow: Arc<Flow>,
}

impl Caller {
    /// Tells who asks a service for a request, or for a connection where there is none.
    pub(crate) fn asking<'a>(
        &'a self,
        destination: &'a ServiceName,
        request: Option<(&'a str, &'a [u8])>,
    ) -> Asking<'a> {
        let (caller, source, sni) = (&self.id, &self.service, self.sni.as_deref());
        Asking { caller, source, destination, address: self.address(), sni, request }
    }

    /// Returns the address that it called from.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.remote.map(|remote| remote.ip())
    }

    /// Puts down who calls the local instance.
    pub(crate) fn tell(&self, record: &mut LogRecord) {
        record.peer = Some(self.id.to_string().into());
        record.tls_version = Some(self.tls_version);
        record.server_name = self.sni.clone();
        record.cluster = "local_app".into();
    }

    /// Tells what is judged of its call to a service that listens on a port.
    pub(crate) fn call<'a>(&'a self, port: Option<u16>, request: Option<Asked<'a>>) -> Call<'a> {
        Call { address: self.address(), port, sni: self.sni.as_deref(), request }
    }
}

impl Live {
    /// Makes the handle of a connection that has just begun.
    pub(super) fn new(number: u64, limits: Arc<Limits>) -> Self {
        Self { number, limits, ..Self::default() }
    }

    /// Returns a number that no other connection of the process has.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns what its caller may take.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether the connection should end with the request that is under way, or the next one.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get() || self.is_retired.get()
    }

    /// Whether the connection should end at once if nothing is under way. Its caller may be about
    /// to send something, so this is only so when there is no time to wait for it.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_draining.get()
    }

    /// Asks the connection to end with the next request: the next connection goes to another
    /// process. There is time, so none is closed before its caller knows.
    pub(crate) fn retire(&self) {
        self.is_retired.set(true);
        self.wake();
    }

    /// Asks the connection to end at the next good moment.
    pub(crate) fn drain(&self) {
        self.is_draining.set(true);
        self.wake();
    }

    /// Ends the connection at once.
    pub(crate) fn cut(&self) {
        self.is_cut.set(true);
        self.wake();
    }

    /// Notes whether something is under way that a changed judgement must cut: an idle HTTP
    /// connection is judged anew with its next request.
    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.is_busy.set(is_busy);
    }

    /// Notes who calls.
    pub(crate) fn set_caller(&self, caller: Rc<Caller>) {
        *self.caller.borrow_mut() = Some(caller);
        self.since.set(Some(clock::instant()));
    }

    /// Whether the connection is to end at once; else the task that asks is woken when it is.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> bool {
        self.remember(cx.waker());
        self.is_cut.get()
    }

    /// Notes what the proxy that was called has shown.
    pub(crate) fn set_server(&self, chain: Vec<CertificateDer<'static>>) {
        *self.server.borrow_mut() = Some(chain);
    }

    /// Notes that whoever calls has shown nothing.
    pub(crate) fn set_plaintext(&self) {
        self.is_plaintext.set(true);
    }

    /// Cuts the connection if its caller has shown nothing and must.
    pub(crate) fn judge_plaintext(&self, is_allowed: bool) {
        if self.is_plaintext.get() && !is_allowed {
            self.cut();
        }
    }

    /// Notes that requests share the connection; each of them is judged by itself.
    pub(crate) fn set_shared(&self) {
        self.is_shared.set(true);
    }

    /// Notes that streams come on the connection, each with a life of its own.
    pub(crate) fn set_carrier(&self) {
        self.is_carrier.set(true);
    }

    /// Takes no further streams from a caller who would not be let in by what it has shown: those
    /// under way are judged by themselves.
    pub(crate) fn drain_carrier(&self, mut admits: impl FnMut(&[CertificateDer<'static>]) -> bool) {
        if self.is_carrier.get()
            && self.caller.borrow().as_ref().is_some_and(|caller| !admits(&caller.chain))
        {
            self.close_carrier();
        }
    }

    /// Lets no further streams in.
    pub(crate) fn close_carrier(&self) {
        self.is_closed.set(true);
        self.drain();
    }

    /// Whether no further streams are let in.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Returns who calls.
    pub(crate) fn caller(&self) -> Option<Rc<Caller>> {
        self.caller.borrow().clone()
    }

    /// Whether something is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy.get()
    }

    /// Whether one request or stream of bytes is under way that has the connection for itself.
    pub(crate) fn has_one_request(&self) -> bool {
        self.is_busy.get() && !self.is_shared.get()
    }

    /// Cuts the connection if what its caller, or the proxy called, has shown is not accepted now.
    pub(crate) fn judge_chain(&self, mut accepts: impl FnMut(&[CertificateDer<'static>]) -> bool) {
        let is_refused = self.caller.borrow().as_ref().is_some_and(|c| !accepts(&c.chain))
            || self.server.borrow().as_ref().is_some_and(|chain| !accepts(chain));
        if is_refused {
            self.cut();
        }
    }

    /// Lets the connection end at the next good moment if its caller's certificate has expired:
    /// the caller has a newer one by then, or none. Bytes without requests go on, as there is
    /// no such moment in them.
    pub(crate) fn drain_expired(&self, now: Timestamp) {
        let has_expired = self.caller.borrow().as_ref().is_some_and(|c| c.valid_before <= now);
        if has_expired && !self.is_draining.get() {
            self.drain();
        }
    }

    /// Lets the connection end with the next request if its caller has had it for so long.
    pub(crate) fn retire_older(&self, now: Instant, most: Duration) {
        let is_old = self.since.get().is_some_and(|since| now.duration_since(since) >= most);
        if is_old && !self.is_draining() {
            self.retire();
        }
    }

    /// Runs the connection's future until it ends or is cut; `None` when it was cut.
    pub(crate) fn guard<F: Future>(&self, future: F) -> Guarded<'_, F> {
        Guarded { live: self, future }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn remember(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }
}

pin_project_lite::pin_project! {
    /// A connection's future that can be cut.
    pub(crate) struct Guarded<'a, F> {
        live: &'a Live,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Guarded<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.live.is_cut.get() {
            return Poll::Ready(None);
        }
        this.live.remember(cx.waker());
        this.future.poll(cx).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_drains_when_its_callers_certificate_has_expired() {
        let live = Live::default();
        live.drain_expired(Timestamp(u64::MAX));
        assert!(!live.is_draining(), "nobody has called yet");
        let service = ServiceName::parse("web").expect("a name");
        let valid_before = Timestamp(5_000);
        let id = "spiffe://mesh/ns/default/dc/dc1/svc/web".parse().expect("an identity");
        let (remote, called, sni, chain) = (None, None, None, Vec::new());
        let tls_version = "TLSv1.3";
        let flow = Arc::default();
        let caller =
            Caller { id, service, remote, called, sni, tls_version, chain, valid_before, flow };
        live.set_caller(Rc::new(caller));
        live.drain_expired(Timestamp(4_999));
        assert!(!live.is_draining());
        let (now, most) = (clock::instant(), Duration::from_secs(60));
        live.retire_older(now, most);
        assert!(!live.is_draining());
        live.retire_older(now + most, most);
        assert!(live.is_draining() && !live.is_leaving(), "it has time");
        live.drain_expired(Timestamp(5_000));
        assert!(live.is_draining());
    }
}
