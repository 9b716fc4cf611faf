//! A cluster of one server for tests: real mTLS, a catalog in memory, and an API that tells
//! what it was asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::http::{Request as HttpRequest, Response as HttpResponse};
use futures::Stream;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use weft_core::ca::{MemberRole, TrustBundle};
use weft_core::catalog::{CatalogDeregistration, CatalogRegistration, HealthCheck, Service};
use weft_core::identity::SpiffeId;
use weft_core::sync::Differences;
use weft_proto::envelope;
use weft_proto::grpc::v1::ca_server::{Ca, CaServer};
use weft_proto::grpc::v1::catalog_server::{Catalog, CatalogServer};
use weft_proto::grpc::v1::join_server::{Join, JoinServer};
use weft_proto::grpc::v1::watch_event::Answer;
use weft_proto::grpc::v1::watch_server::{Watch, WatchServer};
use weft_proto::grpc::v1::{
    DeregisterReply, DeregisterRequest, JoinReply, JoinRequest, NodeStateReply, NodeStateRequest,
    RegisterReply, RegisterRequest, RenewRequest, ServersReply, ServersRequest, SignLeafRequest,
    SignReply, Topic, WatchEvent, WatchRequest, watch_request,
};
use weft_proto::join_token::JoinToken;
use weft_runtime::http::{Body, PeerIdentity, ServeOptions, full, serve};
use weft_runtime::rpc::GrpcOrApi;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::{
    ClientAuth, Identity, ServerTlsCell, Trust, certificates_from_pem, fingerprint, server_config,
};
use weft_runtime::{clock, net};

const DOMAIN: &str = "t.mesh";
const SECRET: [u8; 32] = [7; 32];

type Nodes = BTreeMap<String, CatalogRegistration>;

/// The cluster; clones are the same one.
#[derive(Clone)]
pub(super) struct Cluster {
    shared: Arc<Shared>,
    tasks: Arc<Mutex<TaskTree>>,
}

struct Shared {
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
    catalog: watch::Sender<Nodes>,
    lifetime: Duration,
    /// Known since the first start.
    address: OnceLock<SocketAddr>,
}

impl Cluster {
    pub(super) async fn start() -> Self {
        Self::with_lifetime(Duration::from_secs(3600)).await
    }

