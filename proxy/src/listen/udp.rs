//! One worker's doors for clients over UDP: each upstream that speaks it has one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio_util::sync::CancellationToken;
use weft_core::config_entry::Protocol;
use weft_core::local_address::LocalAddress;
use weft_core::traffic::datagrams::SessionLimits;
use weft_runtime::net::{ClientSocket, ClientSocketHandle, probe_udp};

use super::accept::serve_session;
use super::{Unbound, Worker};
use crate::observe::Side;
use crate::outbound::session;
use crate::udp::{Table, receive};
use crate::workload::Workload;

/// Sockets of UDP that another process has opened, by where they are.
pub(crate) type InheritedUdp = BTreeMap<SocketAddr, UdpBequest>;

/// Sockets at one address that another process has opened.
#[derive(Debug, Default)]
pub(crate) struct UdpBequest {
    /// The kernel gives each client to one of them as long as they stay the same; so a worker for which
    /// there is none opens none.
    pub(crate) sockets: Vec<ClientSocketHandle>,
    /// The proxy that took from them.
    pub(crate) of: Option<Box<str>>,
}

/// A socket where a worker takes datagrams, and the id of the proxy for which it does.
pub(crate) type SharedUdp = (ClientSocketHandle, Option<Box<str>>);

/// The doors, by where they are.
#[derive(Default)]
pub(super) struct UdpDoors(RefCell<BTreeMap<SocketAddr, UdpDoor>>);

struct UdpDoor {
    stop: CancellationToken,
    sockets: Vec<Rc<ClientSocket>>,
    table: Rc<Table>,
}

impl UdpDoors {
    /// Opens the doors that a workload wants and closes those that it does not; sessions leave instances
    /// that are not there any more.
    pub(super) fn follow(
        &self,
        worker: &Rc<Worker>,
        workload: &Workload,
        except: &BTreeSet<LocalAddress>,
    ) -> Vec<Unbound> {
        let upstreams = workload.upstreams.iter();
        let wanted = upstreams.filter(|it| it.protocol == Protocol::Udp);
        let wanted: BTreeMap<SocketAddr, _> = wanted
            .filter(|upstream| upstream.listens() && !except.contains(&upstream.bind))
            .filter_map(|upstream| Some((upstream.bind.tcp()?, upstream)))
            .collect();
        let mut doors = self.0.borrow_mut();
        doors.retain(|address, door| {
            let stays = wanted.contains_key(address);
            if !stays {
                door.stop.cancel();
                // Without a listener nothing further comes.
                door.table.retain(|_| false);
            }
            stays
        });
        let mut unbound = Vec::new();
        for (address, upstream) in wanted {
            if let Some(door) = doors.get(&address) {
                let mut endpoints = upstream.targets.iter().flat_map(|target| &target.endpoints);
                let there: BTreeSet<SocketAddr> = endpoints.by_ref().map(|it| it.address).collect();
                door.table.retain(|endpoint| there.contains(&endpoint));
                continue;
            }
            match open(worker, address, workload.snapshot.proxy_id.as_str()) {
                Ok(door) => drop(doors.insert(address, door)),
                Err(error) => unbound.push(Unbound::at(address.into(), error)),
            }
        }
        unbound
    }

    /// Takes nothing further; sessions end when what is under way has come.
    pub(super) fn close(&self) {
        self.0.take().values().for_each(|door| door.stop.cancel());
    }

    /// Returns further handles of the sockets.
    pub(super) fn share(&self) -> io::Result<Vec<ClientSocketHandle>> {
        let doors = self.0.borrow();
        doors.values().flat_map(|door| &door.sockets).map(|socket| socket.share()).collect()
    }
}

/// Takes over or opens one worker's share of a door. The first worker makes sure that nobody else has the
/// address.
fn open(worker: &Rc<Worker>, address: SocketAddr, proxy: &str) -> io::Result<UdpDoor> {
    let sockets = {
        let mut inherited = worker.inherited_udp.borrow_mut();
        if let Some(of) = inherited.get(&address).and_then(|bequest| bequest.of.as_deref())
            && of != proxy
        {
            let text = format!("{address} is that of the proxy {of}");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        match inherited.remove(&address) {
            Some(bequest) => {
                let sockets = bequest.sockets.into_iter().map(ClientSocketHandle::into_socket);
                sockets.collect::<io::Result<Vec<_>>>()?
            }
            None => {
                if worker.number == 0 {
                    probe_udp(address)?;
                }
                vec![ClientSocket::bind_shared(address)?]
            }
        }
    };
    let limits = &worker.limits;
    let limits =
        SessionLimits { idle: limits.udp_idle, sessions_max: limits.udp_sessions as usize };
    let table = Table::new(limits, &worker.udp_counts(Side::Outbound));
    let stop = CancellationToken::new();
    let sockets: Vec<_> = sockets.into_iter().map(Rc::new).collect();
    for socket in &sockets {
        let inner = worker.clone();
        let begin = move |end| {
            let worker = inner.clone();
            serve_session(&inner, |live| session(worker, end, live));
        };
        let receiving = receive((socket.clone(), table.clone()), begin, stop.clone());
        worker.tasks.spawn_local(format!("listener {address} over UDP"), receiving);
    }
    Ok(UdpDoor { stop, sockets, table })
}

/// Deals sockets out: every one must have a worker that takes from it.
pub(super) fn deal_udp(inherited: InheritedUdp, workers: usize) -> Vec<InheritedUdp> {
    let mut shares: Vec<InheritedUdp> = (0..workers).map(|_| InheritedUdp::new()).collect();
    for (address, UdpBequest { sockets, of }) in inherited {
        for share in &mut shares {
            share.insert(address, UdpBequest { sockets: Vec::new(), of: of.clone() });
        }
        for (number, socket) in sockets.into_iter().enumerate() {
            if let Some(bequest) = shares[number % workers].get_mut(&address) {
                bequest.sockets.push(socket);
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_socket_has_one_worker() {
        let socket = ClientSocket::bind_shared(SocketAddr::from(([127, 0, 0, 1], 0)));
        let socket = socket.expect("a free port");
        for (sockets, workers, want) in
            [(1, 1, vec![1]), (3, 2, vec![2, 1]), (2, 3, vec![1, 1, 0]), (1, 4, vec![1, 0, 0, 0])]
        {
            let sockets = (0..sockets).map(|_| socket.share().expect("a handle")).collect();
            let bequest = UdpBequest { sockets, of: None };
            let shares = deal_udp([(socket.address(), bequest)].into(), workers);
            let counts: Vec<usize> =
                shares.iter().map(|share| share[&socket.address()].sockets.len()).collect();
            assert_eq!(counts, want);
        }
    }
}
