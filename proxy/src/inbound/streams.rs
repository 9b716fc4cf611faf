//! A caller's connection with many streams: each is served, judged and cut as a connection of its
//! own, in the name of the one certificate that the connection has shown.

use std::rc::Rc;

use weft_core::config_entry::Protocol;
use weft_core::traffic::mux::{ResetCode, StreamKind};
use weft_runtime::clock;

use super::accept::copy;
use super::datagrams;
use super::forward::LocalApp;
use crate::http::{Session, messages};
use crate::listen::{Caller, Live, Place, Worker, serve_stream};
use crate::observe::Open;
use crate::transport::quic::{self, Greeted, QuicStream};
use crate::transport::{Buffer, HopWire, MuxStream, ServerTls, Wire, serve};

/// Serves a connection to its end.
pub(super) async fn carry(worker: Rc<Worker>, tls: ServerTls, caller: Rc<Caller>, live: Rc<Live>) {
    live.set_carrier();
    let (workers, counts) = (worker.mux.workers, worker.mux.inbound.clone());
    let carrier = live.clone();
    let accept = move |stream: MuxStream, kind| receive(&worker, &caller, &carrier, stream, kind);
    serve(tls, workers, &counts, live, accept).await;
}

/// Serves a connection over QUIC to its end.
pub(super) async fn carry_quic(
    worker: Rc<Worker>,
    greeted: Greeted,
    caller: Rc<Caller>,
    live: Rc<Live>,
) {
    live.set_carrier();
    let (counts, tasks) = (worker.quic_counts.clone(), worker.tasks.clone());
    let carrier = live.clone();
    let accept = move |stream: QuicStream, kind| receive(&worker, &caller, &carrier, stream, kind);
    quic::serve(greeted, (&counts, &tasks), live, accept).await;
}

/// A stream of a caller's connection.
trait Carried: Wire + 'static {
    /// Breaks the stream off and says why.
    fn refuse(self, why: ResetCode);

    /// Makes one of all kinds of it.
    fn into_hop(self) -> HopWire;
}

impl Carried for MuxStream {
    fn refuse(self, why: ResetCode) {
        Self::refuse(self, why);
    }

    fn into_hop(self) -> HopWire {
        HopWire::Mux(self)
    }
}

impl Carried for QuicStream {
    fn refuse(self, why: ResetCode) {
        Self::refuse(self, why);
    }

    fn into_hop(self) -> HopWire {
        HopWire::Quic(Box::new(self))
    }
}

/// Begins to serve a stream if its connection lets any in.
fn receive(
    worker: &Rc<Worker>,
    caller: &Rc<Caller>,
    carrier: &Live,
    stream: impl Carried,
    kind: StreamKind,
) {
    if caller.valid_before <= clock::wall() {
        // A new connection would not be let in; the caller has a newer certificate by now.
        carrier.close_carrier();
    }
    match carrier.is_closed() {
        true => stream.refuse(ResetCode::Refused),
        false => start(worker, caller, stream, kind),
    }
}

/// Begins to serve a stream, or refuses it.
fn start(worker: &Rc<Worker>, caller: &Rc<Caller>, stream: impl Carried, kind: StreamKind) {
    let local = worker.current();
    let is_spoken = match local.workload.snapshot.inbound.protocol {
        Protocol::Grpc | Protocol::Http | Protocol::Http2 => {
            matches!(kind, StreamKind::Http1 | StreamKind::Messages)
        }
        Protocol::Tcp => kind == StreamKind::Bytes,
        Protocol::Udp => kind == StreamKind::Datagrams,
    };
    if !is_spoken {
        return stream.refuse(ResetCode::WrongKind);
    }
    let Some(place) = Place::of_stream(worker) else { return stream.refuse(ResetCode::Refused) };
    serve_stream(worker, (caller.clone(), place), |live| {
        let (worker, caller) = (worker.clone(), caller.clone());
        async move {
            match kind {
                StreamKind::Bytes => {
                    let _open = Open::new(&local.inbound);
                    copy((&worker, &local), stream, &caller, &live).await;
                }
                StreamKind::Datagrams => {
                    datagrams::carry((&worker, &local), stream, &caller, &live).await;
                }
                StreamKind::Http1 => {
                    let hop = LocalApp::new(worker, local, caller, &live);
                    Session::new(stream, hop, live, Buffer::default()).run().await;
                }
                StreamKind::Messages => {
                    let tasks = worker.tasks.clone();
                    let hop = LocalApp::new(worker, local, caller, &live);
                    messages::serve(stream.into_hop(), hop, &live, &tasks).await;
                }
            }
        }
    });
}
