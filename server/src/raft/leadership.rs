//! Whether this server leads: a level to wait for.

use tokio::sync::watch;

use super::error::ProposeError;
use super::types::{LogId, Metrics, NodeId, Roles};

/// Follows whether this server leads.
pub(crate) struct Leadership {
    pub(super) id: NodeId,
    pub(super) metrics: watch::Receiver<Metrics>,
    pub(super) roles: watch::Receiver<Roles>,
    /// The term in which it was last said to lead.
    pub(super) term: u64,
}

impl Leadership {
    /// Waits until this server leads and has applied all that was acknowledged before.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub(crate) async fn gained(&mut self) -> Result<u64, ProposeError> {
        let id = self.id;
        loop {
            let elected = self.roles.wait_for(|roles| roles.current_leader == Some(id)).await;
            elected.map_err(|_| ProposeError::Stopped)?;
            // What is told in full follows at once; until the empty entry is applied each look
            // is at another entry.
            let decided = |metrics: &Metrics| {
                leads(id, metrics) || metrics.current_leader.is_some_and(|leader| leader != id)
            };
            let decided = self.metrics.wait_for(decided).await;
            let decided = decided.map_err(|_| ProposeError::Stopped)?;
            if leads(id, &decided) {
                self.term = decided.current_term;
                return Ok(self.term);
            }
        }
    }

    /// Waits until this server leads no more, or in another term.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub(crate) async fn lost(&mut self) -> Result<(), ProposeError> {
        let (id, term) = (self.id, self.term);
        let over =
            |roles: &Roles| roles.vote.leader_id.term != term || roles.current_leader != Some(id);
        self.roles.wait_for(over).await.map(drop).map_err(|_| ProposeError::Stopped)
    }
}

/// Counts how often another server began to lead, or this one.
pub(super) async fn count_changes(
    mut roles: watch::Receiver<Roles>,
    changes: std::sync::Arc<std::sync::atomic::AtomicU64>,
) {
    let mut last = None;
    loop {
        let said = |roles: &Roles| Some((roles.vote.leader_id.term, roles.current_leader));
        let is_new = |roles: &Roles| roles.current_leader.is_some() && said(roles) != last;
        let Ok(seen) = roles.wait_for(is_new).await else { return };
        last = said(&seen);
        drop(seen);
        changes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// A leader begins with an empty entry. Once it is applied, so is everything that was
/// acknowledged under earlier leaders.
///
/// **Source**: Spec: Raft §6.4 (dissertation), §8.
pub(super) fn leads(id: NodeId, metrics: &Metrics) -> bool {
    let (mine, term) = (id, metrics.current_term);
    let is_own = |at: LogId| at.leader_id.term == term && at.leader_id.node_id == mine;
    metrics.current_leader == Some(id) && metrics.last_applied.is_some_and(is_own)
}
