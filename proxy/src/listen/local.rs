//! One worker's own side of a workload: pools, loads, places in splits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_core::chain::Endpoint as Instance;
use weft_core::config_entry::Protocol;
use weft_core::name::{InstanceId, ServiceName};
use weft_core::proxycfg::ExposedRoute;
use weft_core::traffic::{Balance, Latency, Mix64, RetryBudget, Splits, Turn};
use weft_runtime::net::TcpStream;
use weft_runtime::tls::called_name;
use weft_runtime::tls::rustls::ClientConfig;
use weft_runtime::tls::rustls::pki_types::ServerName;

use super::hops::{Shared, SharedPools, shared_key, shared_pools};
use crate::http::general::{AppPool, Multiplexed};
use crate::inbound::{Authoriser, ExposedPools, TokenCache};
use crate::observe::{Decisions, Flow, Series, WorkerMetrics};
use crate::outbound::Outside;
use crate::transport::{Endpoint, HopWire};
use crate::workload::{Upstream, UpstreamTarget, Workload};

/// A workload with what this worker alone keeps for it.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) workload: Arc<Workload>,
    /// As `workload.upstreams`.
    pub(crate) upstreams: Vec<LocalUpstream>,
    /// The local instance.
    pub(crate) app: Rc<Endpoint<TcpStream>>,
    /// The local instance for requests that came over HTTP/2, by what it speaks.
    pub(crate) app_http1: Rc<AppPool>,
    pub(crate) app_http2: Rc<Multiplexed>,
    /// The local instance for callers without an identity, by where it is.
    exposed: RefCell<BTreeMap<(SocketAddr, Protocol), Rc<ExposedPools>>>,
    /// Counts of what comes in.
    pub(crate) inbound: Arc<Series>,
    /// Who else is asked about requests.
    pub(crate) authoriser: Option<Rc<Authoriser>>,
    /// By the keys of the workload.
    pub(crate) tokens: Rc<TokenCache>,
    /// Where it is written down who is let in and who is not.
    pub(crate) decisions: Option<Decisions>,
}

/// This worker's side of an upstream.
#[derive(Debug)]
pub(crate) struct LocalUpstream {
    pub(crate) splits: RefCell<Splits>,
    /// As `upstream.targets`.
    pub(crate) targets: Vec<LocalTarget>,
}

/// This worker's side of a target.
#[derive(Debug)]
pub(crate) struct LocalTarget {
    /// As `target.endpoints`.
    pub(crate) endpoints: Vec<LocalEndpoint>,
    /// Chooses among them.
    pub(crate) balance: Arc<Balance>,
    /// This worker's place among those that are taken in turn.
    pub(crate) turn: RefCell<Turn>,
    pub(crate) series: Arc<Series>,
    /// What further attempts it bears; made when the first is wanted.
    pub(crate) retries: Budget,
    /// Counts of what goes there, by the number of the route; 0 without one.
    pub(crate) flows: RefCell<Vec<(u32, Arc<Flow>)>>,
}

/// This worker's side of one usable instance.
#[derive(Debug)]
pub(crate) struct LocalEndpoint {
    pub(crate) instance: InstanceId,
    pub(crate) pools: Rc<Pools>,
    /// What it is called by in TLS; who it is, is told by its certificate alone.
    pub(crate) name: ServerName<'static>,
    /// For connections that carry bytes or datagrams, where there are any.
    pub(crate) tcp: Option<Arc<ClientConfig>>,
}

/// Connections to one instance.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) address: SocketAddr,
    /// How long answers take; kept up only where choices depend on it.
    pub(crate) latency: Cell<Latency>,
    pub(crate) http1: Rc<Endpoint<HopWire>>,
    /// Streams for requests that are values.
    pub(crate) messages: Rc<Endpoint<HopWire>>,
    /// For such requests to those that have no streams.
    pub(crate) http2: Multiplexed,
    /// How it is reached outside the mesh, if it is there.
    pub(crate) outside: Option<Outside>,
    /// Where streams on shared connections come from.
    pub(crate) shared: Shared,
}

