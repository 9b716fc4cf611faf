//! A caller with the certificate of a service and a TLS of its own, in place of a sidecar: what it sends
//! comes to the other side's public door as it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
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
        let path = format!("/v1/agent/connect/ca/leaf/{caller}");
        let leaf = cluster.agent.api().get(&path).and_then(weft_tests::Answer::ok);
        let leaf = leaf.expect("the agent has a certificate").json();
        let pem = |field: &str| leaf[field].as_str().expect("PEM").to_owned();
        let chain = pem("CertPEM");
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_slice(pem("PrivateKeyPEM").as_bytes()).expect("a key");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3 is there")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Looking))
            .with_client_auth_cert(chain, key)
            .expect("a certificate with its key");
        Self::Peer(public_door(cluster, service), Arc::new(config))
    }

    /// Opens a connection for a protocol, with a limit to each read and write.
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
                config.alpn_protocols = vec![alpn.into()];
                let name = ServerName::try_from("web").expect("a name");
                let connection = ClientConnection::new(Arc::new(config), name);
                let connection = connection.map_err(std::io::Error::other)?;
                Ok(Box::new(StreamOwned::new(connection, connect(addr)?)))
            }
        }
    }
}
