//! The machine that puts a proxy's configuration together.
//!
//! It is fed by `agent::proxycfg`; time plays no part, so `handle_timeout` and `poll_timeout`
//! are missing from the four verbs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::calls::{self, calls};
use super::captured;
use super::doors::{Door, Doors};
use super::{
    CheckDoor, ExposedListener, Exposure, ExtAuthz, InboundConfig, JwtKeys, ProxySnapshot, Update,
    UpstreamConfig, Watch, exposed,
};
use crate::ca::{Leaf, TrustBundle};
use crate::catalog::{CapturedUpstreams, Locality, Service, ServiceInstance};
use crate::chain::{CompiledChain, Endpoint, TargetId, select};
use crate::config_entry::{
    EnvoyExtension, Expose, ExtAuthzTarget, MeshTls, MutualTlsMode, Protocol, ServiceDefaults,
};
use crate::identity::SpiffeId;
use crate::intention::IntentionSet;
use crate::name::{Datacenter, ServiceName, TrustDomain};

/// How long a proxy waits for a connection to its local instance when nothing else is said
/// (Consul: `local_connect_timeout_ms`, 5,000).
const LOCAL_CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Where the agent stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Where a sidecar without an address of its own listens for other proxies.
    pub bind_address: IpAddr,
    /// The address by which others know this host.
    pub advertise_address: IpAddr,
    /// The local datacenter.
    pub datacenter: Datacenter,
    /// The mesh.
    pub trust_domain: TrustDomain,
    /// Where the host is, for services that do not say it themselves.
    pub locality: Option<Locality>,
}

/// What is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// What becomes of the checks of the proxy's instance; doors for them are to be told by
    /// [`Assembler::handle_checks`].
    Exposure(Exposure),
    /// Everything that is wrong now, anew after each change; empty when all is well.
    Problems(Vec<Problem>),
    /// A configuration for the proxy; its version is above that of the one before.
    Snapshot(Arc<ProxySnapshot>),
    /// Watch this and feed what comes.
    Start(Watch),
    /// Watch this no longer.
    Stop(Watch),
}

/// Something that keeps a proxy, or one of its upstreams, from working as asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// What it concerns.
    pub subject: Subject,
    /// What is wrong.
    pub reason: String,
}

/// What a problem concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The proxy as a whole: it keeps the configuration it has.
    Proxy,
    /// One upstream: it keeps its last good chain, or is left out until it has one.
    Upstream(ServiceName),
}

/// Assembles the configuration of one local proxy.
///
/// Drain [`Assembler::poll_output`] after creation and after each `handle_…`; feeding several
/// inputs before that gives one snapshot for all of them.
#[derive(Debug)]
pub struct Assembler {
    site: Site,
    doors: Option<Doors>,
    /// Those of captured calls alone.
    further: Vec<Door>,
    facts: Facts,
    checks: Vec<CheckDoor>,
    /// What was said of the checks last.
    exposure: Option<Exposure>,
    watched: BTreeSet<Watch>,
    problems: Vec<Problem>,
    invalid: Option<String>,
    version: u64,
    last: Option<Arc<ProxySnapshot>>,
    outputs: VecDeque<Output>,
    is_stale: bool,
}

/// The newest value of each watch.
#[derive(Debug, Default)]
struct Facts {
    captured: Option<Arc<CapturedUpstreams>>,
    chains: BTreeMap<ServiceName, ChainState>,
    defaults: Option<Arc<ServiceDefaults>>,
    instances: BTreeMap<ServiceName, Arc<Vec<ServiceInstance>>>,
    intentions: Option<Arc<IntentionSet>>,
    jwt_keys: BTreeMap<ServiceName, JwtKeys>,
    leaf: Option<Arc<Leaf>>,
    mesh_tls: Option<Arc<MeshTls>>,
    roots: Option<Arc<TrustBundle>>,
}

/// What is known of one upstream's chain.
#[derive(Debug, Default)]
struct ChainState {
    /// The chain in use; the instances of all its targets were heard of.
    in_use: Option<Arc<CompiledChain>>,
    /// A newer one that waits for the instances of its targets.
    waiting: Option<Arc<CompiledChain>>,
    /// Why there is no newer one.
    problem: Option<Arc<str>>,
}

