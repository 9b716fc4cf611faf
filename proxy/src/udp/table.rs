//! The sessions of one listener: each has a queue that its task empties.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;
use weft_core::traffic::datagrams::{Admission, SessionLimits, Sessions};
use weft_runtime::clock;
use weft_runtime::net::{Client, ClientSocket, is_too_long};

use super::exchange::End;
use crate::observe::{Lost, Side, UdpCounts};

/// Bytes of datagrams that wait in one session: four of the longest, a burst of two hundred of the usual
/// ones.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// Bytes that wait in all sessions of a listener together.
const ALL_WAITING_BYTES_MAX: usize = 32 << 20;

/// The sessions of one listener of one worker.
pub(crate) struct Table {
    sessions: RefCell<Sessions<Client>>,
    queues: RefCell<BTreeMap<u64, Rc<Queue>>>,
    /// Bytes that wait in all of them.
    waiting: Cell<usize>,
    /// Told when there is a first session.
    begun: Notify,
    counts: Arc<UdpCounts>,
}

/// What waits for one session.
#[derive(Default)]
struct Queue {
    datagrams: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    is_closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// The instance that it goes to, once that is known.
    endpoint: Cell<Option<SocketAddr>>,
}

impl Queue {
    fn wake(&self) {
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        self.is_closed.set(true);
        self.wake();
    }
}

impl Table {
    /// Makes one without sessions.
    pub(crate) fn new(limits: SessionLimits, counts: &Arc<UdpCounts>) -> Rc<Self> {
        Rc::new(Self {
            sessions: RefCell::new(Sessions::new(limits)),
            queues: RefCell::default(),
            waiting: Cell::new(0),
            begun: Notify::new(),
            counts: counts.clone(),
        })
    }

    /// Takes a client's datagram; returns the end of the session that it begins, if it does.
    pub(super) fn take(
        self: &Rc<Self>,
        socket: &Rc<ClientSocket>,
        (client, datagram): (&Client, &[u8]),
        now: Instant,
    ) -> Option<ClientEnd> {
        let admission = self.sessions.borrow_mut().handle_datagram(client, now);
        self.close_ended();
        let (number, begun) = match admission {
            Admission::Full => {
                self.counts.lost(Lost::SessionsFull, 1);
                return None;
            }
            Admission::Paused => {
                self.counts.lost(Lost::Paused, 1);
                return None;
            }
            Admission::Known(number) => (number, None),
            Admission::Opened(number) => {
                let queue = Rc::<Queue>::default();
                self.queues.borrow_mut().insert(number, queue.clone());
                self.counts.opened.add(1);
                self.begun.notify_one();
                let (table, socket, client) = (self.clone(), socket.clone(), *client);
                (number, Some(ClientEnd { table, socket, client, number, queue }))
            }
        };
        if let Some(queue) = self.queues.borrow().get(&number) {
            // An empty one takes room as well.
            let bytes = datagram.len() + size_of::<Bytes>();
            if queue.bytes.get() + bytes > WAITING_BYTES_MAX
                || self.waiting.get() + bytes > ALL_WAITING_BYTES_MAX
            {
                self.counts.lost(Lost::QueueFull, 1);
            } else {
                queue.bytes.set(queue.bytes.get() + bytes);
                self.waiting.set(self.waiting.get() + bytes);
                queue.datagrams.borrow_mut().push_back(Bytes::copy_from_slice(datagram));
                queue.wake();
            }
        }
        begun
    }

    /// Ends sessions whose time is over, for ever.
    pub(super) async fn watch(&self) {
        loop {
            let due = self.sessions.borrow().poll_timeout();
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => self.begun.notified().await,
            }
            self.sessions.borrow_mut().handle_timeout(clock::instant());
            self.close_ended();
        }
    }

    /// Has the sessions leave whose instances are not there any more, as those say.
    pub(crate) fn retain(&self, is_there: impl Fn(SocketAddr) -> bool) {
        let gone = |queue: &Queue| queue.endpoint.get().is_some_and(|it| !is_there(it));
        let queues = self.queues.borrow();
        let gone: Vec<u64> =
            queues.iter().filter(|(_, queue)| gone(queue)).map(|(number, _)| *number).collect();
        drop(queues);
        gone.into_iter().for_each(|number| self.leave(number));
    }

    fn leave(&self, number: u64) {
        self.sessions.borrow_mut().handle_leave(number);
        if let Some(queue) = self.queues.borrow_mut().remove(&number) {
            queue.close();
        }
    }

    fn close_ended(&self) {
        while let Some(number) = { self.sessions.borrow_mut().poll_output() } {
            if let Some(queue) = self.queues.borrow_mut().remove(&number) {
                queue.close();
            }
        }
    }
}

/// The client's side of a session. Dropping it ends the session.
pub(crate) struct ClientEnd {
    table: Rc<Table>,
    socket: Rc<ClientSocket>,
    client: Client,
    number: u64,
    queue: Rc<Queue>,
}

impl ClientEnd {
    /// Returns whose it is.
    pub(crate) fn client(&self) -> SocketAddr {
        self.client.address
    }

    /// Returns where it came in.
    pub(crate) fn bind(&self) -> SocketAddr {
        self.socket.address()
    }

    /// Takes note of the instance that it goes to.
    pub(crate) fn goes_to(&self, endpoint: SocketAddr) {
        self.queue.endpoint.set(Some(endpoint));
    }
}

impl End for ClientEnd {
    const SIDE: Side = Side::Outbound;

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let queue = &self.queue;
        if let Some(datagram) = queue.datagrams.borrow_mut().pop_front() {
            let bytes = datagram.len() + size_of::<Bytes>();
            queue.bytes.set(queue.bytes.get() - bytes);
            self.table.waiting.set(self.table.waiting.get() - bytes);
            return Poll::Ready(Some(datagram));
        }
        if queue.is_closed.get() {
            return Poll::Ready(None);
        }
        let mut waker = queue.waker.borrow_mut();
        match &mut *waker {
            Some(kept) => kept.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn give(&mut self, datagram: &[u8]) -> Result<(), Lost> {
        self.table.sessions.borrow_mut().handle_answer(self.number, clock::instant());
        self.socket.send(datagram, &self.client).map_err(|error| lost(&error))
    }

    fn leave(&mut self) {
        self.table.leave(self.number);
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        self.table.sessions.borrow_mut().handle_end(self.number, clock::instant());
        self.table.queues.borrow_mut().remove(&self.number);
        self.table.waiting.set(self.table.waiting.get() - self.queue.bytes.get());
        self.table.counts.lost(Lost::Unsent, self.queue.datagrams.borrow().len() as u64);
        self.table.counts.closed.add(1);
    }
}

/// Says why a datagram could not be sent.
pub(super) fn lost(error: &io::Error) -> Lost {
    match error.kind() {
        io::ErrorKind::WouldBlock => Lost::NoRoom,
        _ if is_too_long(error) => Lost::TooLong,
        _ => Lost::Unreachable,
    }
}
