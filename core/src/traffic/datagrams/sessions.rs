//! Which session a client's datagrams belong to, how many there may be, and when one is over.
//!
//! UDP says neither hello nor goodbye: a session begins with a client's first datagram and ends when
//! nothing has come for a while, either way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// How often a client that gets no answer has a new session opened: a refused one costs the called proxy
/// a stream and a judgement.
const REOPEN_MIN: Duration = Duration::from_secs(1);
/// How long a session must have been quiet to make room for another: a usual resolver waits that long for an
/// answer (resolv.conf: `timeout`), and asks each time from a port of its own.
const QUIET_MIN: Duration = Duration::from_secs(5);

/// What a table of sessions is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Without a datagram either way.
    ///
    /// **Source**: Spec: RFC 4787 §4.3: not below two minutes unless somebody says so.
    pub idle: Duration,
    /// Sessions at once.
    pub sessions_max: usize,
}

/// What is to be done with a client's datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is dropped: there are as many sessions as are allowed, and each is in use.
    Full,
    /// It goes to a session that is there.
    Known(u64),
    /// It begins a session. See [`Sessions::poll_output`] for one that may have made room.
    Opened(u64),
    /// It is dropped: the session that this client had a moment ago was refused or failed.
    Paused,
}

/// The sessions of one listener, by client.
///
/// Drain [`Sessions::poll_output`] after each `handle_…`.
#[derive(Debug)]
pub struct Sessions<K> {
    limits: SessionLimits,
    by_client: BTreeMap<K, u64>,
    all: BTreeMap<u64, Session<K>>,
    /// When each is looked at next, which is not later than it is over.
    due: BTreeSet<(Instant, u64)>,
    /// Those that never had an answer.
    unanswered: BTreeSet<u64>,
    next: u64,
    ended: VecDeque<u64>,
}

#[derive(Debug)]
struct Session<K> {
    client: K,
    opened: Instant,
    used: Instant,
    due: Instant,
    /// Only the client's next attempt is waited for.
    is_over: bool,
}