impl Assembler {
    /// Makes the assembler of a sidecar.
    ///
    /// The first snapshot has the version after `version_base`; a base taken from the clock
    /// keeps versions rising over restarts of the agent.
    pub fn new(sidecar: &Service, site: Site, version_base: u64) -> Self {
        let mut assembler = Self {
            site,
            doors: None,
            further: Vec::new(),
            facts: Facts::default(),
            checks: Vec::new(),
            exposure: None,
            watched: BTreeSet::new(),
            problems: Vec::new(),
            invalid: None,
            version: version_base,
            last: None,
            outputs: VecDeque::new(),
            is_stale: true,
        };
        assembler.handle_sidecar(sidecar);
        assembler
    }

    /// Takes the sidecar's registration, new or changed.
    pub fn handle_sidecar(&mut self, sidecar: &Service) {
        match Doors::of(sidecar, &self.site) {
            Ok(doors) => {
                self.invalid = None;
                self.doors = Some(doors);
            }
            // What runs goes on with what it has.
            Err(invalid) => self.invalid = Some(invalid.to_string()),
        }
        self.settle();
    }

    /// Takes the doors that the checks of the instance are to have.
    pub fn handle_checks(&mut self, checks: Vec<CheckDoor>) {
        if checks != self.checks {
            self.checks = checks;
            self.settle();
        }
    }

    /// Takes the newest value of a watch; one that was stopped is ignored.
    pub fn handle_update(&mut self, update: Update) {
        if !self.watched.contains(&update.watch()) {
            return;
        }
        let facts = &mut self.facts;
        match update {
            Update::CapturedUpstreams(_, captured) => facts.captured = Some(captured),
            Update::Chain(name, Ok(chain)) => {
                let state = facts.chains.entry(name).or_default();
                state.waiting = Some(chain);
                state.problem = None;
            }
            Update::Chain(name, Err(reason)) => {
                let state = facts.chains.entry(name).or_default();
                state.waiting = None;
                state.problem = Some(reason);
            }
            Update::Connect(name, instances) => {
                facts.instances.insert(name, instances);
            }
            Update::Intentions(_, intentions) => facts.intentions = Some(intentions),
            Update::JwtKeys(name, keys) => {
                facts.jwt_keys.insert(name, keys);
            }
            Update::Leaf(_, leaf) => facts.leaf = Some(leaf),
            Update::MeshTls(tls) => facts.mesh_tls = Some(tls),
            Update::Roots(roots) => facts.roots = Some(roots),
            Update::ServiceDefaults(_, defaults) => facts.defaults = Some(defaults),
        }
        self.settle();
    }

