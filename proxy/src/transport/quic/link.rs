//! One connection that this proxy has opened, and the count of its streams.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use weft_core::traffic::mux::StreamKind;
use weft_core::traffic::path::ANSWER_LIMIT;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::rustls::pki_types::CertificateDer;

use super::datagrams::{Sorting, sort};
use super::stream::QuicStream;
use super::{CHECK, CUT, DONE};
use crate::listen::Live;
use crate::observe::{Open, QuicCounts, Series};

/// How long a connection that was heard of is taken for alive. Who comes later asks first: UDP does not
/// tell when nobody listens any more.
const FRESH: Duration = Duration::from_secs(1);
/// How often it is looked for news at most: that takes a lock.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The streams of a connection, and what was heard on it.
pub(super) struct Tally {
    connection: quinn::Connection,
    streams: Cell<usize>,
    /// How many there have been.
    ever: Cell<u64>,
    idle_since: Cell<Instant>,
    /// Told when the last stream has ended.
    emptied: Notify,
    /// Whether there are to be no further streams.
    is_leaving: Cell<bool>,
    counts: Arc<QuicCounts>,
    /// Datagrams that had come when it was looked at last, and when that was.
    datagrams: Cell<u64>,
    looked_at: Cell<Instant>,
    /// Not before this the last one came.
    heard_at: Cell<Instant>,
    /// Where datagrams beside the streams go.
    sorting: Sorting,
    /// Whether the other end was asked in vain.
    is_silent: Cell<bool>,
}

impl Tally {
    /// Begins with a connection that has just been opened.
    pub(super) fn new(connection: quinn::Connection, counts: Arc<QuicCounts>) -> Rc<Self> {
        let now = clock::instant();
        counts.connections_opened.add(1);
        Rc::new(Self {
            connection,
            streams: Cell::new(0),
            ever: Cell::new(0),
            idle_since: Cell::new(now),
            emptied: Notify::new(),
            is_leaving: Cell::new(false),
            counts,
            datagrams: Cell::new(0),
            looked_at: Cell::new(now),
            heard_at: Cell::new(now),
            sorting: Sorting::default(),
            is_silent: Cell::new(false),
        })
    }

    pub(super) fn open(&self) {
        self.streams.set(self.streams.get() + 1);
        self.ever.set(self.ever.get() + 1);
        self.counts.streams_opened.add(1);
    }

    pub(super) fn close(&self) {
        self.counts.streams_closed.add(1);
        self.streams.set(self.streams.get() - 1);
        if self.streams.get() == 0 {
            self.idle_since.set(clock::instant());
            self.emptied.notify_one();
        }
    }

    pub(super) fn said(&self, count: usize) {
        self.counts.bytes_sent.add(count as u64);
    }

    pub(super) fn heard(&self, count: usize) {
        self.counts.bytes_received.add(count as u64);
    }

    /// Whether there have been so many streams, and none is left.
    pub(super) fn is_through(&self, ever: u64) -> bool {
        self.streams.get() == 0 && self.ever.get() >= ever
    }

    /// Waits until the last stream has ended, once or again.
    ///
    /// # Cancel safety
    /// Nothing is missed by one that waits.
    pub(super) async fn emptied(&self) {
        self.emptied.notified().await;
    }

    pub(super) fn connection(&self) -> &quinn::Connection {
        &self.connection
    }

    pub(super) fn sorting(&self) -> &Sorting {
        &self.sorting
    }

    /// Has the connection's datagrams taken off, unless somebody does.
    pub(super) fn attend_datagrams(self: &Rc<Self>, tasks: &TaskTree, link: Option<Link>) {
        if !self.sorting.is_attended.replace(true) {
            tasks.spawn_local("datagrams of a connection", sort(self.clone(), link));
        }
    }

    /// Returns the counts that it adds to.
    pub(super) fn counts(&self) -> &Arc<QuicCounts> {
        &self.counts
    }

    /// Whether a stream that has waited is worth a request.
    pub(super) fn is_fit(&self) -> bool {
        !self.is_leaving.get() && self.is_fresh()
    }

    /// Whether something was heard lately.
    pub(super) fn is_fresh(&self) -> bool {
        let now = clock::instant();
        let since = now.saturating_duration_since(self.looked_at.get());
        if since >= LOOK_EVERY {
            let datagrams = self.connection.stats().udp_rx.datagrams;
            if self.datagrams.replace(datagrams) != datagrams {
                // When in the time between cannot be told.
                self.heard_at.set(if since <= FRESH { now } else { self.looked_at.get() });
            }
            self.looked_at.set(now);
        }
        now.saturating_duration_since(self.heard_at.get()) <= FRESH
    }
}

/// Counts a connection as closed, however its service ends. Streams may wait somewhere that do not
/// know yet.
pub(super) struct Ended(pub(super) Arc<QuicCounts>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.connections_closed.add(1);
    }
}

/// A connection that was opened and is not in use yet.
pub(crate) struct Dialled {
    pub(super) connection: quinn::Connection,
}

/// What belongs to a connection in use.
pub(crate) struct Company {
    /// Cuts it.
    pub(crate) live: Rc<Live>,
    /// Counts it as open.
    pub(crate) open: Open,
}

