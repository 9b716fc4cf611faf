//! Checks that go through doors of proxies (`Expose.Checks`): which ones, by which port, and since when.
//!
//! A port is a check's own for as long as the check goes through its proxy, also over restarts. A check
//! turns to its door when the proxy has opened it, and back to the service as soon as it is exposed no
//! more. What is exposed is decided by `core::proxycfg`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::uri::Scheme;
use tokio::sync::watch;
use weft_core::canonical_path::CanonicalPath;
use weft_core::catalog::{Service, ServiceKind};
use weft_core::config_entry::{ExposedPath, Protocol};
use weft_core::name::{CheckId, InstanceId};
use weft_core::proxycfg::{CheckDoor, Exposure, assign_ports};

use super::book::Book;
use super::kept::Disk;
use super::{CheckPlan, Inner, Local, LocalError, Probe};

/// What a gRPC health check asks for (Spec: grpc/grpc doc/health-checking.md).
const GRPC_HEALTH: &str = "/grpc.health.v1.Health/Check";

/// The doors that each proxy is to have for checks, by the id of its registration.
pub(crate) type CheckDoors = BTreeMap<InstanceId, Vec<CheckDoor>>;

/// What is known of exposed checks beside their plans.
#[derive(Debug, Default, Clone)]
pub(super) struct Exposed {
    /// What proxies were told last, by the id of their registration.
    told: BTreeMap<InstanceId, Exposure>,
    /// Checks whose doors proxies have opened.
    open: BTreeSet<CheckId>,
    /// Checks with a port.
    with_port: BTreeSet<CheckId>,
    pub(super) doors: Arc<CheckDoors>,
}

/// A proxy through which the checks of its instance go.
struct Way {
    sidecar: InstanceId,
    ip: IpAddr,
    /// Whether the agent has learnt, since its start, that it is so.
    is_certain: bool,
}

impl Local {
    /// Says what becomes of the checks of the instance beside a sidecar.
    ///
    /// # Errors
    /// That the ports could not be kept.
    ///
    /// # Cancel safety
    /// As every change.
    pub(crate) async fn expose(
        &self,
        sidecar: InstanceId,
        exposure: Exposure,
    ) -> Result<(), LocalError> {
        self.change(move |inner, disk| {
            let mut book = inner.book.lock();
            if book.services.services.contains_key(&sidecar) {
                book.exposed.told.insert(sidecar, exposure);
                inner.settle(&mut book, disk);
            }
            Ok(())
        })
        .await
    }

    /// Takes note of the doors for checks that a sidecar's proxy has opened.
    pub(crate) fn opened(&self, sidecar: &InstanceId, ports: &BTreeSet<u16>) {
        let mut book = self.inner.book.lock();
        if book.open(sidecar, ports) {
            self.inner.publish(&book);
        }
    }

    /// Returns a receiver that always holds the doors that proxies are to have for checks.
    pub(crate) fn check_doors(&self) -> watch::Receiver<Arc<CheckDoors>> {
        self.inner.check_doors.subscribe()
    }
}

impl Inner {
    /// Brings ports and doors of checks in line with what is registered, and shows everything.
    pub(super) fn settle(&self, book: &mut Book, disk: &mut Disk) {
        for plan in book.settle_doors() {
            disk.put_check(&plan, book.configured_checks.contains(&plan.id));
        }
        self.publish(book);
    }
}

impl Exposed {
    pub(super) fn forget_check(&mut self, id: &CheckId) {
        self.open.remove(id);
        self.with_port.remove(id);
    }

    pub(super) fn forget_service(&mut self, id: &InstanceId) {
        self.told.remove(id);
    }

    /// Takes over what proxies were told since.
    pub(super) fn keep_told(&mut self, since: Self) {
        self.told = since.told;
    }
}

impl Book {
    /// Gives a check the port that it had before, in this run or an earlier one.
    pub(super) fn keep_port(&self, plan: &mut CheckPlan) {
        let before = self.plans.get(&plan.id).filter(|before| before.service == plan.service);
        plan.exposed_port = before.and_then(|before| before.exposed_port);
    }