    /// Starts a cluster that signs for so long.
    pub(super) async fn with_lifetime(lifetime: Duration) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root_pem = params.self_signed(&key).expect("a root").pem();
        let issuer = Issuer::new(params, key);
        let catalog = watch::Sender::new(Nodes::new());
        let address = OnceLock::new();
        let shared = Arc::new(Shared { issuer, root_pem, catalog, lifetime, address });
        let cluster = Self { shared, tasks: Arc::new(Mutex::new(TaskTree::root("server"))) };
        cluster.listen().await;
        cluster
    }

    fn address(&self) -> SocketAddr {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        self.shared.address.get().copied().unwrap_or(any)
    }

    async fn listen(&self) {
        let listener = net::bind_tcp(self.address()).await.expect("a port");
        self.shared.address.get_or_init(|| listener.local_addr().expect("bound"));
        let trust = Trust::from_bundle(&self.shared.trust()).expect("a bundle");
        let key = KeyPair::generate().expect("a key");
        let chain = self.shared.sign("agent/server/dc/dc1/id/s1", &key);
        let identity = Identity::from_pem(&chain, &key.serialize_pem()).expect("a good leaf");
        let identity = identity.presenting_roots(&trust);
        let config = server_config(&identity, &trust, ClientAuth::Optional, &["h2", "http/1.1"]);
        let tls = ServerTlsCell::new(Arc::new(config.expect("a configuration")));
        let grpc = Routes::new(JoinServer::new(self.clone()))
            .add_service(CaServer::new(self.clone()))
            .add_service(CatalogServer::new(self.clone()))
            .add_service(WatchServer::new(self.clone()));
        let service = GrpcOrApi::new(grpc, tower::service_fn(tell));
        let tasks = self.tasks.lock().clone();
        let tree = tasks.clone();
        tasks.spawn("serve", async move {
            serve(listener, Some(tls), service, ServeOptions::default(), &tree).await;
        });
    }

    /// Ends the server with all its connections.
    pub(super) async fn stop(&self) {
        let tasks = std::mem::replace(&mut *self.tasks.lock(), TaskTree::root("server"));
        tasks.cancel();
        let _ = tasks.join(Duration::from_millis(100)).await;
        tasks.abort();
    }

    /// Starts the server again at the same address.
    pub(super) async fn resume(&self) {
        self.listen().await;
    }

    pub(super) fn token(&self) -> JoinToken {
        let root = certificates_from_pem("root", &self.shared.root_pem).expect("a root");
        JoinToken {
            servers: vec![self.address().to_string()],
            root_fingerprint: fingerprint(&root[0]),
            secret: SECRET.to_vec(),
            role: MemberRole::Agent,
            expires: clock::wall().saturating_add(Duration::from_secs(3600)),
        }
    }

    /// Waits until the catalog holds what is wanted of a node.
    pub(super) async fn until(
        &self,
        node: &str,
        what: &str,
        met: impl Fn(&[Service], &[HealthCheck]) -> bool,
    ) {
        let mut catalog = self.shared.catalog.subscribe();
        let waiting = catalog.wait_for(|nodes| {
            nodes.get(node).is_some_and(|held| met(&held.services, &held.checks))
        });
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await.is_ok();
        assert!(waited, "not met: {what}; the catalog holds {:?}", self.shared.catalog.borrow());
    }

    /// Whether the catalog has a node.
    pub(super) fn knows(&self, node: &str) -> bool {
        self.shared.catalog.borrow().contains_key(node)
    }

    /// Changes the catalog behind the agents' backs.
    pub(super) fn meddle(&self, change: impl FnOnce(&mut Nodes)) {
        self.shared.catalog.send_modify(change);
    }
}

impl Shared {
    fn trust(&self) -> TrustBundle {
        let root = certificates_from_pem("root", &self.root_pem).expect("a root");
        TrustBundle {
            trust_domain: DOMAIN.parse().expect("a trust domain"),
            active_root: fingerprint(&root[0]),
            roots: Vec::new(),
            roots_pem: vec![self.root_pem.clone()],
            revoked: Vec::new(),
            retired: Vec::new(),
        }
    }

    fn sign(&self, path: &str, key: &impl PublicKeyData) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let uri = format!("spiffe://{DOMAIN}/{path}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let end = std::time::UNIX_EPOCH
            + Duration::from_millis(clock::wall().saturating_add(self.lifetime).0);
        params.not_after = end.into();
        params.not_before = (end - self.lifetime).into();
        params.signed_by(key, &self.issuer).expect("a leaf").pem()
    }

    fn sign_request(&self, path: &str, csr_der: &[u8]) -> SignReply {
        let csr = CertificateSigningRequestParams::from_der(&csr_der.to_vec().into());
        let key = csr.expect("a request").public_key;
        let now = clock::wall();
        SignReply {
            certificate_pem: self.sign(path, &key),
            valid_after_ms: now.0,
            valid_before_ms: now.saturating_add(self.lifetime).0,
        }
    }
}

/// Who calls; the agent's own certificate is demanded.
fn caller<T>(request: &Request<T>) -> Result<SpiffeId, Status> {
    let peer = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.0.clone());
    peer.ok_or_else(|| Status::unauthenticated("no certificate"))
}

/// Answers what was asked, as text.
async fn tell(request: HttpRequest<Body>) -> Result<HttpResponse<Body>, Infallible> {
    let peer = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.0.clone());
    let peer = peer.map(|id| id.to_string()).unwrap_or_default();
    let told = format!("{} {} by {peer}", request.method(), request.uri());
    Ok(HttpResponse::new(full(told)))
}

