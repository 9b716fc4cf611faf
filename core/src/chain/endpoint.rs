//! Where the instances behind a target are reached.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config_entry::blank::is_blank;
use crate::name::InstanceId;

/// One usable instance of a target: where its sidecar listens for mTLS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// The sidecar's address.
    pub address: SocketAddr,
    /// Its share among the others, at least 1.
    pub weight: u16,
    /// The sidecar's registration, for people and metrics.
    pub instance: InstanceId,
    /// How far away it is: those of a higher tier are for when those of lower ones do not suffice. 0 for all where
    /// near ones do not come first.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub tier: u8,
}
