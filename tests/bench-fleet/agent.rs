//! One simulated agent: what a host of the mesh shows to the servers, without the host.

use std::sync::Arc;

use anyhow::Context;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tonic::transport::Channel;
use weft_core::ca::{MemberRole, TrustBundle};
use weft_core::catalog::CatalogRegistration;
use weft_proto::envelope;
use weft_proto::grpc::v1 as wire;
use weft_proto::join_token::JoinToken;
use weft_runtime::rpc::channel_tls;
use weft_runtime::tls::{self, ClientTlsCell, Identity, PeerCheck, Trust};

/// A host with a certificate of its own.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) number: usize,
    tls: ClientTlsCell,
    server: String,
    /// Its connection.
    pub(crate) channel: Channel,
}

/// A way to the server for hosts without a certificate.
pub(crate) fn anonymous(token: &JoinToken) -> anyhow::Result<Channel> {
    let config = tls::client_config_pinned(&token.root_fingerprint, &["h2"])?;
    Ok(channel_tls(&token.servers[0], ClientTlsCell::new(Arc::new(config))))
}

impl Agent {
    /// Joins over a connection that hosts without a certificate share.
    pub(crate) async fn join(
        door: Channel,
        token: &JoinToken,
        number: usize,
    ) -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let csr = CertificateParams::default().serialize_request(&key)?;
        let role = match token.role {
            MemberRole::Agent => wire::Role::Agent,
            MemberRole::Server => wire::Role::Server,
        };
        let request = wire::JoinRequest {
            secret: token.secret.clone().into(),
            role: role.into(),
            node_name: name(number),
            csr_der: csr.der().to_vec().into(),
        };
        let reply = wire::join_client::JoinClient::new(door).join(request).await?.into_inner();
        let bundle = TrustBundle {
            trust_domain: reply.trust_domain.parse()?,
            active_root: String::new(),
            roots_pem: reply.roots_pem,
            roots: Vec::new(),
            revoked: Vec::new(),
            retired: Vec::new(),
        };
        let identity = Identity::from_pem(&reply.certificate_pem, &key.serialize_pem())?;
        let trust = Trust::from_bundle(&bundle)?;
        let config = tls::client_config(&identity, &trust, PeerCheck::AnyServer, &["h2"])?;
        let tls = ClientTlsCell::new(Arc::new(config));
        let server = token.servers[0].clone();
        Ok(Self { number, channel: channel_tls(&server, tls.clone()), tls, server })
    }

    /// Opens a further connection.
    pub(crate) fn another_channel(&self) -> Channel {
        channel_tls(&self.server, self.tls.clone())
    }

    /// Writes its node with services.
    pub(crate) async fn register(&self, services: &[String], status: &str) -> anyhow::Result<u64> {
        let registration = registration(self.number, services, status)?;
        let request = wire::RegisterRequest { registration: envelope::encode(&registration) };
        let mut catalog = wire::catalog_client::CatalogClient::new(self.channel.clone());
        let reply = catalog.register(request).await.context("registering")?;
        Ok(reply.into_inner().index)
    }

    /// Asks what the catalog has of its node, as agents do from time to time.
    pub(crate) async fn compare(&self) -> anyhow::Result<()> {
        let request = wire::NodeStateRequest { node_name: name(self.number) };
        let mut catalog = wire::catalog_client::CatalogClient::new(self.channel.clone());
        catalog.node_state(request).await.context("comparing")?;
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("host-{number:05}.rack-{:03}.example.net", number % 250)
}

/// A host as a usual deployment registers it: with tags, metadata and an HTTP check for each
/// instance.
fn registration(
    number: usize,
    services: &[String],
    status: &str,
) -> anyhow::Result<CatalogRegistration> {
    let node = name(number);
    let address = format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
    let port = |at: usize| 20_000 + at;
    let instances = services.iter().enumerate().map(|(at, service)| {
        serde_json::json!({
            "ID": format!("{service}-{number}-{}", port(at)), "Service": service, "Port": port(at),
            "Tags": ["production", format!("v{}", at % 3)],
            "Meta": { "version": format!("1.{}.0", at % 9), "team": format!("team-{}", at % 40) },
        })
    });
    let instances: Vec<_> = instances.collect();
    let checks: Vec<_> = services.iter().enumerate().map(|(at, service)| {
        let id = format!("{service}-{number}-{}", port(at));
        serde_json::json!({
            "Node": node, "CheckID": format!("service:{id}"), "Status": status, "Type": "http",
            "Name": format!("Service '{service}' check"), "ServiceID": id, "Interval": "10s",
            "Output": format!("HTTP GET http://{address}:{}/health: 200 OK Output: ok", port(at)),
        })
    }).collect();
    let registration = serde_json::json!({
        "node": {
            "ID": format!("{number:08x}-0000-4000-8000-000000000000"), "Node": node,
            "Address": address, "Datacenter": "dc1",
            "TaggedAddresses": { "lan": address }, "Meta": { "zone": format!("z{}", number % 3) },
        },
        "services": instances, "checks": checks,
    });
    serde_json::from_value(registration).context("a registration")
}
