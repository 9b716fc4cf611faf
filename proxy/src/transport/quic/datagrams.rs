//! Datagrams beside the streams of a connection: each belongs to a session, whose stream's number stands
//! before it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use quinn::SendDatagramError;
use tokio::sync::Notify;
use weft_core::traffic::datagrams::{read_varint, write_varint};

use super::link::{Link, Tally};
use crate::transport::Beside;

/// Bytes that wait for one session: four of the longest datagrams, a burst of two hundred of the usual
/// ones.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// Datagrams that are kept for sessions whose stream has not come yet: packets overtake each other.
const EARLY_MAX: usize = 64;
/// Datagrams that are handed out before others have their turn.
const TOGETHER_MAX: usize = 64;
/// The longest datagram that can fit into a packet.
const PACKET_BYTES_MAX: usize = 1 << 14;

/// Where the datagrams of a connection go.
#[derive(Default)]
pub(super) struct Sorting {
    inboxes: RefCell<BTreeMap<u64, Rc<Inbox>>>,
    early: RefCell<VecDeque<(u64, Bytes)>>,
    /// Whether somebody takes them off the connection.
    pub(super) is_attended: Cell<bool>,
    /// Told when something is sent and nothing was heard for a while.
    doubted: Notify,
}

/// What has come for one session.
#[derive(Default)]
struct Inbox {
    waiting: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    /// Datagrams for which there was no room.
    lost: Cell<u64>,
    is_over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Inbox {
    fn put(&self, datagram: Bytes) {
        // An empty one takes room as well.
        let bytes = self.bytes.get() + datagram.len() + size_of::<Bytes>();
        if bytes > WAITING_BYTES_MAX {
            self.lost.set(self.lost.get() + 1);
            return;
        }
        self.bytes.set(bytes);
        self.waiting.borrow_mut().push_back(datagram);
        self.wake();
    }

    fn wake(&self) {
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl Sorting {
    fn put(&self, mut datagram: Bytes, tally: &Tally) {
        let Some((number, count)) = read_varint(&datagram) else {
            tally.counts().violations.add(1);
            return;
        };
        datagram.advance(count);
        if let Some(inbox) = self.inboxes.borrow().get(&number) {
            return inbox.put(datagram);
        }
        // Either its stream has not come, or it is over.
        let mut early = self.early.borrow_mut();
        if early.len() >= EARLY_MAX {
            early.pop_front();
            tally.counts().datagrams_stray.add(1);
        }
        early.push_back((number, datagram));
    }

    /// Ends all sessions: nobody answers.
    fn end(&self) {
        for inbox in self.inboxes.borrow().values() {
            inbox.is_over.set(true);
            inbox.wake();
        }
    }
}

/// One session's side of a connection, until this is dropped.
pub(super) struct Session {
    tally: Rc<Tally>,
    number: u64,
    inbox: Rc<Inbox>,
}

impl Session {
    /// Begins the session of a stream.
    pub(super) fn begin(tally: &Rc<Tally>, number: u64) -> Self {
        let inbox = Rc::new(Inbox::default());
        let sorting = tally.sorting();
        sorting.early.borrow_mut().retain(|(of, datagram)| {
            let is_other = *of != number;
            if !is_other {
                inbox.put(datagram.clone());
            }
            is_other
        });
        sorting.inboxes.borrow_mut().insert(number, inbox.clone());
        Self { tally: tally.clone(), number, inbox }
    }

    /// Sends a datagram, if it fits into a packet.
    pub(super) fn send(&self, datagram: &[u8]) -> Beside {
        let connection = self.tally.connection();
        if datagram.len() > PACKET_BYTES_MAX {
            return Beside::Unfit;
        }
        let mut bytes = Vec::with_capacity(datagram.len() + size_of::<u64>());
        write_varint(self.number, &mut bytes);
        bytes.extend_from_slice(datagram);
        let length = bytes.len();
        if connection.datagram_send_buffer_space() < length {
            // The library would throw away others in its place.
            return if connection.max_datagram_size().is_some_and(|max| length <= max) {
                Beside::Lost
            } else {
                Beside::Unfit
            };
        }
        match connection.send_datagram(bytes.into()) {
            Ok(()) => {
                self.tally.said(length);
                if !self.tally.is_fresh() {
                    self.tally.sorting().doubted.notify_one();
                }
                Beside::Sent
            }
            Err(SendDatagramError::ConnectionLost(_)) => Beside::Lost,
            Err(
                SendDatagramError::Disabled
                | SendDatagramError::TooLarge
                | SendDatagramError::UnsupportedByPeer,
            ) => Beside::Unfit,
        }
    }

    /// Takes a datagram that has come.
    pub(super) fn poll_take(&self, cx: &Context<'_>) -> Poll<io::Result<Bytes>> {
        let inbox = &self.inbox;
        if let Some(datagram) = inbox.waiting.borrow_mut().pop_front() {
            inbox.bytes.set(inbox.bytes.get() - datagram.len() - size_of::<Bytes>());
            return Poll::Ready(Ok(datagram));
        }
        if inbox.is_over.get() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let mut waker = inbox.waker.borrow_mut();
        match &mut *waker {
            Some(kept) => kept.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Returns how many found no room since this was asked last.
    pub(super) fn take_lost(&self) -> u64 {
        self.inbox.lost.take()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.tally.sorting().inboxes.borrow_mut().remove(&self.number);
    }
}

/// Hands out the datagrams of a connection until it has ended. A caller is told besides when nobody is
/// there any more: `link` is its connection.
pub(super) async fn sort(tally: Rc<Tally>, link: Option<Link>) {
    let sorting = tally.sorting();
    loop {
        tokio::select! {
            // Both only wait.
            came = tally.connection().read_datagram() => match came {
                Ok(datagram) => {
                    tally.heard(datagram.len());
                    sorting.put(datagram, &tally);
                    take_along(&tally);
                }
                Err(_) => return sorting.end(),
            },
            () = sorting.doubted.notified() => {
                let Some(link) = &link else { continue };
                if !link.is_fresh() && !link.check().await && !link.is_fresh() {
                    link.fall_silent();
                    sorting.end();
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Hands out what else has come.
fn take_along(tally: &Tally) {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 1..TOGETHER_MAX {
        let Poll::Ready(Ok(datagram)) = pin!(tally.connection().read_datagram()).poll(&mut cx)
        else {
            return;
        };
        tally.heard(datagram.len());
        tally.sorting().put(datagram, tally);
    }
}