impl Pools {
    fn new(address: SocketAddr, (outside, shared): (Option<Outside>, Shared)) -> Rc<Self> {
        let (http1, messages) = (Endpoint::new(), Endpoint::new());
        let http2 = Multiplexed::default();
        let latency = Cell::default();
        Rc::new(Self { address, latency, http1, messages, http2, outside, shared })
    }

    /// Returns the requests and connections on their way.
    pub(crate) fn in_flight(&self) -> u32 {
        self.http1.in_flight() + self.messages.in_flight() + self.http2.streams()
    }

    fn retire(&self) {
        self.http1.retire();
        self.messages.retire();
        self.http2.retire();
    }
}

/// A budget that outlives a change of the workload.
type Budget = Rc<RefCell<Option<RetryBudget>>>;

/// What is taken over for targets that stay, by their counts.
type Budgets = BTreeMap<*const Series, Budget>;

/// What pools are found by when a workload replaces another.
type PoolKey = (Box<str>, SocketAddr);

impl Local {
    /// Makes this worker's side; pools whose target, address and identity stay are taken over,
    /// the others are retired.
    pub(crate) fn new(
        workload: Arc<Workload>,
        before: Option<&Self>,
        metrics: &WorkerMetrics,
        random: &mut Mix64,
    ) -> Self {
        let mut pools: BTreeMap<PoolKey, Rc<Pools>> = BTreeMap::new();
        let is_same =
            before.is_some_and(|it| Arc::ptr_eq(&it.workload.credentials, &workload.credentials));
        let shared = shared_pools(&workload, (before, is_same), metrics);
        let mut budgets = Budgets::new();
        if let Some(before) = before {
            for (upstream, target, local) in before.targets() {
                budgets.insert(Arc::as_ptr(&local.series), local.retries.clone());
                for endpoint in &local.endpoints {
                    let kept = endpoint.pools.clone();
                    if is_same {
                        let place = (kept.address, &endpoint.instance);
                        pools.insert(pool_key(upstream, target, place), kept);
                    } else {
                        kept.retire();
                    }
                }
            }
        }
        let upstreams = workload
            .upstreams
            .iter()
            .map(|upstream| {
                let of = (&workload.snapshot.service, upstream);
                local_upstream(of, (&mut pools, &shared, &budgets), metrics, random)
            })
            .collect();
        pools.into_values().for_each(|gone| gone.retire());
        let address = &workload.snapshot.inbound.local_app;
        let inbound = metrics.inbound(&workload.snapshot.service);
        let (app, app_http1, app_http2) = match before {
            Some(before) if before.workload.snapshot.inbound.local_app == *address => {
                (before.app.clone(), before.app_http1.clone(), before.app_http2.clone())
            }
            other => {
                other.iter().for_each(|before| before.app.retire());
                (Endpoint::new(), Rc::default(), Rc::default())
            }
        };
        let tokens = match before {
            Some(before) if Arc::ptr_eq(&before.workload.jwt_keys, &workload.jwt_keys) => {
                before.tokens.clone()
            }
            Some(_) | None => Rc::default(),
        };
        let decisions = None;
        let authoriser = workload.snapshot.inbound.ext_authz.as_ref().map(|config| {
            let kept = before.and_then(|before| before.authoriser.clone());
            let kept = kept.filter(|kept| kept.is_of(config));
            kept.unwrap_or_else(|| Rc::new(Authoriser::new(config)))
        });
        Self {
            workload,
            upstreams,
            app,
            app_http1,
            app_http2,
            exposed: RefCell::default(),
            inbound,
            authoriser,
            tokens,
            decisions,
        }
    }

    /// Returns the connections for an exposed path; a new configuration begins with none.
    pub(crate) fn exposed_pools(&self, route: &ExposedRoute) -> Rc<ExposedPools> {
        let key = (route.local, route.protocol);
        self.exposed.borrow_mut().entry(key).or_default().clone()
    }

