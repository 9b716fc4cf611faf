//! One certificate authority for every pair: P-256, a caller `shop` and a called `web`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// The trust domain of the bench.
pub(crate) const TRUST_DOMAIN: &str = "bench.mesh";

/// One certificate with its key.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// The certificate.
    pub(crate) certificate_pem: String,
    /// The key, PKCS#8.
    pub(crate) key_pem: String,
}

/// Everything that the pairs need, also as files.
#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    /// The authority's certificate.
    pub(crate) root_pem: String,
    /// The caller's leaf, with its SPIFFE ID alone.
    pub(crate) shop: Pair,
    /// The called service's leaf, with its SPIFFE ID alone.
    pub(crate) web: Pair,
    /// `ca.pem`, and for `shop` and `web` each `.crt`, `.key` and `.pem` (both). These leaves have a
    /// DNS name besides, which the peers check.
    pub(crate) folder: PathBuf,
}

/// The SPIFFE ID of a service of the bench.
pub(crate) fn spiffe_id(service: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/default/dc/dc1/svc/{service}")
}

/// Makes the authority and all leaves, and writes the files.
pub(crate) fn make(folder: &Path) -> anyhow::Result<Certificates> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "bench root");
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{TRUST_DOMAIN}").try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    fs::write(folder.join("ca.pem"), root.pem()).context("writing ca.pem")?;
    for name in ["shop", "web"] {
        let pair = leaf(&issuer, name, true)?;
        fs::write(folder.join(format!("{name}.crt")), &pair.certificate_pem)?;
        fs::write(folder.join(format!("{name}.key")), &pair.key_pem)?;
        let both = format!("{}{}", pair.certificate_pem, pair.key_pem);
        fs::write(folder.join(format!("{name}.pem")), both)?;
    }
    Ok(Certificates {
        root_pem: root.pem(),
        shop: leaf(&issuer, "shop", false)?,
        web: leaf(&issuer, "web", false)?,
        folder: folder.to_owned(),
    })
}

fn leaf(issuer: &Issuer<'_, KeyPair>, service: &str, has_dns_name: bool) -> anyhow::Result<Pair> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, service);
    params.subject_alt_names = vec![SanType::URI(spiffe_id(service).try_into()?)];
    if has_dns_name {
        params.subject_alt_names.push(SanType::DnsName(format!("{service}.bench").try_into()?));
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer)?;
    Ok(Pair { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

/// A TLS client as `shop`: TLS 1.3, X25519, no resumption, so that every pair does the same work.
pub(crate) fn client(pair: &Pair, alpn: &str) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let chain = CertificateDer::pem_slice_iter(pair.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes())?;
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_client_auth_cert(chain, key)?;
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = if alpn.is_empty() { vec![] } else { vec![alpn.into()] };
    Ok(Arc::new(config))
}

/// Takes any server: what is measured is the server's work, the client's only stands in the way.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
