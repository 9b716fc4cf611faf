//! Looks at a sidecar from outside: which certificate it presents, and whom it lets in.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use weft_core::ca::TrustBundle;
use weft_core::name::TrustDomain;
use weft_runtime::net;
use weft_runtime::tls::rustls::ClientConfig;
use weft_runtime::tls::tokio_rustls::TlsConnector;
use weft_runtime::tls::{self, Identity, PeerCheck, Trust};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::api::Api;

/// A handshake on loopback takes milliseconds.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// A client with a mesh identity.
#[derive(Debug)]
pub(super) struct Probe {
    identity: Identity,
    trust: Trust,
}

/// What a sidecar presents, as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Presented {
    /// The SPIFFE ID.
    pub(super) spiffe_id: String,
    /// Who signed it.
    pub(super) issuer: String,
    /// The serial number, in hex.
    pub(super) serial: String,
    /// Since when it is valid.
    pub(super) valid_after: String,
    /// Until when it is valid.
    pub(super) valid_before: String,
}

impl Probe {
    /// Takes the identity of a service, and the roots, from the agent's API.
    pub(super) async fn from_agent(api: &Api, service: &str) -> anyhow::Result<Self> {
        let leaf = api.get(&format!("/v1/agent/connect/ca/leaf/{service}")).await?;
        let roots = api.get("/v1/agent/connect/ca/roots").await?;
        let text =
            |field: &str| leaf[field].as_str().with_context(|| format!("the leaf has no {field}"));
        let identity = Identity::from_pem(text("CertPEM")?, text("PrivateKeyPEM")?)?;
        Ok(Self { identity, trust: Trust::from_bundle(&bundle(&roots)?)? })
    }

    /// Shakes hands with the sidecar on a port of loopback and returns what it presents, after
    /// checking it against the roots.
    pub(super) async fn presented(&self, port: u16) -> anyhow::Result<Presented> {
        let config =
            tls::client_config(&self.identity, &self.trust, PeerCheck::AnyMember, &["http/1.1"])?;
        let handshake = async {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let stream = net::connect_tcp(address, HANDSHAKE_LIMIT).await?;
            let connector = TlsConnector::from(Arc::new(config));
            let stream = connector.connect(tls::peer_name(address), stream).await?;
            let (_, connection) = stream.get_ref();
            let chain = connection.peer_certificates().unwrap_or_default();
            describe(chain.first().context("the sidecar presents no certificate")?)
        };
        timeout(HANDSHAKE_LIMIT, handshake).await.context("the handshake takes too long")?
    }
}

/// Tries to get in without a certificate; returns how it was refused, `None` if it was let in.
///
/// In TLS 1.3 a client without a certificate finishes its side of the handshake before the other
/// side judges it, so the refusal shows in the first read.
pub(super) async fn refused_without_certificate(
    probe: &Probe,
    port: u16,
) -> anyhow::Result<Option<String>> {
    let config = tls::client_config_anonymous(&probe.trust, PeerCheck::AnyMember, &["http/1.1"])?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = net::connect_tcp(address, HANDSHAKE_LIMIT).await?;
    let attempt = first_read(config, address, stream);
    Ok(match timeout(HANDSHAKE_LIMIT, attempt).await {
        Ok(Ok(0)) => Some("the connection was closed".to_owned()),
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        // It sits and waits for a request: it was let in.
        Err(_) => None,
    })
}

async fn first_read(
    config: ClientConfig,
    address: SocketAddr,
    stream: net::TcpStream,
) -> std::io::Result<usize> {
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(tls::peer_name(address), stream).await?;
    stream.read(&mut [0; 1]).await
}

/// Reads the roots out of an answer of `/v1/agent/connect/ca/roots`.
fn bundle(roots: &Value) -> anyhow::Result<TrustBundle> {
    let domain = roots["TrustDomain"].as_str().context("the roots name no trust domain")?;
    let list = roots["Roots"].as_array().context("there are no roots")?;
    let roots_pem: Vec<String> =
        list.iter().filter_map(|root| root["RootCert"].as_str()).map(str::to_owned).collect();
    if roots_pem.is_empty() {
        bail!("there are no roots");
    }
    let active_root = roots["ActiveRootID"].as_str().unwrap_or_default().to_owned();
    Ok(TrustBundle {
        trust_domain: TrustDomain::parse(domain)?,
        active_root,
        roots: Vec::new(),
        roots_pem,
        revoked: Vec::new(),
        retired: Vec::new(),
    })
}

fn describe(der: &[u8]) -> anyhow::Result<Presented> {
    let (_, certificate) =
        X509Certificate::from_der(der).context("the certificate is malformed")?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let uri = names.iter().flat_map(|names| &names.value.general_names).find_map(|name| {
        let x509_parser::extensions::GeneralName::URI(uri) = name else { return None };
        Some((*uri).to_owned())
    });
    let validity = certificate.validity();
    Ok(Presented {
        spiffe_id: uri.context("the certificate names no URI")?,
        issuer: certificate.issuer().to_string(),
        serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
        valid_after: validity.not_before.to_string(),
        valid_before: validity.not_after.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn roots_are_read_from_the_agents_answer() {
        let roots = json!({
            "ActiveRootID": "ab",
            "TrustDomain": "a1.mesh",
            "Roots": [{ "RootCert": "PEM 1" }, { "RootCert": "PEM 2" }],
        });
        let bundle = bundle(&roots).expect("a bundle");
        assert_eq!(bundle.roots_pem, ["PEM 1", "PEM 2"]);
        assert_eq!(bundle.trust_domain.as_str(), "a1.mesh");
    }

    #[test]
    fn an_answer_without_roots_is_refused() {
        for roots in [json!({}), json!({ "TrustDomain": "a1.mesh", "Roots": [] })] {
            assert!(bundle(&roots).is_err(), "{roots}");
        }
    }

    #[test]
    fn a_certificate_that_is_none_is_refused() {
        assert!(describe(&[0x30, 0x00]).is_err());
    }
}
