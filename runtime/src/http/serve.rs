//! Accepting connections and serving HTTP/1.1 and HTTP/2 on them, within limits.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::sync::Semaphore;
use tower::Service;
use tracing::{debug, warn};
use weft_core::identity::SpiffeId;

use super::clients::{self, Clients};
use super::connection::{Connection, serve_connection};
use super::{Accept, Body, BoxError, Remote};
use crate::backoff::Backoff;
use crate::entropy;
use crate::task::TaskTree;
use crate::tls::ServerTlsCell;

/// Who called, by its certificate; `None` without one. In the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity(pub Option<SpiffeId>);

/// Who calls at a door, and hence whose certificates are shown there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Members of the mesh, if they show a certificate; it says who they are.
    Members,
    /// Anyone; a certificate was checked in the handshake and says nothing to us.
    Outsiders,
}

/// The bounds of a server, so that no caller can exhaust it.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Connections open at once. When full: further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Connections open at once from one IP address; further ones are answered 429 and closed.
    /// `None` for no bound.
    pub connections_per_client_max: Option<usize>,
    /// Who calls.
    pub callers: Callers,
    /// The time for a TLS handshake.
    pub handshake_limit: Duration,
    /// The time for a request's head, and between two requests of an HTTP/1.1 connection.
    pub head_limit: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// The time for a request's body from its first use; gRPC streams are exempt.
    pub body_limit: Duration,
    /// Bytes of a request's body, counted as they come; gRPC streams are exempt, as tonic
    /// bounds each message.
    pub body_bytes_max: usize,
    /// Requests at once on an HTTP/2 connection.
    pub streams_max: u32,
    /// After this silence an HTTP/2 peer is asked whether it lives, and has as long again to
    /// answer.
    pub keepalive: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            // A host has some thousand clients of its API at most; 20,000 open files is a
            // usual limit of a process.
            connections_max: 8192,
            connections_per_client_max: None,
            callers: Callers::Members,
            // A handshake takes a millisecond of work and two round trips.
            handshake_limit: Duration::from_secs(10),
            head_limit: Duration::from_secs(30),
            head_bytes_max: weft_core::limits::HTTP_HEAD_BYTES_MAX,
            body_limit: Duration::from_secs(30),
            body_bytes_max: weft_core::limits::API_BODY_BYTES_MAX,
            // An agent forwards all blocking queries of its host over one connection.
            streams_max: 4096,
            keepalive: Duration::from_secs(20),
        }
    }
}

/// Serves connections until the tree is cancelled, then lets those that are open finish what
/// they have begun.
///
/// Returns when accepting has ended; connections are tasks below `tasks`, whose `join` waits for
/// them; the panic of one goes no further. A handler that waits long must end when `tasks` is cancelled.
pub async fn serve<L, S, B>(
    listener: L,
    tls: Option<ServerTlsCell>,
    service: S,
    options: ServeOptions,
    tasks: &TaskTree,
) where
    L: Accept,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let options = Arc::new(options);
    let connections = tasks.isolated("connections");
    let places = Arc::new(Semaphore::new(options.connections_max));
    let clients = Clients::new(options.connections_per_client_max);
    let mut backoff =
        Backoff::new(Duration::from_millis(10), Duration::from_secs(1), entropy::rng());
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            // Both are cancel-safe: a place that was acquired is given back on drop.
            accepted = accepted => accepted,
            () = tasks.cancelled() => return,
        };
        let Ok(place) = place else { return };
        match accepted {
            Ok((stream, remote)) => {
                backoff.reset();
                let client = clients.enter(remote);
                let connection = Connection {
                    stream,
                    remote,
                    tls: tls.as_ref().map(ServerTlsCell::load),
                    options: options.clone(),
                    tasks: connections.clone(),
                };
                let service = service.clone();
                connections.spawn(format!("connection from {remote:?}"), async move {
                    let served = match client {
                        Some(_) => serve_connection(connection, service).await,
                        None => clients::turn_away(connection).await,
                    };
                    if let Err(error) = served {
                        debug!(?remote, %error, "connection ended with an error");
                    }
                    drop((place, client));
                });
            }
            // The peer was gone before we came.
            Err(error) if is_of_peer(&error) => {}
            Err(error) => {
                // Out of file descriptors or memory: what is open may end and make room.
                warn!(%error, "cannot accept a connection");
                let pause = backoff.next();
                tokio::select! {
                    // A sleep loses nothing when it is dropped.
                    () = tokio::time::sleep(pause) => {}
                    () = tasks.cancelled() => return,
                }
            }
        }
    }
}

fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NotConnected
            | io::ErrorKind::InvalidInput
    )
}

impl Remote {
    /// Returns whether the peer is a process of this host.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix => true,
        }
    }
}
