//! One sidecar, its facts arriving in many orders.

use super::*;
use crate::catalog::{
    CapturedUpstream, CapturedUpstreams, Connect, Node, ProxyConfig, ServiceKind, Upstream,
    VirtualIp, Weights,
};
use crate::chain::{ChainNode, ResolverNode, Target};
use crate::config_entry::{
    self, HopTransport, IntentionAction, LocalityMode, Protocol, ProxyMode, TlsDirection,
    TlsVersion, UpstreamConfigs, UpstreamLimits,
};
use crate::index::Index;
use crate::local_address::SocketPath;
use crate::time::Timestamp;

fn name(text: &str) -> ServiceName {
    text.parse().expect("a service name")
}

fn dc() -> Datacenter {
    "dc1".parse().expect("a datacenter")
}

fn domain() -> TrustDomain {
    "t.mesh".parse().expect("a trust domain")
}

fn site() -> Site {
    let bind_address = "10.0.0.1".parse().expect("an address");
    Site {
        bind_address,
        advertise_address: bind_address,
        datacenter: dc(),
        trust_domain: domain(),
        locality: None,
    }
}

fn service(id: &str, kind: ServiceKind, port: u16) -> Service {
    Service {
        ports: Vec::new(),
        locality: None,
        kind,
        id: id.parse().expect("an id"),
        name: name(id),
        tags: Vec::new(),
        address: String::new(),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        port,
        weights: Weights::default(),
        enable_tag_override: false,
        proxy: ProxyConfig::default(),
        connect: Connect::default(),
        create_index: Index(0),
        modify_index: Index(0),
    }
}

fn sidecar(upstreams: &[(&str, u16)]) -> Service {
    let mut sidecar = service("web-sidecar-proxy", ServiceKind::ConnectProxy, 21_000);
    sidecar.proxy.destination_service_name = Some(name("web"));
    sidecar.proxy.local_service_port = 80;
    sidecar.proxy.upstreams = upstreams
        .iter()
        .map(|(destination, port)| Upstream {
            destination_name: name(destination),
            datacenter: None,
            local_bind_address: String::new(),
            local_bind_port: *port,
            local_bind_socket_path: None,
            local_bind_socket_mode: String::new(),
            config: serde_json::Map::new(),
        })
        .collect();
    sidecar
}

fn instance(of: &str, id: &str, address: &str) -> ServiceInstance {
    let node = Node {
        id: String::new(),
        name: "host-1".parse().expect("a name"),
        address: address.into(),
        datacenter: dc(),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        create_index: Index(0),
        modify_index: Index(0),
    };
    let mut service = service(id, ServiceKind::ConnectProxy, 21_001);
    service.proxy.destination_service_name = Some(name(of));
    ServiceInstance { node: node.into(), service: service.into(), checks: Vec::new() }
}

fn leaf(serial: u64) -> Update {
    let leaf = Leaf {
        certificate_pem: serial.to_string(),
        private_key_pem: String::new(),
        valid_after: Timestamp(0),
        valid_before: Timestamp(serial),
    };
    Update::Leaf(name("web"), Arc::new(leaf))
}

fn roots() -> Update {
    let bundle = TrustBundle {
        trust_domain: domain(),
        active_root: "r".into(),
        roots_pem: Vec::new(),
        roots: Vec::new(),
        revoked: Vec::new(),
        retired: Vec::new(),
    };
    Update::Roots(Arc::new(bundle))
}

fn defaults(protocol: Protocol) -> Update {
    let defaults = ServiceDefaults {
        protocol: Some(protocol),
        local_request_timeout_ms: 250,
        ..ServiceDefaults::new(name("web"))
    };
    Update::ServiceDefaults(name("web"), Arc::new(defaults))
}

fn mesh_tls(min: TlsVersion) -> Update {
    let incoming = TlsDirection { tls_min_version: min, ..TlsDirection::default() };
    Update::MeshTls(Arc::new(MeshTls { incoming: Some(incoming), outgoing: None }))
}

