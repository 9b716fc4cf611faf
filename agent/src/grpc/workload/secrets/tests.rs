//! Calls of this very process as an Envoy makes them, against a server of our making.

use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;
use weft_proto::grpc::secret::node::UserAgentVersionType;
use weft_proto::grpc::secret::secret::Type;
use weft_proto::grpc::secret::secret_discovery_service_client::SecretDiscoveryServiceClient;
use weft_proto::grpc::secret::{
    BuildVersion, Node, SemanticVersion, Status as Rejection, TlsCertificate,
};
use weft_proto::grpc::v1::Topic;
use weft_proto::secret::{SECRET_TYPE, unpack};
use weft_runtime::rpc::channel_unix;

use super::*;
use crate::grpc::workload::tests::{Host, entry, host, next};
use crate::views::fake::FakeCa;

const WEB: &str = "spiffe://t.mesh/ns/default/dc/dc1/svc/web";
const DB: &str = "spiffe://t.mesh/ns/default/dc/dc1/svc/db";

/// An Envoy's side of one stream.
struct Envoy {
    requests: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

fn client(host: &Host) -> SecretDiscoveryServiceClient<Channel> {
    SecretDiscoveryServiceClient::new(channel_unix(&host.socket()))
}

fn asked(names: &[&str]) -> DiscoveryRequest {
    let resource_names = names.iter().map(|name| (*name).to_owned()).collect();
    DiscoveryRequest { resource_names, type_url: SECRET_TYPE.to_owned(), ..Default::default() }
}

/// One that says which Envoy asks.
fn asked_by(minor_number: u32, names: &[&str]) -> DiscoveryRequest {
    let version = SemanticVersion { major_number: 1, minor_number, patch: 0 };
    let build = BuildVersion { version: Some(version) };
    let agent = Some(UserAgentVersionType::UserAgentBuildVersion(build));
    let node = Node { id: "e".to_owned(), user_agent_version_type: agent };
    DiscoveryRequest { node: Some(node), ..asked(names) }
}

impl Envoy {
    async fn connect(host: &Host, first: DiscoveryRequest) -> Self {
        let (requests, receiver) = mpsc::channel(8);
        requests.send(first).await.expect("there is room");
        let answers = client(host).stream_secrets(ReceiverStream::new(receiver)).await;
        Self { requests, answers: answers.expect("it may").into_inner() }
    }

    async fn say(&self, request: DiscoveryRequest) {
        self.requests.send(request).await.expect("the agent reads");
    }

    async fn accept(&self, answer: &DiscoveryResponse, names: &[&str]) {
        let (version_info, response_nonce) = (answer.version_info.clone(), answer.nonce.clone());
        self.say(DiscoveryRequest { version_info, response_nonce, ..asked(names) }).await;
    }

    async fn next(&mut self) -> DiscoveryResponse {
        next(&mut self.answers).await.expect("an answer")
    }
}

fn names(answer: &DiscoveryResponse) -> Vec<String> {
    assert_eq!(answer.type_url, SECRET_TYPE);
    answer.resources.iter().map(|one| unpack(one).expect("a secret").name).collect()
}

fn certificate(answer: &DiscoveryResponse, at: usize) -> TlsCertificate {
    match unpack(&answer.resources[at]).expect("a secret").r#type {
        Some(Type::TlsCertificate(certificate)) => certificate,
        other => panic!("no certificate: {other:?}"),
    }
}

fn text(answer: &DiscoveryResponse, at: usize) -> String {
    String::from_utf8_lossy(&answer.resources[at].value).into_owned()
}

#[tokio::test]
async fn names_mean_what_they_mean_to_spires_agent() {
    let host = host(|uid| vec![entry("web", uid), entry("db", uid), entry("x", uid + 1)]).await;
    for service in ["web", "db", "x"] {
        host.register(service).await;
    }
    let fetch = async |request| Ok(client(&host).fetch_secrets(request).await?.into_inner());
    let all = fetch(asked(&[])).await.expect("all");
    assert_eq!(names(&all), ["spiffe://t.mesh", WEB, DB]);
    let first: DiscoveryResponse = fetch(asked(&["default"])).await.expect("the first");
    assert_eq!((names(&first), first.nonce.as_str()), (vec!["default".to_owned()], ""));
    let (certificate, of_web) = (certificate(&first, 0), certificate(&all, 1));
    assert_eq!(certificate, of_web);
    let key = certificate.private_key.expect("a key").inline_bytes;
    assert!(key.starts_with(b"-----BEGIN PRIVATE KEY-----"));

    let asked_for = ["ALL", "ROOTCA", "spiffe://t.mesh", DB];
    let some = fetch(asked(&asked_for)).await.expect("some");
    assert_eq!(names(&some), ["ROOTCA", "ALL", "spiffe://t.mesh", DB]);
    let root = &host.server.ca.root_pem;
    for at in 0..3 {
        assert!(text(&some, at).contains(root.trim()) && !text(&some, at).contains("validator"));
    }
    // Newer ones look at the trust domain.
    for (minor, looks) in [(17, false), (18, true), (40, true)] {
        let roots = fetch(asked_by(minor, &["ROOTCA"])).await.expect("roots");
        let text = text(&roots, 0);
        assert!(text.contains(root.trim()), "{text}");
        assert_eq!(text.contains("cert_validator.spiffe") && text.contains("t.mesh"), looks);
    }
    host.counted("fetches_total{call=\"fetch_secrets\",outcome=\"served\"} 6");

    let other = WEB.replace("/web", "/x");
    let refused: Result<DiscoveryResponse, Status> = fetch(asked(&["default", &other])).await;
    let refused = refused.expect_err("another's");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains(&other), "{}", refused.message());
    let listeners = DiscoveryRequest { type_url: "listeners".to_owned(), ..asked(&[]) };
    let refused = fetch(listeners).await.expect_err("no secrets");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("\"listeners\""), "{}", refused.message());
    host.counted("fetches_total{call=\"fetch_secrets\",outcome=\"refused\"} 1");
    host.counted("fetches_total{call=\"fetch_secrets\",outcome=\"invalid\"} 1");
    host.tasks.cancel();
}

