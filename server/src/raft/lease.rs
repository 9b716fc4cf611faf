//! The leader's lease: until when nobody else can have been elected.
//!
//! A server that heard from a leader refuses its vote for [`ELECTION_SILENCE`]. Each answer to
//! the leader therefore promises, from the moment at which the leader sent what was answered,
//! that the answering server votes for nobody else. While a majority's promises are younger than
//! [`LEASE`], which is shorter by the margin for clocks that run at different speeds, no other
//! leader can exist, and what this server has applied is the newest there is.
//!
//! **Source**: Spec: Raft §6.4.1 (dissertation).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use weft_runtime::clock;

use super::types::{Membership, NodeId, Vote};

/// How long a server that heard from a leader votes for nobody else. openraft's lease on the
/// voter's side is its longest election time, which is set to this.
pub(super) const ELECTION_SILENCE: Duration = Duration::from_millis(1_000);
/// How long a majority's answers let a leader answer reads alone: 40 % less, where the clocks
/// of two hosts differ by some parts in a hundred thousand.
pub(super) const LEASE: Duration = Duration::from_millis(600);
/// A leader that has had no majority for so long is none: others may have elected another.
pub(super) const LEADERLESS_AFTER: Duration = Duration::from_millis(2_000);

/// Who answered this server as leader, and when what was answered had been sent.
#[derive(Clone, Default)]
pub(super) struct Acks {
    inner: Arc<Mutex<Answers>>,
}

#[derive(Default)]
struct Answers {
    /// The leadership that they are for; answers to an earlier one promise nothing.
    vote: Option<Vote>,
    sent: BTreeMap<NodeId, Instant>,
}

impl Acks {
    /// Notes an answer to something sent under a vote.
    pub(super) fn note(&self, vote: &Vote, from: NodeId, sent: Instant) {
        let mut answers = self.inner.lock();
        match &answers.vote {
            Some(known) if known == vote => {}
            // Late, of an earlier leadership.
            Some(known) if known > vote => return,
            Some(_) | None => {
                answers.vote = Some(*vote);
                answers.sent.clear();
            }
        }
        let newest = answers.sent.entry(from).or_insert(sent);
        *newest = (*newest).max(sent);
    }

    /// Returns when the last thing was sent that this server answered, under a vote.
    pub(super) fn last(&self, vote: &Vote, from: NodeId) -> Option<Instant> {
        let answers = self.inner.lock();
        answers.sent.get(&from).filter(|_| answers.vote.as_ref() == Some(vote)).copied()
    }

    /// Returns the newest moment for which a majority stands behind the leadership of `me` under
    /// `vote`: everyone in it has answered something sent then or later. In a joint membership a
    /// majority of both.
    pub(super) fn confirmed(
        &self,
        me: NodeId,
        vote: &Vote,
        membership: &Membership,
    ) -> Option<Instant> {
        let now = clock::instant();
        let answers = self.inner.lock();
        let known = answers.vote.as_ref() == Some(vote);
        let mut oldest = Some(now);
        for voters in membership.membership().get_joint_config() {
            let mut moments: Vec<Option<Instant>> = voters
                .iter()
                .map(|id| match *id == me {
                    true => Some(now),
                    false => answers.sent.get(id).filter(|_| known).copied(),
                })
                .collect();
            moments.sort_unstable_by(|a, b| b.cmp(a));
            oldest = oldest.min(moments.get(voters.len() / 2).copied().flatten());
        }
        oldest
    }
}

/// Whether a server leads in name only: it has had no majority for so long that others may have
/// elected another leader. A server that has just been elected has had one.
pub(super) fn is_without_majority(
    me: NodeId,
    (vote, membership): (&Vote, &Membership),
    acks: &Acks,
) -> bool {
    let confirmed = acks.confirmed(me, vote, membership);
    // Without any answer yet: openraft counts from the election on.
    confirmed.is_some_and(|at| clock::instant().duration_since(at) > LEADERLESS_AFTER)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::raft::types::Member;

    fn membership(configs: &[&[NodeId]]) -> Membership {
        let configs: Vec<BTreeSet<NodeId>> =
            configs.iter().map(|ids| ids.iter().copied().collect()).collect();
        let nodes: BTreeMap<NodeId, Member> =
            configs.iter().flatten().map(|id| (*id, Member::default())).collect();
        Membership::new(None, openraft::Membership::new(configs, nodes))
    }

    #[tokio::test(start_paused = true)]
    async fn a_majority_of_each_configuration_must_have_answered() {
        let (acks, vote) = (Acks::default(), Vote::new_committed(3, 1));
        let start = clock::instant();
        let three = membership(&[&[1, 2, 3]]);
        let confirmed = |membership: &Membership| {
            acks.confirmed(1, &vote, membership).map(|at| at.duration_since(start).as_millis())
        };
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(confirmed(&three), None, "alone it knows nothing");
        acks.note(&vote, 2, start + Duration::from_millis(40));
        acks.note(&vote, 2, start + Duration::from_millis(30));
        assert_eq!(confirmed(&three), Some(40), "the newest answer counts");
        assert_eq!(confirmed(&membership(&[&[1]])), Some(100), "a sole voter needs nobody");
        let joint = membership(&[&[1, 2, 3], &[1, 4, 5]]);
        assert_eq!(confirmed(&joint), None);
        acks.note(&vote, 4, start + Duration::from_millis(20));
        assert_eq!(confirmed(&joint), Some(20));
        let five = membership(&[&[1, 2, 3, 4, 5]]);
        assert_eq!(confirmed(&five), Some(20));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_to_another_leadership_promise_nothing() {
        let (acks, now) = (Acks::default(), clock::instant());
        let three = membership(&[&[1, 2, 3]]);
        let (old, new) = (Vote::new_committed(3, 1), Vote::new_committed(5, 1));
        acks.note(&old, 2, now);
        assert_eq!(acks.confirmed(1, &new, &three), None);
        acks.note(&new, 3, now);
        acks.note(&old, 2, now);
        assert!(acks.confirmed(1, &new, &three).is_some());
        assert_eq!(acks.confirmed(1, &old, &three), None);
        assert_eq!((acks.last(&new, 2), acks.last(&new, 3)), (None, Some(now)));
    }
}
