//! Whether this server leads: a level to wait for.

use tokio::sync::watch;

use super::error::ProposeError;
use super::types::{LogId, Metrics, NodeId};

/// Follows whether this server leads.
pub(crate) struct Leadership {
    pub(super) id: NodeId,
    pub(super) metrics: watch::Receiver<Metrics>,
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
        let leads = self.metrics.wait_for(|metrics| leads(id, metrics)).await;
        self.term = leads.map_err(|_| ProposeError::Stopped)?.current_term;
        Ok(self.term)
    }

    /// Waits until this server leads no more, or in another term.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub(crate) async fn lost(&mut self) -> Result<(), ProposeError> {
        let (id, term) = (self.id, self.term);
        let over = |metrics: &Metrics| metrics.current_term != term || !leads(id, metrics);
        self.metrics.wait_for(over).await.map(drop).map_err(|_| ProposeError::Stopped)
    }
}

/// Counts how often another server began to lead, or this one.
pub(super) async fn count_changes(
    mut metrics: watch::Receiver<Metrics>,
    changes: std::sync::Arc<std::sync::atomic::AtomicU64>,
) {
    let mut last = None;
    loop {
        let is_new = |metrics: &Metrics| {
            metrics.current_leader.is_some()
                && Some((metrics.current_term, metrics.current_leader)) != last
        };
        let Ok(seen) = metrics.wait_for(is_new).await else { return };
        last = Some((seen.current_term, seen.current_leader));
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