fn intentions() -> Update {
    let set = IntentionSet {
        intentions: Vec::new(),
        default_action: IntentionAction::Deny,
        precedence: Default::default(),
        providers: Vec::new(),
    };
    Update::Intentions(name("web"), Arc::new(set))
}

/// A chain of one resolver for each target service, which is enough here.
fn chain(service: &str, targets: &[&str]) -> CompiledChain {
    let target = |text: &&str| {
        let service = name(text);
        let id = TargetId::new(&service, "", &dc());
        let target = Target {
            id: id.clone(),
            spiffe_id: SpiffeId::service(domain(), dc(), service.clone()),
            service,
            service_subset: String::new(),
            datacenter: dc(),
            filter: String::new(),
            only_passing: false,
            sni: String::new(),
            outside: None,
            load_balancer: None,
            locality: LocalityMode::default(),
            transport: HopTransport::default(),
        };
        (id, target)
    };
    let targets: BTreeMap<TargetId, Target> = targets.iter().map(target).collect();
    let nodes = targets
        .keys()
        .map(|id| {
            let node = ResolverNode {
                target: id.clone(),
                failover: Vec::new(),
                connect_timeout: Duration::from_secs(5),
                request_timeout: Duration::ZERO,
            };
            (format!("resolver:{id}"), ChainNode::Resolver(node))
        })
        .collect();
    CompiledChain {
        service_name: name(service),
        datacenter: dc(),
        protocol: Protocol::Http,
        start_node: String::new(),
        nodes,
        targets,
        rollouts: Vec::new(),
        reads: BTreeSet::new(),
    }
}

fn good(service: &str, targets: &[&str]) -> Update {
    Update::Chain(name(service), Ok(Arc::new(chain(service, targets))))
}

fn bad(service: &str) -> Update {
    Update::Chain(name(service), Err("no such subset".into()))
}

fn connect(service: &str, instances: &[&str]) -> Update {
    let instances = instances.iter().map(|id| instance(service, id, "10.0.0.2")).collect();
    Update::Connect(name(service), Arc::new(instances))
}

/// Drains the outputs into words: `+watch`, `-watch`, `v1`, `problems: n`.
fn drain(assembler: &mut Assembler) -> Vec<String> {
    let word = |watch: &Watch| match watch {
        Watch::CapturedUpstreams(name) => format!("captured {name}"),
        Watch::Chain(name) => format!("chain {name}"),
        Watch::Connect(name) => format!("connect {name}"),
        Watch::Intentions(name) => format!("intentions {name}"),
        Watch::JwtKeys(name) => format!("jwt-keys {name}"),
        Watch::Leaf(name) => format!("leaf {name}"),
        Watch::MeshTls => "mesh-tls".to_owned(),
        Watch::Roots => "roots".to_owned(),
        Watch::ServiceDefaults(name) => format!("defaults {name}"),
    };
    std::iter::from_fn(|| assembler.poll_output())
        .map(|output| match output {
            Output::Exposure(exposure) => format!("exposure: {}", exposure.is_on),
            Output::Problems(problems) => format!("problems: {}", problems.len()),
            Output::Snapshot(snapshot) => format!("v{}", snapshot.version),
            Output::Start(watch) => format!("+{}", word(&watch)),
            Output::Stop(watch) => format!("-{}", word(&watch)),
        })
        .collect()
}

/// An assembler that has all it needs, after its first snapshot.
fn running(upstreams: &[(&str, u16)]) -> Assembler {
    let mut assembler = Assembler::new(&sidecar(upstreams), site(), 0);
    for update in
        [leaf(1), mesh_tls(TlsVersion::V1_3), roots(), defaults(Protocol::Http), intentions()]
    {
        assembler.handle_update(update);
    }
    for (upstream, _) in upstreams {
        assembler.handle_update(good(upstream, &[upstream]));
        assembler.handle_update(connect(upstream, &["a"]));
    }
    assert_eq!(drain(&mut assembler).last().map(String::as_str), Some("v1"));
    assembler
}