#[tokio::test]
async fn a_process_without_an_entry_gets_no_secrets() {
    let host = host(|uid| vec![entry("web", uid + 1)]).await;
    host.register("web").await;
    let refused = client(&host).fetch_secrets(asked(&["ROOTCA"])).await.expect_err("nobody");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let (_requests, receiver) = mpsc::channel(1);
    let refused = client(&host).stream_secrets(ReceiverStream::new(receiver)).await;
    assert_eq!(refused.expect_err("nobody").code(), Code::PermissionDenied);
    host.counted("fetches_total{call=\"stream_secrets\",outcome=\"refused\"} 1");
    host.tasks.cancel();
}

#[tokio::test]
async fn renewals_and_new_roots_are_pushed_whether_acknowledged_or_not() {
    let host = host(|uid| vec![entry("web", uid)]).await;
    *host.server.ca.lifetime.lock() = std::time::Duration::from_secs(4);
    host.register("web").await;
    let mut envoy = Envoy::connect(&host, asked(&["default"])).await;
    let first = envoy.next().await;
    envoy.accept(&first, &["default"]).await;
    let second = envoy.next().await;
    assert_ne!(certificate(&first, 0).private_key, certificate(&second, 0).private_key);
    assert_ne!((&first.nonce, &first.version_info), (&second.nonce, &second.version_info));

    let mut roots = Envoy::connect(&host, asked_by(40, &["ALL"])).await;
    let known = roots.next().await;
    let mut bundle = host.server.ca.bundle();
    let added = FakeCa::default().root_pem;
    bundle.roots_pem.push(added.clone());
    host.server.set(Topic::Roots, "", &bundle);
    let newer = roots.next().await;
    assert!(!text(&known, 0).contains(added.trim()) && text(&newer, 0).contains(added.trim()));
    host.tasks.cancel();
}

#[tokio::test]
async fn answers_are_judged_by_their_nonce() {
    let host = host(|uid| vec![entry("web", uid)]).await;
    host.register("web").await;
    let mut envoy = Envoy::connect(&host, asked_by(40, &["default"])).await;
    let first = envoy.next().await;
    // What was not taken is not sent again as it is: other names are, with the way of checking
    // that was said first.
    let rejection = Some(Rejection { code: 13, message: "no such curve".to_owned() });
    let nonce = first.nonce.clone();
    let rejected = DiscoveryRequest {
        response_nonce: nonce,
        error_detail: rejection.clone(),
        ..asked(&["default"])
    };
    envoy.say(rejected.clone()).await;
    envoy.say(DiscoveryRequest { resource_names: vec!["ROOTCA".to_owned()], ..rejected }).await;
    let second = envoy.next().await;
    assert_eq!(names(&second), ["ROOTCA"]);
    assert!(text(&second, 0).contains("cert_validator.spiffe"));
    host.counted("secrets_rejected_total 1\n");
    // What answers an earlier answer asks for nothing.
    let stale = DiscoveryRequest { error_detail: rejection, ..asked(&["default"]) };
    envoy.say(DiscoveryRequest { response_nonce: first.nonce, ..stale.clone() }).await;
    envoy.say(stale).await;
    envoy.accept(&second, &["ROOTCA", WEB]).await;
    let third = envoy.next().await;
    assert_eq!(names(&third), ["ROOTCA", WEB]);
    host.counted("secrets_rejected_total 1\n");
    host.counted("messages_total{call=\"stream_secrets\"} 3");
    host.tasks.cancel();
}

#[tokio::test]
async fn a_service_is_waited_for_and_takes_its_secret_along() {
    let host = host(|uid| vec![entry("web", uid)]).await;
    let mut envoy = Envoy::connect(&host, asked(&[WEB])).await;
    host.register("web").await;
    assert_eq!(names(&envoy.next().await), [WEB]);
    host.local.deregister("web".to_owned()).await.expect("it was registered");
    let ended = next(&mut envoy.answers).await.expect_err("there is nothing any more");
    assert_eq!(ended.code(), Code::PermissionDenied);
    assert!(ended.message().contains("registered"), "{}", ended.message());
    host.tasks.cancel();
}
