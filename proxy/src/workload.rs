//! A snapshot made ready for work: expressions compiled, certificates read. Shared by all
//! workers, never changed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use weft_core::catalog::VirtualIp;
use weft_core::chain::{Target, TargetId};
use weft_core::config_entry::{MeshTransport, Protocol, ServiceDestination, Tracing};
use weft_core::identity::SpiffeId;
use weft_core::intention::Judge;
use weft_core::local_address::LocalAddress;
use weft_core::log_format::InvalidLogFormat;
use weft_core::name::{InstanceId, ServiceName};
use weft_core::proxycfg::{Endpoint, JwtKeys, ProxySnapshot, UpstreamConfig};
use weft_core::traffic::gate::Gate;
use weft_core::traffic::limit::Limiter;
use weft_core::traffic::outlier::OutlierRules;
use weft_core::traffic::{Balance, RouteTable, RouteTableError};
use weft_runtime::jwt::{KeySet, Keys};
use weft_runtime::tls::TlsError;
use weft_runtime::tls::rustls::ServerConfig;
use weft_runtime::{clock, entropy};

use crate::config::{Hops, Sharing};
use crate::identity::{ClientConfigs, Credentials};
use crate::observe::LogPlan;
use crate::outbound::{Breaker, Health};
use crate::transport::quic;

/// One version of everything that the workers follow.
#[derive(Debug)]
pub(crate) struct Workload {
    /// What it was made of.
    pub(crate) snapshot: ProxySnapshot,
    /// Leaf and roots; the same `Arc` as before when they did not change.
    pub(crate) credentials: Arc<Credentials>,
    /// Who may call; the same `Arc` as before when that did not change.
    pub(crate) judge: Arc<Judge>,
    /// How many requests are let through; the same `Arc` as before when that did not change.
    pub(crate) limiter: Option<Arc<Limiter>>,
    /// How many requests are under way at once; the same `Arc` as before when that did not change.
    pub(crate) gate: Option<Arc<Gate>>,
    /// Keys of providers of tokens; the same `Arc` as before when they did not change.
    pub(crate) jwt_keys: Arc<BTreeMap<ServiceName, KnownKeys>>,
    /// What is written about requests and connections.
    pub(crate) logs: Option<Arc<LogPlan>>,
    /// Of which requests spans are sent.
    pub(crate) tracing: Option<Arc<Tracing>>,
    /// How callers are met.
    pub(crate) inbound_tls: Arc<ServerConfig>,
    /// How callers are met over QUIC; `None` where it is not spoken.
    pub(crate) inbound_quic: Option<quic::ServerConfig>,
    /// In the order of the snapshot.
    pub(crate) upstreams: Vec<Upstream>,
    /// Whether connections to other proxies are shared.
    pub(crate) mux: Sharing,
    /// Whether QUIC is spoken.
    pub(crate) quic: Sharing,
}

/// The keys of a provider of tokens.
#[derive(Debug, Clone)]
pub(crate) struct KnownKeys {
    /// `None` while none are known.
    pub(crate) keys: Option<Keys>,
    /// As in the snapshot.
    pub(crate) answered: u64,
}

/// One upstream, ready for work.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) bind: LocalAddress,
    /// What redirected calls to it are for.
    pub(crate) virtual_ip: Option<VirtualIp>,
    /// Of a unix socket.
    pub(crate) socket_mode: Option<u32>,
    pub(crate) service: ServiceName,
    pub(crate) protocol: Protocol,
    pub(crate) table: RouteTable,
    /// By the numbers of the table.
    pub(crate) targets: Vec<UpstreamTarget>,
}

/// One target of an upstream.
#[derive(Debug)]
pub(crate) struct UpstreamTarget {
    pub(crate) id: TargetId,
    pub(crate) spiffe_id: SpiffeId,
    /// The name that is given in TLS.
    pub(crate) sni: String,
    pub(crate) tls: Arc<ClientConfigs>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Since when each is there; `None` for those that were there when the target came.
    pub(crate) since: Box<[Option<Instant>]>,
    /// How one of them is chosen; the same `Arc` as before when neither has changed.
    pub(crate) balance: Arc<Balance>,
    /// What it may be asked at once; the same `Arc` as before while that has not changed, `None` where nothing is limited.
    pub(crate) breaker: Option<Arc<Breaker>>,
    /// Which of them are left out as they fail; the same `Arc` as before while neither they nor the rules have
    /// changed, `None` where there are no others.
    pub(crate) health: Option<Arc<Health>>,
    /// Where it is, if it is outside the mesh; `endpoints` are then its addresses, in order.
    pub(crate) outside: Option<Arc<ServiceDestination>>,
    /// Over what it is to be called.
    pub(crate) transport: MeshTransport,
    /// How it is called over QUIC; `None` where that is not spoken.
    pub(crate) quic: Option<quic::CallerConfig>,
}

