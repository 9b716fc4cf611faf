//! When the time of sessions is over: kept by the leader, from when it began to lead.
//!
//! Nothing of it is replicated, so that a renewal costs no write; a new leader gives every session
//! its whole time again.
//!
//! **Source**: Consul: docs/dynamic-app-config/sessions: a session ends no earlier than its TTL,
//! and here as there at twice its TTL.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::SessionId;

/// A session that could not be ended is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The times of all sessions that end unless they are renewed.
#[derive(Debug, Default)]
pub struct SessionTimers {
    lifetimes: BTreeMap<SessionId, (Duration, Instant)>,
    by_end: BTreeSet<(Instant, SessionId)>,
    over: VecDeque<SessionId>,
    /// Told to be ended, and not yet said to have been: too late for a renewal.
    ending: BTreeSet<SessionId>,
    /// Of these, when those that could not be ended are told again.
    retries: BTreeSet<(Instant, SessionId)>,
}

impl SessionTimers {
    /// Takes a session up, from now on.
    pub fn handle_session(&mut self, id: SessionId, ttl: Duration, now: Instant) {
        if self.ending.contains(&id) {
            return;
        }
        self.set(id, ttl.saturating_mul(2), now + ttl.saturating_mul(2));
    }

    /// Forgets all times, as the sessions are others now. Ends that are on their way still come.
    pub fn handle_restored(&mut self) {
        self.lifetimes.clear();
        self.by_end.clear();
    }

    /// Takes a renewal. Returns whether the session goes on: one whose end is on its way does
    /// not, and nor does one that is not known.
    #[must_use]
    pub fn handle_renewal(&mut self, id: SessionId, now: Instant) -> bool {
        let Some((lifetime, _)) = self.lifetimes.get(&id).copied() else { return false };
        self.set(id, lifetime, now + lifetime);
        true
    }

    /// Takes note that a session that was told of was ended.
    pub fn handle_ended(&mut self, id: SessionId) {
        self.ending.remove(&id);
    }

    /// Takes note that a session that was told of could not be ended: it is told again.
    pub fn handle_not_ended(&mut self, id: SessionId, now: Instant) {
        self.retries.insert((now + RETRY_AFTER, id));
    }

    /// Finds those whose time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((end, id)) = self.by_end.first().copied()
            && end <= now
        {
            self.by_end.remove(&(end, id));
            self.lifetimes.remove(&id);
            self.ending.insert(id);
            self.over.push_back(id);
        }
        while let Some((at, id)) = self.retries.first().copied()
            && at <= now
        {
            self.retries.remove(&(at, id));
            self.over.push_back(id);
        }
    }

    /// Returns when the next one's time is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = |times: &BTreeSet<(Instant, SessionId)>| times.first().map(|(at, _)| *at);
        first(&self.by_end).into_iter().chain(first(&self.retries)).min()
    }

    /// Returns a session that is to be ended, if it is still there. Drained until `None`.
    pub fn poll_output(&mut self) -> Option<SessionId> {
        self.over.pop_front()
    }

    fn set(&mut self, id: SessionId, lifetime: Duration, end: Instant) {
        if let Some((_, older)) = self.lifetimes.insert(id, (lifetime, end)) {
            self.by_end.remove(&(older, id));
        }
        self.by_end.insert((end, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The moment at which a test's time begins; which one does not matter.
    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    fn beginning() -> Instant {
        Instant::now()
    }

    fn id(number: u8) -> SessionId {
        format!("00000000-0000-4000-8000-0000000000{number:02}").parse().expect("an id")
    }

    #[test]
    fn a_session_ends_at_twice_its_ttl_after_its_last_renewal() {
        let start = beginning();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut timers = SessionTimers::default();
        timers.handle_session(id(1), Duration::from_secs(10), at(0));
        timers.handle_session(id(2), Duration::from_secs(15), at(0));
        assert!(!timers.handle_renewal(id(3), at(0)), "nobody knows it");
        assert_eq!(timers.poll_timeout(), Some(at(20)));
        assert!(timers.handle_renewal(id(1), at(19)));
        assert_eq!(timers.poll_timeout(), Some(at(30)));
        timers.handle_timeout(at(29));
        assert_eq!(timers.poll_output(), None);
        timers.handle_timeout(at(30));
        assert_eq!((timers.poll_output(), timers.poll_output()), (Some(id(2)), None));
        timers.handle_timeout(at(39));
        assert_eq!((timers.poll_output(), timers.poll_output()), (Some(id(1)), None));
        assert_eq!(timers.poll_timeout(), None);
    }

    #[test]
    fn a_session_whose_end_is_on_its_way_is_not_renewed() {
        let start = beginning();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut timers = SessionTimers::default();
        timers.handle_session(id(1), Duration::from_secs(5), at(0));
        timers.handle_timeout(at(10));
        assert_eq!(timers.poll_output(), Some(id(1)));
        assert!(!timers.handle_renewal(id(1), at(10)), "who is told so may not count on it");
        timers.handle_not_ended(id(1), at(11));
        timers.handle_session(id(1), Duration::from_secs(5), at(11));
        assert!(!timers.handle_renewal(id(1), at(11)), "its end may still come");
        assert_eq!(timers.poll_timeout(), Some(at(12)));
        timers.handle_timeout(at(12));
        assert_eq!((timers.poll_output(), timers.poll_output()), (Some(id(1)), None));
        timers.handle_ended(id(1));
        assert_eq!(timers.poll_timeout(), None);
        assert!(!timers.handle_renewal(id(1), at(13)));
    }
}
