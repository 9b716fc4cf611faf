//! Between the socket and the streams: reads, hands out, sends, asks whether the peer lives.

use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tracing::{debug, warn};
use weft_core::traffic::mux::StreamKind;
use weft_runtime::clock;
use weft_runtime::net::TcpStream;

use super::link::{Broken, Link};
use super::stream::MuxStream;
use crate::http::chain;
use crate::listen::Live;
use crate::transport::{Buffer, Timer};

/// Reads from the socket before what was read is acted on: others are to have their turn.
const READS_PER_TURN: usize = 4;
/// How long a peer may take for the last words, once all streams are over.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// The socket of a connection, with what was read ahead in the handshake.
pub(crate) struct Ground {
    pub(crate) socket: TcpStream,
    pub(crate) ahead: Buffer,
    /// Drains and cuts it.
    pub(crate) live: Rc<Live>,
}

/// Serves a connection to its end. `accept` gets each stream that the peer opens.
pub(super) async fn drive(
    link: Link,
    ground: Ground,
    mut accept: impl FnMut(MuxStream, StreamKind),
) {
    let Ground { mut socket, mut ahead, live } = ground;
    let mut timer = Timer::default();
    let mut opened = Vec::new();
    let mut is_first = true;
    let ended = poll_fn(|cx| {
        let turn =
            turn(&link, &mut socket, (&mut ahead, is_first), (&live, &mut timer), &mut opened, cx);
        is_first = false;
        for (number, kind) in opened.drain(..) {
            accept(MuxStream::new(link.clone(), number), kind);
        }
        turn
    })
    .await;
    let why = match &ended {
        Ok(()) => io::ErrorKind::UnexpectedEof,
        Err(Broken::Io(error)) => {
            debug!(error = chain(error), "a connection of many streams broke off");
            error.kind()
        }
        Err(Broken::Violation(violation)) => {
            warn!(
                error = chain(violation),
                "a peer broke the rules of the protocol: connection ended"
            );
            link.with(|state| {
                state.counts.violations.add(1);
                state.mux.give_up(*violation);
            });
            io::ErrorKind::InvalidData
        }
    };
    link.with(|state| state.end(why));
    if !matches!(ended, Err(Broken::Io(_))) {
        if ended.is_ok() {
            link.with(|state| state.mux.close());
        }
        // Who does not take it need not.
        let goodbye = goodbye(&link, &mut socket, &mut ahead);
        let _ = timer.bound(Some(clock::instant() + GOODBYE_LIMIT), goodbye).await;
    }
}

/// Says what is left to say, and closes once the peer has closed: the reset that follows a close with
/// bytes unread would overtake the last words.
async fn goodbye(link: &Link, socket: &mut TcpStream, ahead: &mut Buffer) -> io::Result<()> {
    poll_fn(|cx| {
        link.with(|state| {
            // After the farewell of TLS nothing can be said.
            ready!(state.poll_send(&mut Sink { socket, cx }))?;
            state.tls.send_close_notify();
            state.poll_send(&mut Sink { socket, cx })
        })
    })
    .await?;
    poll_fn(|cx| Pin::new(&mut *socket).poll_shutdown(cx)).await?;
    loop {
        ahead.consume(ahead.filled().len());
        if poll_fn(|cx| ahead.poll_fill(cx, socket)).await? == 0 {
            return Ok(());
        }
    }
}

/// Does what can be done now; ready when the connection is over.
fn turn(
    link: &Link,
    socket: &mut TcpStream,
    (ahead, is_first): (&mut Buffer, bool),
    (live, timer): (&Rc<Live>, &mut Timer),
    opened: &mut Vec<(u32, StreamKind)>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Broken>> {
    if live.poll_cut(cx) {
        return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()));
    }
    link.with(|state| {
        state.set_driver(cx.waker());
        if live.is_draining() {
            state.mux.leave();
        }
        let mut has_peer_closed = is_first && state.take(ahead, opened)?;
        let mut has_more = true;
        for _ in 0..READS_PER_TURN {
            match ahead.poll_fill(cx, socket) {
                Poll::Pending => {
                    has_more = false;
                    break;
                }
                Poll::Ready(Ok(0)) => has_peer_closed = true,
                Poll::Ready(Ok(_)) => has_peer_closed = state.take(ahead, opened)?,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            }
            if has_peer_closed {
                break;
            }
        }
        ahead.release();
        if has_more {
            // Nobody else tells when to go on: the socket was not asked to.
            cx.waker().wake_by_ref();
        }
        let is_sent = match state.poll_send(&mut Sink { socket, cx }) {
            Poll::Ready(sent) => sent.map(|()| true)?,
            Poll::Pending => false,
        };
        if has_peer_closed || (is_sent && state.mux.is_over() && state.ends.is_empty()) {
            return Poll::Ready(Ok(()));
        }
        while timer.poll_past(cx, state.mux.poll_timeout()).is_ready() {
            state.mux.handle_timeout(clock::instant())?;
            if let Poll::Ready(Err(error)) = state.poll_send(&mut Sink { socket, cx }) {
                return Poll::Ready(Err(error.into()));
            }
        }
        Poll::Pending
    })
}

/// A socket that says when it takes nothing.
struct Sink<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

fn now_or_never<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Write for Sink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now_or_never(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            // One record: `send` is cheaper than `writev`.
            [only] => self.write(only),
            several => {
                now_or_never(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, several))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