impl Upstream {
    /// Whether it has a listener of its own: others are reached by redirected calls alone.
    pub(crate) fn listens(&self) -> bool {
        self.bind.port() != Some(0)
    }

    /// Whether a target has an instance that can be called.
    pub(crate) fn is_usable(&self, target: usize) -> bool {
        !self.targets[target].endpoints.is_empty()
    }

    /// Returns each target that has no such instance, with the one that stands in for it.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = (&TargetId, &TargetId)> {
        self.table.stand_ins().filter_map(|(target, others)| {
            let found = others.iter().find(|other| self.is_usable(**other))?;
            let pair = (&self.targets[target].id, &self.targets[*found].id);
            (!self.is_usable(target)).then_some(pair)
        })
    }
}

/// States why a snapshot is refused; the one before stays in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnusableSnapshot {
    #[error("the leaf is of {leaf}, but the snapshot speaks for {snapshot}")]
    OtherIdentity { leaf: SpiffeId, snapshot: SpiffeId },
    #[error("two upstreams are to listen on {0}")]
    SameBind(LocalAddress),
    #[error("an upstream's chain cannot be followed")]
    Chain(#[from] RouteTableError),
    #[error("access logs have no form")]
    LogFormat(#[from] InvalidLogFormat),
    #[error("a rate limit's expression cannot be compiled")]
    RateLimits,
    #[error("the leaf or the trust bundle cannot be used")]
    Tls(#[from] TlsError),
}

impl Workload {
    /// Makes a snapshot ready. What did not change is taken over from the one before, sessions
    /// for resumption included.
    pub(crate) fn new(
        snapshot: ProxySnapshot,
        hops: Hops,
        before: Option<&Self>,
    ) -> Result<Self, UnusableSnapshot> {
        let same = before.filter(|b| b.credentials.is_of(&snapshot.leaf, &snapshot.trust_bundle));
        let credentials = match same {
            Some(before) => before.credentials.clone(),
            None => Arc::new(Credentials::new(&snapshot.leaf, &snapshot.trust_bundle)?),
        };
        if *credentials.spiffe_id() != snapshot.spiffe_id {
            return Err(UnusableSnapshot::OtherIdentity {
                leaf: credentials.spiffe_id().clone(),
                snapshot: snapshot.spiffe_id.clone(),
            });
        }
        let Hops { mux, quic } = hops;
        let protocol = snapshot.inbound.protocol;
        let inbound_tls = match same {
            Some(before)
                if before.snapshot.inbound.protocol == protocol
                    && before.snapshot.tls.incoming == snapshot.tls.incoming =>
            {
                before.inbound_tls.clone()
            }
            _ => credentials.server_config(protocol, (&snapshot.tls, mux))?,
        };
        let inbound_quic = match quic {
            Sharing::Auto => inbound_quic(&snapshot, &inbound_tls, same),
            Sharing::Off => None,
        };
        let upstreams = upstreams(&snapshot, (&credentials, hops), (same, before))?;
        let intentions = &snapshot.inbound.intentions;
        let judge = match before.filter(|before| before.judge.set() == intentions) {
            Some(before) => before.judge.clone(),
            None => Arc::new(Judge::new(intentions.clone())),
        };
        let limiter = limiter(&snapshot, before)?;
        let gate = gate(&snapshot, before);
        let jwt_keys = match before {
            Some(before) if before.snapshot.inbound.jwt_keys == snapshot.inbound.jwt_keys => {
                before.jwt_keys.clone()
            }
            Some(_) | None => Arc::new(known_keys(&snapshot)),
        };
        let tracing = match before.map(|before| &before.tracing) {
            Some(kept) if kept.as_deref() == snapshot.tracing.as_ref() => kept.clone(),
            Some(_) | None => snapshot.tracing.clone().map(Arc::new),
        };
        let logs = LogPlan::of(&snapshot, before.and_then(|before| before.logs.as_ref()))?;
        Ok(Self {
            snapshot,
            credentials,
            judge,
            limiter,
            gate,
            jwt_keys,
            logs,
            tracing,
            inbound_tls,
            inbound_quic,
            upstreams,
            mux,
            quic,
        })
    }

    /// Returns the number of the upstream that listens on an address.
    pub(crate) fn upstream_at(&self, bind: &LocalAddress) -> Option<usize> {
        self.upstreams.iter().position(|upstream| upstream.bind == *bind)
    }
}

/// Makes the rate limits; buckets that stay as they were keep what is in them.
fn limiter(
    snapshot: &ProxySnapshot,
    before: Option<&Workload>,
) -> Result<Option<Arc<Limiter>>, UnusableSnapshot> {
    let Some(limits) = &snapshot.inbound.rate_limits else { return Ok(None) };
    if let Some(before) = before
        && before.snapshot.inbound.rate_limits.as_ref() == Some(limits)
    {
        return Ok(before.limiter.clone());
    }
    let mut seed = [0; 8];
    entropy::fill(&mut seed);
    let kept = before.and_then(|before| before.limiter.as_deref());
    let at = (u64::from_le_bytes(seed), clock::instant());
    let limiter = Limiter::new(limits, kept, at).ok_or(UnusableSnapshot::RateLimits)?;
    Ok(Some(Arc::new(limiter)))
}

/// Makes the limit of requests under way; one that stays keeps what it has learnt.
fn gate(snapshot: &ProxySnapshot, before: Option<&Workload>) -> Option<Arc<Gate>> {
    let limits = snapshot.inbound.load_limits.as_ref()?;
    let kept = before.and_then(|before| before.gate.as_ref()).filter(|gate| gate.is_of(limits));
    kept.cloned().or_else(|| Gate::new(limits, clock::instant()).map(Arc::new))
}

/// Says how callers are met over QUIC; as before while nothing of it has changed, since one made anew
/// does not know again whom the one before had show where it is.
fn inbound_quic(
    snapshot: &ProxySnapshot,
    over_tcp: &Arc<ServerConfig>,
    same: Option<&Workload>,
) -> Option<quic::ServerConfig> {
    let congestion = snapshot.inbound.congestion_control;
    let kept = same.filter(|before| {
        Arc::ptr_eq(&before.inbound_tls, over_tcp)
            && before.snapshot.inbound.congestion_control == congestion
    });
    match kept {
        Some(before) => before.inbound_quic.clone(),
        None => Credentials::quic_server(over_tcp, (&snapshot.tls, congestion)),
    }
}

/// Makes the upstreams ready. Targets with the same identity share configurations, and so sessions.
fn upstreams(
    snapshot: &ProxySnapshot,
    with: (&Credentials, Hops),
    (same, before): (Option<&Workload>, Option<&Workload>),
) -> Result<Vec<Upstream>, UnusableSnapshot> {
    let mut configs: BTreeMap<SpiffeId, Arc<ClientConfigs>> = BTreeMap::new();
    let same = same.filter(|before| before.snapshot.tls.outgoing == snapshot.tls.outgoing);
    for target in same.iter().flat_map(|b| &b.upstreams).flat_map(|u| &u.targets) {
        configs.insert(target.spiffe_id.clone(), target.tls.clone());
    }
    let mut upstreams: Vec<Upstream> = Vec::with_capacity(snapshot.upstreams.len());
    for upstream in &snapshot.upstreams {
        if upstreams.iter().any(|other| other.bind == upstream.bind) {
            return Err(UnusableSnapshot::SameBind(upstream.bind.clone()));
        }
        let mut targets = Vec::with_capacity(upstream.chain.targets.len());
        for target in upstream.chain.targets.values() {
            let mut made = upstream_target(target, (snapshot, before), with, &mut configs)?;
            let before = target_before(upstream, &target.id, before);
            made.breaker = breaker(upstream, before);
            made.since = since(&made, before);
            made.health = health(upstream, &made, before);
            targets.push(made);
        }
        upstreams.push(Upstream {
            bind: upstream.bind.clone(),
            virtual_ip: upstream.virtual_ip,
            socket_mode: upstream.socket_mode,
            service: upstream.chain.service_name.clone(),
            protocol: upstream.chain.protocol,
            table: RouteTable::compile(&upstream.chain, &snapshot.service)?,
            targets,
        });
    }
    Ok(upstreams)
}

/// Reads key sets; one that is none, which no agent sends, is as good as unknown.
fn known_keys(snapshot: &ProxySnapshot) -> BTreeMap<ServiceName, KnownKeys> {
    let read = |keys: &JwtKeys| {
        let set = keys.set.as_ref().and_then(|set| KeySet::parse(set.as_bytes()).ok());
        KnownKeys { keys: set.map(|set| Keys::Set(Arc::new(set))), answered: keys.answered }
    };
    let keys = snapshot.inbound.jwt_keys.iter();
    keys.map(|(name, keys)| (name.clone(), read(keys))).collect()
}

/// Makes an endpoint of an address outside the mesh, `None` for one that means several. A name is
/// looked up when it is called.
fn door(host: &str, port: u16) -> Option<Endpoint> {
    let ip = host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let instance = InstanceId::parse(host).ok()?;
    Some(Endpoint { address: SocketAddr::new(ip, port), weight: 1, instance, tier: 0 })
        .filter(|_| !host.starts_with('*'))
}

/// Makes what chooses among a target's endpoints; as before while neither they nor the policy have changed,
/// as its tables may be large.
fn balance(target: &Target, endpoints: &[Endpoint], before: Option<&Workload>) -> Arc<Balance> {
    let settings = target.load_balancer.as_deref();
    let known = before.iter().flat_map(|before| &before.upstreams).flat_map(|it| &it.targets);
    let same = known.filter(|it| it.id == target.id && it.endpoints == endpoints);
    let kept = same.map(|it| &it.balance).find(|balance| balance.is_of(settings));
    kept.cloned().unwrap_or_else(|| Arc::new(Balance::new(settings, endpoints)))
}

/// Makes what limits a target; as before while the limits have not changed, as what is under way counts on.
fn breaker(upstream: &UpstreamConfig, before: Option<&UpstreamTarget>) -> Option<Arc<Breaker>> {
    let (limits, protocol) = (&upstream.limits, upstream.chain.protocol);
    let before = before.and_then(|before| before.breaker.clone());
    let kept = before.filter(|breaker| breaker.is_of(limits, protocol));
    kept.or_else(|| Breaker::new(limits, protocol))
}

/// Makes what leaves out endpoints that fail; it goes on with what was known of those that stay.
fn health(
    upstream: &UpstreamConfig,
    target: &UpstreamTarget,
    before: Option<&UpstreamTarget>,
) -> Option<Arc<Health>> {
    // The only one is never left out.
    if target.endpoints.len() < 2 {
        return None;
    }
    let rules = OutlierRules::new(upstream.passive_health_check.as_deref());
    let known = before.and_then(|it| Some((&it.endpoints, it.health.as_ref()?)));
    if let Some((endpoints, health)) = known
        && *endpoints == target.endpoints
        && health.is_of(&rules)
    {
        return Some(health.clone());
    }
    let standing = |endpoint: &Endpoint| {
        let (endpoints, health) = known?;
        position(endpoints, endpoint).map(|number| health.standing(number))
    };
    let standing = target.endpoints.iter().map(|it| standing(it).unwrap_or_default()).collect();
    Some(Health::new(rules, standing))
}

/// Says since when endpoints are there.
fn since(target: &UpstreamTarget, before: Option<&UpstreamTarget>) -> Box<[Option<Instant>]> {
    let before = before.filter(|before| !before.endpoints.is_empty());
    let now = clock::instant();
    let since = |endpoint: &Endpoint| {
        let before = before?;
        match position(&before.endpoints, endpoint) {
            Some(number) => before.since[number],
            None => Some(now),
        }
    };
    target.endpoints.iter().map(since).collect()
}

/// Finds an endpoint among others, whatever its weight.
fn position(among: &[Endpoint], endpoint: &Endpoint) -> Option<usize> {
    among.iter().position(|it| it.address == endpoint.address && it.instance == endpoint.instance)
}

/// Returns a target of an upstream as it was.
fn target_before<'a>(
    upstream: &UpstreamConfig,
    id: &TargetId,
    before: Option<&'a Workload>,
) -> Option<&'a UpstreamTarget> {
    let known = before.into_iter().flat_map(|before| &before.upstreams);
    let mut same = known.filter(|it| it.service == upstream.chain.service_name);
    same.find_map(|it| it.targets.iter().find(|it| it.id == *id))
}

