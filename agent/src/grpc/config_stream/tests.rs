//! A proxy on the unix socket, from registration to changes, against a server of our making.

use std::collections::{BTreeMap, BTreeSet};

use tempfile::TempDir;
use weft_core::attestation::Selectors;
use weft_core::ca::KeyKind;
use weft_core::catalog::ServiceDefinition;
use weft_core::chain::{ChainNode, CompiledChain, ResolverNode, Target, TargetId};
use weft_core::config_entry::{
    HopTransport, IntentionAction, LocalityMode, MeshTls, Protocol, ServiceDefaults,
};
use weft_core::identity::SpiffeId;
use weft_core::intention::IntentionSet;
use weft_core::name::{Datacenter, ServiceName, TrustDomain};
use weft_core::proxycfg::ProxySnapshot;
use weft_proto::grpc::v1::Topic;
use weft_proto::grpc::v1::proxy_control_client::ProxyControlClient;
use weft_proto::json::{self, Unknown};
use weft_runtime::rpc::channel_unix;
use weft_runtime::telemetry::metrics::Registry;

use super::*;
use crate::jwks::KeySets;
use crate::leaf::{KeptLeaves, Leaves};
use crate::local::{ExistingChecks, Local, Place};
use crate::proxycfg::Sources;
use crate::servers::Membership;
use crate::views::Views;
use crate::views::fake::FakeServer;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

struct Host {
    server: FakeServer,
    local: Local,
    proxies: Proxies,
    folder: TempDir,
    tasks: TaskTree,
}

struct FakeProxy {
    said: mpsc::Sender<ProxyRequest>,
    heard: Streaming<ProxyConfiguration>,
}

fn dc() -> Datacenter {
    "dc1".parse().expect("a datacenter")
}

fn domain() -> TrustDomain {
    "t.mesh".parse().expect("a trust domain")
}

async fn host() -> Host {
    let (server, calls) = FakeServer::start().await;
    server.set(Topic::Roots, "", &server.ca.bundle());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tasks = TaskTree::root("test");
    let place = Place::of_test(folder.path(), crate::config::Scripts::Nobody);
    let local = Local::open(place, &tasks).expect("a folder to write in");
    let membership = Membership::of_test("");
    let views = Views::start(calls.clone(), &tasks);
    let registry = Registry::new("agent");
    let leaves = Leaves::start(
        calls,
        views.clone(),
        (membership.clone(), KeptLeaves::default(), KeyKind::default()),
        (&registry, &tasks),
    );
    let bind_address = [127, 0, 0, 1].into();
    let keys = KeySets::of_test(&registry, &tasks);
    let sources = Sources { views, keys, leaves };
    let proxies =
        Proxies::start(&local, sources, (&membership, (bind_address, bind_address), None), &tasks);
    let own = Selectors { uid: Some(net::own_uid()), ..Selectors::default() };
    let host_proxy = Processes::new(own).ok();
    let door = (proxies.clone(), host_proxy);
    serve_proxies(&folder.path().join("proxy.sock"), door, &tasks).expect("a socket");
    Host { server, local, proxies, folder, tasks }
}

impl Host {
    /// Registers web with a sidecar that calls db, and says what servers would.
    async fn register(&self) {
        let body = br#"{"Name": "web", "Port": 80, "Connect": {"SidecarService": {"Proxy":
            {"Upstreams": [{"DestinationName": "db", "LocalBindPort": 9000}]}}}}"#;
        let definition: ServiceDefinition =
            json::from_slice(body, Unknown::Refuse).expect("a definition");
        self.local.register(definition, ExistingChecks::Kept).await.expect("a good definition");
        self.set_intentions(IntentionAction::Deny);
        let defaults =
            ServiceDefaults { protocol: Some(Protocol::Http), ..ServiceDefaults::new(name("web")) };
        self.server.set(Topic::ServiceDefaults, "web", &defaults);
        self.server.set(Topic::MeshTls, "", &MeshTls::default());
        self.server.set(Topic::Chain, "db", &chain("db"));
        self.server.set(Topic::Connect, "db", &Vec::<u8>::new());
    }

    fn set_intentions(&self, default_action: IntentionAction) {
        let set = IntentionSet {
            intentions: Vec::new(),
            default_action,
            precedence: Default::default(),
            providers: Vec::new(),
        };
        self.server.set(Topic::Intentions, "web", &set);
    }

    async fn dial(&self, hello: ProxyHello) -> Result<FakeProxy, Status> {
        let mut client =
            ProxyControlClient::new(channel_unix(&self.folder.path().join("proxy.sock")));
        let (said, receiver) = mpsc::channel(4);
        let request = ProxyRequest { request: Some(Said::Hello(hello)) };
        said.send(request).await.expect("there is room");
        let heard = client.configure(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(FakeProxy { said, heard })
    }
}

