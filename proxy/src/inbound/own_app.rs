//! Connections to a local instance that wants to be told who calls, by a PROXY header before each
//! of them: they belong to one caller's connection, and nobody else's requests go over them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use weft_core::config_entry::{Protocol, ProxyProtocol};
use weft_core::local_address::LocalAddress;
use weft_core::traffic::proxy_protocol::{Header, Ssl};
use weft_runtime::net::{self, TcpStream};

use crate::http::general::{AppPool, Multiplexed};
use crate::listen::{Caller, Local};
use crate::transport::{Endpoint, write_header};

/// What the requests of one caller's connection go over.
#[derive(Debug)]
pub(crate) struct OwnApp {
    pub(super) header: Vec<u8>,
    pub(super) http1: Rc<Endpoint<TcpStream>>,
    pub(super) general1: AppPool,
    pub(super) general2: Multiplexed,
}

impl OwnApp {
    /// Makes the way of a caller; `None` when the local instance wants no header.
    pub(super) fn of(local: &Local, caller: &Caller) -> Option<Rc<Self>> {
        Some(Rc::new(Self {
            header: header(local, caller)?,
            http1: Endpoint::new(),
            general1: AppPool::default(),
            general2: Multiplexed::default(),
        }))
    }
}

/// Returns the header that the local instance gets; `None` when it wants none.
pub(super) fn header(local: &Local, caller: &Caller) -> Option<Vec<u8>> {
    let inbound = &local.workload.snapshot.inbound;
    let version = inbound.proxy_protocol?;
    let alpn = match inbound.protocol {
        Protocol::Grpc | Protocol::Http2 => Some(b"h2".to_vec()),
        Protocol::Http => Some(b"http/1.1".to_vec()),
        Protocol::Tcp | Protocol::Udp => None,
    };
    let common_name = Some(caller.service.to_string());
    let ssl = Ssl { version: caller.tls_version.to_owned(), common_name };
    let told = Header {
        ends: caller.remote.zip(caller.called),
        alpn,
        authority: caller.sni.as_deref().map(str::to_owned),
        ssl: Some(ssl),
        spiffe_id: Some(caller.id.to_string()),
    };
    Some(write_header(version, &told))
}

/// Returns the header for a caller of whom nothing but addresses is known.
pub(super) fn bare_header(
    ends: Option<(SocketAddr, SocketAddr)>,
    version: Option<ProxyProtocol>,
) -> Option<Vec<u8>> {
    version.map(|version| write_header(version, &Header { ends, ..Header::default() }))
}

/// Connects to the local instance, and says first who calls, if it is to be told.
///
/// # Errors
/// As [`net::connect_local`].
pub(super) async fn open_with(
    address: &LocalAddress,
    limit: Duration,
    header: Option<&[u8]>,
) -> io::Result<TcpStream> {
    let mut stream = net::connect_local(address, limit).await?;
    if let Some(header) = header {
        // There is room for it in any socket that has just been opened.
        stream.write_all(header).await?;
    }
    Ok(stream)
}