fn upstream_target(
    target: &Target,
    (snapshot, before): (&ProxySnapshot, Option<&Workload>),
    (credentials, hops): (&Credentials, Hops),
    configs: &mut BTreeMap<SpiffeId, Arc<ClientConfigs>>,
) -> Result<UpstreamTarget, TlsError> {
    let tls = match configs.get(&target.spiffe_id) {
        Some(configs) => configs.clone(),
        None => {
            let made =
                Arc::new(credentials.client_configs(&target.spiffe_id, (&snapshot.tls, hops.mux))?);
            configs.insert(target.spiffe_id.clone(), made.clone());
            made
        }
    };
    let over_quic = || tls.quic(target.transport.congestion_control);
    let endpoints: Vec<Endpoint> = match &target.outside {
        Some(outside) => outside.addresses.iter().filter_map(|it| door(it, outside.port)).collect(),
        None => snapshot.endpoints.get(&target.id).cloned().unwrap_or_default(),
    };
    Ok(UpstreamTarget {
        transport: target.transport.mesh_transport,
        quic: if hops.quic == Sharing::Auto { over_quic() } else { None },
        id: target.id.clone(),
        spiffe_id: target.spiffe_id.clone(),
        sni: target.sni.clone(),
        tls,
        balance: balance(target, &endpoints, before),
        breaker: None,
        health: None,
        since: Box::default(),
        endpoints,
        outside: target.outside.clone().map(Arc::new),
    })
}
