//! Handing leadership over, in a few milliseconds and without losing a write.
//!
//! openraft 0.9 has no leader transfer, and its voters refuse their votes while they hear a
//! leader. So the leader itself gives up its lease, stops taking commands, and releases the
//! voters: it has each of them vote for the target in the next term, as if the target had asked
//! already. The target then stands. Should anything fail on the way, nobody leads for the moment
//! and an election follows.
//!
//! **Source**: Spec: Raft §3.10 (dissertation).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::CommittedLeaderId;
use openraft::raft::AppendEntriesRequest;
use tracing::info;

use super::call::Call;
use super::consensus::Consensus;
use super::error::{MembersError, ProposeError};
use super::leadership::leads;
use super::lease::LEADERLESS_AFTER;
use super::types::{LogId, Member, Metrics, NodeId, Vote};
use weft_runtime::clock;

/// The time for entries under way to be applied, and for the target to have them.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);
/// The time for a server to take a message.
const CALL_LIMIT: Duration = Duration::from_secs(1);
/// The time for the target to be elected.
const ELECTED_LIMIT: Duration = Duration::from_secs(3);

impl Consensus {
    /// Hands leadership over, to a server or to the one that is least behind. Returns who leads
    /// then.
    ///
    /// # Errors
    /// [`MembersError`]; leadership may have moved all the same.
    pub(super) async fn transfer_here(&self, to: Option<NodeId>) -> Result<Member, MembersError> {
        let _one_at_a_time = self.membership.lock().await;
        let (target, member) = self.successor(to)?;
        self.resigned.store(true, Ordering::Release);
        self.raft.runtime_config().heartbeat(false);
        let outcome = self.make_leader(target, &member).await;
        self.raft.runtime_config().heartbeat(true);
        self.resigned.store(false, Ordering::Release);
        outcome
    }

    /// Chooses who is to lead.
    fn successor(&self, to: Option<NodeId>) -> Result<(NodeId, Member), MembersError> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        if !leads(self.id, &metrics) {
            return Err(ProposeError::NoLeader(None).into());
        }
        let membership = metrics.membership_config.membership();
        let matched: BTreeMap<NodeId, u64> = metrics
            .replication
            .iter()
            .flatten()
            .map(|(id, at)| (*id, at.map_or(0, |at| at.index)))
            .collect();
        let is_heard = |id: NodeId| {
            let last = self.links.acks.last(&metrics.vote, id);
            last.is_some_and(|at| clock::instant().duration_since(at) < LEADERLESS_AFTER)
        };
        let found = match to {
            Some(id) if id == self.id => {
                return Err(MembersError::NotTransferred("the server leads already".to_owned()));
            }
            Some(id) => membership.voter_ids().find(|voter| *voter == id),
            None => membership
                .voter_ids()
                .filter(|id| *id != self.id && is_heard(*id))
                .max_by_key(|id| matched.get(id).copied().unwrap_or_default()),
        };
        let found = found.and_then(|id| Some((id, membership.get_node(&id)?.clone())));
        found.ok_or_else(|| match to {
            Some(id) => MembersError::Unknown { what: format!("a voter with id {id:016x}") },
            None => MembersError::NotTransferred("no other voter is in contact".to_owned()),
        })
    }

    async fn make_leader(&self, target: NodeId, member: &Member) -> Result<Member, MembersError> {
        info!(to = member.name, "handing leadership over");
        let failed = |reason: String| MembersError::NotTransferred(reason);
        let mut metrics = self.raft.metrics();
        let is_even = |metrics: &Metrics| {
            let last = metrics.last_log_index;
            let matched = metrics.replication.as_ref().and_then(|all| all.get(&target).copied());
            metrics.last_applied.map(|at| at.index) == last
                && matched.flatten().map(|at| at.index) == last
        };
        match tokio::time::timeout(DRAIN_LIMIT, metrics.wait_for(is_even)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(ProposeError::Stopped.into()),
            Err(_) => return Err(failed(format!("{:?} did not catch up", member.name))),
        }
        let vote = Vote::new(metrics.borrow().current_term + 1, target);
        let membership = self.raft.metrics().borrow().membership_config.clone();
        let others = membership
            .voter_ids()
            .filter(|id| *id != self.id && *id != target)
            .filter_map(|id| membership.membership().get_node(&id).cloned());
        let release = Call::Release(vote);
        let releases = others.map(|other| {
            let release = &release;
            async move { self.links.call(&other.address, release, CALL_LIMIT).await }
        });
        // One that was not reached may vote all the same, or is not needed.
        futures::future::join_all(releases).await;
        let stands = self.links.call(&member.address, &Call::Elect, CALL_LIMIT).await;
        stands.map_err(|error| failed(MembersError::from(error).to_string()))?;
        let elected = metrics
            .wait_for(|metrics| metrics.current_leader.is_some_and(|leader| leader != self.id));
        match tokio::time::timeout(ELECTED_LIMIT, elected).await {
            Ok(Ok(metrics)) => {
                let leader = metrics.current_leader.unwrap_or_default();
                let membership = metrics.membership_config.membership();
                Ok(membership.get_node(&leader).cloned().unwrap_or_default())
            }
            Ok(Err(_)) => Err(ProposeError::Stopped.into()),
            Err(_) => Err(failed(format!("{:?} was not elected", member.name))),
        }
    }

    /// Votes for whom the leader names, although it was heard a moment ago.
    pub(super) async fn release(&self, vote: Vote) -> Result<(), ProposeError> {
        if vote.is_committed() {
            return Err(ProposeError::Unanswered("a release is no leadership".to_owned()));
        }
        // After an entry that no log has: openraft takes the vote, and goes no further, as it
        // would with a message of a leader, which an uncommitted vote is not.
        let nowhere = LogId::new(
            CommittedLeaderId::new(vote.leader_id.term, vote.leader_id.node_id),
            u64::MAX - 1,
        );
        let rpc = AppendEntriesRequest {
            vote,
            prev_log_id: Some(nowhere),
            entries: Vec::new(),
            leader_commit: None,
        };
        self.raft.append_entries(rpc).await.map(drop).map_err(|_| ProposeError::Stopped)
    }
}