fn last(assembler: &Assembler) -> &ProxySnapshot {
    assembler.last.as_deref().expect("there was a snapshot")
}

#[test]
fn the_first_snapshot_waits_for_every_part_in_any_order() {
    let parts = || {
        vec![
            leaf(1),
            mesh_tls(TlsVersion::V1_3),
            roots(),
            defaults(Protocol::Http),
            intentions(),
            good("db", &["db"]),
            connect("db", &["a"]),
        ]
    };
    for start in 0..parts().len() {
        let mut assembler = Assembler::new(&sidecar(&[("db", 9_000)]), site(), 41);
        assert_eq!(
            drain(&mut assembler),
            ["+chain db", "+intentions web", "+leaf web", "+mesh-tls", "+roots", "+defaults web"]
        );
        let mut order = parts();
        // The instances are asked for only once the chain says whose.
        let instances = order.pop().expect("the last part");
        let count = order.len();
        order.rotate_left(start % count);
        for part in order {
            assembler.handle_update(part);
            assert!(!drain(&mut assembler).iter().any(|word| word.starts_with('v')));
        }
        assembler.handle_update(instances);
        assert_eq!(drain(&mut assembler), ["v42"]);
    }
}

#[test]
fn a_snapshot_says_all_that_the_proxy_needs() {
    let assembler = running(&[("db", 9_000)]);
    let snapshot = last(&assembler);
    assert_eq!(snapshot.inbound.bind.to_string(), "10.0.0.1:21000");
    assert_eq!(snapshot.inbound.local_app.to_string(), "127.0.0.1:80");
    assert_eq!(snapshot.inbound.protocol, Protocol::Http);
    assert_eq!(snapshot.inbound.connect_timeout, Duration::from_secs(5));
    assert_eq!(snapshot.inbound.request_timeout, Some(Duration::from_millis(250)));
    assert_eq!(snapshot.inbound.connections_max, None);
    assert_eq!(snapshot.spiffe_id.to_string(), "spiffe://t.mesh/ns/default/dc/dc1/svc/web");
    assert_eq!(snapshot.upstreams[0].bind.to_string(), "127.0.0.1:9000");
    let endpoints: Vec<String> =
        snapshot.endpoints.values().flatten().map(|end| end.address.to_string()).collect();
    assert_eq!(endpoints, ["10.0.0.2:21001"]);
}

#[test]
fn versions_rise_only_with_content() {
    let mut assembler = running(&[("db", 9_000)]);
    for repeated in [roots(), leaf(1), good("db", &["db"]), connect("db", &["a"])] {
        assembler.handle_update(repeated);
        assert_eq!(drain(&mut assembler), [""; 0]);
    }
    assembler.handle_update(leaf(2));
    assembler.handle_update(connect("db", &["a", "b"]));
    assert_eq!(drain(&mut assembler), ["v2"], "two changes, one snapshot");
}

#[test]
fn a_chain_is_used_once_its_targets_are_known() {
    let mut assembler = running(&[("db", 9_000)]);
    assembler.handle_update(good("db", &["db", "db-2"]));
    assert_eq!(drain(&mut assembler), ["+connect db-2"]);
    assert_eq!(last(&assembler).endpoints.len(), 1);
    // What else changes meanwhile is not held back.
    assembler.handle_update(leaf(2));
    assert_eq!(drain(&mut assembler), ["v2"]);
    assembler.handle_update(connect("db-2", &[]));
    assert_eq!(drain(&mut assembler), ["v3"]);
    assert_eq!(last(&assembler).endpoints.len(), 2);
    assembler.handle_update(good("db", &["db-2"]));
    assert_eq!(drain(&mut assembler), ["-connect db", "v4"]);
}

