//! When this server stands for election: only after it has asked around.
//!
//! openraft 0.9 has no pre-vote: a server that lost touch would raise its term again and again,
//! and depose a healthy leader when it comes back. So openraft's own elections are off, and a
//! server stands only when a majority says that it hears no leader either, and that it would
//! vote. A server that was removed is told so, and stands no more.
//!
//! **Source**: Spec: Raft §9.6 (dissertation).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::storage::{LogState, RaftLogStorage};
use rand_core::RngCore;
use tokio::sync::watch;
use tracing::{debug, info, warn};
use weft_runtime::entropy;
use weft_runtime::task::TaskTree;

use super::call::{Ballot, Call, Said};
use super::contact::Contact;
use super::lease::ELECTION_SILENCE;
use super::log::Log;
use super::network::Links;
use super::types::{LogId, Member, NodeId, Raft, Roles, Vote};

/// The leader's sign of life. openraft's own comes too, less often.
const PULSE: Duration = Duration::from_millis(100);
/// How long a server may take to answer one.
const PULSE_LIMIT: Duration = Duration::from_millis(500);
/// How long a server may take to say whether it would vote.
const BALLOT_LIMIT: Duration = Duration::from_millis(500);
/// Waited beyond the silence after which others vote, drawn anew each time, so that servers that
/// heard the same last word do not stand together.
///
/// **Units**: milliseconds.
const SPREAD_MS: std::ops::Range<u64> = 50..350;
/// The time for one election: three messages and two syncs.
const ELECTION_MS: std::ops::Range<u64> = 300..600;

/// What a server that is asked for its vote knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Voter {
    /// Whether it leads, and a majority confirmed so a moment ago.
    pub(super) leads: bool,
    /// How long it has heard of no leader.
    pub(super) silence: Duration,
    /// The end of its log.
    pub(super) last: Option<LogId>,
}

impl Voter {
    /// Answers a server, which is a member or not as far as this one knows.
    pub(super) fn judge(&self, is_member: bool, last: Option<LogId>) -> Ballot {
        let is_granted =
            !self.leads && self.silence > ELECTION_SILENCE && is_member && last >= self.last;
        // Only a leader knows the members for certain.
        Ballot { is_granted, is_removed: self.leads && !is_member }
    }
}

/// Stands for election when it is time.
pub(super) struct Election {
    pub(super) id: NodeId,
    pub(super) raft: Raft,
    pub(super) log: Log,
    pub(super) links: Links,
    pub(super) contact: Contact,
    /// Set when this server learns that it was removed.
    pub(super) removed: watch::Sender<bool>,
    /// How often it would have stood, and too few would have voted.
    pub(super) refused: Arc<AtomicU64>,
}

impl Election {
    pub(super) fn start(self, tasks: &TaskTree) {
        let token = tasks.token();
        tasks.spawn("elections", async move {
            tokio::select! {
                () = self.run() => {}
                // An election under way goes on inside openraft, or ends with it.
                () = token.cancelled() => {}
            }
        });
    }

    async fn run(self) {
        let mut roles = self.raft.server_metrics();
        loop {
            // Of no cluster, or leading: nothing to wait for but a change.
            let idle = |roles: &Roles| {
                roles.current_leader != Some(self.id)
                    && roles.membership_config.nodes().next().is_some()
            };
            if roles.wait_for(idle).await.is_err() {
                return;
            }
            let is_alone = {
                let roles = roles.borrow();
                roles.membership_config.voter_ids().eq([self.id])
            };
            if !is_alone {
                self.silence().await;
            }
            let granted = match is_alone {
                true => true,
                false => self.ask().await,
            };
            if *self.removed.borrow() {
                return;
            }
            let limit = drawn(ELECTION_MS);
            if !granted {
                tokio::time::sleep(limit).await;
                continue;
            }
            let before = roles.borrow().vote;
            if self.raft.trigger().elect().await.is_err() {
                return;
            }
            let decided = roles.wait_for(|now| is_decided(&before, &now.vote, now.current_leader));
            // Over either way; the next round asks again.
            let _ = tokio::time::timeout(limit, decided).await;
        }
    }

    /// Waits until no leader has been heard of for so long that others would vote.
    async fn silence(&self) {
        let spread = drawn(SPREAD_MS);
        loop {
            let silence = self.contact.silence();
            let Some(left) = (ELECTION_SILENCE + spread).checked_sub(silence) else { return };
            tokio::time::sleep(left.max(Duration::from_millis(1))).await;
        }
    }