    /// Returns what to do next, `None` when there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if !std::mem::take(&mut self.is_stale) {
            return None;
        }
        let mut snapshot = self.assemble()?;
        if let Some(last) = &self.last {
            snapshot.version = last.version;
            if snapshot == **last {
                return None;
            }
        }
        self.version += 1;
        snapshot.version = self.version;
        let snapshot = Arc::new(snapshot);
        self.last = Some(snapshot.clone());
        Some(Output::Snapshot(snapshot))
    }

    /// Brings watches, chains in use and problems in line with what is known.
    fn settle(&mut self) {
        self.is_stale = true;
        if let Some(doors) = &self.doors {
            self.further = match (captured_port(doors, &self.facts), &self.facts.captured) {
                (Some(_), Some(captured)) => captured::further_doors(doors, captured),
                (Some(_), None) | (None, _) => Vec::new(),
            };
            let all = doors.upstreams.iter().chain(&self.further);
            let destinations: BTreeSet<&ServiceName> = all.map(|door| &door.destination).collect();
            self.facts.chains.retain(|name, _| destinations.contains(name));
        }
        self.facts.promote_chains();
        self.follow(self.wanted());
        self.settle_exposure();
        self.report();
    }

    /// Says anew what becomes of checks once that is known and has changed; until then it stays as
    /// it was before a restart.
    fn settle_exposure(&mut self) {
        let (Some(doors), Some(defaults)) = (&self.doors, &self.facts.defaults) else { return };
        let exposure = exposed::exposure(doors, &defaults.expose);
        if exposure != self.exposure {
            self.outputs.extend(exposure.clone().map(Output::Exposure));
            self.exposure = exposure;
        }
    }

    /// Returns all that must be watched now.
    fn wanted(&self) -> BTreeSet<Watch> {
        let Some(doors) = &self.doors else { return BTreeSet::new() };
        let own = &doors.service;
        let mut wanted = BTreeSet::from([
            Watch::Intentions(own.clone()),
            Watch::Leaf(own.clone()),
            Watch::MeshTls,
            Watch::Roots,
            Watch::ServiceDefaults(own.clone()),
        ]);
        let all = doors.upstreams.iter().chain(&self.further);
        wanted.extend(all.map(|door| Watch::Chain(door.destination.clone())));
        if captured_port(doors, &self.facts).is_some() {
            wanted.insert(Watch::CapturedUpstreams(own.clone()));
        }
        let providers = self.facts.intentions.iter().flat_map(|set| &set.providers);
        wanted.extend(providers.map(|provider| Watch::JwtKeys(provider.name.clone())));
        let targets = self.facts.chains.values().flat_map(ChainState::target_services);
        wanted.extend(targets.cloned().map(Watch::Connect));
        wanted
    }

    fn follow(&mut self, wanted: BTreeSet<Watch>) {
        for watch in self.watched.difference(&wanted) {
            self.facts.forget(watch);
            self.outputs.push_back(Output::Stop(watch.clone()));
        }
        for watch in wanted.difference(&self.watched) {
            self.outputs.push_back(Output::Start(watch.clone()));
        }
        self.watched = wanted;
    }

    fn report(&mut self) {
        let mut problems: Vec<Problem> = Vec::new();
        if let Some(reason) = &self.invalid {
            problems.push(Problem { subject: Subject::Proxy, reason: reason.clone() });
        }
        for (name, reason) in self.doors.iter().flat_map(|doors| &doors.refused) {
            let subject = Subject::Upstream(name.clone());
            problems.push(Problem { subject, reason: reason.clone() });
        }
        problems.extend(self.udp_at_paths());
        problems.extend(self.unmeant());
        for (name, state) in &self.facts.chains {
            if let Some(reason) = &state.problem {
                let subject = Subject::Upstream(name.clone());
                problems.push(Problem { subject, reason: reason.to_string() });
            }
        }
        problems.extend(self.lacking_authoriser());
        let too_many = self.facts.captured.as_deref().and_then(captured::problem);
        problems.extend(too_many.map(|reason| Problem { subject: Subject::Proxy, reason }));
        if let (Some(doors), Some(defaults)) = (&self.doors, &self.facts.defaults) {
            let refused = self.exposed(doors, &defaults.expose).1.into_iter();
            let problem = |reason| Problem { subject: Subject::Proxy, reason };
            problems.extend(refused.map(|reason| problem(format!("Expose: {reason}"))));
        }
        problems.sort();
        if problems != self.problems {
            self.outputs.push_back(Output::Problems(problems.clone()));
            self.problems = problems;
        }
    }

    /// Settings of upstreams that mean nothing, or not with the service that is called.
    fn unmeant(&self) -> Vec<Problem> {
        let defaults = self.facts.defaults.as_deref();
        let doors = self.doors.iter().flat_map(|doors| &doors.upstreams);
        let found = doors.filter_map(|door| {
            let chain = self.facts.chains.get(&door.destination)?.in_use.as_ref()?;
            let reason = calls::problem(chain, door, defaults)?;
            Some(Problem { subject: Subject::Upstream(door.destination.clone()), reason })
        });
        found.collect()
    }

    /// Datagrams come and go at addresses and ports only.
    fn udp_at_paths(&self) -> Vec<Problem> {
        let Some(doors) = &self.doors else { return Vec::new() };
        let mut problems = Vec::new();
        for door in doors.upstreams.iter().filter(|door| door.bind.tcp().is_none()) {
            let chain = self.facts.chains.get(&door.destination);
            let chain = chain.and_then(|state| state.in_use.as_ref());
            if chain.is_some_and(|chain| chain.protocol == Protocol::Udp) {
                let subject = Subject::Upstream(door.destination.clone());
                let reason = "LocalBindSocketPath: the service speaks udp, which needs \
                              LocalBindPort";
                problems.push(Problem { subject, reason: reason.to_owned() });
            }
        }
        let own = self.facts.defaults.as_ref().and_then(|defaults| defaults.protocol);
        if own == Some(Protocol::Udp) && doors.local_app.tcp().is_none() {
            let reason = "Proxy.LocalServiceSocketPath: the service speaks udp, which needs \
                          Proxy.LocalServicePort; no caller reaches it";
            problems.push(Problem { subject: Subject::Proxy, reason: reason.to_owned() });
        }
        problems
    }

    fn exposed(&self, doors: &Doors, central: &Expose) -> (Vec<ExposedListener>, Vec<String>) {
        exposed::listeners(doors, central, (&self.checks, self.site.advertise_address))
    }

    /// An authoriser that is not reached keeps every request out, which should be told.
    fn lacking_authoriser(&self) -> Option<Problem> {
        let extension = self.facts.defaults.as_ref()?.envoy_extensions.first()?;
        let authoriser = ext_authz(self.doors.as_ref()?, extension);
        let reason = "EnvoyExtensions: the authoriser is no upstream of this service, so no request \
                      passes; add it to the sidecar's Upstreams";
        let problem = Problem { subject: Subject::Proxy, reason: reason.to_owned() };
        authoriser.address.is_none().then_some(problem)
    }

    /// Puts everything together, `None` while something is missing.
    fn assemble(&self) -> Option<ProxySnapshot> {
        let doors = self.doors.as_ref()?;
        let (facts, defaults) = (&self.facts, self.facts.defaults.as_deref());
        let mut upstreams = Vec::new();
        let mut endpoints: BTreeMap<TargetId, Vec<Endpoint>> = BTreeMap::new();
        let captured = match captured_port(doors, facts) {
            Some(port) => Some(captured::config(port, facts.captured.as_deref()?)),
            None => None,
        };
        let virtual_ips = facts.captured.as_deref().filter(|_| captured.is_some());
        for door in doors.upstreams.iter().chain(&self.further) {
            let state = facts.chains.get(&door.destination);
            match state.and_then(|state| state.in_use.as_ref()) {
                // Reported, and left out.
                Some(chain) if chain.protocol == Protocol::Udp && !door.takes_datagrams() => {}
                Some(chain) => {
                    for (id, target) in &chain.targets {
                        let instances = facts.instances.get(&target.service)?;
                        let all = select(target, instances);
                        let own = calls::subset_of(target, all, &doors.proxy_id);
                        let own = calls::near_first(target, (own, instances), doors);
                        endpoints.insert(id.clone(), own);
                    }
                    let (bind, socket_mode) = (door.bind.clone(), door.socket_mode);
                    let (mut chain, calls) = ((**chain).clone(), calls(door, defaults));
                    calls::put_into(&mut chain, &calls);
                    upstreams.push(UpstreamConfig {
                        bind,
                        virtual_ip: captured::virtual_ip(virtual_ips, &door.destination),
                        socket_mode,
                        chain,
                        limits: calls.limits.unwrap_or_default(),
                        passive_health_check: calls.passive_health_check,
                    });
                }
                // The first snapshot waits until each upstream has a chain or is known to have
                // none; later ones do not hold back what runs for an upstream that was added.
                None => {
                    let is_hopeless = state.is_some_and(|state| state.problem.is_some());
                    if self.last.is_none() && !is_hopeless {
                        return None;
                    }
                }
            }
        }
        Some(ProxySnapshot {
            version: 0,
            proxy_id: doors.proxy_id.clone(),
            service: doors.service.clone(),
            spiffe_id: SpiffeId::service(
                self.site.trust_domain.clone(),
                self.site.datacenter.clone(),
                doors.service.clone(),
            ),
            leaf: facts.leaf.as_deref()?.clone(),
            trust_bundle: facts.roots.as_deref()?.clone(),
            tls: facts.mesh_tls.as_deref()?.clone(),
            access_logs: facts.defaults.as_deref()?.access_logs.clone().filter(|logs| logs.enabled),
            tracing: facts.defaults.as_deref()?.tracing.clone(),
            forwarded_headers: facts.defaults.as_deref()?.forwarded_headers.unwrap_or_default(),
            inbound: inbound(doors, facts)?,
            proxy_protocol_from: doors.proxy_protocol_from.clone(),
            exposed: self.exposed(doors, &facts.defaults.as_deref()?.expose).0,
            captured,
            upstreams,
            endpoints,
        })
    }
}