#[test]
fn udp_at_the_path_of_a_socket_is_told_and_left_out() {
    let mut at_paths = sidecar(&[("db", 9_000)]);
    let path = |path: &str| SocketPath::parse(path).ok();
    at_paths.proxy.upstreams[0].local_bind_socket_path = path("/run/db.sock");
    at_paths.proxy.local_service_socket_path = path("/run/web.sock");
    let mut assembler = Assembler::new(&at_paths, site(), 0);
    let mut of_udp = chain("db", &["db"]);
    of_udp.protocol = Protocol::Udp;
    for update in [
        leaf(1),
        mesh_tls(TlsVersion::V1_3),
        roots(),
        defaults(Protocol::Udp),
        intentions(),
        Update::Chain(name("db"), Ok(Arc::new(of_udp))),
    ] {
        assembler.handle_update(update);
    }
    assembler.handle_update(connect("db", &["a"]));
    let problems = assembler.problems.iter().map(|problem| problem.reason.as_str());
    let problems: Vec<&str> = problems.collect();
    assert!(problems[0].starts_with("Proxy.LocalServiceSocketPath: "), "{problems:?}");
    assert!(problems[1].starts_with("LocalBindSocketPath: "), "{problems:?}");
    assert_eq!(drain(&mut assembler).last().map(String::as_str), Some("v1"));
    assert!(last(&assembler).upstreams.is_empty());
}

#[test]
fn a_broken_chain_leaves_the_last_good_one() {
    let mut assembler = running(&[("db", 9_000)]);
    assembler.handle_update(bad("db"));
    assert_eq!(drain(&mut assembler), ["problems: 1"]);
    assembler.handle_update(leaf(2));
    assert_eq!(drain(&mut assembler), ["v2"]);
    assert_eq!(last(&assembler).upstreams.len(), 1);
    assembler.handle_update(good("db", &["db"]));
    assert_eq!(drain(&mut assembler), ["problems: 0"]);
}

#[test]
fn an_upstream_that_never_had_a_chain_is_left_out() {
    let mut assembler = Assembler::new(&sidecar(&[("db", 9_000)]), site(), 0);
    for update in [
        leaf(1),
        mesh_tls(TlsVersion::V1_3),
        roots(),
        defaults(Protocol::Tcp),
        intentions(),
        bad("db"),
    ] {
        assembler.handle_update(update);
    }
    let words = drain(&mut assembler);
    assert_eq!(words[words.len() - 2..], ["problems: 1", "v1"]);
    assert_eq!(last(&assembler).upstreams, []);
    assembler.handle_update(good("db", &["db"]));
    assembler.handle_update(connect("db", &["a"]));
    assert_eq!(drain(&mut assembler), ["+connect db", "problems: 0", "v2"]);
}

#[test]
fn an_added_upstream_does_not_hold_back_the_others() {
    let mut assembler = running(&[("db", 9_000)]);
    assembler.handle_sidecar(&sidecar(&[("db", 9_000), ("mail", 9_001)]));
    assembler.handle_update(leaf(2));
    assert_eq!(drain(&mut assembler), ["+chain mail", "v2"]);
    assembler.handle_sidecar(&sidecar(&[("mail", 9_001)]));
    assert_eq!(drain(&mut assembler), ["-chain db", "-connect db", "v3"]);
    assert_eq!(last(&assembler).upstreams, []);
}

#[test]
fn what_was_stopped_is_ignored() {
    let mut assembler = running(&[("db", 9_000)]);
    assembler.handle_sidecar(&sidecar(&[]));
    assert_eq!(drain(&mut assembler), ["-chain db", "-connect db", "v2"]);
    assembler.handle_update(good("db", &["db"]));
    assembler.handle_update(connect("db", &["a"]));
    assert_eq!(drain(&mut assembler), [""; 0]);
}

