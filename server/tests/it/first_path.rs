//! A server as its members see it: join, register, watch, sign, restart.

use crate::support::{LIMIT, TestHost, TestServer, channel_as, config, csr, new_key, redeem};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use weft_core::ca::{MemberRole, TrustBundle};
use weft_core::catalog::{CatalogDeregistration, ServiceInstance};
use weft_proto::envelope;
use weft_proto::grpc::v1 as wire;
use weft_proto::join_token::JoinToken;
use weft_runtime::task::TaskTree;
use weft_server::config::{Config, FileConfig};
use weft_server::{Server, StartError};

fn web(node: &str, status: &str) -> serde_json::Value {
    json!({
        "node": { "ID": format!("id-{node}"), "Node": node, "Address": "10.0.0.1", "Datacenter": "dc1" },
        "services": [{ "ID": "web-1", "Service": "web", "Port": 8080, "Tags": ["v1"] }],
        "checks": [{ "Node": node, "CheckID": "c1", "Name": "c1", "Status": status, "ServiceID": "web-1" }],
    })
}

#[tokio::test]
async fn a_host_joins_registers_and_gets_certificates() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = TestServer::start(dir.path()).await;
    let host = TestHost::join(&server, "n1").await;
    assert_eq!(host.reply.cluster_id, server.handle.cluster_id());
    assert_eq!(host.reply.datacenter, "dc1");
    assert_eq!(host.reply.servers, [server.address()]);
    assert!(host.reply.seal_key.is_empty());

    // Nothing is signed for what the node does not have.
    let sign = |service: &str| wire::SignLeafRequest {
        service: service.to_owned(),
        csr_der: csr(&new_key()).into(),
    };
    let refused = host.ca().sign_leaf(sign("web")).await.expect_err("not registered");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");

    let first = host.register(web("n1", "passing")).await.expect("written");
    let again = host.register(web("n1", "passing")).await.expect("written");
    assert!(again > first, "each write has a place in the log");

    let signed = host.ca().sign_leaf(sign("web")).await.expect("signed").into_inner();
    let chain = weft_runtime::tls::certificates_from_pem("a leaf", &signed.certificate_pem)
        .expect("a chain");
    let id = weft_runtime::tls::peer_identity(&chain).expect("an identity");
    let expected = format!("spiffe://{}/ns/default/dc/dc1/svc/web", host.bundle.trust_domain);
    assert_eq!(id.to_string(), expected);
    assert_eq!(signed.valid_before_ms - signed.valid_after_ms, 3_660_000);

    // A request without a usable key is the caller's fault.
    let bad = wire::SignLeafRequest { service: "web".to_owned(), csr_der: vec![1, 2].into() };
    assert_eq!(host.ca().sign_leaf(bad).await.expect_err("no key").code(), Code::InvalidArgument);

    // An agent renews its own certificate and keeps its identity.
    let renew = wire::RenewRequest { csr_der: csr(&new_key()).into() };
    let renewed = host.ca().renew(renew).await.expect("renewed").into_inner();
    let chain = weft_runtime::tls::certificates_from_pem("a chain", &renewed.certificate_pem)
        .expect("a chain");
    let id = weft_runtime::tls::peer_identity(&chain).expect("an identity");
    assert!(id.to_string().ends_with("/agent/client/dc/dc1/id/n1"), "{id}");
    server.stop().await;
}