    /// Asks every other voter; returns whether this server would be elected.
    async fn ask(&self) -> bool {
        let Ok(LogState { last_log_id: last, .. }) = self.log.clone().get_log_state().await else {
            return false;
        };
        let membership = self.raft.metrics().borrow().membership_config.clone();
        let call = Call::MayElect { id: self.id, last };
        let others: Vec<(NodeId, Member)> = membership
            .nodes()
            .filter(|(id, _)| **id != self.id)
            .map(|(id, member)| (*id, member.clone()))
            .collect();
        let mut ballots: FuturesUnordered<_> = others
            .iter()
            .map(|(id, member)| async {
                (*id, self.links.call(&member.address, &call, BALLOT_LIMIT).await)
            })
            .collect();
        let is_voter = membership.voter_ids().any(|id| id == self.id);
        let mut granted = BTreeSet::from([self.id]);
        while let Some((id, said)) = ballots.next().await {
            let Ok(Said::Ballot(ballot)) = said else { continue };
            if ballot.is_removed {
                self.removed();
                return false;
            }
            if ballot.is_granted {
                granted.insert(id);
            }
            let configs = membership.membership().get_joint_config();
            let is_majority = |voters: &BTreeSet<NodeId>| {
                voters.intersection(&granted).count() > voters.len() / 2
            };
            if is_voter && configs.iter().all(is_majority) {
                return true;
            }
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        debug!(granted = granted.len(), "no election: too few would vote");
        false
    }

    fn removed(&self) {
        self.removed.send_replace(true);
    }
}

/// Whether an election has come to a leader. The one of before is told of until consensus has
/// taken the election up, and is none: who took it for one would call election upon election.
fn is_decided(before: &Vote, now: &Vote, leader: Option<NodeId>) -> bool {
    now > before && leader.is_some()
}

/// Draws a time evenly from a range of milliseconds.
fn drawn(range_ms: std::ops::Range<u64>) -> Duration {
    let width = range_ms.end - range_ms.start;
    Duration::from_millis(range_ms.start + entropy::rng().next_u64() % width)
}

/// Shows the others, while this server leads, that it does.
pub(super) struct Pulse {
    pub(super) id: NodeId,
    pub(super) links: Links,
    pub(super) contact: Contact,
    pub(super) roles: watch::Receiver<Roles>,
    /// Whether leadership is being handed over: then others must be free to vote.
    pub(super) resigned: Arc<AtomicBool>,
}

impl Pulse {
    pub(super) fn start(self, tasks: &TaskTree) {
        let tree = tasks.clone();
        tasks.spawn("signs of life", async move {
            tokio::select! {
                () = self.run(&tree) => {}
                // A sign that was not sent is one that comes late.
                () = tree.cancelled() => {}
            }
        });
    }

    async fn run(mut self, tasks: &TaskTree) {
        let mut beat = tokio::time::interval(PULSE);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let id = self.id;
            let leads = |roles: &Roles| roles.current_leader == Some(id);
            if self.roles.wait_for(leads).await.is_err() {
                return;
            }
            beat.tick().await;
            if self.resigned.load(Ordering::Acquire) {
                continue;
            }
            let (vote, membership) = {
                let roles = self.roles.borrow();
                if roles.current_leader != Some(id) {
                    continue;
                }
                (roles.vote, roles.membership_config.clone())
            };
            let (in_name_only, before) = self.links.acks.judge(id, &vote, &membership);
            match (before, in_name_only) {
                (false, true) => {
                    warn!("a majority of the servers does not answer: this one leads in name only")
                }
                (true, false) => info!("a majority of the servers answers again"),
                (true, true) | (false, false) => {}
            }
            if !in_name_only {
                self.contact.heard_at(weft_runtime::clock::instant());
            }
            for (target, member) in membership.nodes().filter(|(target, _)| **target != id) {
                let (links, target, address) =
                    (self.links.clone(), *target, member.address.clone());
                tasks.spawn("sign of life", async move {
                    let to = (target, address.as_str());
                    match in_name_only {
                        false => drop(links.pulse(to, &vote, PULSE_LIMIT).await),
                        true => links.reach(to, &vote, PULSE_LIMIT).await,
                    }
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::CommittedLeaderId;

    fn at(term: u64, index: u64) -> Option<LogId> {
        Some(LogId::new(CommittedLeaderId::new(term, 1), index))
    }

    #[test]
    fn an_election_is_not_decided_by_the_leader_that_went() {
        let before = Vote::new_committed(3, 1);
        assert!(!is_decided(&before, &before, Some(1)), "not taken up yet");
        assert!(!is_decided(&before, &Vote::new(4, 2), None), "under way");
        assert!(is_decided(&before, &Vote::new_committed(4, 2), Some(2)), "won");
        assert!(is_decided(&before, &Vote::new_committed(5, 3), Some(3)), "another won");
    }

    #[test]
    fn a_vote_is_promised_only_in_silence_to_a_member_that_is_not_behind() {
        let long = ELECTION_SILENCE + Duration::from_millis(1);
        let quiet = Voter { leads: false, silence: long, last: at(2, 10) };
        let hears = Voter { silence: Duration::from_millis(900), ..quiet };
        let leads = Voter { leads: true, ..quiet };
        let granted = Ballot { is_granted: true, is_removed: false };
        let removed = Ballot { is_granted: false, is_removed: true };
        for (voter, is_member, last, ballot) in [
            (quiet, true, at(2, 10), granted),
            (quiet, true, at(3, 4), granted),
            (quiet, true, at(2, 9), Ballot::default()),
            (quiet, true, None, Ballot::default()),
            (hears, true, at(2, 10), Ballot::default()),
            (leads, true, at(9, 99), Ballot::default()),
            // A follower may not have heard yet of a new member.
            (quiet, false, at(2, 10), Ballot::default()),
            (leads, false, at(2, 10), removed),
        ] {
            assert_eq!(voter.judge(is_member, last), ballot, "{voter:?} {is_member} {last:?}");
        }
    }
}