#[test]
fn upstreams_that_cannot_be_opened_are_reported_and_left_out() {
    let mut changed = sidecar(&[("db", 9_000), ("mail", 9_000), ("log", 0), ("far", 9_002)]);
    changed.proxy.upstreams[3].datacenter = Some("dc2".parse().expect("a datacenter"));
    let mut assembler = running(&[("db", 9_000)]);
    assembler.handle_sidecar(&changed);
    let reasons: Vec<String> =
        assembler.problems.iter().map(|problem| problem.reason.clone()).collect();
    assert_eq!(
        reasons,
        [
            "datacenter dc2 cannot be reached from dc1",
            "LocalBindPort is missing",
            "127.0.0.1:9000 is taken by another listener of this proxy",
        ]
    );
    assert_eq!(drain(&mut assembler), ["problems: 3"]);
}

#[test]
fn a_registration_that_became_unusable_changes_nothing_but_is_reported() {
    let mut assembler = running(&[]);
    for (spoil, reason) in [
        (&|s: &mut Service| s.port = 0 as _, "Port is missing"),
        (&|s: &mut Service| s.kind = ServiceKind::Typical, "Kind is not connect-proxy"),
        (
            &|s: &mut Service| s.address = "web.example".into(),
            "Address: \"web.example\" is not an IP address",
        ),
        (
            &|s: &mut Service| s.proxy.destination_service_name = None,
            "Proxy.DestinationServiceName is missing",
        ),
    ] as [(&dyn Fn(&mut Service), &str); 4]
    {
        let mut spoilt = sidecar(&[]);
        spoil(&mut spoilt);
        assembler.handle_sidecar(&spoilt);
        assert_eq!(assembler.problems[0].reason, reason);
        assert_eq!(assembler.problems[0].subject, Subject::Proxy);
    }
    assembler.handle_sidecar(&sidecar(&[]));
    assert_eq!(assembler.problems, []);
    drain(&mut assembler);
    assert_eq!(last(&assembler).version, 1);
}

#[test]
fn a_sidecar_of_another_service_gets_that_one_s_identity() {
    let mut assembler = running(&[]);
    let mut changed = sidecar(&[]);
    changed.proxy.destination_service_name = Some(name("api"));
    assembler.handle_sidecar(&changed);
    let words = drain(&mut assembler);
    assert!(words.contains(&"-leaf web".to_owned()) && words.contains(&"+leaf api".to_owned()));
    assert!(!words.iter().any(|word| word.starts_with('v')), "the old leaf is not api's");
}

#[test]
fn the_tls_of_the_mesh_reaches_proxies_that_run() {
    let mut assembler = running(&[]);
    let min = |assembler: &Assembler| {
        last(assembler).tls.incoming.as_ref().map(|direction| direction.tls_min_version)
    };
    assert_eq!(min(&assembler), Some(TlsVersion::V1_3));
    assembler.handle_update(mesh_tls(TlsVersion::V1_2));
    assert_eq!(drain(&mut assembler), ["v2"]);
    assert_eq!(min(&assembler), Some(TlsVersion::V1_2));
}

