//! TLS before a server that speaks none, with a certificate of an authority that nobody knows yet.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use weft_runtime::tls::tokio_rustls::TlsAcceptor;

/// A door with TLS that passes on what it reads.
#[derive(Debug)]
pub struct TlsFront {
    addr: SocketAddr,
    /// The certificate of the authority that vouches for it, PEM.
    pub authority_pem: String,
}

impl TlsFront {
    /// Opens one on a free port of loopback, for `localhost` and that address.
    ///
    /// # Panics
    /// When no port can be bound, or no certificate made.
    pub fn start(behind: SocketAddr) -> Self {
        let (authority_pem, config) = config().expect("certificates can be made");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let addr = listener.local_addr().expect("a bound socket has an address");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        // Ends with the process: nothing waits for it.
        thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().expect("a runtime can be made");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move { pass(&acceptor, stream, behind).await });
                }
            });
        });
        Self { addr, authority_pem }
    }

    /// Returns where it is, as the beginning of a URL.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }
}

async fn pass(
    acceptor: &TlsAcceptor,
    stream: tokio::net::TcpStream,
    behind: SocketAddr,
) -> io::Result<()> {
    let mut outside = acceptor.accept(stream).await?;
    let mut inside = tokio::net::TcpStream::connect(behind).await?;
    tokio::io::copy_bidirectional(&mut outside, &mut inside).await?;
    Ok(())
}

fn config() -> anyhow::Result<(String, ServerConfig)> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "An authority of its own");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_pem = params.self_signed(&key)?.pem();
    let authority = Issuer::new(params, key);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let names = ["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(weft_runtime::tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok((authority_pem, config))
}
