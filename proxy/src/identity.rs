//! Leaf and roots as TLS configurations, made once for each change and swapped whole.
//!
//! New handshakes use the new ones; live connections go on unless the root that vouched for the
//! caller is gone; connections that wait in pools for their next request are retired with the
//! identity that they were made with.

use std::net::SocketAddr;
use std::sync::Arc;

use weft_core::ca::{Leaf, TrustBundle};
use weft_core::config_entry::{CongestionControl, MeshTls, Protocol, TlsDirection};
use weft_core::identity::SpiffeId;
use weft_core::time::Timestamp;
use weft_runtime::clock;
use weft_runtime::tls::rustls::pki_types::CertificateDer;
use weft_runtime::tls::rustls::{ClientConfig, ServerConfig};
use weft_runtime::tls::{
    ClientAuth, Identity, PeerCheck, Resumption, ServerOptions, Sessions, Spoken, TlsError, Trust,
    client_config_with, fingerprint, peer_certificate, server_config_with,
};

use crate::config::Sharing;
use crate::transport::quic;

/// HTTP/1.1 between proxies.
pub(crate) const ALPN_HTTP1: &str = "http/1.1";
/// HTTP/2 between proxies.
pub(crate) const ALPN_HTTP2: &str = "h2";
/// Bytes between proxies, one connection for each.
pub(crate) const ALPN_TCP: &str = "weft-tcp";
/// Datagrams between proxies, one connection for each session.
pub(crate) const ALPN_UDP: &str = "weft-udp";

/// What a proxy shows and whom it trusts, until either changes.
#[derive(Debug)]
pub(crate) struct Credentials {
    leaf: Leaf,
    bundle: TrustBundle,
    identity: Identity,
    trust: Trust,
}

/// How to call one SPIFFE ID, for each protocol of the hop.
#[derive(Debug)]
pub(crate) struct ClientConfigs {
    pub(crate) http1: Arc<ClientConfig>,
    pub(crate) http2: Arc<ClientConfig>,
    /// For requests that are values, on streams where the peer has them.
    pub(crate) messages: Arc<ClientConfig>,
    tcp: Arc<ClientConfig>,
    /// For datagrams.
    pub(crate) udp: Arc<ClientConfig>,
    /// Of connections that carry bytes; those with requests are kept open and resume nothing.
    sessions: Sessions,
    /// QUIC needs TLS 1.3.
    speaks_quic: bool,
}

impl ClientConfigs {
    /// Makes how to call over QUIC; `None` where TLS 1.3 is not to be spoken.
    pub(crate) fn quic(&self, congestion: CongestionControl) -> Option<quic::CallerConfig> {
        if self.speaks_quic { quic::CallerConfig::new(&self.http1, congestion) } else { None }
    }

    /// Returns how to call the one at an address for connections that carry bytes.
    pub(crate) fn tcp(&self, address: SocketAddr) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.tcp);
        config.resumption = self.sessions.with_peer(address);
        Arc::new(config)
    }
}

/// What of the trust is gone that connections were made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing, or a root whose time was over: what was made under that is as good as it was.
    Nothing,
    /// Somebody was revoked.
    Holder,
    /// A root is no longer trusted.
    Root,
}

impl Credentials {
    /// Checks leaf and roots.
    ///
    /// # Errors
    /// [`TlsError`] when they are damaged or do not belong together.
    pub(crate) fn new(leaf: &Leaf, bundle: &TrustBundle) -> Result<Self, TlsError> {
        Ok(Self {
            leaf: leaf.clone(),
            bundle: bundle.clone(),
            identity: Identity::from_leaf(leaf)?,
            trust: Trust::from_bundle(bundle)?,
        })
    }

    /// Whether they were made of the same leaf and roots.
    pub(crate) fn is_of(&self, leaf: &Leaf, bundle: &TrustBundle) -> bool {
        self.leaf == *leaf && self.bundle == *bundle
    }

    /// Returns whom they speak for.
    pub(crate) fn spiffe_id(&self) -> &SpiffeId {
        self.identity.spiffe_id()
    }

    /// Returns until when the leaf is valid.
    pub(crate) fn valid_before(&self) -> Timestamp {
        self.identity.valid_before()
    }