impl FakeProxy {
    async fn next(&mut self) -> Result<ProxySnapshot, Status> {
        let message = tokio::time::timeout(LIMIT, self.heard.message());
        let configuration = message.await.expect("the agent says something")?.expect("more");
        let snapshot: ProxySnapshot =
            envelope::decode(&configuration.snapshot).expect("a snapshot");
        assert_eq!(snapshot.version, configuration.version);
        Ok(snapshot)
    }

    async fn answer(&self, version: u64, refusal: &str) {
        let refusal = refusal.to_owned();
        let ack = ProxyAck { version, refusal, ..ProxyAck::default() };
        let request = ProxyRequest { request: Some(Said::Ack(ack)) };
        self.said.send(request).await.expect("the agent listens");
    }
}

fn name(text: &str) -> ServiceName {
    text.parse().expect("a name")
}

fn chain(service: &str) -> CompiledChain {
    let id = TargetId::new(&name(service), "", &dc());
    let target = Target {
        id: id.clone(),
        service: name(service),
        service_subset: String::new(),
        datacenter: dc(),
        filter: String::new(),
        only_passing: false,
        sni: String::new(),
        outside: None,
        load_balancer: None,
        locality: LocalityMode::default(),
        transport: HopTransport::default(),
        spiffe_id: SpiffeId::service(domain(), dc(), name(service)),
    };
    let node = ResolverNode {
        target: id.clone(),
        failover: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::ZERO,
    };
    CompiledChain {
        service_name: name(service),
        datacenter: dc(),
        protocol: Protocol::Http,
        start_node: "r".into(),
        nodes: BTreeMap::from([("r".into(), ChainNode::Resolver(node))]),
        targets: BTreeMap::from([(id, target)]),
        rollouts: Vec::new(),
        reads: BTreeSet::new(),
    }
}

fn beside(instance: &str) -> ProxyHello {
    ProxyHello { sidecar_for: instance.into(), ..ProxyHello::default() }
}

async fn eventually(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, reached).await.expect("the condition is reached");
}

#[tokio::test]
async fn a_proxy_gets_its_configuration_and_every_change_of_it() {
    let host = host().await;
    host.register().await;
    let mut proxy = host.dial(beside("web")).await.expect("known");
    let first = proxy.next().await.expect("a snapshot");
    assert_eq!(first.proxy_id.as_str(), "web-sidecar-proxy");
    assert_eq!(first.inbound.local_app.port(), Some(80));
    assert_eq!(first.upstreams.len(), 1);
    assert_eq!(first.inbound.intentions.default_action, IntentionAction::Deny);
    let registered = host.proxies.by_id("web-sidecar-proxy").expect("known");
    proxy.answer(first.version, "").await;
    eventually(|| registered.status().acknowledged == Some(first.version)).await;

    host.set_intentions(IntentionAction::Allow);
    let second = proxy.next().await.expect("a snapshot");
    assert!(second.version > first.version);
    assert_eq!(second.inbound.intentions.default_action, IntentionAction::Allow);
    proxy.answer(second.version, "port 9000 is taken").await;
    eventually(|| registered.status().refusal.is_some_and(|r| r.reason.contains("9000"))).await;
    assert_eq!(registered.status().acknowledged, Some(first.version));
    assert_eq!(registered.status().connections, 1);

    drop(proxy);
    eventually(|| registered.status().connections == 0).await;
    host.tasks.cancel();
    host.tasks.join(LIMIT).await.expect("everything ends");
    assert!(!host.folder.path().join("proxy.sock").exists());
}

#[tokio::test]
async fn a_proxy_that_reads_slowly_gets_the_newest_only() {
    let host = host().await;
    host.register().await;
    let mut proxy = host
        .dial(ProxyHello { proxy_id: "web-sidecar-proxy".into(), ..beside("") })
        .await
        .expect("known");
    let first = proxy.next().await.expect("a snapshot");
    let registered = host.proxies.by_id("web-sidecar-proxy").expect("known");
    let mut snapshots = registered.snapshot();
    for round in 0..40u32 {
        let action = if round % 2 == 0 { IntentionAction::Allow } else { IntentionAction::Deny };
        snapshots.mark_unchanged();
        host.set_intentions(action);
        tokio::time::timeout(LIMIT, snapshots.changed()).await.expect("in time").expect("lives");
    }
    let newest = registered.snapshot().borrow().as_ref().map_or(0, |snapshot| snapshot.version);
    assert_eq!(newest, first.version + 40);
    let mut seen = first.version;
    while seen < newest {
        let version = proxy.next().await.expect("a snapshot").version;
        assert!(version > seen);
        seen = version;
    }
    host.tasks.cancel();
}

