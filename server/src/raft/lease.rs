//! The leader's lease: until when nobody else can have been elected.
//!
//! A server that heard from a leader refuses its vote for [`ELECTION_SILENCE`]. Each answer to
//! the leader therefore promises, from the moment at which the leader sent what was answered,
//! that the answering server votes for nobody else. While a majority's promises are younger than
//! [`LEASE`], which is shorter by the margin for clocks that run at different speeds, no other
//! leader can exist, and what this server has applied is the newest there is.
//!
//! A leader that no majority has answered for [`LEADERLESS_AFTER`] leads in name only. It then
//! sends nothing as a leader, so that whoever still hears it looks for another one, and only asks
//! whether it is heard again: openraft 0.9 has leaders lead on for ever.
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
    /// When that leadership began.
    began: Option<Instant>,
    /// When that was sent, as a leader, which each server answered last: its promise.
    sent: BTreeMap<NodeId, Instant>,
    /// The same of anything that was answered, promise or not.
    reached: BTreeMap<NodeId, Instant>,
    /// Whether that leadership is one in name only, as last judged.
    in_name_only: bool,
}

impl Answers {
    /// Turns to a leadership; returns whether it is the newest known.
    fn turn_to(&mut self, vote: &Vote, now: Instant) -> bool {
        match &self.vote {
            Some(known) if known == vote => true,
            // Late, of an earlier leadership.
            Some(known) if known > vote => false,
            Some(_) | None => {
                *self = Self { vote: Some(*vote), began: Some(now), ..Self::default() };
                true
            }
        }
    }
}

impl Acks {
    /// Notes an answer to something sent as a leader under a vote.
    pub(super) fn note(&self, vote: &Vote, from: NodeId, sent: Instant) {
        let answers = &mut *self.inner.lock();
        if answers.turn_to(vote, sent) {
            for moments in [&mut answers.sent, &mut answers.reached] {
                let newest = moments.entry(from).or_insert(sent);
                *newest = (*newest).max(sent);
            }
        }
    }

    /// Notes an answer that promises nothing.
    pub(super) fn note_reached(&self, vote: &Vote, from: NodeId, sent: Instant) {
        let mut answers = self.inner.lock();
        if answers.turn_to(vote, sent) {
            let newest = answers.reached.entry(from).or_insert(sent);
            *newest = (*newest).max(sent);
        }
    }

    /// Judges anew whether the leadership of `me` is one in name only, and holds to it until the
    /// next time. Returns that, and whether it was so before.
    pub(super) fn judge(&self, me: NodeId, vote: &Vote, membership: &Membership) -> (bool, bool) {
        let now = clock::instant();
        let mut answers = self.inner.lock();
        answers.turn_to(vote, now);
        let is_so = is_unheard(me, (vote, membership), &answers, now);
        (is_so, std::mem::replace(&mut answers.in_name_only, is_so))
    }

    /// Whether something may be sent as a leader under a vote.
    pub(super) fn may_lead(&self, vote: &Vote) -> bool {
        let answers = self.inner.lock();
        !answers.in_name_only || answers.vote.as_ref() != Some(vote)
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
        of_majority(membership, |id| match id == me {
            true => Some(now),
            false => answers.sent.get(&id).filter(|_| known).copied(),
        })
    }
}

/// Returns the newest moment such that a majority's are that or later; in a joint membership a
/// majority of both.
fn of_majority(
    membership: &Membership,
    moment: impl Fn(NodeId) -> Option<Instant>,
) -> Option<Instant> {
    let configs = membership.membership().get_joint_config().iter();
    let of_each = configs.map(|voters| {
        let mut moments: Vec<Option<Instant>> = voters.iter().map(|id| moment(*id)).collect();
        moments.sort_unstable_by(|a, b| b.cmp(a));
        moments.get(voters.len() / 2).copied().flatten()
    });
    // Of no configuration at all there is no majority.
    of_each.min().flatten()
}

fn is_unheard(
    me: NodeId,
    (vote, membership): (&Vote, &Membership),
    answers: &Answers,
    now: Instant,
) -> bool {
    if answers.vote.as_ref() != Some(vote) {
        // Just elected, by a majority.
        return false;
    }
    let heard = of_majority(membership, |id| match id == me {
        true => Some(now),
        false => answers.reached.get(&id).copied().or(answers.began),
    });
    heard.is_some_and(|at| now.saturating_duration_since(at) > LEADERLESS_AFTER)
}

/// Whether a server leads in name only: it has had no majority for so long that others may have
/// elected another leader. A server that has just been elected has had one.
pub(super) fn is_without_majority(
    me: NodeId,
    (vote, membership): (&Vote, &Membership),
    acks: &Acks,
) -> bool {
    is_unheard(me, (vote, membership), &acks.inner.lock(), clock::instant())
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

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_no_majority_answers_leads_in_name_only_until_one_does() {
        let (acks, vote) = (Acks::default(), Vote::new_committed(3, 1));
        let five = membership(&[&[1, 2, 3, 4, 5]]);
        let judge = || acks.judge(1, &vote, &five);
        assert_eq!(judge(), (false, false), "a majority has just elected it");
        tokio::time::advance(LEADERLESS_AFTER).await;
        for from in [2, 3] {
            acks.note(&vote, from, clock::instant());
        }
        tokio::time::advance(LEADERLESS_AFTER).await;
        assert_eq!(judge(), (false, false));
        acks.note(&vote, 2, clock::instant());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(judge(), (true, false), "one other is no majority of five");
        assert!(!acks.may_lead(&vote));
        assert!(acks.may_lead(&Vote::new_committed(4, 2)), "another leadership is another matter");

        let confirmed = acks.confirmed(1, &vote, &five);
        for from in [4, 5] {
            acks.note_reached(&vote, from, clock::instant());
        }
        assert_eq!(judge(), (false, true), "it is heard again");
        assert!(acks.may_lead(&vote));
        assert_eq!(acks.confirmed(1, &vote, &five), confirmed, "nobody has promised anything");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_nobody_ever_answers_leads_in_name_only() {
        let (acks, vote) = (Acks::default(), Vote::new_committed(3, 1));
        let three = membership(&[&[1, 2, 3]]);
        assert_eq!(acks.judge(1, &vote, &three), (false, false));
        tokio::time::advance(LEADERLESS_AFTER + Duration::from_millis(1)).await;
        assert_eq!(acks.judge(1, &vote, &three), (true, false));
        assert_eq!(acks.judge(1, &vote, &membership(&[&[1]])), (false, true), "alone it leads");
        let next = Vote::new_committed(4, 1);
        assert_eq!(acks.judge(1, &next, &three), (false, false), "elected anew");
    }
}
