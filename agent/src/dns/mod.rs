//! DNS for this host: packets to `core::dns` and back.
//!
//! hickory reads datagrams, `stream` reads TCP; `handler` reads a query and asks `names` for the view that the question needs; names of
//! other zones go to `forward`. What an answer says is decided in `core::dns`.

mod forward;
mod handler;
mod names;
mod records;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use tracing::{error, warn};
use weft_core::dns::Settings;
use weft_core::name::Datacenter;
use weft_runtime::net;
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::metrics::{Counter, Family, Registry};

use crate::config::DnsConfig;
use crate::views::Views;

use forward::Forwarder;
use handler::Handler;
use names::Names;

/// UDP sockets on the one address: the kernel spreads callers over them. More bring nothing, as
/// answers are made on the same threads.
const UDP_SOCKETS_MAX: usize = 4;
/// Attempts to find a port that is free for both UDP and TCP, when any port will do.
const PORT_ATTEMPTS: usize = 16;

/// States that DNS cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the DNS address {address} cannot be opened")]
pub struct DnsError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// What the host that answers says of itself.
#[derive(Debug, Clone)]
pub struct DnsSite {
    /// The datacenter that names mean when they tell none.
    pub datacenter: Datacenter,
    /// The address of the zone's name server: this host.
    pub address: IpAddr,
}

/// Opens the address on UDP and TCP, and answers until the tasks are cancelled; returns the
/// address, `None` when DNS is off.
///
/// # Errors
/// [`DnsError`] when the address cannot be opened.
pub async fn start(
    config: &DnsConfig,
    site: DnsSite,
    views: Views,
    (registry, tasks): (&Registry, &TaskTree),
) -> Result<Option<SocketAddr>, DnsError> {
    let Some(address) = config.addr else { return Ok(None) };
    let tasks = tasks.child("dns");
    let fail = |source| DnsError { address, source };
    let (listener, sockets) = open(address).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;

    let recursors = config.recursors.iter().copied().filter(|recursor| {
        let is_self = *recursor == address;
        if is_self {
            warn!(%recursor, "a recursor is this DNS server itself; it is left out");
        }
        !is_self
    });
    let answers: Family<Vec<(&'static str, String)>, Counter> =
        registry.register("dns_answers", "Answers to DNS queries by code", Family::default());
    let names = Names::new(views);
    tasks.spawn("names", names.clone().sweep_until_cancelled(tasks.clone()));
    let handler =
        Handler::new(settings(config, site), names, (Forwarder::new(recursors.collect()), answers));
    let handler = Arc::new(handler);
    tasks.spawn("tcp", stream::serve(listener, handler.clone(), tasks.clone()));
    let mut server = Server::new(handler::Datagrams(handler));
    for socket in sockets {
        server.register_socket(socket);
    }
    let token = tasks.token();
    tasks.spawn("udp", async move {
        let ended = tokio::select! {
            () = token.cancelled() => server.shutdown_gracefully().await,
            ended = server.block_until_done() => ended,
        };
        if let Err(failure) = ended {
            error!(error = %failure, "DNS ended");
        }
    });
    Ok(Some(address))
}

fn settings(config: &DnsConfig, site: DnsSite) -> Settings {
    let ttl = Duration::from_secs(config.ttl_seconds.into());
    Settings {
        name_server: Some(site.address),
        node_ttl: ttl,
        service_ttl: BTreeMap::from([("*".to_owned(), ttl)]),
        only_passing: config.only_passing,
        ..Settings::new(&config.domain, config.alt_domain.as_deref(), site.datacenter)
    }
}

/// Opens TCP, then UDP on the same port. TCP is not shared, which tells apart an address that
/// another process serves.
async fn open(address: SocketAddr) -> io::Result<(net::TcpListener, Vec<net::UdpSocket>)> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let listener = net::bind_tcp(address).await?;
        let bound = listener.local_addr()?;
        match bind_udp(bound) {
            Ok(sockets) => return Ok((listener, sockets)),
            Err(taken) if address.port() != 0 || attempt == PORT_ATTEMPTS => return Err(taken),
            Err(_) => {}
        }
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<Vec<net::UdpSocket>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (0..cores.min(UDP_SOCKETS_MAX)).map(|_| net::bind_udp_shared(address)).collect()
}

#[cfg(test)]
mod tests;
