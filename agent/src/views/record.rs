//! What can be watched: it comes as an envelope, whole or as a difference, and is kept as one.

use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_core::ca::TrustBundle;
use weft_core::catalog::CapturedUpstreams;
use weft_core::chain::CompiledChain;
use weft_core::config_entry::{MeshTls, ServiceDefaults};
use weft_core::intention::IntentionSet;
use weft_core::watch::{Delta, Keyed, Misfit};
use weft_proto::envelope::{self, InvalidEnvelope};
use weft_runtime::digest::{self, Digest};

/// A watched value.
pub(super) trait Record: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Returns what a server knows it by.
    fn digest(&self) -> Digest {
        digest::of_bytes(&envelope::encode(self))
    }

    /// Returns the value after a difference.
    ///
    /// # Errors
    /// [`DeltaFault`] when it is not one of this value.
    fn brought_up(&self, _changed: &[u8], _removed: &[u8]) -> Result<Self, DeltaFault> {
        Err(DeltaFault::NoList)
    }
}

/// States why a difference cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeltaFault {
    /// It is for another list.
    #[error("it is not for the list that is here")]
    Misfit(#[from] Misfit),
    /// The value is no list.
    #[error("the value is sent whole only")]
    NoList,
    /// It is damaged.
    #[error("it cannot be read")]
    Unreadable(#[from] InvalidEnvelope),
}

impl Record for CapturedUpstreams {}
impl Record for CompiledChain {}
impl Record for IntentionSet {}
impl Record for MeshTls {}
impl Record for ServiceDefaults {}
impl Record for TrustBundle {}

impl<T> Record for Vec<T>
where
    T: Keyed<Key: DeserializeOwned>,
    T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn digest(&self) -> Digest {
        digest::of_list(self.iter().map(|record| digest::of_bytes(&envelope::encode(record))))
    }

    fn brought_up(&self, changed: &[u8], removed: &[u8]) -> Result<Self, DeltaFault> {
        let delta =
            Delta { changed: envelope::decode(changed)?, removed: envelope::decode(removed)? };
        let mut list = self.clone();
        delta.apply(&mut list)?;
        Ok(list)
    }
}
