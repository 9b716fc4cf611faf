//! One address and the connections to it that wait for their next request.
//!
//! Belongs to one worker thread: nothing here is locked. How a connection is opened is the
//! caller's affair.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::{Buffer, Wire};

/// Connections that wait at one endpoint, per worker: what a burst leaves behind beyond that
/// is closed.
const IDLE_PER_ENDPOINT_MAX: usize = 256;

/// One address with its waiting connections and the load that this worker puts on it.
#[derive(Debug)]
pub(crate) struct Endpoint<W> {
    in_flight: Cell<u32>,
    retired: Cell<bool>,
    idle: RefCell<Vec<Idle<W>>>,
}

#[derive(Debug)]
struct Idle<W> {
    wire: W,
    since: Instant,
}

/// A connection on loan for one request or connection, counted while it is out.
#[derive(Debug)]
pub(crate) struct Lease<W> {
    endpoint: Rc<Endpoint<W>>,
    /// The connection; `None` until one is there.
    pub(crate) wire: Option<W>,
    /// Whether it has carried a request before: then the peer may just have closed it.
    pub(crate) is_reused: bool,
}

impl<W> Endpoint<W> {
    /// Makes an endpoint without connections.
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            in_flight: Cell::new(0),
            retired: Cell::new(false),
            idle: RefCell::new(Vec::new()),
        })
    }

    /// Returns the requests and connections on their way.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Closes what waits and takes nothing back: another identity or none takes its place.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
    }

    /// Closes connections that have waited too long.
    pub(crate) fn close_idle(&self, now: Instant, idle_max: Duration) {
        // The one used longest ago lies at the bottom.
        let mut idle = self.idle.borrow_mut();
        let stale = idle.iter().take_while(|idle| now - idle.since > idle_max).count();
        idle.drain(..stale);
    }

    /// Begins a loan without a connection.
    pub(crate) fn lease(self: &Rc<Self>) -> Lease<W> {
        self.in_flight.set(self.in_flight.get() + 1);
        Lease { endpoint: self.clone(), wire: None, is_reused: false }
    }
}

impl<W: Wire> Endpoint<W> {
    /// Closes what waits and is not worth a request any more.
    pub(crate) fn close_unfit(&self) {
        self.idle.borrow_mut().retain(|idle| idle.wire.is_fit());
    }

    /// Begins a loan, with the connection used last if one waits and is sound.
    pub(crate) fn lease_reused(self: &Rc<Self>) -> Lease<W> {
        let mut lease = self.lease();
        loop {
            let waiting = self.idle.borrow_mut().pop();
            let Some(Idle { mut wire, .. }) = waiting else { break };
            if !wire.is_fit() {
                // Nor are those that wait on the same connection.
                self.close_unfit();
            } else if is_quiet(&mut wire) {
                lease.wire = Some(wire);
                lease.is_reused = true;
                break;
            }
        }
        lease
    }
}

impl<W: Wire> Lease<W> {
    /// Ends the loan and keeps the connection for the next one, if it is worth one.
    pub(crate) fn give_back(mut self, now: Instant) {
        let mut idle = self.endpoint.idle.borrow_mut();
        if !self.endpoint.retired.get() && idle.len() < IDLE_PER_ENDPOINT_MAX {
            let wire = self.wire.take().filter(Wire::is_fit);
            idle.extend(wire.map(|wire| Idle { wire, since: now }));
        }
    }
}

impl<W> Drop for Lease<W> {
    fn drop(&mut self) {
        self.endpoint.in_flight.set(self.endpoint.in_flight.get() - 1);
    }
}

/// Whether nothing has arrived on a waiting connection: neither its end nor stray bytes.
///
/// TLS may have brought session tickets; those are read and forgotten.
fn is_quiet<W: Wire>(wire: &mut W) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    match wire.poll_readable(&mut cx) {
        Poll::Pending => true,
        Poll::Ready(Err(_)) => false,
        Poll::Ready(Ok(())) => wire.poll_fill(&mut cx, &mut Buffer::default()).is_pending(),
    }
}
