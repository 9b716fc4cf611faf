//! A connection that another proxy has opened.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use quinn::crypto::rustls::HandshakeData;
use tokio::io::AsyncWrite;
use tracing::debug;
use weft_core::traffic::mux::{ResetCode, StreamKind};
use weft_runtime::task::TaskTree;
use weft_runtime::tls::rustls::pki_types::CertificateDer;

use super::link::{Ended, Tally, chain_of};
use super::stream::QuicStream;
use super::{CHECK, CUT, DONE};
use crate::listen::Live;
use crate::observe::QuicCounts;

/// Somebody who wants to open a connection.
pub(crate) struct Knock(quinn::Incoming);

/// A connection whose handshake is over.
pub(crate) struct Greeted(quinn::Connection);

impl Knock {
    pub(super) fn new(incoming: quinn::Incoming) -> Self {
        Self(incoming)
    }

    /// Returns where it says that it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.remote_address()
    }

    /// Says at once that there is no room; the caller goes by TCP.
    pub(crate) fn refuse(self) {
        self.0.refuse();
    }

    /// Has the caller show first that it is where it says, which costs it a round trip, unless it has.
    pub(crate) fn challenge(self) -> Option<Self> {
        if self.0.remote_address_validated() || !self.0.may_retry() {
            return Some(self);
        }
        // Where it cannot be asked, its handshake goes on.
        self.0.retry().err().map(|error| Self(error.into_incoming()))
    }

    /// Finishes the handshake.
    ///
    /// # Errors
    /// Those of the network and of TLS.
    pub(crate) async fn greet(self) -> io::Result<Greeted> {
        let connecting = self.0.accept().map_err(io::Error::other)?;
        Ok(Greeted(connecting.await.map_err(io::Error::other)?))
    }
}

impl Greeted {
    /// Returns what the caller has shown, leaf first.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        chain_of(&self.0)
    }

    /// Returns where it calls from.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.remote_address()
    }

    /// Returns the name by which it calls.
    pub(crate) fn server_name(&self) -> Option<Box<str>> {
        let data = self.0.handshake_data()?.downcast::<HandshakeData>().ok()?;
        data.server_name.map(Into::into)
    }
}

/// Ends the connection at once, however its service ends.
struct End(quinn::Connection);

impl Drop for End {
    fn drop(&mut self) {
        self.0.close(CUT, b"");
    }
}

/// Serves a connection to its end; `accept` gets each of its streams. When it is to drain, the caller is
/// told so; it says how many streams it has opened, and the connection ends after the last of them.
pub(crate) async fn serve(
    greeted: Greeted,
    (counts, tasks): (&Arc<QuicCounts>, &TaskTree),
    live: Rc<Live>,
    accept: impl FnMut(QuicStream, StreamKind) + 'static,
) {
    let connection = greeted.0;
    let (_end, _ended) = (End(connection.clone()), Ended(counts.clone()));
    let tally = Tally::new(connection.clone(), counts.clone());
    let accept = Rc::new(RefCell::new(accept));
    let mut answer = pin!(answer(&connection));
    let (mut has_said, mut opened) = (false, None);
    loop {
        tokio::select! {
            // All of them only wait.
            opened = connection.accept_bi() => match opened {
                Ok(ends) => meet(QuicStream::new(ends, &tally), &tally, (tasks, &live), &accept),
                Err(error) => {
                    debug!(%error, "a connection over QUIC has ended");
                    return;
                }
            },
            () = drains(&live), if !has_said => {
                has_said = true;
                say_farewell(&connection);
            }
            ever = &mut answer, if opened.is_none() => opened = Some(ever),
            () = tally.emptied() => {}
        }
        if has_said && opened.flatten().is_some_and(|ever| tally.is_through(ever)) {
            connection.close(DONE, b"");
            return;
        }
    }
}

fn say_farewell(connection: &quinn::Connection) {
    let mut cx = Context::from_waker(Waker::noop());
    if let Poll::Ready(Ok(mut farewell)) = pin!(connection.open_uni()).poll(&mut cx) {
        // Who does not hear it learns it by streams that are refused.
        let _ = farewell.finish();
    }
}

/// Hears how many streams there have been; `None` from who does not answer.
async fn answer(connection: &quinn::Connection) -> Option<u64> {
    let mut bytes = [0; 8];
    connection.accept_uni().await.ok()?.read_exact(&mut bytes).await.ok()?;
    Some(u64::from_be_bytes(bytes))
}

async fn drains(live: &Live) {
    poll_fn(|cx| {
        // Asked for the sake of being woken; who is cut is not polled again.
        let _ = live.poll_cut(cx);
        if live.is_draining() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

type Accept<F> = Rc<RefCell<F>>;

/// Learns what a stream carries, mostly at once.
fn meet<F: FnMut(QuicStream, StreamKind) + 'static>(
    mut stream: QuicStream,
    tally: &Rc<Tally>,
    (tasks, live): (&TaskTree, &Rc<Live>),
    accept: &Accept<F>,
) {
    if let Poll::Ready(kind) = stream.poll_kind(&mut Context::from_waker(Waker::noop())) {
        return introduce(stream, kind, (tally, tasks), accept);
    }
    let (tally, accept, limit) = (tally.clone(), accept.clone(), live.limits().handshake);
    let inner = tasks.clone();
    tasks.spawn_local("first byte of a stream", async move {
        let kind = tokio::time::timeout(limit, poll_fn(|cx| stream.poll_kind(cx))).await;
        let kind = kind.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
        introduce(stream, kind, (&tally, &inner), &accept);
    });
}

fn introduce<F: FnMut(QuicStream, StreamKind)>(
    mut stream: QuicStream,
    kind: io::Result<u8>,
    (tally, tasks): (&Rc<Tally>, &TaskTree),
    accept: &Accept<F>,
) {
    match kind {
        Ok(CHECK) => {
            let mut cx = Context::from_waker(Waker::noop());
            // A byte for which there is no room is as good as no answer.
            let _ = Pin::new(&mut stream).poll_write(&mut cx, &[CHECK]);
            let _ = Pin::new(&mut stream).poll_shutdown(&mut cx);
        }
        Ok(number) => match StreamKind::of(number) {
            Some(kind) => {
                if kind == StreamKind::Datagrams {
                    stream.begin_session();
                    tally.attend_datagrams(tasks, None);
                }
                accept.borrow_mut()(stream, kind);
            }
            None => {
                tally.counts().violations.add(1);
                stream.refuse(ResetCode::WrongKind);
            }
        },
        Err(_) => stream.refuse(ResetCode::Broken),
    }
}
