//! The one crypto provider: aws-lc-rs. Passed explicitly; the process-wide default is not used.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use crate::clock;

/// Returns the provider of every TLS configuration.
///
/// TLS 1.3 suites only. Key exchange prefers X25519MLKEM768, so that traffic recorded today
/// stays closed to a later quantum computer. AES-128-GCM comes first: it is the cheapest on
/// machines with AES instructions, and 128 bits are not the weak link of P-256 certificates.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| {
            Arc::new(CryptoProvider {
                cipher_suites: vec![
                    aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
                    aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
                    aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
                ],
                kx_groups: vec![
                    aws_lc_rs::kx_group::X25519MLKEM768,
                    aws_lc_rs::kx_group::X25519,
                    aws_lc_rs::kx_group::SECP256R1,
                ],
                ..aws_lc_rs::default_provider()
            })
        })
        .clone()
}

/// The wall clock by which certificates are judged in handshakes.
#[derive(Debug)]
pub(super) struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(clock::wall().0)))
    }
}
