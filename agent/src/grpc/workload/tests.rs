//! Calls of this very process on the unix socket, against a server of our making.

use std::collections::BTreeMap;
use std::time::Duration;

use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use weft_core::attestation::Selectors;
use weft_core::ca::KeyKind;
use weft_core::catalog::ServiceDefinition;
use weft_proto::grpc::Lean;
use weft_proto::grpc::v1::Topic;
use weft_proto::grpc::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use weft_proto::json::{self, Unknown};
use weft_runtime::rpc::channel_unix;
use weft_runtime::tls::certificates_from_pem;

use super::*;
use crate::leaf::KeptLeaves;
use crate::local::{ExistingChecks, Place};
use crate::views::fake::{FakeCa, FakeServer};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) struct Host {
    pub(super) server: FakeServer,
    pub(super) local: Local,
    registry: Registry,
    folder: TempDir,
    pub(super) tasks: TaskTree,
}

pub(super) fn entry(service: &str, uid: u32) -> Entry {
    let selectors = Selectors { uid: Some(uid), ..Selectors::default() };
    Entry::new(service.parse().expect("a name"), selectors).expect("an entry")
}

/// The user of this process, who makes the calls.
fn own_uid(folder: &TempDir) -> u32 {
    use std::os::unix::fs::MetadataExt;
    folder.path().metadata().expect("this process made it").uid()
}

pub(super) async fn host(entries: impl FnOnce(u32) -> Vec<Entry>) -> Host {
    let (server, calls) = FakeServer::start().await;
    server.set(Topic::Roots, "", &server.ca.bundle());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tasks = TaskTree::root("test");
    let place = Place::of_test(folder.path(), crate::config::Scripts::Nobody);
    let local = Local::open(place, &tasks).expect("a folder to write in");
    let membership = Membership::of_test("");
    let (views, registry) = (Views::start(calls.clone(), &tasks), Registry::new("agent"));
    let of_leaves = (membership.clone(), KeptLeaves::default(), KeyKind::default());
    let leaves = Leaves::start(calls, views.clone(), of_leaves, (&registry, &tasks));
    let sources = WorkloadSources { local: local.clone(), leaves, views, membership };
    let entries = entries(own_uid(&folder));
    let config = WorkloadApiConfig { socket: folder.path().join("w.sock"), entries };
    serve_workloads(&config, sources, (&registry, &tasks)).expect("a socket");
    Host { server, local, registry, folder, tasks }
}

impl Host {
    pub(super) async fn register(&self, service: &str) {
        let body = format!("{{\"Name\": \"{service}\", \"Port\": 80}}");
        let definition: ServiceDefinition =
            json::from_slice(body.as_bytes(), Unknown::Refuse).expect("a definition");
        self.local.register(definition, ExistingChecks::Kept).await.expect("a good definition");
    }

    pub(super) fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("w.sock")
    }

    fn client(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(channel_unix(&self.socket()))
    }

    async fn fetch(&self) -> Result<Streaming<X509svidResponse>, Status> {
        let answer = self.client().fetch_x509svid(with_header(X509svidRequest {})).await?;
        Ok(answer.into_inner())
    }

    pub(super) fn counted(&self, line: &str) {
        let metrics = self.registry.encode();
        let line = format!("weft_agent_workload_api_{line}");
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }
}

fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = "true".parse().expect("a header's value");
    request.metadata_mut().insert(SECURITY_HEADER, value);
    request
}

pub(super) async fn next<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    let message = tokio::time::timeout(LIMIT, stream.message());
    message.await.expect("the agent says something").map(|message| message.expect("more"))
}

fn ids(message: &X509svidResponse) -> Vec<&str> {
    let ids = message.svids.iter().map(|svid| svid.spiffe_id.as_str());
    ids.map(|id| id.rsplit_once('/').map_or("", |(_, name)| name)).collect()
}

#[tokio::test]
async fn a_process_gets_the_certificates_of_its_services_and_no_other() {
    let entries = |uid| vec![entry("web", uid), entry("db", uid + 1), entry("shop", uid)];
    let host = host(entries).await;
    for service in ["web", "db", "shop"] {
        host.register(service).await;
    }
    let mut stream = host.fetch().await.expect("it may");
    let message = next(&mut stream).await.expect("certificates");
    assert_eq!(ids(&message), ["web", "shop"]);
    let web = &message.svids[0];
    assert_eq!(
        (web.spiffe_id.as_str(), web.hint.as_str()),
        ("spiffe://t.mesh/ns/default/dc/dc1/svc/web", "web")
    );
    let root = certificates_from_pem("root", &host.server.ca.root_pem).expect("a root");
    assert_eq!(web.bundle, root[0].as_ref());
    assert_ne!(web.x509_svid_key, message.svids[1].x509_svid_key);
    host.counted("fetches_total{call=\"x509_svid\",outcome=\"served\"} 1");

    let bundles = host.client().fetch_x509_bundles(with_header(X509BundlesRequest {})).await;
    let bundles = next(&mut bundles.expect("it may").into_inner()).await.expect("roots");
    let expected = [("spiffe://t.mesh".to_owned(), web.bundle.clone())].into();
    assert_eq!(bundles.bundles.into_iter().collect::<BTreeMap<_, _>>(), expected);
    host.tasks.cancel();
}

