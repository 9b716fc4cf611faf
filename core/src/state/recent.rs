//! Answers to recent groups of commands, so that a group that comes a second time is answered
//! and not carried out again.
//!
//! A server that does not hear what became of its commands, because the leader fell, sends them
//! again under the same number. The first copy may have been carried out all the same.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{Answer, State};
use crate::index::Index;
use crate::limits;
use crate::time::Timestamp;

/// Names a group of commands for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupId {
    /// Who gathered it: a random number, another one at each start of a server. Zero for
    /// commands that are never sent a second time; they are not remembered.
    pub origin: u64,
    /// Counts the groups of the origin, from 1.
    pub number: u64,
    /// The origin waits for no answer to groups below this number: they may be forgotten, and
    /// a late copy of one is not carried out.
    pub answered_below: u64,
}

/// What a group came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The entry in which it was carried out.
    pub index: Index,
    /// One answer for each command, in order.
    pub answers: Vec<Answer>,
}

/// Whether a group has come before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recalled {
    /// It has been carried out.
    Answered(Arc<Answered>),
    /// It is a late copy that nobody waits for.
    Late,
    /// It is to be carried out.
    New,
}

/// The answers that may be asked for again.
///
/// **Shape**: at most [`limits::GROUP_ORIGINS_MAX`] origins with at most
/// [`limits::GROUPS_PER_ORIGIN_MAX`] groups each.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recent {
    origins: OrdMap<u64, Origin>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    last: Timestamp,
    answered_below: u64,
    groups: OrdMap<u64, Arc<Answered>>,
}

impl State {
    /// Tells whether a group has come before.
    pub fn recall(&self, id: GroupId) -> Recalled {
        let Some(origin) = self.recent.origins.get(&id.origin) else { return Recalled::New };
        match origin.groups.get(&id.number) {
            Some(answered) => Recalled::Answered(answered.clone()),
            None if id.number < origin.answered_below => Recalled::Late,
            None => Recalled::New,
        }
    }

    /// Keeps the answers of a group that was carried out, and forgets those that nobody will
    /// ask for. The same calls in the same order keep the same on every machine.
    pub fn remember(&mut self, id: GroupId, now: Timestamp, answered: Arc<Answered>) {
        if id.origin == 0 {
            return;
        }
        let origins = &mut self.recent.origins;
        if !origins.contains_key(&id.origin) {
            // An origin comes with each start of a server: rarely enough to look at all.
            let is_kept = |origin: &Origin| now.since(origin.last) < limits::GROUP_ORIGIN_KEPT;
            *origins =
                std::mem::take(origins).into_iter().filter(|(_, origin)| is_kept(origin)).collect();
            if origins.len() >= limits::GROUP_ORIGINS_MAX
                && let Some(oldest) = origins.iter().min_by_key(|(_, it)| it.last).map(|it| *it.0)
            {
                origins.remove(&oldest);
            }
        }
        let origin = origins.entry(id.origin).or_default();
        origin.last = origin.last.max(now);
        origin.answered_below = origin.answered_below.max(id.answered_below);
        origin.groups.insert(id.number, answered);
        while let Some((first, _)) = origin.groups.get_min()
            && (*first < origin.answered_below
                || origin.groups.len() > limits::GROUPS_PER_ORIGIN_MAX)
        {
            let first = *first;
            origin.groups.remove(&first);
            origin.answered_below = origin.answered_below.max(first + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64, answered_below: u64) -> GroupId {
        GroupId { origin: 7, number, answered_below }
    }

    fn answered(index: u64) -> Arc<Answered> {
        let answers = vec![Answer::Done { changed: true }];
        Arc::new(Answered { index: Index(index), answers })
    }

    #[test]
    fn a_group_that_comes_again_gets_its_first_answer() {
        let mut state = State::default();
        assert_eq!(state.recall(id(1, 1)), Recalled::New);
        state.remember(id(1, 1), Timestamp(1), answered(5));
        state.remember(id(2, 1), Timestamp(1), answered(6));
        assert_eq!(state.recall(id(1, 1)), Recalled::Answered(answered(5)));
        // A restart from a snapshot forgets nothing.
        let state = State::from_snapshot(state.to_snapshot());
        assert_eq!(state.recall(id(2, 1)), Recalled::Answered(answered(6)));
        let other = GroupId { origin: 8, ..id(1, 1) };
        assert_eq!(state.recall(other), Recalled::New, "origins are apart");
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten_and_not_carried_out_late() {
        let mut state = State::default();
        state.remember(id(1, 1), Timestamp(1), answered(5));
        state.remember(id(4, 3), Timestamp(1), answered(6));
        assert_eq!(state.recall(id(1, 1)), Recalled::Late);
        assert_eq!(state.recall(id(2, 1)), Recalled::Late, "never came, given up by its origin");
        assert_eq!(state.recall(id(3, 3)), Recalled::New);
    }

    #[test]
    fn memory_is_bounded_in_groups_and_origins() {
        let mut state = State::default();
        for number in 1..=1_000 {
            state.remember(id(number, 0), Timestamp(1), answered(number));
        }
        assert_eq!(state.recent.origins[&7].groups.len(), limits::GROUPS_PER_ORIGIN_MAX);
        for origin in 1..=1_000 {
            let id = GroupId { origin, ..id(1, 0) };
            state.remember(id, Timestamp(origin), answered(1));
        }
        assert_eq!(state.recent.origins.len(), limits::GROUP_ORIGINS_MAX);
        let much_later = Timestamp(1).saturating_add(limits::GROUP_ORIGIN_KEPT * 3);
        state.remember(GroupId { origin: 5_000, ..id(1, 0) }, much_later, answered(1));
        assert_eq!(state.recent.origins.len(), 1, "idle origins go");
        let unnamed = GroupId { origin: 0, ..id(1, 0) };
        state.remember(unnamed, much_later, answered(1));
        assert_eq!(state.recall(unnamed), Recalled::New);
    }
}
