//! Which versions of TLS members speak with each other, and with which suites.

use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use weft_core::config_entry::TlsDirection;

use super::{TlsError, provider};

static FROM_12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static ONLY_12: [&SupportedProtocolVersion; 1] = [&TLS12];
static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];

/// Versions and suites, made once for each change of the mesh's settings.
#[derive(Debug, Clone)]
pub struct Spoken {
    pub(super) versions: &'static [&'static SupportedProtocolVersion],
    pub(super) provider: Arc<CryptoProvider>,
}

impl Default for Spoken {
    /// TLS 1.3 alone.
    fn default() -> Self {
        Self { versions: &ONLY_13, provider: provider() }
    }
}

impl Spoken {
    /// Makes what a direction of the mesh entry says.
    ///
    /// # Errors
    /// [`TlsError::Suite`] when it names a suite of TLS 1.2 that is not spoken.
    pub fn of(direction: &TlsDirection) -> Result<Self, TlsError> {
        if !direction.speaks_tls12() {
            return Ok(Self::default());
        }
        let old = aws_lc_rs::ALL_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_none());
        let mut provider = CryptoProvider::clone(&provider());
        if direction.cipher_suites.is_empty() {
            provider.cipher_suites.extend(old);
        } else {
            for name in &direction.cipher_suites {
                let mut known = old.clone();
                let suite = known.find(|suite| suite.suite().as_str() == Some(name.as_str()));
                let suite = suite.ok_or_else(|| TlsError::Suite { name: name.clone() })?;
                provider.cipher_suites.push(*suite);
            }
        }
        let versions: &[_] = if direction.speaks_tls13() { &FROM_12 } else { &ONLY_12 };
        Ok(Self { versions, provider: Arc::new(provider) })
    }
}