#[tonic::async_trait]
impl Join for Cluster {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let JoinRequest { secret, node_name, csr_der, .. } = request.into_inner();
        if secret[..] != SECRET {
            return Err(Status::permission_denied("no such join token"));
        }
        let path = format!("agent/client/dc/dc1/id/{node_name}");
        Ok(Response::new(JoinReply {
            certificate_pem: self.shared.sign_request(&path, &csr_der).certificate_pem,
            roots_pem: vec![self.shared.root_pem.clone()],
            trust_domain: DOMAIN.to_owned(),
            datacenter: "dc1".to_owned(),
            servers: vec![self.address().to_string()],
            cluster_id: "c1".to_owned(),
            ..JoinReply::default()
        }))
    }
}

#[tonic::async_trait]
impl Ca for Cluster {
    async fn sign_leaf(
        &self,
        request: Request<SignLeafRequest>,
    ) -> Result<Response<SignReply>, Status> {
        let SignLeafRequest { service, csr_der } = request.into_inner();
        let path = format!("ns/default/dc/dc1/svc/{service}");
        Ok(Response::new(self.shared.sign_request(&path, &csr_der)))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<SignReply>, Status> {
        let id = caller(&request)?.to_string();
        let path = id.trim_start_matches("spiffe://").split_once('/').expect("a path").1;
        Ok(Response::new(self.shared.sign_request(path, &request.into_inner().csr_der)))
    }
}

#[tonic::async_trait]
impl Catalog for Cluster {
    /// One server, where it always was.
    async fn servers(
        &self,
        request: Request<ServersRequest>,
    ) -> Result<Response<ServersReply>, Status> {
        caller(&request)?;
        Ok(Response::new(ServersReply::default()))
    }

    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterReply>, Status> {
        caller(&request)?;
        let register: CatalogRegistration =
            envelope::decode(&request.into_inner().registration).expect("a registration");
        self.shared.catalog.send_modify(|nodes| {
            let name = register.node.name.to_string();
            let empty = CatalogRegistration {
                node: register.node.clone(),
                services: Vec::new(),
                checks: Vec::new(),
            };
            let held = nodes.remove(&name).unwrap_or(empty);
            let differences = Differences { register: Some(register), deregister: None };
            nodes.insert(name, differences.applied_to(held));
        });
        Ok(Response::new(RegisterReply { index: 1 }))
    }

    async fn deregister(
        &self,
        request: Request<DeregisterRequest>,
    ) -> Result<Response<DeregisterReply>, Status> {
        caller(&request)?;
        let gone: CatalogDeregistration =
            envelope::decode(&request.into_inner().deregistration).expect("a deregistration");
        self.shared.catalog.send_modify(|nodes| {
            let name = gone.node.to_string();
            let Some(held) = nodes.remove(&name) else { return };
            if !gone.services.is_empty() || !gone.checks.is_empty() {
                let differences = Differences { register: None, deregister: Some(gone) };
                nodes.insert(name, differences.applied_to(held));
            }
        });
        Ok(Response::new(DeregisterReply { index: 1 }))
    }

    async fn node_state(
        &self,
        request: Request<NodeStateRequest>,
    ) -> Result<Response<NodeStateReply>, Status> {
        caller(&request)?;
        let nodes = self.shared.catalog.borrow();
        let held = nodes.get(&request.into_inner().node_name);
        Ok(Response::new(NodeStateReply {
            exists: held.is_some(),
            registration: held.map(envelope::encode).unwrap_or_default(),
        }))
    }
}

#[tonic::async_trait]
impl Watch for Cluster {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

    /// Tells the roots, and never says anything about the rest.
    async fn watch(
        &self,
        requests: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let roots = envelope::encode(&self.shared.trust());
        let events = requests.into_inner().filter_map(move |request| {
            let watch_request::Request::Start(start) = request.ok()?.request? else { return None };
            let answer = Some(Answer::Value(roots.clone()));
            (start.topic() == Topic::Roots).then_some(Ok(WatchEvent {
                id: start.id,
                index: 7,
                answer,
            }))
        });
        Ok(Response::new(Box::pin(events)))
    }
}
