//! Channels: lazy, kept alive, reconnecting by themselves.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::either::Either;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::Hosts;
use crate::net;
use crate::tls::ClientTlsCell;
use crate::tls::rustls::ClientConfig;
use crate::tls::rustls::pki_types::ServerName;
use crate::tls::tokio_rustls::TlsConnector;

/// How long a connection on this host may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// After this silence the peer is asked whether it lives: an agent whose server's host died has
/// found another one within its lease.
const KEEPALIVE: Duration = Duration::from_secs(3);
/// The time for its answer.
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(2);

/// Opens a channel over a unix socket at its first use.
pub fn channel_unix(path: &Path) -> Channel {
    let path: PathBuf = path.to_owned();
    endpoint().connect_with_connector_lazy(service_fn(move |_: Uri| {
        let path = path.clone();
        async move { net::connect_unix(&path).await.map(TokioIo::new) }
    }))
}

/// Opens a channel to an address, without TLS, at its first use. Only for what is on this host.
pub fn channel_plain(address: SocketAddr) -> Channel {
    endpoint().connect_with_connector_lazy(service_fn(move |_: Uri| async move {
        net::connect_tcp(address, CONNECT_LIMIT).await.map(TokioIo::new)
    }))
}

/// Opens a channel to `host:port` outside the mesh at its first use, with a TLS configuration over
/// TLS and else without. Names are looked up anew for each connection.
pub fn channel_outside(host_port: &str, tls: Option<Arc<ClientConfig>>) -> Channel {
    let host = host_port.rsplit_once(':').map_or(host_port, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let authority = Endpoint::from_shared(format!("http://{host_port}"));
    let host_port = host_port.to_owned();
    let connector = service_fn(move |_: Uri| {
        let (host, host_port, tls) = (host.clone(), host_port.clone(), tls.clone());
        async move {
            let stream = net::connect_host(&host_port, CONNECT_LIMIT).await?;
            let Some(tls) = tls else { return Ok(TokioIo::new(Either::Left(stream))) };
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let stream = TlsConnector::from(tls).connect(name, stream).await?;
            Ok::<_, io::Error>(TokioIo::new(Either::Right(stream)))
        }
    });
    // Many servers close connections that are asked too often whether they live.
    let endpoint = authority.unwrap_or_else(|_| Endpoint::from_static("http://outside"));
    endpoint.tcp_nodelay(true).connect_with_connector_lazy(connector)
}

/// Makes a channel of one connection that was made already, with an HTTP/2 handshake; it does
/// not reconnect. `authority` is what requests say they are for.
///
/// # Errors
/// When the peer speaks no HTTP/2. The deadline is the caller's.
pub async fn channel_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    authority: &str,
) -> Result<Channel, tonic::transport::Error> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = service_fn(move |_: Uri| {
        let taken = stream.take().ok_or_else(|| io::Error::other("the connection has ended"));
        std::future::ready(taken)
    });
    Endpoint::from_shared(format!("http://{authority}"))?.connect_with_connector(connector).await
}

/// Opens a channel over mTLS to `host:port` at its first use.
///
/// Each (re)connection looks the name up and uses the configuration then in the cell. Calls
/// fail while there is no connection; deadlines are the caller's to set for each call.
pub fn channel_tls(host_port: &str, tls: ClientTlsCell) -> Channel {
    channel_tls_any(Hosts::new(vec![host_port.to_owned()]), tls)
}

/// Opens a channel over mTLS to one of several hosts at its first use; each (re)connection goes
/// along the list until one answers. Else as [`channel_tls`].
pub fn channel_tls_any(hosts: Hosts, tls: ClientTlsCell) -> Channel {
    endpoint().connect_with_connector_lazy(service_fn(move |_: Uri| {
        let (hosts, tls) = (hosts.clone(), tls.clone());
        async move { hosts.connect(&tls).await.map(TokioIo::new) }
    }))
}

fn endpoint() -> Endpoint {
    // The URI only fills the requests' authority; the connectors know where to go.
    Endpoint::from_static("http://weft")
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
}