    /// Takes up a check of an earlier run that had a port: its proxy may still have the door.
    pub(super) fn restore_port(&mut self, plan: &CheckPlan) {
        if plan.exposed_port.is_some() {
            self.exposed.with_port.insert(plan.id.clone());
            self.exposed.open.insert(plan.id.clone());
        }
    }

    /// Brings ports and doors of checks in line with what is registered; the answer is the checks whose
    /// port has changed.
    pub(super) fn settle_doors(&mut self) -> Vec<Arc<CheckPlan>> {
        let is_used = !self.exposed.with_port.is_empty() || !self.exposed.doors.is_empty();
        if !is_used && !self.exposed.told.values().any(|told| told.is_on) {
            return Vec::new();
        }
        let ways = self.ways();
        let mut doors = CheckDoors::new();
        let mut paths: BTreeMap<CheckId, (&Way, ExposedPath)> = BTreeMap::new();
        let mut wanted = BTreeMap::new();
        let plans = self.plans.clone();
        for plan in plans.values() {
            let Some(way) = plan.service.as_ref().and_then(|service| ways.get(service)) else {
                continue;
            };
            let Some(path) = exposable(&plan.probe) else { continue };
            match path {
                Ok(path) if way.is_certain || plan.exposed_port.is_some() => {
                    wanted.insert(&plan.id, plan.exposed_port);
                    paths.insert(plan.id.clone(), (way, path));
                }
                Ok(_) => {}
                Err(reason) => {
                    let door = CheckDoor { check: plan.id.clone(), path: Err(reason.to_owned()) };
                    doors.entry(way.sidecar.clone()).or_default().push(door);
                }
            }
        }
        let range = self.expose_ports.clone();
        let mut taken = self.ports_taken();
        taken.extend(paths.values().map(|(_, path)| path.local_path_port));
        let assigned = assign_ports(&range, &taken, wanted.into_iter());
        let (first, last) = (range.start(), range.end());
        let mut touched: BTreeSet<CheckId> = self.exposed.with_port.clone();
        for (id, port) in &assigned {
            touched.insert(id.clone());
            let Some((way, path)) = paths.get(id) else { continue };
            let path = match port {
                Some(port) => Ok(ExposedPath { listener_port: *port, ..path.clone() }),
                None => Err(format!("none of the ports {first} to {last} is free")),
            };
            let door = CheckDoor { check: id.clone(), path };
            doors.entry(way.sidecar.clone()).or_default().push(door);
        }
        let mut changed = Vec::new();
        for id in touched {
            let port = assigned.get(&id).copied().flatten();
            let ip = paths.get(&id).map(|(way, _)| way.ip);
            changed.extend(self.put_port(&id, ip.zip(port)));
        }
        if doors != *self.exposed.doors {
            self.exposed.doors = Arc::new(doors);
        }
        changed
    }

    /// Gives a check its door, or takes it away; the answer is its plan if the port is another one.
    fn put_port(&mut self, id: &CheckId, door: Option<(IpAddr, u16)>) -> Option<Arc<CheckPlan>> {
        let before = self.plans.get(id)?;
        let port = door.map(|(_, port)| port);
        let is_other = before.exposed_port != port;
        if is_other || port.is_none() {
            self.exposed.open.remove(id);
        }
        match port {
            Some(_) => self.exposed.with_port.insert(id.clone()),
            None => self.exposed.with_port.remove(id),
        };
        let through = door.filter(|_| self.exposed.open.contains(id)).map(SocketAddr::from);
        if !is_other && before.through == through {
            return None;
        }
        let plan = CheckPlan { exposed_port: port, through, ..(**before).clone() };
        let plan = Arc::new(plan);
        Arc::make_mut(&mut self.plans).insert(id.clone(), plan.clone());
        is_other.then_some(plan)
    }

