//! Our own pair: two `weft proxy` with one worker each, configured by a fixed snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};
use weft_core::ca::{Leaf, TrustBundle};
use weft_core::chain::{ChainNode, CompiledChain, ResolverNode, Target, TargetId};
use weft_core::config_entry::{
    CongestionControl, HopTransport, IntentionAction, LocalityMode, MeshTls, Protocol,
    UpstreamLimits,
};
use weft_core::identity::SpiffeId;
use weft_core::intention::{Intention, IntentionSet};
use weft_core::name::{Datacenter, InstanceId, ServiceName, TrustDomain};
use weft_core::proxycfg::{Endpoint, InboundConfig, ProxySnapshot, UpstreamConfig};
use weft_core::time::Timestamp;

use super::{Layer, Pair, Rig, free_addr, tag, version};
use crate::certificates::{self, TRUST_DOMAIN, spiffe_id};
use crate::process::Measured;

/// Starts the pair.
pub(super) fn start(rig: &Rig, layer: Layer) -> anyhow::Result<Pair> {
    start_over(rig, layer, HopTransport::default())
}

/// What the two proxies of a pair are started with.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The caller's side.
    pub(crate) a: ProxySnapshot,
    /// The called side.
    pub(crate) b: ProxySnapshot,
    /// Settings of both programs.
    pub(crate) config: Map<String, Value>,
}

/// Starts the pair with what it is to speak between its proxies.
pub(super) fn start_over(rig: &Rig, layer: Layer, transport: HopTransport) -> anyhow::Result<Pair> {
    start_changed(rig, layer, transport, &|_| Ok(()))
}

/// Starts the pair with something changed in it.
pub(super) fn start_changed(
    rig: &Rig,
    layer: Layer,
    transport: HopTransport,
    change: &dyn Fn(&mut Setup) -> anyhow::Result<()>,
) -> anyhow::Result<Pair> {
    let binary = std::env::current_exe()?.with_file_name("weft");
    ensure!(binary.is_file(), "not built: `cargo build --release -p weft`");
    let (front, back) = (free_addr(), free_addr());
    let protocol = match layer {
        Layer::Http => Protocol::Http,
        Layer::Http2 => Protocol::Grpc,
        Layer::Short | Layer::Tcp => Protocol::Tcp,
    };
    let (chain, target) = chain_to_web(protocol, transport)?;
    let mut a = snapshot(rig, "shop", &rig.certificates.shop, free_addr(), rig.behind(layer))?;
    let (limits, passive_health_check) = (UpstreamLimits::default(), None);
    let bind = front.into();
    let upstream = UpstreamConfig {
        bind,
        virtual_ip: None,
        socket_mode: None,
        chain,
        limits,
        passive_health_check,
    };
    a.upstreams = vec![upstream];
    let endpoint =
        Endpoint { address: back, weight: 1, instance: InstanceId::parse("web-1")?, tier: 0 };
    a.endpoints = BTreeMap::from([(target, vec![endpoint])]);
    let mut b = snapshot(rig, "web", &rig.certificates.web, back, rig.behind(layer))?;
    b.inbound.protocol = protocol;
    b.inbound.congestion_control = transport.congestion_control;
    let mut setup = Setup { a, b, config: Map::new() };
    change(&mut setup)?;
    let Setup { a, b, config } = setup;
    // Pairs of one layer differ by their doors.
    let files = format!("weft-{}-{}", tag(layer), front.port());
    Ok(Pair {
        name: "weft",
        version: version(&binary, "version"),
        a: run(rig, &binary, &format!("{files}-a"), (&a, &config))?,
        b: run(rig, &binary, &format!("{files}-b"), (&b, &config))?,
        front,
        back,
        alpn: "http/1.1",
    })
}