#[tokio::test]
async fn an_unknown_proxy_is_told_how_to_register() {
    let host = host().await;
    for (hello, told) in [
        (beside("api"), "PUT /v1/agent/service/register"),
        (ProxyHello { proxy_id: "x".into(), ..beside("") }, "no proxy with the id \"x\""),
    ] {
        let Err(status) = host.dial(hello).await else { panic!("an unknown proxy was let in") };
        assert_eq!(status.code(), tonic::Code::NotFound);
        assert!(status.message().contains(told), "{}", status.message());
    }
    let Err(status) = host.dial(beside("")).await else { panic!("nobody was let in") };
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    host.tasks.cancel();
}

#[tokio::test]
async fn a_deregistered_proxy_is_told_so() {
    let host = host().await;
    host.register().await;
    let mut proxy = host.dial(beside("web")).await.expect("known");
    proxy.next().await.expect("a snapshot");
    host.local.deregister("web-sidecar-proxy".into()).await.expect("it was registered");
    let status = proxy.next().await.expect_err("the stream ends");
    assert_eq!(status.code(), tonic::Code::NotFound);
    host.tasks.cancel();
}

#[tokio::test]
async fn configuration_goes_on_from_the_last_values_without_servers() {
    let host = host().await;
    host.register().await;
    let mut proxy = host.dial(beside("web")).await.expect("known");
    let before = proxy.next().await.expect("a snapshot");
    host.server.kill();
    drop(proxy);
    let mut proxy = host.dial(beside("web")).await.expect("known");
    assert_eq!(proxy.next().await.expect("a snapshot"), before);
    host.tasks.cancel();
}

#[tokio::test]
async fn a_host_proxy_is_told_whom_to_serve_whenever_that_changes() {
    let host = host().await;
    let socket = host.folder.path().join("proxy.sock");
    let mut client = ProxyControlClient::new(channel_unix(&socket));
    let lists = client.host(HostHello::default()).await.expect("allowed");
    let mut lists = lists.into_inner();
    let mut next = async || {
        let message = tokio::time::timeout(LIMIT, lists.message()).await.expect("in time");
        message.expect("a list").expect("not the last").proxy_ids
    };
    assert_eq!(next().await, [""; 0]);
    host.register().await;
    assert_eq!(next().await, ["web-sidecar-proxy"]);
    for (id, hosted) in [("api", "true"), ("own", "false")] {
        let body = format!(
            r#"{{"Name": "{id}", "Port": 81, "Connect": {{"SidecarService": {{"Proxy":
            {{"Config": {{"host_proxy": {hosted}}}}}}}}}}}"#
        );
        let definition: ServiceDefinition =
            json::from_slice(body.as_bytes(), Unknown::Refuse).expect("a definition");
        host.local.register(definition, ExistingChecks::Kept).await.expect("a good definition");
    }
    assert_eq!(next().await, ["api-sidecar-proxy", "web-sidecar-proxy"]);
    host.local.deregister("web".into()).await.expect("it was registered");
    host.local.deregister("web-sidecar-proxy".into()).await.ok();
    assert_eq!(next().await, ["api-sidecar-proxy"]);

    // Each of them has a stream of its own.
    let hello = ProxyHello { proxy_id: "api-sidecar-proxy".into(), is_hosted: true, ..beside("") };
    let proxy = host.dial(hello).await.expect("known");
    let registered = host.proxies.by_id("api-sidecar-proxy").expect("known");
    let missing_listeners = vec!["port 9000 is taken".to_owned()];
    let ack = ProxyAck { version: 5, missing_listeners, ..ProxyAck::default() };
    let request = ProxyRequest { request: Some(Said::Ack(ack)) };
    proxy.said.send(request).await.expect("the agent listens");
    eventually(|| registered.status().missing_listeners == ["port 9000 is taken"]).await;
    assert!(registered.status().program.is_some_and(|program| program.is_hosted));
    host.tasks.cancel();
}
