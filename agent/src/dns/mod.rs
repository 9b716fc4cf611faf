//! DNS for this host: packets to `core::dns` and back.
//!
//! `datagrams` takes queries over UDP, `stream` over TCP. `front` answers those whose answer is
//! ready (`plain` reads them, `table` has the answers, `prepared` writes them). All others go to
//! `handler`, by hickory's forms: `look` finds what the question needs, in `names` or by asking a
//! server (`remote`), as far as `rights` allow; names of other zones go to `forward`. What an
//! answer says is decided in `core::dns`.

mod datagrams;
mod forward;
mod front;
mod handler;
mod look;
mod names;
mod plain;
mod prepared;
mod records;
mod remote;
mod rights;
mod sources;
mod stream;
mod table;
pub mod untrusted;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use weft_core::catalog::Locality;
use weft_core::dns::{Settings, Truncation};
use weft_core::name::Datacenter;
use weft_runtime::net::DatagramSocket;
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::metrics::{Counter, Family, Registry};
use weft_runtime::{clock, net};

use crate::acl::Acl;
use crate::config::DnsConfig;
use crate::servers::Servers;
use crate::views::Views;

use datagrams::Datagrams;
use forward::Forwarder;
use front::{Counts, Front};
use handler::Handler;
use look::Looker;
pub(crate) use names::{Names, Wanted};
use prepared::Style;
use remote::Remote;
use rights::Rights;
use sources::Sources;
use stream::Streams;
use table::Table;

/// UDP sockets on one address, each with a thread: the kernel spreads callers over them.
const UDP_SOCKETS_MAX: usize = 4;
/// Attempts to find a port that is free for both UDP and TCP, when any port will do.
const PORT_ATTEMPTS: usize = 16;
/// How often old answers are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

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
    /// Where it is, if near instances are to come first.
    pub locality: Option<Locality>,
}

/// Where answers come from.
pub(crate) struct DnsParts {
    /// What is watched.
    pub(crate) views: Views,
    /// The services that are asked for.
    pub(crate) names: Names,
    /// Who judges what may be found; `None` finds everything.
    pub(crate) acl: Option<Acl>,
    /// Who is asked for the rest; `None` for nobody.
    pub(crate) servers: Option<Servers>,
}

/// Opens each address on UDP and TCP, and answers until the tasks are cancelled; returns the
/// first address, `None` when DNS is off.
///
/// # Errors
/// [`DnsError`] when an address cannot be opened.
pub(crate) async fn start(
    config: &DnsConfig,
    site: DnsSite,
    parts: DnsParts,
    (registry, tasks): (&Registry, &TaskTree),
) -> Result<Option<SocketAddr>, DnsError> {
    let tasks = tasks.child("dns");
    let mut doors = Vec::new();
    let mut own = Vec::new();
    for address in config.addrs.iter().copied() {
        let fail = |source| DnsError { address, source };
        let (listener, sockets) = open(address).await.map_err(fail)?;
        own.push(listener.local_addr().map_err(fail)?);
        doors.push((listener, sockets));
    }
    let Some(first) = own.first().copied() else { return Ok(None) };

    let settings = settings(config, site);
    let DnsParts { views, names, acl, servers } = parts;
    let forwarder = Forwarder::new(config.recursors.clone(), &own);
    let by_code =
        registry.register("dns_answers", "Answers to DNS queries by code", Family::default());
    let stale = registry.register(
        "dns_stale_answers",
        "Answers to DNS queries given while no server was connected",
        Counter::default(),
    );
    let front = Front {
        style: Arc::new(Style { settings: settings.clone(), has_recursion: forwarder.is_on() }),
        table: Table::default(),
        views: views.clone(),
        counts: Counts::new(by_code, stale),
        stale_max: config.stale_max,
    };
    let looker = Looker {
        settings,
        names,
        remote: Remote::new(servers),
        rights: Rights::new(acl, views.clone()),
        views: views.clone(),
        stale_max: config.stale_max,
    };
    let handler = Arc::new(Handler::new(looker, forwarder, front.clone()));
    tasks.spawn("table", sweep_until_cancelled(front.table.clone(), tasks.clone()));
    let dropped = registry.register(
        "dns_dropped_queries",
        "DNS queries over UDP that got no answer: beyond the rate of their source, or too many at work",
        Counter::default(),
    );
    let datagrams = Datagrams {
        front: front.clone(),
        handler: handler.clone(),
        sources: Arc::new(Sources::new(config.rate_limit, clock::instant())),
        dropped,
        tasks: tasks.clone(),
    };
    let streams = Streams { front, handler };
    for ((listener, sockets), address) in doors.into_iter().zip(own) {
        let fail = |source| DnsError { address, source };
        datagrams.clone().serve(&sockets).map_err(fail)?;
        tasks.spawn("tcp", stream::serve(listener, streams.clone(), tasks.clone()));
    }
    Ok(Some(first))
}

/// Forgets old answers.
async fn sweep_until_cancelled(table: Table, tasks: TaskTree) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            () = tasks.cancelled() => return,
            _ = interval.tick() => {}
        }
        table.sweep(clock::instant());
    }
}

fn settings(config: &DnsConfig, site: DnsSite) -> Settings {
    Settings {
        name_server: Some(site.address),
        locality: site.locality,
        node_ttl: config.node_ttl,
        service_ttl: config.service_ttl.clone(),
        only_passing: config.only_passing,
        soa: config.soa,
        udp_answers_max: config.udp_answers_max,
        a_records_max: config.a_records_max,
        has_meta_beside: config.has_meta_beside,
        truncation: match config.tells_truncation {
            true => Truncation::Flagged,
            false => Truncation::Silent,
        },
        ..Settings::new(&config.domain, config.alt_domain.as_deref(), site.datacenter)
    }
}

/// Opens TCP, then UDP on the same port. TCP is not shared, which tells apart an address that
/// another process serves.
async fn open(address: SocketAddr) -> io::Result<(net::TcpListener, Vec<DatagramSocket>)> {
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

fn bind_udp(address: SocketAddr) -> io::Result<Vec<DatagramSocket>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (0..cores.min(UDP_SOCKETS_MAX)).map(|_| DatagramSocket::bind_shared(address)).collect()
}

#[cfg(test)]
mod tests;