fn chain_to_web(
    protocol: Protocol,
    transport: HopTransport,
) -> anyhow::Result<(CompiledChain, TargetId)> {
    let service = ServiceName::parse("web")?;
    let datacenter = Datacenter::parse("dc1")?;
    let id = TargetId::new(&service, "", &datacenter);
    let target = Target {
        id: id.clone(),
        service: service.clone(),
        service_subset: String::new(),
        datacenter: datacenter.clone(),
        filter: String::new(),
        only_passing: false,
        sni: format!("web.default.dc1.internal.{TRUST_DOMAIN}"),
        spiffe_id: SpiffeId::parse(&spiffe_id("web"))?,
        outside: None,
        load_balancer: None,
        locality: LocalityMode::default(),
        transport,
    };
    let resolver = ResolverNode {
        target: id.clone(),
        failover: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(15),
    };
    let start_node = format!("resolver:{id}");
    let chain = CompiledChain {
        service_name: service,
        datacenter,
        protocol,
        start_node: start_node.clone(),
        nodes: BTreeMap::from([(start_node, ChainNode::Resolver(resolver))]),
        targets: BTreeMap::from([(id.clone(), target)]),
        rollouts: Vec::new(),
        reads: BTreeSet::new(),
    };
    Ok((chain, id))
}

/// A snapshot without upstreams. `shop` may call `web`, nobody else may.
fn snapshot(
    rig: &Rig,
    service: &str,
    leaf: &certificates::Pair,
    bind: SocketAddr,
    local_app: SocketAddr,
) -> anyhow::Result<ProxySnapshot> {
    let intention = Intention {
        source: serde_json::from_value("shop".into()).context("a source")?,
        destination: serde_json::from_value("web".into()).context("a destination")?,
        action: IntentionAction::Allow,
        precedence: 9,
        permissions: Vec::new(),
        jwt: None,
        dry_run: false,
    };
    Ok(ProxySnapshot {
        version: 1,
        proxy_id: InstanceId::parse(&format!("{service}-1-sidecar-proxy"))?,
        service: ServiceName::parse(service)?,
        spiffe_id: SpiffeId::parse(&spiffe_id(service))?,
        leaf: Leaf {
            certificate_pem: leaf.certificate_pem.clone(),
            private_key_pem: leaf.key_pem.clone(),
            valid_after: Timestamp(0),
            valid_before: Timestamp(u64::from(u32::MAX) * 1_000),
        },
        trust_bundle: TrustBundle {
            trust_domain: TrustDomain::parse(TRUST_DOMAIN)?,
            active_root: String::new(),
            roots: Vec::new(),
            roots_pem: vec![rig.certificates.root_pem.clone()],
            revoked: Vec::new(),
            retired: Vec::new(),
        },
        tls: MeshTls::default(),
        access_logs: None,
        forwarded_headers: Default::default(),
        tracing: None,
        proxy_protocol_from: Vec::new(),
        exposed: Vec::new(),
        captured: None,
        inbound: InboundConfig {
            takes_plaintext: false,
            allow_connect: false,
            bind,
            local_app: local_app.into(),
            proxy_protocol: None,
            protocol: Protocol::Http,
            intentions: IntentionSet {
                intentions: vec![intention],
                default_action: IntentionAction::Deny,
                precedence: Default::default(),
                providers: Vec::new(),
            },
            jwt_keys: BTreeMap::new(),
            ext_authz: None,
            congestion_control: CongestionControl::default(),
            rate_limits: None,
            load_limits: None,
            connection_duration_max: None,
            connections_max: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: None,
        },
        upstreams: Vec::new(),
        endpoints: BTreeMap::new(),
    })
}

fn run(
    rig: &Rig,
    binary: &Path,
    files: &str,
    (snapshot, more): (&ProxySnapshot, &Map<String, Value>),
) -> anyhow::Result<Measured> {
    let file = rig.folder.join(format!("{files}.snapshot"));
    fs::write(&file, weft_proto::envelope::encode(snapshot))?;
    let mut config = json!({ "snapshot_file": file, "workers": 1, "admin_addr": "127.0.0.1:0" });
    let fields = config.as_object_mut().context("an object")?;
    fields.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
    let config_file = rig.folder.join(format!("{files}.json"));
    fs::write(&config_file, config.to_string())?;
    let args = ["proxy", "--config", &config_file.to_string_lossy()].map(str::to_owned);
    Measured::start(binary, &args, &rig.folder.join(format!("{files}.log")))
}
