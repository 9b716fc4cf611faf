//! From config entries to the chain of one service: router → splitter (or rollout) → resolver.
//!
//! Only the service's own router counts. Routes and legs lead to the splitter of the service
//! that they name, or to its resolver when they name a subset as well. `resolve` ends each way
//! at a target, `flatten` turns splitters behind splitters into one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::entries::{Entries, EntryLookup};
use super::error::{ChainError, Place};
use super::{
    ChainNode, ChainRollout, ChainRoute, ChainSplit, CompiledChain, RouteAction, RouterNode,
    SplitterNode, Target, TargetId,
};
use crate::config_entry::{
    EntryKey, EntryKind, HttpMatch, Protocol, ServiceRoute, ServiceRouter, ServiceSplitter,
};
use crate::limits;
use crate::name::{Datacenter, ServiceName, TrustDomain};

/// Compiles the chain of a service.
///
/// A service without any entry has a chain too: one resolver. The same entries give the same
/// chain.
///
/// **Source**: Consul: docs/connect/manage-traffic/discovery-chain. Differs: weights of
/// flattened splitters are rounded so that they still add up to 100.
///
/// # Errors
/// Everything that keeps the entries from making a chain: protocols that differ along it,
/// routing or splitting of a service that speaks tcp, subsets that do not exist, filters that
/// are none, redirects and splitters that lead back to themselves, and chains that grow beyond
/// [`limits::CHAIN_NODES_MAX`].
pub fn compile(
    service: &ServiceName,
    datacenter: &Datacenter,
    trust_domain: &TrustDomain,
    lookup: &dyn EntryLookup,
) -> Result<CompiledChain, Vec<ChainError>> {
    compile_with(service, (datacenter, trust_domain), lookup, ChainOverrides::default())
}

/// What one caller wants of a chain in place of what the entries say.
///
/// **Source**: Consul: api-docs/discovery-chain#read-compiled-discovery-chain.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ChainOverrides {
    /// What is spoken; with tcp, routers and splitters are passed over.
    pub protocol: Option<Protocol>,
    /// How long to wait for a connection.
    pub connect_timeout: Option<Duration>,
}

/// Compiles the chain of a service for one caller.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(
    service: &ServiceName,
    (datacenter, trust_domain): (&Datacenter, &TrustDomain),
    lookup: &dyn EntryLookup,
    overrides: ChainOverrides,
) -> Result<CompiledChain, Vec<ChainError>> {
    let entries = Entries::new(lookup);
    let protocol = overrides.protocol.unwrap_or_else(|| entries.protocol(service));
    let mut compiler = Compiler {
        service,
        datacenter,
        trust_domain,
        protocol,
        overrides,
        entries,
        nodes: BTreeMap::new(),
        targets: BTreeMap::new(),
        splitters: BTreeMap::new(),
        path: Vec::new(),
        rollouts: Vec::new(),
        checked: BTreeSet::new(),
        errors: Vec::new(),
    };
    let start = compiler.start();
    compiler.finish(start)
}

pub(super) struct Compiler<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) datacenter: &'a Datacenter,
    pub(super) trust_domain: &'a TrustDomain,
    /// What the service speaks, and so must all that its chain leads to.
    pub(super) protocol: Protocol,
    pub(super) overrides: ChainOverrides,
    pub(super) entries: Entries<'a>,
    pub(super) nodes: BTreeMap<String, ChainNode>,
    pub(super) targets: BTreeMap<TargetId, Target>,
    /// The node of each service's splitter or resolver, `None` when it had errors.
    splitters: BTreeMap<ServiceName, Option<String>>,
    /// The services whose splitters are being compiled, outermost first.
    path: Vec<ServiceName>,
    pub(super) rollouts: Vec<ChainRollout>,
    /// The services whose resolvers' filters have been looked at.
    pub(super) checked: BTreeSet<ServiceName>,
    pub(super) errors: Vec<ChainError>,
}

impl<'a> Compiler<'a> {
    fn start(&mut self) -> Option<String> {
        let service = self.service;
        let whole = Place {
            entry: EntryKey::new(EntryKind::ServiceResolver, service.as_str()),
            field: String::new(),
        };
        match self.entries.router(service).filter(|_| !self.is_forced_to_tcp()) {
            Some(router) => self.router(router),
            None => {
                let start = self.splitter_or_resolver(service, &whole)?;
                self.canary_in_front(start, &whole)
            }
        }
    }

