//! Many streams on one connection to another proxy: [`weft_core::traffic::mux`] decides, this
//! carries it out.
//!
//! `pool` finds or opens a connection, `drive` stands between its socket and its streams, `link` is
//! what these share, `stream` what the rest of the proxy sees.

mod drive;
mod link;
mod pool;
mod stream;

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use weft_core::traffic::mux::{Side, StreamKind};
use weft_runtime::tls::rustls::Connection;

use super::{ClientTls, ServerTls};
use crate::listen::Live;
use crate::observe::MuxCounts;
use drive::{Ground, drive};
use link::Link;

pub(crate) use pool::{Host, MuxPool};
pub(crate) use stream::MuxStream;

/// Serves a connection that a caller opened, to its end; `accept` gets each of its streams.
pub(crate) async fn serve(
    tls: ServerTls,
    workers: u16,
    counts: &Arc<MuxCounts>,
    live: Rc<Live>,
    accept: impl FnMut(MuxStream, StreamKind),
) {
    let (socket, session) = tls.into_inner();
    let (socket, ahead, _open, _) = socket.into_parts();
    let link = Link::new(Side::Called, Connection::Server(session), workers, counts);
    drive(link, Ground { socket, ahead, live }, accept).await;
}

/// Makes a connection that streams can be opened on, and the future that drives it.
fn begin(
    tls: ClientTls,
    workers: u16,
    counts: &Arc<MuxCounts>,
) -> (Link, impl Future<Output = ()> + 'static) {
    let (socket, session) = tls.into_inner();
    let (socket, ahead, open, live) = socket.into_parts();
    let link = Link::new(Side::Caller, Connection::Client(session), workers, counts);
    let ground = Ground { socket, ahead, live: live.unwrap_or_default() };
    let driving = drive(link.clone(), ground, |_, _| {});
    let driving = async move {
        let _open = open;
        driving.await;
    };
    (link, driving)
}
