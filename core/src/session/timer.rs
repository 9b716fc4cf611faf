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
}

impl SessionTimers {
    /// Takes a session up, from now on.
    pub fn handle_session(&mut self, id: SessionId, ttl: Duration, now: Instant) {
        self.set(id, ttl.saturating_mul(2), now + ttl.saturating_mul(2));
    }

    /// Takes a renewal; of a session that is not known it says nothing.
    pub fn handle_renewal(&mut self, id: SessionId, now: Instant) {
        if let Some((lifetime, _)) = self.lifetimes.get(&id).copied() {
            self.set(id, lifetime, now + lifetime);
        }
    }

    /// Takes note that a session that was told of could not be ended.
    pub fn handle_not_ended(&mut self, id: SessionId, now: Instant) {
        self.set(id, RETRY_AFTER, now + RETRY_AFTER);
    }

    /// Finds those whose time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((end, id)) = self.by_end.first().copied()
            && end <= now
        {
            self.by_end.remove(&(end, id));
            self.lifetimes.remove(&id);
            self.over.push_back(id);
        }
    }

    /// Returns when the next one's time is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.by_end.first().map(|(end, _)| *end)
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
        timers.handle_renewal(id(3), at(0));
        assert_eq!(timers.poll_timeout(), Some(at(20)));
        timers.handle_renewal(id(1), at(19));
        assert_eq!(timers.poll_timeout(), Some(at(30)));
        timers.handle_timeout(at(29));
        assert_eq!(timers.poll_output(), None);
        timers.handle_timeout(at(30));
        assert_eq!((timers.poll_output(), timers.poll_output()), (Some(id(2)), None));
        timers.handle_not_ended(id(2), at(30));
        timers.handle_timeout(at(39));
        assert_eq!(timers.poll_output(), Some(id(2)));
        assert_eq!(timers.poll_output(), Some(id(1)));
        assert_eq!((timers.poll_output(), timers.poll_timeout()), (None, None));
    }
}
