//! A host of the mesh that calls the servers' HTTP API over mutual TLS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use weft_core::ca::TrustBundle;
use weft_proto::grpc::v1 as wire;
use weft_proto::join_token::JoinToken;
use weft_runtime::net;
use weft_runtime::rpc::channel_tls;
use weft_runtime::tls::rustls::ClientConfig;
use weft_runtime::tls::tokio_rustls::TlsConnector;
use weft_runtime::tls::{self, ClientTlsCell, Identity, PeerCheck, Trust, peer_name};

use crate::cluster::PORT;
use crate::sim::Sim;

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Longer than servers hold a request without a leader, so that some outcomes are their word.
const CALL_LIMIT: Duration = Duration::from_secs(9);

/// Becomes a member: returns how it calls servers.
pub(crate) async fn join(token: &str, node: &str) -> anyhow::Result<Arc<ClientConfig>> {
    let token: JoinToken = token.parse().map_err(|error| anyhow!("the token: {error}"))?;
    let pinned = tls::client_config_pinned(&token.root_fingerprint, &["h2"])?;
    let server = token.servers.first().context("a token names servers")?;
    let channel = channel_tls(server, ClientTlsCell::new(Arc::new(pinned)));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let csr = CertificateParams::default().serialize_request(&key)?;
    let request = wire::JoinRequest {
        secret: token.secret.clone().into(),
        role: wire::Role::Agent.into(),
        node_name: node.to_owned(),
        csr_der: csr.der().to_vec().into(),
    };
    let reply = wire::join_client::JoinClient::new(channel).join(request).await?.into_inner();
    let bundle = TrustBundle {
        trust_domain: reply.trust_domain.parse()?,
        active_root: String::new(),
        roots_pem: reply.roots_pem.clone(),
        roots: Vec::new(),
        revoked: Vec::new(),
        retired: Vec::new(),
    };
    let identity = Identity::from_pem(&reply.certificate_pem, &key.serialize_pem())?;
    let trust = Trust::from_bundle(&bundle)?;
    Ok(Arc::new(tls::client_config(&identity, &trust, PeerCheck::AnyServer, &["http/1.1"])?))
}

/// One caller with its open connections.
pub(crate) struct Client {
    tls: Arc<ClientConfig>,
    open: BTreeMap<usize, SendRequest<Full<Bytes>>>,
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// Returns the index header.
    pub(crate) fn index(&self) -> Option<u64> {
        self.headers.get("x-consul-index")?.to_str().ok()?.parse().ok()
    }
}

impl Client {
    pub(crate) fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls, open: BTreeMap::new() }
    }

    /// Calls a server; without an answer nobody knows what came of it.
    pub(crate) async fn call(
        &mut self,
        server: usize,
        method: Method,
        path: &str,
        body: String,
    ) -> anyhow::Result<Reply> {
        self.call_within(server, method, path, body, CALL_LIMIT).await
    }

    /// As [`Client::call`], with another limit.
    pub(crate) async fn call_within(
        &mut self,
        server: usize,
        method: Method,
        path: &str,
        body: String,
        limit: Duration,
    ) -> anyhow::Result<Reply> {
        let outcome = tokio::time::timeout(limit, self.exchange(server, method, path, body)).await;
        match outcome {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => {
                self.open.remove(&server);
                Err(error)
            }
            Err(late) => {
                self.open.remove(&server);
                Err(late.into())
            }
        }
    }

    async fn exchange(
        &mut self,
        server: usize,
        method: Method,
        path: &str,
        body: String,
    ) -> anyhow::Result<Reply> {
        if self.open.get(&server).is_none_or(SendRequest::is_closed) {
            let sender = self.connect(server).await?;
            self.open.insert(server, sender);
        }
        let sender = self.open.get_mut(&server).context("just connected")?;
        sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "weft")
            .body(Full::new(Bytes::from(body)))?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    async fn connect(&self, server: usize) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let address = format!("{}:{PORT}", Sim::ip(server));
        let stream = net::connect_member(&address, CONNECT_LIMIT).await?;
        let name = peer_name(stream.peer_addr()?);
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // How it ended shows in the call.
            let _ = connection.await;
        });
        Ok(sender)
    }
}