    fn finish(mut self, start: Option<String>) -> Result<CompiledChain, Vec<ChainError>> {
        let Some(start) = start.filter(|_| self.errors.is_empty()) else {
            // Several routes may stumble over the same stone.
            let mut seen = BTreeSet::new();
            self.errors.retain(|error| seen.insert(error.clone()));
            return Err(self.errors);
        };
        super::reach::retain_reachable(&start, &mut self.nodes, &mut self.targets);
        Ok(CompiledChain {
            service_name: self.service.clone(),
            datacenter: self.datacenter.clone(),
            protocol: self.protocol,
            start_node: start,
            nodes: self.nodes,
            targets: self.targets,
            rollouts: self.rollouts,
            reads: self.entries.into_reads(),
        })
    }

    pub(super) fn error(&mut self, place: Place, reason: impl Into<String>) {
        let (service, reason) = (self.service.clone(), reason.into());
        // More errors than this are the same one many times over.
        if self.errors.len() < limits::CHAIN_ERRORS_MAX {
            self.errors.push(ChainError { service, place, reason });
        }
    }

    /// Adds a node; `None` when the chain has too many.
    pub(super) fn add(&mut self, name: String, node: ChainNode, place: &Place) -> Option<String> {
        if self.nodes.len() >= limits::CHAIN_NODES_MAX {
            let max = limits::CHAIN_NODES_MAX;
            self.error(place.clone(), format!("the chain has more than {max} nodes"));
            return None;
        }
        self.nodes.insert(name.clone(), node);
        Some(name)
    }

    pub(super) fn is_forced_to_tcp(&self) -> bool {
        self.overrides.protocol == Some(Protocol::Tcp)
    }

    /// Routing and splitting need requests that can be told apart.
    pub(super) fn check_http(&mut self, entry: &EntryKey, what: &str) {
        if !self.protocol.is_http_like() {
            let (service, protocol) = (self.service, self.protocol);
            let reason = format!(
                "{service} speaks {protocol}, and {what} needs http, http2 or grpc; write the \
                 Protocol in service-defaults/{service} or proxy-defaults/global"
            );
            self.error(Place { entry: entry.clone(), field: String::new() }, reason);
        }
    }

    fn router(&mut self, router: &'a ServiceRouter) -> Option<String> {
        let entry = EntryKey::new(EntryKind::ServiceRouter, router.name.as_str());
        let is_tls =
            |route: &ServiceRoute| route.matches.as_ref().is_some_and(|it| it.tls.is_some());
        let is_http = self.protocol.is_http_like();
        // Datagrams have no hello of TLS that could be read.
        let is_readable = self.protocol != Protocol::Udp && router.routes.iter().all(is_tls);
        if router.routes.is_empty() || !is_readable {
            self.check_http(&entry, "routing by content");
        }
        for (at, _) in router.routes.iter().enumerate().filter(|it| is_http && is_tls(it.1)) {
            let field = format!("Routes[{at}].Match.TLS");
            let (service, protocol) = (self.service, self.protocol);
            let reason = format!("{service} speaks {protocol}, and only tcp carries other TLS");
            self.error(Place { entry: entry.clone(), field }, reason);
        }
        let mut routes = Vec::new();
        for (at, route) in router.routes.iter().enumerate() {
            routes.extend(self.route(route, &entry, at));
        }
        let field = String::new();
        let place = Place { entry, field };
        let next_node = self.splitter_or_resolver(self.service, &place)?;
        let matches = everything();
        let (action, sni, mirror_node) = (RouteAction::default(), Vec::new(), None);
        routes.push(ChainRoute { matches, sni, action, next_node, mirror_node });
        let routes = self.with_canary_first(routes);
        let name = format!("router:{}", router.name);
        self.add(name, ChainNode::Router(RouterNode { routes }), &place)
    }