    /// Returns what of the trust of those before is gone.
    pub(crate) fn loss_since(&self, before: &Self) -> Loss {
        let stays = |root: &CertificateDer<'_>| {
            self.trust.certificates().iter().any(|present| present.as_ref() == root.as_ref())
                || self.bundle.retired.contains(&fingerprint(root))
        };
        let revoked = &before.bundle.revoked;
        if !before.trust.certificates().iter().all(stays) {
            Loss::Root
        } else if !self.bundle.revoked.iter().all(|it| revoked.contains(it)) {
            Loss::Holder
        } else {
            Loss::Nothing
        }
    }

    /// Whether a connection stays, whose other end has shown this chain. That it has ended since
    /// is no reason to cut it.
    pub(crate) fn still_trusts(&self, chain: &[CertificateDer<'_>], loss: Loss) -> bool {
        match loss {
            Loss::Nothing => true,
            Loss::Holder => self.trust.check_holder(chain).is_ok(),
            Loss::Root => peer_certificate(chain).is_ok_and(|shown| {
                let now = clock::wall().min(shown.valid_before).max(shown.valid_after);
                self.trust.check_peer(chain, now).is_ok()
            }),
        }
    }

    /// Whether who has shown this chain would be let in now.
    pub(crate) fn admits(&self, chain: &[CertificateDer<'_>]) -> bool {
        self.trust.check_peer(chain, clock::wall()).is_ok()
    }

    /// Makes the configuration for callers; what they may speak inside follows from what the
    /// local instance speaks.
    pub(crate) fn server_config(
        &self,
        protocol: Protocol,
        (tls, mux): (&MeshTls, Sharing),
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let (own, resumption): (&[&str], _) = match protocol {
            Protocol::Grpc | Protocol::Http | Protocol::Http2 => {
                // These connections are pooled; a full handshake each is cheap and checks anew.
                (&[ALPN_HTTP2, ALPN_HTTP1], Resumption::Off)
            }
            Protocol::Tcp => (&[ALPN_TCP], Resumption::Tickets),
            Protocol::Udp => (&[ALPN_UDP], Resumption::Off),
        };
        // Who offers it wants it more than what else it offers.
        let alpn = &[shared(mux), own].concat();
        let spoken = &tls.incoming.as_ref().map(Spoken::of).transpose()?.unwrap_or_default();
        let options = ServerOptions { client_auth: ClientAuth::Required, alpn, resumption, spoken };
        let config = server_config_with(&self.identity, &self.trust, &options)?;
        Ok(Arc::new(config))
    }

    /// Makes the configurations for calling exactly one identity.
    pub(crate) fn client_configs(
        &self,
        peer: &SpiffeId,
        (tls, mux): (&MeshTls, Sharing),
    ) -> Result<ClientConfigs, TlsError> {
        let spoken = tls.outgoing.as_ref().map(Spoken::of).transpose()?.unwrap_or_default();
        let with = |alpn: &[&str]| -> Result<Arc<ClientConfig>, TlsError> {
            let check = PeerCheck::Exactly(peer.clone());
            let mut config =
                client_config_with(&self.identity, &self.trust, check, (alpn, &spoken))?;
            // Intentions of those called may judge by it.
            config.enable_sni = true;
            Ok(Arc::new(config))
        };
        Ok(ClientConfigs {
            http1: with(&[shared(mux), &[ALPN_HTTP1]].concat())?,
            http2: with(&[ALPN_HTTP2])?,
            messages: with(&[shared(mux), &[ALPN_HTTP2]].concat())?,
            tcp: with(&[shared(mux), &[ALPN_TCP]].concat())?,
            udp: with(&[shared(mux), &[ALPN_UDP]].concat())?,
            sessions: Sessions::default(),
            speaks_quic: tls.outgoing.as_ref().is_none_or(TlsDirection::speaks_tls13),
        })
    }

    /// Makes the configuration for callers over QUIC of that for those over TCP; `None` where TLS 1.3
    /// is not to be spoken.
    pub(crate) fn quic_server(
        over_tcp: &ServerConfig,
        (tls, congestion): (&MeshTls, CongestionControl),
    ) -> Option<quic::ServerConfig> {
        let speaks = tls.incoming.as_ref().is_none_or(TlsDirection::speaks_tls13);
        if speaks { quic::ServerConfig::new(over_tcp, congestion) } else { None }
    }
}

fn shared(mux: Sharing) -> &'static [&'static str] {
    match mux {
        Sharing::Auto => &[weft_core::traffic::mux::ALPN],
        Sharing::Off => &[],
    }
}
