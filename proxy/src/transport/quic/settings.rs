//! How QUIC is spoken: what is bounded, how fast it goes, and the TLS that it is under.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use weft_core::config_entry::CongestionControl;
use weft_runtime::tls::rustls;

use super::ALPN;

/// Streams at a time on a connection: what a worker has in flight to one other proxy under load. What
/// comes beyond goes by TCP.
const STREAMS_MAX: u32 = 1024;
/// Bytes on a stream that its reader has not taken: 160 Mbit/s over 100 ms.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Bytes on all streams together that their readers have not taken: sixteen readers that stand still
/// stop no other.
const WINDOW_BYTES: u32 = 32 << 20;
/// Bytes that were sent and not acknowledged: as much as one may receive in 250 ms at 1 Gbit/s.
const UNACKNOWLEDGED_BYTES_MAX: u64 = 32 << 20;
/// How long a peer may say nothing: it is gone, or the path to it.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often a caller that has nothing to say shows that it is there: three of them may get lost, and
/// tables of addresses on the way (NAT) forget UDP after 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(8);
/// Datagrams that wait to be taken, and to be sent.
///
/// **Units**: bytes.
const DATAGRAMS_BYTES: usize = 1 << 20;
/// Handshakes that wait for a worker, and what they may have sent meanwhile.
const HANDSHAKES_WAITING_MAX: usize = 256;
const HANDSHAKE_BYTES_MAX: u64 = 64 << 10;
const HANDSHAKES_BYTES_MAX: u64 = 4 << 20;

/// How callers are met.
#[derive(Clone)]
pub(crate) struct ServerConfig(pub(super) quinn::ServerConfig);

/// How one identity is called.
#[derive(Clone)]
pub(crate) struct CallerConfig(pub(super) quinn::ClientConfig);

impl ServerConfig {
    /// Makes it of the configuration for callers over TCP: the same identity, the same check of theirs.
    /// `None` where TLS 1.3 is not to be spoken, without which there is no QUIC.
    pub(crate) fn new(tls: &rustls::ServerConfig, congestion: CongestionControl) -> Option<Self> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
        // Each connection is a full handshake, which judges anew; nothing is said before its end.
        tls.send_tls13_tickets = 0;
        tls.max_early_data_size = 0;
        let crypto = QuicServerConfig::try_from(tls).ok()?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(transport(congestion, None));
        config.migration(true);
        config.max_incoming(HANDSHAKES_WAITING_MAX);
        config.incoming_buffer_size(HANDSHAKE_BYTES_MAX);
        config.incoming_buffer_size_total(HANDSHAKES_BYTES_MAX);
        Some(Self(config))
    }
}

impl CallerConfig {
    /// Makes it of the configuration for calls over TCP. `None` where TLS 1.3 is not to be spoken.
    pub(crate) fn new(tls: &rustls::ClientConfig, congestion: CongestionControl) -> Option<Self> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        tls.enable_early_data = false;
        let crypto = QuicClientConfig::try_from(tls).ok()?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(transport(congestion, Some(KEEP_ALIVE)));
        Some(Self(config))
    }
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for CallerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallerConfig").finish_non_exhaustive()
    }
}

fn transport(congestion: CongestionControl, keep_alive: Option<Duration>) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    // A caller opens streams with both directions. The called one says goodbye on one of its own, and
    // the caller answers so.
    let bidi = if keep_alive.is_some() { 0 } else { STREAMS_MAX };
    config.max_concurrent_bidi_streams(VarInt::from_u32(bidi));
    config.max_concurrent_uni_streams(VarInt::from_u32(1));
    config.stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES));
    config.receive_window(VarInt::from_u32(WINDOW_BYTES));
    config.send_window(UNACKNOWLEDGED_BYTES_MAX);
    config.max_idle_timeout(IdleTimeout::try_from(SILENCE_MAX).ok());
    config.keep_alive_interval(keep_alive);
    config.datagram_receive_buffer_size(Some(DATAGRAMS_BYTES));
    config.datagram_send_buffer_size(DATAGRAMS_BYTES);
    let controller: Arc<dyn ControllerFactory + Send + Sync> = match congestion {
        CongestionControl::Bbr => Arc::new(BbrConfig::default()),
        CongestionControl::Cubic | CongestionControl::Unset => Arc::new(CubicConfig::default()),
        CongestionControl::NewReno => Arc::new(NewRenoConfig::default()),
    };
    config.congestion_controller_factory(controller);
    Arc::new(config)
}
