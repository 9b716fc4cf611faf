//! A caller with the certificate of a service and a TLS of its own, in place of a sidecar: what it sends
//! comes to the other side's public door as it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};
use weft_tests::Cluster;

use crate::identity::{Looking, public_door};

/// A door to a service.
#[derive(Clone)]
pub(crate) enum Door {
    /// The caller's sidecar, in plain text.
    Local(SocketAddr),
    /// The called service's sidecar, as a peer.
    Peer(SocketAddr, Arc<ClientConfig>),
}

/// A connection through a door.
pub(crate) trait Wire: Read + Write + Send {}
impl<W: Read + Write + Send> Wire for W {}

impl Door {
    /// The public door of a service for one who has the certificate of a caller.
    pub(crate) fn peer(cluster: &Cluster, caller: &str, service: &str) -> Self {
        let papers = Papers::of_service(cluster, caller);
        Self::Peer(public_door(cluster, service), Papers::config(Some(&papers)))
    }

    /// Opens a connection for a protocol, or for none that is named, with a limit to each read and write.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) fn open(&self, alpn: &str, limit: Duration) -> std::io::Result<Box<dyn Wire>> {
        let connect = |addr: &SocketAddr| {
            let stream = TcpStream::connect(addr)?;
            stream.set_read_timeout(Some(limit))?;
            stream.set_write_timeout(Some(limit))?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        match self {
            Self::Local(addr) => Ok(Box::new(connect(addr)?)),
            Self::Peer(addr, config) => {
                let mut config = ClientConfig::clone(config);
                config.alpn_protocols =
                    if alpn.is_empty() { Vec::new() } else { vec![alpn.into()] };
                let name = ServerName::try_from("web").expect("a name");
                let connection = ClientConnection::new(Arc::new(config), name);
                let connection = connection.map_err(std::io::Error::other)?;
                Ok(Box::new(StreamOwned::new(connection, connect(addr)?)))
            }
        }
    }
}

/// A certificate with its key, and who has signed it.
#[derive(Debug, Clone)]
pub(crate) struct Papers {
    /// The certificate and those above it.
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
    /// Whom to trust for it; empty where that is not known.
    pub(crate) root_pem: String,
}

impl Papers {
    /// What the agent gives to a service.
    pub(crate) fn of_service(cluster: &Cluster, service: &str) -> Self {
        let path = format!("/v1/agent/connect/ca/leaf/{service}");
        let leaf = cluster.agent.api().get(&path).and_then(weft_tests::Answer::ok);
        let leaf = leaf.expect("the agent has a certificate").json();
        let pem = |field: &str| leaf[field].as_str().expect("PEM").to_owned();
        Self { chain_pem: pem("CertPEM"), key_pem: pem("PrivateKeyPEM"), root_pem: String::new() }
    }

    /// What an authority makes that nobody in the mesh knows: for a host, or for whom it says.
    pub(crate) fn of_own_authority(name: &str, spiffe_id: Option<&str>) -> Self {
        let key = key();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority of one's own");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root_pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        Self { root_pem, ..Self::signed(&issuer, name, spiffe_id) }
    }

    /// What the holder of these papers makes, as if it were an authority.
    pub(crate) fn sign(&self, spiffe_id: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::from_pem(&self.key_pem).expect("a key");
        let made = Self::signed(&Issuer::new(params, key), "made", Some(spiffe_id));
        Self { chain_pem: format!("{}{}", made.chain_pem, self.chain_pem), ..made }
    }

    fn signed(issuer: &Issuer<'_, KeyPair>, name: &str, spiffe_id: Option<&str>) -> Self {
        let key = key();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = match spiffe_id {
            Some(id) => vec![SanType::URI(id.try_into().expect("an id"))],
            None => vec![SanType::DnsName("localhost".try_into().expect("a name"))],
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let chain_pem = params.signed_by(&key, issuer).expect("a certificate").pem();
        Self { chain_pem, key_pem: key.serialize_pem(), root_pem: String::new() }
    }

    /// The first certificate.
    pub(crate) fn first_der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.chain_pem.as_bytes()).expect("a certificate").to_vec()
    }

    /// A client that shows these papers, or none, and takes any server.
    pub(crate) fn config(papers: Option<&Self>) -> Arc<ClientConfig> {
        Self::config_speaking(papers, &rustls::version::TLS13)
    }

    /// As [`Self::config`], in one version of TLS.
    pub(crate) fn config_speaking(
        papers: Option<&Self>,
        version: &'static SupportedProtocolVersion,
    ) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .expect("the version is there")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Looking));
        let Some(papers) = papers else { return Arc::new(builder.with_no_client_auth()) };
        let chain = CertificateDer::pem_slice_iter(papers.chain_pem.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_slice(papers.key_pem.as_bytes()).expect("a key");
        let config = builder.with_client_auth_cert(chain, key);
        Arc::new(config.expect("a certificate with its key"))
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}
