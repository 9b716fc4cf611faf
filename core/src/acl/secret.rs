//! The secret of a token, as the cluster keeps it: a digest.

use std::fmt;
use std::hint::black_box;

use serde::{Deserialize, Serialize};

/// The SHA-256 of a token's secret.
///
/// Secrets are UUIDs of 122 random bits, so a plain digest cannot be searched back.
/// **Shape**: 64 lower-case hexadecimal digits in text. Never shown in an answer or a log.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretHash([u8; 32]);

/// The half of a digest by which a token is looked up; the other half is compared in constant
/// time. Neither look-up tells anything of the other half by how long it takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretPrefix([u8; 16]);

/// States that a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the digest of a secret has 64 hexadecimal digits")]
pub struct InvalidSecretHash;

impl SecretHash {
    /// Wraps the digest of a secret.
    pub fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// Returns what the token is looked up by.
    pub fn prefix(&self) -> SecretPrefix {
        let mut prefix = [0; 16];
        prefix.copy_from_slice(&self.0[..16]);
        SecretPrefix(prefix)
    }

    /// Compares in a time that does not depend on the digests.
    pub fn matches(&self, other: &Self) -> bool {
        let differing = self
            .0
            .iter()
            .zip(&other.0)
            .fold(0, |differing, (one, other)| black_box(differing | (one ^ other)));
        black_box(differing) == 0
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

impl Eq for SecretHash {}

impl TryFrom<String> for SecretHash {
    type Error = InvalidSecretHash;
    fn try_from(text: String) -> Result<Self, InvalidSecretHash> {
        if text.len() != 64 || !text.is_ascii() {
            return Err(InvalidSecretHash);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = &text[2 * at..2 * at + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_| InvalidSecretHash)?;
        }
        Ok(Self(bytes))
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> String {
        hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}
