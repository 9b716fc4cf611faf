//! The version numbers of replicated state. Waiting for one is `watch`'s affair.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The Raft log index at which something was decided; what `X-Consul-Index` carries.
///
/// **Units**: entries of the replicated log, from 1. 0 means "none yet".
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Index(pub u64);

impl Index {
    /// Returns the index as an API answer shows it: never 0, as clients take 0 for "no index".
    ///
    /// **Source**: Consul: api-docs/features/blocking#implementation-details.
    pub fn shown(self) -> u64 {
        self.0.max(1)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