#[tokio::test]
async fn an_agent_writes_and_sees_its_own_node_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = TestServer::start(dir.path()).await;
    let host = TestHost::join(&server, "n1").await;
    let denied = host.register(web("n2", "passing")).await.expect_err("another node");
    assert_eq!(denied.code(), Code::PermissionDenied);
    let foreign = wire::NodeStateRequest { node_name: "n2".to_owned() };
    let denied = host.catalog().node_state(foreign).await.expect_err("another node");
    assert_eq!(denied.code(), Code::PermissionDenied);

    let own = wire::NodeStateRequest { node_name: "n1".to_owned() };
    let reply = host.catalog().node_state(own.clone()).await.expect("answered").into_inner();
    assert!(!reply.exists);
    host.register(web("n1", "passing")).await.expect("written");
    let reply = host.catalog().node_state(own).await.expect("answered").into_inner();
    assert!(reply.exists);
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_worth_what_it_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = TestServer::start(dir.path()).await;
    let token = server.handle.mint_single_join_token(MemberRole::Agent).await.expect("a token");
    let refused = redeem(&token, MemberRole::Server, "n1", csr(&new_key())).await;
    assert_eq!(refused.expect_err("another role").code(), Code::PermissionDenied);
    let refused = redeem(&token, MemberRole::Agent, "n1", vec![1]).await;
    assert_eq!(refused.expect_err("no request").code(), Code::InvalidArgument);
    let refused = redeem(&token, MemberRole::Agent, "n 1", csr(&new_key())).await;
    assert_eq!(refused.expect_err("no name").code(), Code::InvalidArgument);
    // None of these used it up.
    redeem(&token, MemberRole::Agent, "n1", csr(&new_key())).await.expect("admitted");
    let refused = redeem(&token, MemberRole::Agent, "n1", csr(&new_key())).await;
    let refused = refused.expect_err("used up");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("used up"), "{refused:?}");

    let forged = JoinToken { secret: vec![9; 32], ..token.clone() };
    let refused = redeem(&forged, MemberRole::Agent, "n1", csr(&new_key())).await;
    assert_eq!(refused.expect_err("unknown").code(), Code::PermissionDenied);
    // A server that is not the one of the token is not even asked.
    let other = JoinToken { root_fingerprint: "ab".repeat(32), ..token };
    let refused = redeem(&other, MemberRole::Agent, "n1", csr(&new_key())).await;
    assert_eq!(refused.expect_err("another root").code(), Code::Unavailable);
    server.stop().await;
}

#[tokio::test]
async fn services_and_strangers_are_turned_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = TestServer::start(dir.path()).await;
    let host = TestHost::join(&server, "n1").await;
    host.register(web("n1", "passing")).await.expect("written");
    let key = new_key();
    let sign = wire::SignLeafRequest { service: "web".to_owned(), csr_der: csr(&key).into() };
    let leaf = host.ca().sign_leaf(sign).await.expect("signed").into_inner();
    let channel = channel_as(&leaf.certificate_pem, &key, &host.bundle, &server.address());
    let own = wire::NodeStateRequest { node_name: "n1".to_owned() };
    let mut catalog = wire::catalog_client::CatalogClient::new(channel);
    let refused = catalog.node_state(own.clone()).await.expect_err("a service");
    assert_eq!(refused.code(), Code::PermissionDenied);

    let token = server.handle.mint_join_token(MemberRole::Agent).await.expect("a token");
    let pinned = weft_runtime::tls::client_config_pinned(&token.root_fingerprint, &["h2"]);
    let cell = weft_runtime::tls::ClientTlsCell::new(pinned.expect("a client").into());
    let stranger = weft_runtime::rpc::channel_tls(&server.address(), cell);
    let mut catalog = wire::catalog_client::CatalogClient::new(stranger.clone());
    let refused = catalog.node_state(own).await.expect_err("no certificate");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut raft = wire::raft_client::RaftClient::new(host.channel.clone());
    let refused = raft.vote(wire::RaftMessage::default()).await.expect_err("an agent");
    assert_eq!(refused.code(), Code::PermissionDenied);
    server.stop().await;
}

struct Watching {
    requests: mpsc::Sender<wire::WatchRequest>,
    events: Streaming<wire::WatchEvent>,
}

impl Watching {
    async fn open(channel: tonic::transport::Channel) -> Self {
        let (requests, stream) = mpsc::channel(8);
        let mut client = wire::watch_client::WatchClient::new(channel);
        let events = client.watch(ReceiverStream::new(stream)).await.expect("a stream");
        Self { requests, events: events.into_inner() }
    }

