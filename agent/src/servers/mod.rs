//! The servers, as this agent reaches them: one connection to one of them, renewed along the
//! list when it breaks.

use std::sync::Arc;

use tonic::transport::Channel;
use weft_core::name::{Datacenter, NodeName, TrustDomain};

/// Who this agent is in its cluster; fixed once it has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The host's name.
    pub node: NodeName,
    /// A UUID that stays with the data directory.
    pub node_id: String,
    /// The cluster's datacenter.
    pub datacenter: Datacenter,
    /// The mesh that vouches for identities.
    pub trust_domain: TrustDomain,
    /// The cluster's id.
    pub cluster_id: String,
}

/// The way to the servers; clones share it.
#[derive(Debug, Clone)]
pub struct Servers {
    membership: Arc<Membership>,
    channel: Channel,
}

impl Servers {
    /// Returns a channel to the current server; it fails over by itself. Cheap to call.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Returns who this agent is.
    pub fn membership(&self) -> Arc<Membership> {
        self.membership.clone()
    }
}
