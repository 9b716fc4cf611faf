//! TLS with what is probed: the configurations, and the handshake.

use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncRead, AsyncWrite};
use weft_runtime::tls::rustls::ClientConfig;
use weft_runtime::tls::rustls::pki_types::ServerName;
use weft_runtime::tls::tokio_rustls::TlsConnector;
use weft_runtime::tls::tokio_rustls::client::TlsStream;
use weft_runtime::tls::{OutsideTrust, TlsError, client_config_outside};

use crate::local::TlsProbe;

/// What is spoken after the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Whatever the peer likes.
    Any,
    /// HTTP/2, which is asked for in the handshake.
    Http2,
}

/// The TLS configurations of probes, made when they are first needed: once in the life of an
/// agent, so that the reading of the system's authorities is no burden.
#[derive(Debug, Default)]
pub(in crate::checks) struct ProbeTls {
    anyone: OnceLock<Arc<ClientConfig>>,
    anyone_http2: OnceLock<Arc<ClientConfig>>,
    system: OnceLock<Arc<ClientConfig>>,
    system_http2: OnceLock<Arc<ClientConfig>>,
}

impl ProbeTls {
    /// Returns the configuration for a target.
    ///
    /// # Errors
    /// When the system has no list of authorities.
    pub(super) fn config(
        &self,
        skip_verify: bool,
        protocol: Protocol,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let cell = match (skip_verify, protocol) {
            (true, Protocol::Any) => &self.anyone,
            (true, Protocol::Http2) => &self.anyone_http2,
            (false, Protocol::Any) => &self.system,
            (false, Protocol::Http2) => &self.system_http2,
        };
        if let Some(config) = cell.get() {
            return Ok(config.clone());
        }
        let trust = if skip_verify { OutsideTrust::Anyone } else { OutsideTrust::System };
        let mut made = client_config_outside(&trust)?;
        if protocol == Protocol::Http2 {
            made.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(cell.get_or_init(|| Arc::new(made)).clone())
    }

    /// Shakes hands with the peer at an address.
    ///
    /// # Errors
    /// In words: the peer's certificate is not accepted, or it speaks no TLS.
    pub(super) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        (address, tls): (&str, &TlsProbe),
        protocol: Protocol,
    ) -> Result<TlsStream<S>, String> {
        let config = self.config(tls.skip_verify, protocol).map_err(|error| error.to_string())?;
        let name = match tls.server_name.as_str() {
            "" => address.rsplit_once(':').map_or(address, |(host, _)| host),
            name => name,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        shaken.map_err(|error| format!("TLS handshake failed: {error}"))
    }
}
