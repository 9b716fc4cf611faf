//! Whether the agents of hosts live: a check of the node that the leader writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Answer, Change, NodeKey, Refusal, State};
use crate::catalog::{CatalogRegistration, CheckStatus, HealthCheck, Node, SERF_HEALTH};
use crate::index::Index;
use crate::name::NodeName;
use crate::time::Timestamp;

/// What the leader found out of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLiveness {
    /// The host.
    pub node: NodeName,
    /// Whether its agent has a stream to a server.
    pub is_alive: bool,
    /// The modify index of its check when the leader judged: what was written since is newer
    /// knowledge, and stays.
    pub as_of: Index,
}

impl NodeLiveness {
    fn status(&self) -> (CheckStatus, &'static str) {
        if self.is_alive {
            (CheckStatus::Passing, "Agent alive and reachable")
        } else {
            (CheckStatus::Critical, "Agent not live or unreachable")
        }
    }
}

impl State {
    /// Returns the hosts that have an agent, and so a lease, each with whether its check is
    /// critical.
    pub fn leased_nodes(&self) -> impl Iterator<Item = (&NodeName, bool)> {
        let agents = self.nodes.values().filter(|row| !row.node.id.is_empty());
        agents.filter_map(|row| {
            let check = row.checks.get(SERF_HEALTH)?;
            Some((&row.node.name, check.status == CheckStatus::Critical))
        })
    }

    /// Returns the check that says whether a host's agent lives.
    pub fn liveness(&self, node: &NodeName) -> Option<&Arc<HealthCheck>> {
        self.nodes.get(&NodeKey::from(node))?.checks.get(SERF_HEALTH)
    }

    pub(super) fn set_liveness(
        &mut self,
        index: Index,
        now: Timestamp,
        liveness: &NodeLiveness,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        let key = NodeKey::from(&liveness.node);
        // A host that is gone is not brought back by news of its death.
        let Some(row) = self.nodes.get(&key) else { return Ok(Answer::CasMismatch) };
        let check = row.checks.get(SERF_HEALTH);
        let Some(check) = check.filter(|check| check.modify_index == liveness.as_of) else {
            return Ok(Answer::CasMismatch);
        };
        let (status, output) = liveness.status();
        let check = HealthCheck { status, output: output.to_owned(), ..HealthCheck::clone(check) };
        let node = Node::clone(&row.node);
        let registration = CatalogRegistration { node, services: Vec::new(), checks: vec![check] };
        self.register(index, registration, changes)?;
        self.settle_sessions(index, now, &key, changes);
        Ok(Answer::Done { changed: !changes.is_empty() })
    }
}
