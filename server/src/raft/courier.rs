//! Brings groups of commands to whoever leads: to the log here, or to another server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand_core::RngCore as _;
use tokio::sync::watch;
use weft_core::index::Index;
use weft_core::state::Answered;
use weft_runtime::{entropy, knob};

use super::call::{Call, Said};
use super::entries::Entries;
use super::error::ProposeError;
use super::lease::is_without_majority;
use super::network::{LEADER_LIMIT, Links};
use super::storage::Storage;
use super::types::{Group, Member, NodeId, Roles};

/// The way to the leader. Clones share it.
#[derive(Clone)]
pub(super) struct Courier {
    pub(super) id: NodeId,
    pub(super) entries: Entries,
    pub(super) storage: Storage,
    pub(super) links: Links,
    pub(super) roles: watch::Receiver<Roles>,
    /// The last index that readers see here.
    pub(super) progress: watch::Receiver<u64>,
    /// Whether this server is handing leadership over, and takes no commands.
    pub(super) resigned: Arc<AtomicBool>,
}

impl Courier {
    /// Has a group carried out, in one attempt. The answer is then visible here.
    ///
    /// # Errors
    /// [`ProposeError`]; after any of them the group may be sent again under its name.
    pub(super) async fn deliver(&self, group: &Group) -> Result<Arc<Answered>, ProposeError> {
        let leader = self.leader().ok_or(ProposeError::NoLeader(None))?;
        let answered = match leader {
            (id, _) if id == self.id => return self.here(group.clone()).await,
            (_, member) => self.send(&member, group).await,
        };
        let answered = match answered {
            // It knows better than this server who leads.
            Err(ProposeError::NoLeader(Some(other))) => self.send(&other, group).await?,
            answered => answered?,
        };
        self.wait_applied(answered.index).await;
        Ok(answered)
    }

    /// Has a group carried out by this server, which must lead.
    ///
    /// # Errors
    /// As [`Courier::deliver`].
    pub(super) async fn here(&self, group: Group) -> Result<Arc<Answered>, ProposeError> {
        if self.resigned.load(Ordering::Acquire) || self.leads_in_name_only() {
            return Err(ProposeError::NoLeader(None));
        }
        if self.is_leader() {
            // Only where the entry would be written first.
            self.storage.admit()?;
            self.storage.gauges().proposed(group.bytes());
        }
        let proposed = tokio::time::timeout(LEADER_LIMIT, self.entries.propose(group));
        let late = |_| ProposeError::Unanswered("no majority agreed in time".to_owned());
        let proposed = proposed.await.map_err(late)?;
        proposed.map_err(|error| self.storage.explain(error))
    }

    async fn send(&self, leader: &Member, group: &Group) -> Result<Arc<Answered>, ProposeError> {
        let call = Call::Propose(group.clone());
        let said = self.links.call(&leader.address, &call, LEADER_LIMIT).await?;
        let lost = knob("answers lost, per mille", 0);
        if lost > 0 && u64::from(entropy::rng().next_u32() % 1_000) < lost {
            return Err(ProposeError::Unanswered("its answer is lost".to_owned()));
        }
        match said {
            Said::Answered(answered) => Ok(answered),
            other => Err(ProposeError::Unanswered(format!("it said {other:?}"))),
        }
    }

    /// Waits until another server leads than now, but not longer than a pause.
    pub(super) async fn news_or(&self, pause: Duration) {
        // Over either way.
        let _ = tokio::time::timeout(pause, self.other_than(self.leader_id())).await;
    }

    /// Waits until another server leads than this one, or one at all.
    pub(super) async fn other_than(&self, before: Option<NodeId>) {
        let is_news =
            |roles: &Roles| roles.current_leader.is_some() && roles.current_leader != before;
        if self.roles.clone().wait_for(is_news).await.is_err() {
            // Consensus has ended; the next attempt says so.
            std::future::pending::<()>().await;
        }
    }

    /// Returns who leads, as far as this server knows.
    pub(super) fn leader_id(&self) -> Option<NodeId> {
        self.roles.borrow().current_leader
    }

    fn is_leader(&self) -> bool {
        self.roles.borrow().current_leader == Some(self.id)
    }

    fn leads_in_name_only(&self) -> bool {
        let roles = self.roles.borrow();
        roles.current_leader == Some(self.id)
            && is_without_majority(
                self.id,
                (&roles.vote, &roles.membership_config),
                &self.links.acks,
            )
    }

    fn leader(&self) -> Option<(NodeId, Member)> {
        let roles = self.roles.borrow();
        let id = roles.current_leader?;
        let member = roles.membership_config.membership().get_node(&id).cloned();
        Some((id, member.unwrap_or_default()))
    }

    /// Waits until an entry is visible here. A server that is far behind answers all the same:
    /// the write has happened.
    async fn wait_applied(&self, index: Index) {
        let mut progress = self.progress.clone();
        let applied = progress.wait_for(|applied| *applied >= index.0);
        let _ = tokio::time::timeout(LEADER_LIMIT, applied).await;
    }
}