impl Facts {
    /// Takes each waiting chain into use once the instances of all its targets were heard of.
    fn promote_chains(&mut self) {
        for state in self.chains.values_mut() {
            let is_known = |chain: &CompiledChain| {
                chain.targets.values().all(|target| self.instances.contains_key(&target.service))
            };
            if state.waiting.as_deref().is_some_and(is_known) {
                state.in_use = state.waiting.take();
            }
        }
    }

    fn forget(&mut self, watch: &Watch) {
        match watch {
            Watch::CapturedUpstreams(_) => self.captured = None,
            Watch::Chain(name) => {
                self.chains.remove(name);
            }
            Watch::Connect(name) => {
                self.instances.remove(name);
            }
            Watch::Intentions(_) => self.intentions = None,
            Watch::JwtKeys(name) => {
                self.jwt_keys.remove(name);
            }
            Watch::Leaf(_) => self.leaf = None,
            Watch::MeshTls => self.mesh_tls = None,
            Watch::Roots => self.roots = None,
            Watch::ServiceDefaults(_) => self.defaults = None,
        }
    }
}

/// Where captured calls come in, as far as is known.
fn captured_port(doors: &Doors, facts: &Facts) -> Option<u16> {
    captured::port(doors, facts.defaults.as_deref()?)
}

