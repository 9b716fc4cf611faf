//! The doors of the API: a TCP address on this host, a unix socket, and TLS for callers
//! elsewhere. Whoever comes in is answered by the same table; tokens decide who may do what.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::sync::Arc;

use weft_proto::text::HttpsConfig;
use weft_runtime::http::{Accept, Callers, ServeOptions, serve};
use weft_runtime::net;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::{CertificateFileError, CertificateFiles, ServerTlsCell};

use super::{Api, tower_service};
use crate::config::{HttpConfig, HttpSocket};

/// By which names a door is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// A page can lead a browser here: only our own names are answered.
    Open,
    /// A certificate, or the file system, says whose door it is.
    Sure,
}

/// Where the API listens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Without TLS.
    pub http: Option<SocketAddr>,
    /// With TLS.
    pub https: Option<SocketAddr>,
}

/// States why a door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// An address cannot be bound.
    #[error("the HTTP address {addr} cannot be opened")]
    Address {
        /// The address.
        addr: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateFileError),
}

pub(super) async fn open(
    config: &HttpConfig,
    api: Arc<Api>,
    tasks: &TaskTree,
) -> Result<Addresses, DoorError> {
    let mut addresses = Addresses::default();
    if let Some(addr) = config.addr {
        let failed = |source| DoorError::Address { addr: addr.to_string(), source };
        let listener = net::bind_tcp(addr).await.map_err(failed)?;
        addresses.http = Some(listener.local_addr().map_err(failed)?);
        accept("http", (listener, None), (&api, Door::Open), config, tasks);
    }
    if let Some(socket) = &config.socket {
        let listener = bind_socket(socket).map_err(|source| DoorError::Address {
            addr: socket.path.display().to_string(),
            source,
        })?;
        accept("http-socket", (listener, None), (&api, Door::Sure), config, tasks);
    }
    if let Some(https) = &config.https {
        let addr = https.addr;
        let failed = |source| DoorError::Address { addr: addr.to_string(), source };
        let HttpsConfig { cert_file, key_file, ca_file, .. } = https.clone();
        let tls = CertificateFiles { cert_file, key_file, ca_file }.open(tasks).await?;
        let listener = net::bind_tcp(addr).await.map_err(failed)?;
        addresses.https = Some(listener.local_addr().map_err(failed)?);
        accept("https", (listener, Some(tls)), (&api, Door::Sure), config, tasks);
    }
    Ok(addresses)
}

/// Binds the socket for nobody else first, so that it never has a wrong owner and the mode for
/// the right one.
fn bind_socket(socket: &HttpSocket) -> io::Result<net::UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let listener = net::bind_unix(&socket.path, 0o600)?;
    chown(&socket.path, socket.user, socket.group)?;
    std::fs::set_permissions(&socket.path, std::fs::Permissions::from_mode(socket.mode))?;
    Ok(listener)
}

fn accept<L: Accept + Sync>(
    name: &'static str,
    (listener, tls): (L, Option<ServerTlsCell>),
    (api, door): (&Arc<Api>, Door),
    config: &HttpConfig,
    tasks: &TaskTree,
) {
    // What is answered here is bounded where it is read, what is passed on by the server.
    let options = ServeOptions {
        body_bytes_max: usize::MAX,
        callers: Callers::Outsiders,
        connections_per_client_max: config.connections_per_client_max,
        ..ServeOptions::default()
    };
    let (service, tree) = (tower_service(api.clone(), door), tasks.child(name));
    tasks.spawn(name, async move { serve(listener, tls, service, options, &tree).await });
}