impl Dialled {
    /// Returns what the one called has shown, leaf first.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        chain_of(&self.connection)
    }

    /// Makes what belongs to it.
    pub(crate) fn company(live: Rc<Live>, series: &Arc<Series>) -> Company {
        Company { live, open: Open::new(series) }
    }
}

/// Returns what the other end has shown, leaf first.
pub(super) fn chain_of(connection: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    let shown = connection.peer_identity();
    let shown = shown.and_then(|it| it.downcast::<Vec<CertificateDer<'static>>>().ok());
    shown.map(|it| *it).unwrap_or_default()
}

/// A connection in use. Clones are the same.
#[derive(Clone)]
pub(super) struct Link(Rc<Tally>);

impl Link {
    /// Takes a connection into use; the future attends to it until it has ended.
    pub(super) fn begin(
        dialled: Dialled,
        company: Company,
        counts: &Arc<QuicCounts>,
    ) -> (Self, impl Future<Output = ()> + 'static) {
        let link = Self(Tally::new(dialled.connection, counts.clone()));
        let attended = link.clone().attend(company);
        (link, attended)
    }

    /// Whether it takes further streams, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.0.is_leaving.get() && self.0.connection.close_reason().is_none()
    }

    /// Whether it has ended since nothing was heard any more.
    pub(super) fn has_fallen_silent(&self) -> bool {
        let reason = self.0.connection.close_reason();
        self.0.is_silent.get() || matches!(reason, Some(quinn::ConnectionError::TimedOut))
    }

    /// Takes no further streams, as nobody answers.
    pub(super) fn fall_silent(&self) {
        self.0.is_silent.set(true);
        self.leave();
    }

    /// Whether something was heard lately.
    pub(super) fn is_fresh(&self) -> bool {
        self.0.is_fresh()
    }

    /// Returns the round trip.
    pub(super) fn round_trip(&self) -> Duration {
        self.0.connection.min_rtt()
    }

    /// Opens a stream; `None` when there are as many as are allowed.
    pub(super) fn open(&self, kind: StreamKind, tasks: &TaskTree) -> Option<QuicStream> {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(ends)) = pin!(self.0.connection.open_bi()).poll(&mut cx) else {
            return None;
        };
        let mut stream = QuicStream::new(ends, &self.0);
        if kind == StreamKind::Datagrams {
            stream.begin_session();
            self.0.attend_datagrams(tasks, Some(self.clone()));
        }
        match Pin::new(&mut stream).poll_write(&mut cx, &[kind.number()]) {
            Poll::Ready(Ok(1)) => Some(stream),
            Poll::Ready(_) | Poll::Pending => None,
        }
    }

    /// Asks whether anybody is there; whether there was an answer in time.
    pub(super) async fn check(&self) -> bool {
        let ask = async {
            let (mut send, mut recv) = self.0.connection.open_bi().await.ok()?;
            self.0.ever.set(self.0.ever.get() + 1);
            send.write_all(&[CHECK]).await.ok()?;
            send.finish().ok()?;
            recv.read_to_end(1).await.ok()
        };
        let is_there = matches!(tokio::time::timeout(ANSWER_LIMIT, ask).await, Ok(Some(_)));
        if is_there {
            self.0.heard_at.set(clock::instant());
        }
        is_there
    }

    /// Takes no further streams, and ends with those that are left.
    pub(super) fn leave(&self) {
        self.0.is_leaving.set(true);
        self.0.emptied.notify_one();
    }

    /// Whether it has been without streams for so long.
    pub(super) fn is_idle(&self, now: Instant, idle_max: Duration) -> bool {
        let since = now.saturating_duration_since(self.0.idle_since.get());
        self.0.streams.get() == 0 && since >= idle_max
    }

    /// Says how many streams there have been, so that the other end can wait for those under way.
    fn answer_farewell(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(mut answer)) = pin!(self.0.connection.open_uni()).poll(&mut cx) {
            // It is the only one, and has room.
            let _ = Pin::new(&mut answer).poll_write(&mut cx, &self.0.ever.get().to_be_bytes());
            let _ = answer.finish();
        }
    }

    async fn attend(self, company: Company) {
        let Company { live, open } = company;
        let _ended = Ended(self.0.counts.clone());
        let (mut closed, mut farewell) =
            (pin!(self.0.connection.closed()), pin!(self.0.connection.accept_uni()));
        loop {
            let is_leaving = self.0.is_leaving.get();
            tokio::select! {
                // All of them only wait.
                () = cut(&live) => {
                    self.0.connection.close(CUT, b"no longer trusted");
                    break;
                }
                _ = &mut closed => break,
                _ = &mut farewell, if !is_leaving => {
                    self.0.is_leaving.set(true);
                    self.answer_farewell();
                }
                () = self.0.emptied() => {}
            }
            if self.0.is_leaving.get() && self.0.streams.get() == 0 {
                self.0.connection.close(DONE, b"");
                break;
            }
        }
        self.0.is_leaving.set(true);
        drop(open);
    }
}

async fn cut(live: &Live) {
    poll_fn(|cx| if live.poll_cut(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Says why a connection was not opened.
pub(super) fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer over UDP")
}
