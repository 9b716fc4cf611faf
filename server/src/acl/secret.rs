//! Secrets of tokens on their way in: they are hashed at once, and printed by nothing.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use weft_core::acl::SecretHash;

/// The secret of a token.
///
/// **Shape**: not empty, without blanks at its ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a secret as it was written; blanks around it do not count. `None` when there is none.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// Returns the text, for the answers that show it to who has it.
    pub(crate) fn shown(&self) -> &str {
        &self.0
    }

    /// Returns what the cluster keeps of it.
    pub(crate) fn hash(&self) -> SecretHash {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, self.0.as_bytes()).as_ref());
        SecretHash::new(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a request shows.
#[derive(Debug, Clone)]
pub(crate) enum Credential {
    /// Nothing: it counts as the anonymous token.
    None,
    /// The secret of a token.
    Secret {
        /// As it was shown.
        secret: Secret,
        /// What it is looked up by.
        hash: SecretHash,
    },
}

impl Credential {
    /// Takes what a request shows.
    pub(crate) fn of(secret: Option<Secret>) -> Self {
        match secret {
            Some(secret) => Self::Secret { hash: secret.hash(), secret },
            None => Self::None,
        }
    }

    /// Returns the secret that was shown.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::None => None,
            Self::Secret { secret, .. } => Some(secret),
        }
    }
}