#[test]
fn upstreams_are_called_as_the_caller_says_while_that_is_possible() {
    let mut assembler = running(&[("api", 9_001)]);
    let upstreams = |protocol| {
        let config = config_entry::UpstreamConfig {
            connect_timeout_ms: 300,
            protocol: Some(protocol),
            limits: Some(UpstreamLimits { max_connections: Some(4), ..Default::default() }),
            ..Default::default()
        };
        let configs = UpstreamConfigs { defaults: Some(config), ..Default::default() };
        let upstream_config = Some(Box::new(configs));
        let defaults = ServiceDefaults { upstream_config, ..ServiceDefaults::new(name("web")) };
        Update::ServiceDefaults(name("web"), Arc::new(defaults))
    };
    assembler.handle_update(upstreams(Protocol::Grpc));
    assert_eq!(drain(&mut assembler), ["v2"]);
    let upstream = &last(&assembler).upstreams[0];
    assert_eq!(upstream.chain.protocol, Protocol::Grpc);
    assert_eq!(upstream.limits.max_connections, Some(4));
    let resolvers = upstream.chain.nodes.values().filter_map(|node| match node {
        ChainNode::Resolver(resolver) => Some(resolver.connect_timeout),
        ChainNode::Router(_) | ChainNode::Splitter(_) => None,
    });
    assert_eq!(resolvers.collect::<Vec<_>>(), [Duration::from_millis(300)]);

    assembler.handle_update(upstreams(Protocol::Tcp));
    assert_eq!(drain(&mut assembler), ["problems: 1", "v3"]);
    assert_eq!(last(&assembler).upstreams[0].chain.protocol, Protocol::Http);
    let mut unread = sidecar(&[("api", 9_001)]);
    let config = serde_json::json!({ "limits": { "max_connections": "many" } });
    let config = config.as_object().cloned().expect("an object");
    unread.proxy.upstreams[0].config = config;
    assembler.handle_update(upstreams(Protocol::Http));
    assembler.handle_sidecar(&unread);
    // What cannot be read keeps no call from being made, and the entry counts.
    assert_eq!(last(&assembler).upstreams[0].limits.max_connections, Some(4));
    assert!(assembler.problems[0].reason.contains("many"), "{:?}", assembler.problems);
}

#[test]
fn captured_calls_reach_what_intentions_allow_and_explicit_upstreams() {
    let captured = |names: &[&str]| {
        let upstreams = names
            .iter()
            .map(|it| CapturedUpstream { service: name(it), virtual_ip: VirtualIp::preferred(it) });
        let captured = CapturedUpstreams {
            upstreams: upstreams.collect(),
            left_out: 0,
            destinations_only: true,
        };
        Update::CapturedUpstreams(name("web"), Arc::new(captured))
    };
    let mut assembler = running(&[("db", 9_000)]);
    assert_eq!(last(&assembler).captured, None);
    let mut redirected = sidecar(&[("db", 9_000)]);
    redirected.proxy.mode = ProxyMode::Transparent;
    assembler.handle_sidecar(&redirected);
    assert_eq!(drain(&mut assembler), ["+captured web"]);
    assembler.handle_update(captured(&["api", "db"]));
    assert_eq!(drain(&mut assembler), ["+chain api", "v2"]);
    assembler.handle_update(good("api", &["api"]));
    assembler.handle_update(connect("api", &["b"]));
    drain(&mut assembler);
    assembler.handle_update(connect("api", &["b"]));
    drain(&mut assembler);
    let doors = |assembler: &Assembler| -> Vec<String> {
        let of = |it: &UpstreamConfig| {
            format!("{} {} {:?}", it.chain.service_name, it.bind, it.virtual_ip.map(VirtualIp::v4))
        };
        last(assembler).upstreams.iter().map(of).collect()
    };
    let (api, db) = (VirtualIp::preferred("api").v4(), VirtualIp::preferred("db").v4());
    let want = [format!("db 127.0.0.1:9000 Some({db})"), format!("api {api}:0 Some({api})")];
    assert_eq!(doors(&assembler), want);
    let config = last(&assembler).captured.clone().expect("calls are captured");
    assert_eq!(config.binds[0].to_string(), "127.0.0.1:15001");
    assert!(config.destinations_only);
    // What intentions no longer allow goes; what the registration names stays.
    assembler.handle_update(captured(&[]));
    drain(&mut assembler);
    assert_eq!(doors(&assembler), ["db 127.0.0.1:9000 None"]);
    assembler.handle_sidecar(&sidecar(&[("db", 9_000)]));
    assert_eq!(drain(&mut assembler)[0], "-captured web");
    assert_eq!(last(&assembler).captured, None);
}
