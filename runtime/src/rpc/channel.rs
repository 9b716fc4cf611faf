//! Channels: lazy, kept alive, reconnecting by themselves.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::net;
use crate::tls::tokio_rustls::TlsConnector;
use crate::tls::{ClientTlsCell, peer_name};

/// The time for a connection with its handshake: far more than two round trips around the
/// world, short enough to try the next server.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// After this silence the peer is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The time for its answer.
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(5);

/// Opens a channel over a unix socket at its first use.
pub fn channel_unix(path: &Path) -> Channel {
    let path: PathBuf = path.to_owned();
    endpoint().connect_with_connector_lazy(service_fn(move |_: Uri| {
        let path = path.clone();
        async move { net::connect_unix(&path).await.map(TokioIo::new) }
    }))
}

/// Opens a channel over mTLS to `host:port` at its first use.
///
/// Each (re)connection looks the name up and uses the configuration then in the cell. Calls
/// fail while there is no connection; deadlines are the caller's to set for each call.
pub fn channel_tls(host_port: &str, tls: ClientTlsCell) -> Channel {
    let host_port = host_port.to_owned();
    endpoint().connect_with_connector_lazy(service_fn(move |_: Uri| {
        let (host_port, config) = (host_port.clone(), tls.load());
        let connect = async move {
            let stream = net::connect_host(&host_port, CONNECT_LIMIT).await?;
            let name = peer_name(stream.peer_addr()?);
            TlsConnector::from(config).connect(name, stream).await
        };
        async move {
            match tokio::time::timeout(CONNECT_LIMIT, connect).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time")),
            }
        }
    }))
}

fn endpoint() -> Endpoint {
    // The URI only fills the requests' authority; the connectors know where to go.
    Endpoint::from_static("http://weft")
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
}
