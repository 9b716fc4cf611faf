//! A real server in a temporary directory, and a host that joins it over real mTLS.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tonic::Status;
use tonic::transport::Channel;
use weft_core::ca::{MemberRole, TrustBundle};
use weft_proto::envelope;
use weft_proto::grpc::v1 as wire;
use weft_proto::join_token::JoinToken;
use weft_runtime::http::{HttpClient, HttpResponse};
use weft_runtime::rpc::channel_tls;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::{self, ClientTlsCell, Identity, PeerCheck, Trust};
use weft_server::config::{Config, FileConfig};
use weft_server::{Server, ServerHandle};

pub(crate) mod world;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct TestServer {
    pub(crate) handle: ServerHandle,
    tasks: TaskTree,
}

pub(crate) fn config(dir: &Path, node: &str) -> FileConfig {
    FileConfig {
        data_dir: Some(dir.to_owned()),
        node_name: Some(node.to_owned()),
        bind_addr: Some("127.0.0.1:0".to_owned()),
        leaf_lifetime: Some("1h".parse().expect("a duration")),
        ..FileConfig::default()
    }
}

impl TestServer {
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(config(dir, "s1")).await
    }

    pub(crate) async fn start_with(file: FileConfig) -> Self {
        let tasks = TaskTree::root("test");
        let config = Config::resolve(file).expect("a configuration");
        let handle = Server::start(config, tasks.clone()).await.expect("started");
        Self { handle, tasks }
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&self) {
        self.handle.ended().await;
    }

    pub(crate) fn address(&self) -> String {
        self.handle.rpc_addr().to_string()
    }

    pub(crate) async fn stop(self) {
        self.tasks.cancel();
        self.tasks.join(LIMIT).await.expect("every task ends");
    }
}

/// A host with its own certificate.
pub(crate) struct TestHost {
    pub(crate) channel: Channel,
    pub(crate) bundle: TrustBundle,
    pub(crate) reply: wire::JoinReply,
    key: KeyPair,
}

pub(crate) fn csr(key: &KeyPair) -> Vec<u8> {
    let params = CertificateParams::default();
    params.serialize_request(key).expect("a request").der().to_vec()
}

pub(crate) fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

/// Redeems a token without a certificate, trusting only the pinned root.
pub(crate) async fn redeem(
    token: &JoinToken,
    role: MemberRole,
    node: &str,
    csr_der: Vec<u8>,
) -> Result<wire::JoinReply, Status> {
    let config = tls::client_config_pinned(&token.root_fingerprint, &["h2"]).expect("a client");
    let channel = channel_tls(&token.servers[0], ClientTlsCell::new(Arc::new(config)));
    let role = match role {
        MemberRole::Agent => wire::Role::Agent,
        MemberRole::Server => wire::Role::Server,
    };
    let request = wire::JoinRequest {
        secret: token.secret.clone().into(),
        role: role.into(),
        node_name: node.to_owned(),
        csr_der: csr_der.into(),
    };
    let reply = wire::join_client::JoinClient::new(channel).join(request).await?;
    Ok(reply.into_inner())
}

impl TestHost {
    pub(crate) async fn join(server: &TestServer, node: &str) -> Self {
        let token = server.handle.mint_join_token(MemberRole::Agent).await.expect("a token");
        let key = new_key();
        let reply = redeem(&token, MemberRole::Agent, node, csr(&key)).await.expect("admitted");
        Self::of(reply, key, &server.address())
    }

    pub(crate) fn of(reply: wire::JoinReply, key: KeyPair, address: &str) -> Self {
        let bundle = TrustBundle {
            trust_domain: reply.trust_domain.parse().expect("a trust domain"),
            active_root: String::new(),
            roots: Vec::new(),
            roots_pem: reply.roots_pem.clone(),
            revoked: Vec::new(),
            retired: Vec::new(),
        };
        let channel = channel_as(&reply.certificate_pem, &key, &bundle, address);
        Self { channel, bundle, reply, key }
    }

    /// The same host at another address, as after a restart of the server.
    pub(crate) fn at(&self, address: &str) -> Channel {
        channel_as(&self.reply.certificate_pem, &self.key, &self.bundle, address)
    }

    /// Calls the JSON API as this host.
    pub(crate) async fn call(
        &self,
        method: Method,
        server: &TestServer,
        path: &str,
        body: impl AsRef<[u8]>,
    ) -> HttpResponse {
        let identity = Identity::from_pem(&self.reply.certificate_pem, &self.key.serialize_pem());
        let trust = Trust::from_bundle(&self.bundle).expect("a bundle");
        let identity = identity.expect("an identity");
        let config = tls::client_config(&identity, &trust, PeerCheck::AnyServer, &["http/1.1"]);
        let client = HttpClient::new(LIMIT, 1 << 20).with_tls(Arc::new(config.expect("a client")));
        let url = format!("https://{}{path}", server.address());
        let body = Bytes::copy_from_slice(body.as_ref());
        client.request(method, &url, HeaderMap::new(), body).await.expect("answered")
    }

    pub(crate) fn catalog(&self) -> wire::catalog_client::CatalogClient<Channel> {
        wire::catalog_client::CatalogClient::new(self.channel.clone())
    }

    pub(crate) fn ca(&self) -> wire::ca_client::CaClient<Channel> {
        wire::ca_client::CaClient::new(self.channel.clone())
    }

    pub(crate) async fn register(&self, registration: serde_json::Value) -> Result<u64, Status> {
        let registration: weft_core::catalog::CatalogRegistration =
            serde_json::from_value(registration).expect("a registration");
        let request = wire::RegisterRequest { registration: envelope::encode(&registration) };
        Ok(self.catalog().register(request).await?.into_inner().index)
    }
}

pub(crate) fn channel_as(
    chain_pem: &str,
    key: &KeyPair,
    bundle: &TrustBundle,
    address: &str,
) -> Channel {
    let identity = Identity::from_pem(chain_pem, &key.serialize_pem()).expect("an identity");
    let trust = Trust::from_bundle(bundle).expect("a bundle");
    let config =
        tls::client_config(&identity, &trust, PeerCheck::AnyServer, &["h2"]).expect("a client");
    channel_tls(address, ClientTlsCell::new(Arc::new(config)))
}