#[tokio::test]
async fn who_matches_nothing_is_told_what_was_seen() {
    let host = host(|uid| vec![entry("web", uid + 1)]).await;
    host.register("web").await;
    let refused = host.fetch().await.expect_err("another user's");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let seen = format!("uid {}, gid ", own_uid(&host.folder));
    assert!(refused.message().contains(&seen), "{}", refused.message());
    let bundles = host.client().fetch_x509_bundles(with_header(X509BundlesRequest {})).await;
    assert_eq!(bundles.expect_err("another user's").code(), Code::PermissionDenied);
    host.counted("fetches_total{call=\"x509_svid\",outcome=\"refused\"} 1");
    host.tasks.cancel();
}

#[tokio::test]
async fn a_call_without_the_security_header_is_refused() {
    let host = host(|uid| vec![entry("web", uid)]).await;
    host.register("web").await;
    let refused = host.client().fetch_x509svid(X509svidRequest {}).await.expect_err("no header");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains(SECURITY_HEADER), "{}", refused.message());
    host.counted("fetches_total{call=\"x509_svid\",outcome=\"invalid\"} 1");
    host.tasks.cancel();
}

#[tokio::test]
async fn renewals_and_new_roots_are_pushed() {
    let host = host(|uid| vec![entry("web", uid)]).await;
    *host.server.ca.lifetime.lock() = Duration::from_secs(4);
    host.register("web").await;
    let mut stream = host.fetch().await.expect("it may");
    let first = next(&mut stream).await.expect("a certificate").svids.remove(0);
    let second = next(&mut stream).await.expect("its renewal").svids.remove(0);
    assert_ne!(first.x509_svid, second.x509_svid);
    assert_ne!(first.x509_svid_key, second.x509_svid_key);
    assert_eq!(first.bundle, second.bundle);

    let mut bundle = host.server.ca.bundle();
    bundle.roots_pem.push(FakeCa::default().root_pem);
    host.server.set(Topic::Roots, "", &bundle);
    let told = async {
        while next(&mut stream).await.expect("the stream goes on").svids[0].bundle == first.bundle {
        }
    };
    tokio::time::timeout(LIMIT, told).await.expect("the roots are pushed");
    host.tasks.cancel();
}

#[tokio::test]
async fn a_service_that_leaves_takes_its_certificate_along() {
    let host = host(|uid| vec![entry("web", uid), entry("db", uid)]).await;
    host.register("web").await;
    host.register("db").await;
    let mut stream = host.fetch().await.expect("it may");
    assert_eq!(ids(&next(&mut stream).await.expect("certificates")), ["web", "db"]);
    host.local.deregister("web".to_owned()).await.expect("it was registered");
    assert_eq!(ids(&next(&mut stream).await.expect("what is left")), ["db"]);
    host.local.deregister("db".to_owned()).await.expect("it was registered");
    let ended = next(&mut stream).await.expect_err("there is nothing any more");
    assert_eq!(ended.code(), Code::PermissionDenied);
    assert!(ended.message().contains("registered"), "{}", ended.message());
    host.tasks.cancel();
}

#[tokio::test]
async fn a_service_that_registers_late_is_waited_for() {
    let host = host(|uid| vec![entry("web", uid)]).await;
    let mut stream = host.fetch().await.expect("it may");
    host.register("web").await;
    let message = next(&mut stream).await.expect("a certificate");
    assert_eq!(ids(&message), ["web"]);
    host.tasks.cancel();
}

#[tokio::test]
async fn calls_for_json_web_tokens_are_answered_as_unimplemented() {
    let host = host(|uid| vec![entry("web", uid)]).await;
    for call in ["FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID"] {
        let mut client = tonic::client::Grpc::new(channel_unix(&host.socket()));
        client.ready().await.expect("the door is open");
        let path = format!("/SpiffeWorkloadAPI/{call}").parse().expect("a path");
        let codec = Lean::<X509svidRequest, X509svidResponse>::default();
        let refused = client.unary(with_header(X509svidRequest {}), path, codec).await;
        assert_eq!(refused.expect_err("it is not spoken").code(), Code::Unimplemented, "{call}");
    }
    host.tasks.cancel();
}