    /// Closes connections that wait for a request, and keeps none from now on.
    pub(crate) fn retire(&self) {
        for (_, _, target) in self.targets() {
            for endpoint in &target.endpoints {
                endpoint.pools.retire();
                endpoint.pools.shared.retire();
            }
        }
        self.app.retire();
    }

    /// Closes connections that have waited too long for a request.
    pub(crate) fn close_idle(&self, now: Instant, idle_max: Duration) {
        for (_, _, target) in self.targets() {
            for endpoint in &target.endpoints {
                endpoint.pools.http1.close_idle(now, idle_max);
                endpoint.pools.messages.close_idle(now, idle_max);
                endpoint.pools.shared.close_idle(now, idle_max);
            }
        }
        self.app.close_idle(now, idle_max);
    }

    pub(super) fn targets(
        &self,
    ) -> impl Iterator<Item = (&Upstream, &UpstreamTarget, &LocalTarget)> {
        self.workload.upstreams.iter().zip(&self.upstreams).flat_map(|(upstream, local)| {
            let both = upstream.targets.iter().zip(&local.targets);
            both.map(move |(target, local)| (upstream, target, local))
        })
    }
}

fn local_upstream(
    (source, upstream): (&ServiceName, &Upstream),
    (pools, shared, budgets): (&mut BTreeMap<PoolKey, Rc<Pools>>, &SharedPools, &Budgets),
    metrics: &WorkerMetrics,
    random: &mut Mix64,
) -> LocalUpstream {
    let carrying = |target: &UpstreamTarget, address| match upstream.protocol {
        Protocol::Grpc | Protocol::Http | Protocol::Http2 => None,
        Protocol::Tcp => Some(target.tls.tcp(address)),
        Protocol::Udp => Some(target.tls.udp.clone()),
    };
    let shared = |target: &UpstreamTarget, address| {
        let pools = shared.get(&shared_key(target, address));
        pools.filter(|_| target.outside.is_none()).cloned().unwrap_or_default()
    };
    let splits = RefCell::new(upstream.table.splits(random));
    let local_target = |target: &UpstreamTarget| {
        let series = metrics.outbound((source, &upstream.service), &target.id);
        let endpoints = target
            .endpoints
            .iter()
            .map(|endpoint| LocalEndpoint {
                instance: endpoint.instance.clone(),
                pools: pools
                    .remove(&pool_key(upstream, target, (endpoint.address, &endpoint.instance)))
                    .unwrap_or_else(|| {
                        let how = (outside(target, endpoint), shared(target, endpoint.address));
                        Pools::new(endpoint.address, how)
                    }),
                name: called_name(&target.sni, endpoint.address),
                tcp: carrying(target, endpoint.address),
            })
            .collect();
        let retries = budgets.get(&Arc::as_ptr(&series)).cloned().unwrap_or_default();
        LocalTarget {
            endpoints,
            balance: target.balance.clone(),
            turn: RefCell::new(target.balance.turn(random)),
            series,
            retries,
            flows: RefCell::default(),
        }
    };
    LocalUpstream { splits, targets: upstream.targets.iter().map(local_target).collect() }
}

fn outside(target: &UpstreamTarget, endpoint: &Instance) -> Option<Outside> {
    Some(Outside::new(endpoint.instance.as_str(), target.outside.clone()?))
}

/// Says what must stay for connections to stay: those made by another name, or to another place
/// outside, are others.
fn pool_key(
    upstream: &Upstream,
    target: &UpstreamTarget,
    (address, instance): (SocketAddr, &InstanceId),
) -> PoolKey {
    let UpstreamTarget { id, spiffe_id, sni, outside, .. } = target;
    let within = format!("{} {id} {spiffe_id} {sni}", upstream.service);
    match outside {
        Some(outside) => (format!("{within} {instance} {outside:?}").into(), address),
        None => (within.into(), address),
    }
}