    fn route(&mut self, route: &ServiceRoute, entry: &EntryKey, at: usize) -> Option<ChainRoute> {
        let destination = route.destination.clone().unwrap_or_default();
        let service = destination.service.as_ref().unwrap_or(self.service).clone();
        let place = |field: &str| Place {
            entry: entry.clone(),
            field: format!("Routes[{at}].Destination{field}"),
        };
        let next_node = if destination.service_subset.is_empty() {
            self.splitter_or_resolver(&service, &place(".Service"))
        } else {
            self.resolver(&service, &destination.service_subset, &place(".ServiceSubset"))
        }?;
        let mirror_node = match &destination.mirror {
            None => None,
            Some(mirror) => {
                let (to, subset) = (mirror.service.as_ref(), &mirror.service_subset);
                // Without routes and legs of its own: a copy goes where it is said.
                let place = place(".Mirror");
                Some(self.resolver(to.unwrap_or(self.service), subset, &place)?)
            }
        };
        let tls = route.matches.as_ref().and_then(|matches| matches.tls.as_ref());
        let sni = tls.map(|tls| tls.sni.clone()).unwrap_or_default();
        let matches = route.matches.as_ref().and_then(|matches| matches.http.clone());
        Some(ChainRoute {
            matches: matches.unwrap_or_default(),
            sni,
            action: RouteAction {
                retries: destination.retries(),
                prefix_rewrite: destination.prefix_rewrite,
                path_rewrite: destination.path_rewrite,
                host_rewrite: destination.host_rewrite,
                redirect: destination.redirect,
                response: destination.response,
                fault: destination.fault,
                mirror: destination.mirror,
                request_timeout: destination.request_timeout.map(|timeout| timeout.0),
                idle_timeout: destination.idle_timeout.map(|timeout| timeout.0),
                request_headers: destination.request_headers.unwrap_or_default(),
                per_try_timeout: destination.per_try_timeout.map(|timeout| timeout.0),
                response_headers: destination.response_headers.unwrap_or_default(),
            },
            next_node,
            mirror_node,
        })
    }

    /// Leads to a service as its own entries say.
    fn splitter_or_resolver(&mut self, service: &ServiceName, place: &Place) -> Option<String> {
        if let Some(known) = self.splitters.get(service) {
            return known.clone();
        }
        let splitter = self.entries.splitter(service).filter(|_| !self.is_forced_to_tcp());
        let rollout = self.entries.rollout(service).filter(|_| !self.is_forced_to_tcp());
        if let Some(rollout) = rollout {
            let node = self.rollout(rollout, splitter.is_some());
            self.splitters.insert(service.clone(), node.clone());
            return node;
        }
        let Some(splitter) = splitter else {
            let node = self.resolver(service, "", place);
            self.splitters.insert(service.clone(), node.clone());
            return node;
        };
        if self.path.contains(service) {
            let way: Vec<&str> = self.path.iter().map(ServiceName::as_str).collect();
            let reason = format!("splitters lead in a circle: {} -> {service}", way.join(" -> "));
            self.error(place.clone(), reason);
            return None;
        }
        if self.path.len() >= limits::CHAIN_DEPTH_MAX {
            let max = limits::CHAIN_DEPTH_MAX;
            self.error(place.clone(), format!("splitters are nested deeper than {max}"));
            return None;
        }
        self.path.push(service.clone());
        let node = self.splitter(splitter);
        self.path.pop();
        self.splitters.insert(service.clone(), node.clone());
        node
    }

    fn splitter(&mut self, splitter: &'a ServiceSplitter) -> Option<String> {
        let entry = EntryKey::new(EntryKind::ServiceSplitter, splitter.name.as_str());
        self.check_http(&entry, "splitting by weight");
        let mut legs = Vec::new();
        for (at, split) in splitter.splits.iter().enumerate() {
            let service = split.service.as_ref().unwrap_or(&splitter.name);
            let place =
                |field: &str| Place { entry: entry.clone(), field: format!("Splits[{at}]{field}") };
            let next_node = if *service != splitter.name && split.service_subset.is_empty() {
                self.splitter_or_resolver(service, &place(".Service"))
            } else {
                self.resolver(service, &split.service_subset, &place(".ServiceSubset"))
            };
            legs.extend(next_node.map(|next_node| ChainSplit {
                weight: split.weight,
                next_node,
                request_headers: split.request_headers.iter().cloned().collect(),
                response_headers: split.response_headers.iter().cloned().collect(),
            }));
        }
        let place = Place { entry, field: "Splits".to_owned() };
        let splits = match super::flatten::flatten(&legs, &self.nodes) {
            Ok(splits) => splits,
            Err(reason) => {
                self.error(place, reason);
                return None;
            }
        };
        let name = format!("splitter:{}", splitter.name);
        self.add(
            name,
            ChainNode::Splitter(SplitterNode { splits, sticky: splitter.sticky.clone() }),
            &place,
        )
    }
}

/// The match that takes all requests.
pub(super) fn everything() -> HttpMatch {
    HttpMatch { path_prefix: Some("/".to_owned()), ..HttpMatch::default() }
}

/// How long a proxy waits for a connection when the resolver does not say (Consul: 5 s).
pub(super) const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// How long a proxy waits for the head of an answer when nothing says (Envoy's route: 15 s).
pub const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
