//! A caller's connection with many streams: each is served, judged and cut as a connection of its
//! own, in the name of the one certificate that the connection has shown.

use std::rc::Rc;

use weft_core::config_entry::Protocol;
use weft_core::traffic::mux::{ResetCode, StreamKind};
use weft_runtime::clock;

use super::accept::copy;
use super::forward::LocalApp;
use crate::http::Session;
use crate::listen::{Caller, Live, Place, Worker, serve_stream};
use crate::observe::Open;
use crate::transport::{Buffer, MuxStream, ServerTls, serve};

/// Serves a connection to its end.
pub(super) async fn carry(worker: Rc<Worker>, tls: ServerTls, caller: Rc<Caller>, live: Rc<Live>) {
    live.set_carrier();
    let (workers, counts) = (worker.mux.workers, worker.mux.inbound.clone());
    let carrier = live.clone();
    let accept = move |stream: MuxStream, kind| {
        if caller.valid_before <= clock::wall() {
            // A new connection would not be let in; the caller has a newer certificate by now.
            carrier.close_carrier();
        }
        match carrier.is_closed() {
            true => stream.refuse(ResetCode::Refused),
            false => start(&worker, &caller, stream, kind),
        }
    };
    serve(tls, workers, &counts, live, accept).await;
}

/// Begins to serve a stream, or refuses it.
fn start(worker: &Rc<Worker>, caller: &Rc<Caller>, stream: MuxStream, kind: StreamKind) {
    let local = worker.current();
    let is_bytes = local.workload.snapshot.inbound.protocol == Protocol::Tcp;
    if is_bytes != (kind == StreamKind::Bytes) {
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
                StreamKind::Http1 => {
                    let hop = LocalApp::new(worker, local, caller, &live);
                    Session::new(stream, hop, live, Buffer::default()).run().await;
                }
            }
        }
    });
}