    async fn start(&self, id: u64, topic: wire::Topic, key: &str) {
        let start = wire::WatchStart {
            id,
            topic: topic.into(),
            key: key.to_owned(),
            ..wire::WatchStart::default()
        };
        let request = Some(wire::watch_request::Request::Start(start));
        self.requests.send(wire::WatchRequest { request }).await.expect("open");
    }

    async fn next<T: serde::de::DeserializeOwned>(&mut self) -> (u64, u64, T) {
        let next = tokio::time::timeout(LIMIT, self.events.message()).await.expect("in time");
        let event = next.expect("a good stream").expect("an event");
        match event.answer.expect("an answer") {
            wire::watch_event::Answer::Value(value) => {
                (event.id, event.index, envelope::decode(&value).expect("a value"))
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_watch_tells_each_change_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = TestServer::start(dir.path()).await;
    let host = TestHost::join(&server, "n1").await;
    let mut watching = Watching::open(host.channel.clone()).await;
    watching.start(1, wire::Topic::Service, "web").await;
    let (id, mut last, instances) = watching.next::<Vec<ServiceInstance>>().await;
    assert_eq!((id, instances.len()), (1, 0));

    for status in ["passing", "critical"] {
        host.register(web("n1", status)).await.expect("written");
        // The same again, and another service: neither is told.
        host.register(web("n1", status)).await.expect("written");
        let (id, index, instances) = watching.next::<Vec<ServiceInstance>>().await;
        assert_eq!(id, 1);
        assert!(index > last, "indexes rise");
        last = index;
        assert_eq!(instances[0].checks[0].status.as_str(), status);
    }
    let gone = CatalogDeregistration {
        node: "n1".parse().expect("a name"),
        services: Vec::new(),
        checks: Vec::new(),
    };
    let request = wire::DeregisterRequest { deregistration: envelope::encode(&gone) };
    host.catalog().deregister(request).await.expect("written");
    let (_, _, instances) = watching.next::<Vec<ServiceInstance>>().await;
    assert!(instances.is_empty());

    watching.start(2, wire::Topic::Roots, "").await;
    let (id, _, bundle) = watching.next::<TrustBundle>().await;
    assert_eq!((id, &bundle.roots_pem), (2, &host.bundle.roots_pem));
    server.stop().await;
}

#[tokio::test]
async fn after_a_restart_everything_is_there_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = TestServer::start(dir.path()).await;
    let (host, cluster) =
        (TestHost::join(&server, "n1").await, server.handle.cluster_id().to_owned());
    for _ in 0..3 {
        host.register(web("n1", "passing")).await.expect("written");
    }
    let token = std::fs::read_to_string(server.handle.join_token_path()).expect("a token file");
    server.stop().await;

    let server = TestServer::start(dir.path()).await;
    assert_eq!(server.handle.cluster_id(), cluster);
    let channel = host.at(&server.address());
    let mut catalog = wire::catalog_client::CatalogClient::new(channel);
    let own = wire::NodeStateRequest { node_name: "n1".to_owned() };
    let reply = catalog.node_state(own).await.expect("answered").into_inner();
    assert!(reply.exists);
    // The token of the first start is still good, at the new address.
    let token: JoinToken = token.parse().expect("a token");
    let token = JoinToken { servers: vec![server.address()], ..token };
    let reply = redeem(&token, MemberRole::Agent, "n2", csr(&new_key())).await.expect("admitted");
    // The cluster has learnt the new address.
    assert_eq!(reply.servers, [server.address()]);
    server.stop().await;
}

/// Copies a directory as it is: what a killed process leaves behind.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).expect("a copy")),
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = TestServer::start(&dir.path().join("a")).await;
    let host = TestHost::join(&server, "n1").await;
    for number in 0..20 {
        let mut registration = web("n1", "passing");
        registration["services"][0]["ID"] = json!(format!("web-{number}"));
        registration["checks"] = json!([]);
        host.register(registration).await.expect("acknowledged");
        if number % 5 != 0 {
            continue;
        }
        // The process had no chance to close anything.
        let killed = dir.path().join(format!("killed-{number}"));
        copy(&dir.path().join("a"), &killed);
        let again = TestServer::start(&killed).await;
        let mut catalog = wire::catalog_client::CatalogClient::new(host.at(&again.address()));
        let own = wire::NodeStateRequest { node_name: "n1".to_owned() };
        let reply = catalog.node_state(own).await.expect("answered").into_inner();
        let node: weft_core::catalog::CatalogRegistration =
            envelope::decode(&reply.registration).expect("a node");
        assert_eq!(node.services.len(), number + 1);
        again.stop().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = TestServer::start(&dir.path().join("a")).await;
    let file =
        FileConfig { bind_addr: Some(server.address()), ..config(&dir.path().join("b"), "s2") };
    let error = refusal(file).await.to_string();
    assert!(error.contains(&server.address()), "{error}");
    assert!(!dir.path().join("b").exists());
    server.stop().await;
}

#[tokio::test]
async fn metrics_are_told_on_loopback() {
    let dir = tempfile::tempdir().expect("a directory");
    let file =
        FileConfig { telemetry_addr: Some("127.0.0.1:0".to_owned()), ..config(dir.path(), "s1") };
    let server = TestServer::start_with(file).await;
    let address = server.handle.telemetry_addr().expect("an address");
    let client = weft_runtime::http::HttpClient::new(LIMIT, 1 << 20);
    let answer = client.get(&format!("http://{address}/metrics")).await.expect("answered");
    assert!(answer.text().contains("weft_server_raft_is_leader 1"), "{}", answer.text());
    let answer = client.put(&format!("http://{address}/metrics"), "").await.expect("answered");
    assert_eq!(answer.status.as_u16(), 405);
    server.stop().await;
}

async fn refusal(file: FileConfig) -> StartError {
    let tasks = TaskTree::root("refused");
    let config = Config::resolve(file).expect("a configuration");
    let error = Server::start(config, tasks.clone()).await.expect_err("not started");
    tasks.join(LIMIT).await.expect("nothing is left behind");
    error
}

#[tokio::test]
async fn a_wrong_data_directory_is_named_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = TestServer::start(dir.path()).await;
    let error = refusal(config(dir.path(), "s1")).await.to_string();
    assert!(error.contains("in use by another process"), "{error}");
    let other_dir = tempfile::tempdir().expect("a directory");
    let other = TestServer::start(other_dir.path()).await;
    let token = other.handle.mint_join_token(MemberRole::Server).await.expect("a token");
    server.stop().await;

    let foreign = FileConfig { join: Some(token.to_string()), ..config(dir.path(), "s1") };
    let error = refusal(foreign).await.to_string();
    assert!(error.contains("belongs to cluster"), "{error}");
    let elsewhere = FileConfig { datacenter: Some("dc2".to_owned()), ..config(dir.path(), "s1") };
    let error = refusal(elsewhere).await.to_string();
    assert!(error.contains("datacenter"), "{error}");

    let key = dir.path().join("seal.key");
    let kept = std::fs::read(&key).expect("the seal key");
    std::fs::write(&key, "nonsense").expect("written");
    let error = refusal(config(dir.path(), "s1")).await.to_string();
    assert!(error.contains("seal.key"), "{error}");
    std::fs::write(&key, "00".repeat(32)).expect("written");
    let error = refusal(config(dir.path(), "s1")).await.to_string();
    assert!(error.contains("seal key"), "{error}");
    std::fs::remove_file(&key).expect("removed");
    let error = refusal(config(dir.path(), "s1")).await.to_string();
    assert!(error.contains("missing"), "{error}");

    std::fs::write(&key, kept).expect("restored");
    TestServer::start(dir.path()).await.stop().await;
    other.stop().await;
}