impl ChainState {
    fn target_services(&self) -> impl Iterator<Item = &ServiceName> {
        let chains = self.in_use.iter().chain(&self.waiting);
        chains.flat_map(|chain| chain.targets.values().map(|target| &target.service))
    }
}

fn inbound(doors: &Doors, facts: &Facts) -> Option<InboundConfig> {
    let (defaults, intentions) = (facts.defaults.as_deref()?, facts.intentions.as_deref()?);
    let millis = |ms: u32| (ms > 0).then(|| Duration::from_millis(u64::from(ms)));
    let connections = defaults.max_inbound_connections;
    Some(InboundConfig {
        bind: doors.inbound,
        local_app: doors.local_app.clone(),
        proxy_protocol: defaults.proxy_protocol,
        protocol: defaults.protocol.unwrap_or_default(),
        takes_plaintext: defaults.mutual_tls_mode == MutualTlsMode::Permissive,
        allow_connect: defaults.allow_connect,
        intentions: intentions.clone(),
        // Requests wait for keys that are not here yet.
        jwt_keys: facts.jwt_keys.clone(),
        ext_authz: defaults.envoy_extensions.first().map(|extension| ext_authz(doors, extension)),
        rate_limits: defaults.rate_limits.clone(),
        load_limits: Some(defaults.load_limits()).filter(|limits| limits.is_some()).map(Box::new),
        connection_duration_max: Some(defaults.max_connection_duration.0)
            .filter(|most| !most.is_zero()),
        connections_max: (connections > 0).then_some(connections),
        connect_timeout: millis(defaults.local_connect_timeout_ms)
            .unwrap_or(LOCAL_CONNECT_TIMEOUT_DEFAULT),
        request_timeout: millis(defaults.local_request_timeout_ms),
        congestion_control: defaults.mesh_congestion_control,
    })
}

/// Says where the authoriser is reached: a service of the mesh through our own door to it.
fn ext_authz(doors: &Doors, extension: &EnvoyExtension) -> ExtAuthz {
    let config = &extension.arguments.config;
    let target = config.target();
    let service = target.and_then(|target| target.service.as_ref());
    let address = match service {
        Some(service) => {
            let door = doors.upstreams.iter().find(|door| door.destination == service.name);
            door.and_then(|door| door.bind.tcp())
        }
        None => target.and_then(ExtAuthzTarget::address),
    };
    ExtAuthz { config: config.clone(), address }
}

#[cfg(test)]
mod tests;