    /// Turns checks to doors that are open now; `false` when all of them were there already.
    fn open(&mut self, sidecar: &InstanceId, ports: &BTreeSet<u16>) -> bool {
        let doors = self.exposed.doors.get(sidecar).into_iter().flatten();
        let is_open = |door: &&CheckDoor| {
            door.path.as_ref().is_ok_and(|path| ports.contains(&path.listener_port))
        };
        let mut is_news = false;
        for door in doors.filter(is_open) {
            is_news |= self.exposed.open.insert(door.check.clone());
        }
        if is_news {
            self.settle_doors();
        }
        is_news
    }

    /// Returns the proxies through which checks go, by the instance that is checked.
    fn ways(&self) -> BTreeMap<InstanceId, Way> {
        let mut ways: BTreeMap<InstanceId, Way> = BTreeMap::new();
        let is_sidecar = |service: &&Service| service.kind == ServiceKind::ConnectProxy;
        for sidecar in self.services.services.values().filter(is_sidecar) {
            let Some(instance) = &sidecar.proxy.destination_service_id else { continue };
            let is_certain = match self.exposed.told.get(&sidecar.id) {
                Some(told) if !told.is_on || told.instance != *instance => continue,
                Some(_) => true,
                None => false,
            };
            let ip = door_ip(&sidecar.address, self.bind_addr);
            let way = Way { sidecar: sidecar.id.clone(), ip, is_certain };
            match ways.get(instance) {
                Some(other) if other.is_certain || !is_certain => {}
                Some(_) | None => drop(ways.insert(instance.clone(), way)),
            }
        }
        ways
    }

    /// Returns the ports that something else on this host is registered with.
    fn ports_taken(&self) -> BTreeSet<u16> {
        let services = self.services.services.values();
        let registered = services.flat_map(|service| {
            let own = [service.port, service.proxy.local_service_port];
            let several = service.ports.iter().map(|it| it.port);
            let upstreams = service.proxy.upstreams.iter().map(|it| it.local_bind_port);
            let paths = service.proxy.expose.paths.iter();
            let paths = paths.flat_map(|it| [it.listener_port, it.local_path_port]);
            own.into_iter().chain(several).chain(upstreams).chain(paths)
        });
        let told = self.exposed.told.values().flat_map(|told| &told.other_ports);
        registered.chain(told.copied()).collect()
    }
}

/// Returns where a proxy's doors are called on its own host.
fn door_ip(address: &str, bind_addr: IpAddr) -> IpAddr {
    match address.parse().unwrap_or(bind_addr) {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Returns what a check asks its service for, or why a proxy cannot ask for it; `None` for a check that
/// asks no service over HTTP.
fn exposable(probe: &Probe) -> Option<Result<ExposedPath, &'static str>> {
    const TLS: &str = "its service is asked with TLS, so it is probed without the proxy";
    let (path, local_path_port, protocol) = match probe {
        Probe::Http(it) if it.url.scheme() == Some(&Scheme::HTTPS) => return Some(Err(TLS)),
        Probe::Grpc(it) if it.tls.is_some() => return Some(Err(TLS)),
        Probe::Http(it) => (it.url.path(), it.url.port_u16().unwrap_or(80), Protocol::Http),
        Probe::Grpc(it) => {
            let port = it.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            (GRPC_HEALTH, port?, Protocol::Http2)
        }
        Probe::Alias(_)
        | Probe::Docker { .. }
        | Probe::H2ping { .. }
        | Probe::OsService { .. }
        | Probe::Script { .. }
        | Probe::Tcp { .. }
        | Probe::Ttl { .. }
        | Probe::Udp { .. } => return None,
    };
    if CanonicalPath::parse(path.as_bytes()).is_err() {
        return Some(Err("its path can be read in several ways, so no proxy lets it through"));
    }
    Some(Ok(ExposedPath {
        listener_port: 0,
        path: path.to_owned(),
        local_path_port,
        protocol: Some(protocol),
        parsed_from_check: true,
    }))
}

#[cfg(test)]
mod tests;