impl<K: Ord + Clone> Sessions<K> {
    /// Makes a table without sessions.
    pub fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            by_client: BTreeMap::new(),
            all: BTreeMap::new(),
            due: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            next: 0,
            ended: VecDeque::new(),
        }
    }

    /// Says where a datagram goes that a client has sent.
    ///
    /// When there is no room, the session makes room that was opened first among those that never had an
    /// answer: a flood under false addresses takes from itself, not from those who are served. Where each
    /// has had one, it is the one that has been quiet for longest, if that is long enough.
    pub fn handle_datagram(&mut self, client: &K, now: Instant) -> Admission {
        if let Some(number) = self.by_client.get(client).copied()
            && let Some(session) = self.all.get_mut(&number)
        {
            if !session.is_over {
                session.used = now;
                return Admission::Known(number);
            }
            if now < session.due {
                return Admission::Paused;
            }
            self.remove(number);
        }
        if self.all.len() >= self.limits.sessions_max {
            let Some(number) = self.dispensable(now) else { return Admission::Full };
            self.remove(number);
            self.ended.push_back(number);
        }
        let (number, client) = (self.next, client.clone());
        self.next += 1;
        let due = now + self.limits.idle;
        self.by_client.insert(client.clone(), number);
        self.due.insert((due, number));
        self.unanswered.insert(number);
        let session = Session { client, opened: now, used: now, due, is_over: false };
        self.all.insert(number, session);
        Admission::Opened(number)
    }

    /// Takes note of a datagram from the other end.
    pub fn handle_answer(&mut self, number: u64, now: Instant) {
        if let Some(session) = self.all.get_mut(&number) {
            session.used = now;
            self.unanswered.remove(&number);
        }
    }

    /// Takes note that a session has ended by itself: refused, failed or broken off. The client's next
    /// datagram begins a new one, at once if this one had an answer.
    pub fn handle_end(&mut self, number: u64, now: Instant) {
        let is_unanswered = self.unanswered.contains(&number);
        let Some(session) = self.all.get_mut(&number) else { return };
        let again = session.opened + REOPEN_MIN;
        if !is_unanswered || again <= now {
            self.remove(number);
            return;
        }
        session.is_over = true;
        self.due.remove(&(session.due, number));
        session.due = again;
        self.due.insert((again, number));
    }

    /// Takes note that a session is to have no further datagrams; the client's next one begins a new one.
    pub fn handle_leave(&mut self, number: u64) {
        self.remove(number);
    }

    /// Ends the sessions whose time is over. Calls before the time do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((due, number)) = self.due.first().copied()
            && due <= now
        {
            self.due.pop_first();
            let Some(session) = self.all.get_mut(&number) else { continue };
            let over = session.used + self.limits.idle;
            if session.is_over {
                self.remove(number);
            } else if over <= now {
                self.remove(number);
                self.ended.push_back(number);
            } else {
                session.due = over;
                self.due.insert((over, number));
            }
        }
    }

    /// Returns when [`Sessions::handle_timeout`] has something to do; `None` while there is nothing to
    /// wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Returns the next session that is to end, `None` when there is none.
    pub fn poll_output(&mut self) -> Option<u64> {
        self.ended.pop_front()
    }

    /// Returns the session that is missed least, `None` when all are in use.
    fn dispensable(&mut self, now: Instant) -> Option<u64> {
        if let Some(first) = self.unanswered.first() {
            return Some(*first);
        }
        loop {
            let (due, number) = self.due.first().copied()?;
            let session = self.all.get_mut(&number)?;
            let over = session.used + self.limits.idle;
            if over == due {
                // None is over before the first, so none has been quiet for longer.
                return (session.used + QUIET_MIN <= now).then_some(number);
            }
            self.due.pop_first();
            session.due = over;
            self.due.insert((over, number));
        }
    }

    fn remove(&mut self, number: u64) {
        if let Some(session) = self.all.remove(&number) {
            self.by_client.remove(&session.client);
            self.due.remove(&(session.due, number));
            self.unanswered.remove(&number);
        }
        debug_assert_eq!(self.all.len(), self.by_client.len());
        debug_assert!(self.due.len() <= self.all.len() && self.unanswered.len() <= self.all.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(120);

    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    fn start(sessions_max: usize) -> (Sessions<&'static str>, impl Fn(u64) -> Instant) {
        let began = Instant::now();
        let limits = SessionLimits { idle: IDLE, sessions_max };
        (Sessions::new(limits), move |ms| began + Duration::from_millis(ms))
    }

    fn ended(sessions: &mut Sessions<&str>) -> Vec<u64> {
        std::iter::from_fn(|| sessions.poll_output()).collect()
    }

    #[test]
    fn a_session_lives_while_something_comes_either_way() {
        let (mut sessions, at) = start(8);
        assert_eq!(sessions.poll_timeout(), None);
        assert_eq!(sessions.handle_datagram(&"a", at(0)), Admission::Opened(0));
        assert_eq!(sessions.handle_datagram(&"b", at(10)), Admission::Opened(1));
        assert_eq!(sessions.handle_datagram(&"a", at(60_000)), Admission::Known(0));
        sessions.handle_answer(1, at(100_000));
        assert_eq!(sessions.poll_timeout(), Some(at(120_000)));
        sessions.handle_timeout(at(119_999));
        sessions.handle_timeout(at(120_000));
        assert!(ended(&mut sessions).is_empty());
        sessions.handle_timeout(at(179_999));
        assert!(ended(&mut sessions).is_empty());
        sessions.handle_timeout(at(180_000));
        assert_eq!(ended(&mut sessions), [0]);
        sessions.handle_timeout(at(219_999));
        assert!(ended(&mut sessions).is_empty());
        sessions.handle_timeout(at(220_000));
        assert_eq!((ended(&mut sessions), sessions.poll_timeout()), (vec![1], None));
        assert_eq!(sessions.handle_datagram(&"a", at(220_000)), Admission::Opened(2));
    }

    #[test]
    fn without_room_those_without_an_answer_go_first_and_the_others_stay() {
        let (mut sessions, at) = start(3);
        for (number, client) in ["a", "b", "c"].iter().enumerate() {
            assert_eq!(sessions.handle_datagram(client, at(0)), Admission::Opened(number as u64));
        }
        sessions.handle_answer(0, at(1));
        assert_eq!(sessions.handle_datagram(&"d", at(2)), Admission::Opened(3));
        assert_eq!(ended(&mut sessions), [1]);
        assert_eq!(sessions.handle_datagram(&"a", at(2)), Admission::Known(0));
        sessions.handle_answer(2, at(3));
        sessions.handle_answer(3, at(3));
        assert_eq!(sessions.handle_datagram(&"b", at(4)), Admission::Full);
        assert!(ended(&mut sessions).is_empty());
        sessions.handle_leave(2);
        assert_eq!(sessions.handle_datagram(&"b", at(5)), Admission::Opened(4));
        sessions.handle_answer(4, at(6));
        sessions.handle_answer(0, at(4_000));
        assert_eq!(sessions.handle_datagram(&"e", at(5_002)), Admission::Full);
        // The quietest is the third, not the one that was opened first.
        assert_eq!(sessions.handle_datagram(&"e", at(5_003)), Admission::Opened(5));
        assert_eq!(ended(&mut sessions), [3]);
        assert_eq!(sessions.handle_datagram(&"a", at(5_004)), Admission::Known(0));
    }

    #[test]
    fn who_is_refused_tries_again_after_a_second_and_who_was_served_at_once() {
        let (mut sessions, at) = start(8);
        sessions.handle_datagram(&"refused", at(0));
        sessions.handle_datagram(&"served", at(0));
        sessions.handle_answer(1, at(1));
        sessions.handle_end(0, at(5));
        sessions.handle_end(1, at(5));
        assert_eq!(sessions.handle_datagram(&"refused", at(6)), Admission::Paused);
        assert_eq!(sessions.handle_datagram(&"served", at(6)), Admission::Opened(2));
        assert_eq!(sessions.poll_timeout(), Some(at(1_000)));
        sessions.handle_timeout(at(1_000));
        assert!(ended(&mut sessions).is_empty(), "it had ended before");
        assert_eq!(sessions.handle_datagram(&"refused", at(1_000)), Admission::Opened(3));
        // Nobody need have called at the time.
        sessions.handle_end(3, at(1_001));
        assert_eq!(sessions.handle_datagram(&"refused", at(1_999)), Admission::Paused);
        assert_eq!(sessions.handle_datagram(&"refused", at(2_000)), Admission::Opened(4));
        // One that is refused late has waited long enough.
        sessions.handle_end(4, at(3_000));
        assert_eq!(sessions.handle_datagram(&"refused", at(3_000)), Admission::Opened(5));
        sessions.handle_end(9, at(3_000));
    }

    #[test]
    fn who_is_paused_makes_room_too() {
        let (mut sessions, at) = start(1);
        sessions.handle_datagram(&"a", at(0));
        sessions.handle_end(0, at(1));
        assert_eq!(sessions.handle_datagram(&"b", at(2)), Admission::Opened(1));
        assert_eq!(sessions.handle_datagram(&"b", at(3)), Admission::Known(1));
        sessions.handle_timeout(at(1_000));
        assert_eq!(sessions.handle_datagram(&"b", at(1_001)), Admission::Known(1));
    }
}
