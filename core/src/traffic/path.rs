//! Over what one endpoint is called: QUIC where it answers, TCP where it does not.
//!
//! Decides for whoever has no QUIC connection at hand. Asked with each such call; nothing happens
//! while nobody calls.

use std::time::{Duration, Instant};

use super::Mix64;
use crate::config_entry::MeshTransport;

/// How long a call waits for a first answer over UDP before it goes by TCP.
pub const ANSWER_LIMIT: Duration = Duration::from_millis(300);
/// The round trip from which `auto` takes QUIC: on shorter paths hardly a packet is lost, and without
/// loss TCP costs less (`docs/bench.md`). Longer ones leave a rack or a site, where a lost
/// packet of one stream holds up all others on the same TCP connection.
pub const LONG_ROUND_TRIP: Duration = Duration::from_millis(10);
/// After the first attempt without an answer; doubles with each further one.
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// A path that bears UDP again is found within this.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// What is to be done for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Waits for a QUIC connection, at most [`ANSWER_LIMIT`], then goes by TCP.
    Await,
    /// Goes by TCP.
    Tcp,
    /// Goes by TCP while a QUIC connection is tried.
    TcpWhileTrying,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// There is a connection, with this round trip.
    Answered(Duration),
    /// Somebody is there who takes none now, such as a process that another one replaces.
    Refused,
    /// There is none.
    Unanswered,
}

/// What was found out about one endpoint.
#[derive(Debug, Clone)]
pub struct Path {
    policy: MeshTransport,
    is_trying: bool,
    /// Attempts without an answer since the last one that had one.
    unanswered: u32,
    again_at: Option<Instant>,
    /// The last that was measured.
    round_trip: Option<Duration>,
}

impl Path {
    /// Begins without having found out anything.
    pub fn new(policy: MeshTransport) -> Self {
        Self { policy, is_trying: false, unanswered: 0, again_at: None, round_trip: None }
    }

    /// Takes note of what the configuration says now.
    pub fn handle_policy(&mut self, policy: MeshTransport) {
        self.policy = policy;
    }

    /// Says what becomes of a call for which there is no QUIC connection. With the answers that try
    /// one, the caller begins an attempt and tells how it ended.
    pub fn handle_call(&mut self, now: Instant) -> Choice {
        let choice = match self.policy {
            MeshTransport::Tcp => return Choice::Tcp,
            // While an attempt is made for the first time there is something to wait for.
            MeshTransport::Quic if self.unanswered == 0 => Choice::Await,
            _ if self.is_trying || self.again_at.is_some_and(|at| now < at) => return Choice::Tcp,
            MeshTransport::Quic => Choice::TcpWhileTrying,
            MeshTransport::Auto | MeshTransport::Unset if self.is_long() => Choice::TcpWhileTrying,
            MeshTransport::Auto | MeshTransport::Unset => return Choice::Tcp,
        };
        self.is_trying = true;
        choice
    }

    /// Takes note of how an attempt ended. Returns whether its connection, if there is one, is to be
    /// used.
    pub fn handle_attempt(&mut self, attempt: Attempt, random: &mut Mix64, now: Instant) -> bool {
        self.is_trying = false;
        match attempt {
            Attempt::Answered(round_trip) => {
                (self.unanswered, self.again_at) = (0, None);
                self.round_trip = Some(round_trip);
                self.is_wanted()
            }
            Attempt::Refused => {
                self.unanswered = 0;
                self.handle_silence(random, now);
                false
            }
            Attempt::Unanswered => {
                self.handle_silence(random, now);
                false
            }
        }
    }

    /// Takes note that a connection does not answer any more.
    pub fn handle_silence(&mut self, random: &mut Mix64, now: Instant) {
        let pause = AGAIN_MIN.saturating_mul(1 << self.unanswered.min(6)).min(AGAIN_MAX);
        // Of many callers each comes back at a time of its own.
        let spread = u32::try_from(pause.as_millis() / 4).unwrap_or(u32::MAX).max(1);
        let less = Duration::from_millis(u64::from(random.below(spread)));
        self.unanswered = self.unanswered.saturating_add(1);
        self.again_at = Some(now + pause - less);
    }

    /// Takes note of how long a TCP connection took to open, which is a round trip.
    pub fn handle_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = Some(round_trip);
    }

    /// Whether attempts have had no answer lately.
    pub fn is_silent(&self) -> bool {
        self.unanswered > 0
    }

    /// Whether a QUIC connection would be used, by what the configuration says and was measured.
    pub fn is_wanted(&self) -> bool {
        match self.policy {
            MeshTransport::Auto | MeshTransport::Unset => self.is_long(),
            MeshTransport::Quic => true,
            MeshTransport::Tcp => false,
        }
    }

    fn is_long(&self) -> bool {
        self.round_trip.is_some_and(|it| it >= LONG_ROUND_TRIP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: Duration = Duration::from_millis(40);
    const NEAR: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    fn start(policy: MeshTransport) -> (Path, Mix64, Instant) {
        (Path::new(policy), Mix64::new(1), Instant::now())
    }

    #[test]
    fn a_call_waits_for_the_first_attempt_and_for_no_later_one() {
        let (mut path, mut random, now) = start(MeshTransport::Quic);
        assert_eq!(path.handle_call(now), Choice::Await);
        assert_eq!(path.handle_call(now), Choice::Await, "a second one waits with it");
        assert!(!path.handle_attempt(Attempt::Unanswered, &mut random, now));
        assert!(path.is_silent());
        assert_eq!(path.handle_call(now), Choice::Tcp);
        let later = now + AGAIN_MIN;
        assert_eq!(path.handle_call(later), Choice::TcpWhileTrying);
        assert_eq!(path.handle_call(later), Choice::Tcp, "one attempt at a time");
        assert!(path.handle_attempt(Attempt::Answered(NEAR), &mut random, later));
        assert!(!path.is_silent());
        assert_eq!(path.handle_call(later), Choice::Await, "the connection has ended meanwhile");
    }

    #[test]
    fn attempts_without_an_answer_become_rare_and_never_end() {
        let (mut path, mut random, mut now) = start(MeshTransport::Quic);
        let _ = path.handle_call(now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            path.handle_attempt(Attempt::Unanswered, &mut random, now);
            let at = path.again_at.expect("there is a next one");
            pauses.push(at - now);
            now = at;
            assert_eq!(path.handle_call(now), Choice::TcpWhileTrying);
        }
        assert!(pauses[0] <= AGAIN_MIN && pauses[0] >= AGAIN_MIN * 3 / 4, "{pauses:?}");
        assert!(pauses[11] <= AGAIN_MAX && pauses[11] >= AGAIN_MAX * 3 / 4, "{pauses:?}");
    }

    #[test]
    fn who_refuses_is_asked_again_soon() {
        let (mut path, mut random, mut now) = start(MeshTransport::Quic);
        for _ in 0..9 {
            let _ = path.handle_call(now);
            path.handle_attempt(Attempt::Refused, &mut random, now);
            assert!(path.is_silent());
            assert_eq!(path.handle_call(now), Choice::Tcp);
            now += AGAIN_MIN;
            assert_eq!(path.handle_call(now), Choice::TcpWhileTrying);
        }
    }

    #[test]
    fn auto_takes_quic_for_long_paths_and_nobody_waits_for_it() {
        let (mut path, mut random, now) = start(MeshTransport::Unset);
        assert_eq!(path.handle_call(now), Choice::Tcp, "nothing was measured");
        path.handle_round_trip(NEAR);
        assert_eq!(path.handle_call(now), Choice::Tcp);
        path.handle_round_trip(FAR);
        assert_eq!(path.handle_call(now), Choice::TcpWhileTrying);
        let attempt = Attempt::Answered(NEAR);
        assert!(!path.handle_attempt(attempt, &mut random, now), "a host that was busy, not far");
        assert_eq!(path.handle_call(now), Choice::Tcp);
        path.handle_round_trip(FAR);
        let _ = path.handle_call(now);
        assert!(path.handle_attempt(Attempt::Answered(FAR), &mut random, now));
    }

    #[test]
    fn tcp_is_tcp_whatever_was_measured() {
        let (mut path, mut random, now) = start(MeshTransport::Tcp);
        path.handle_round_trip(FAR);
        assert_eq!(path.handle_call(now), Choice::Tcp);
        path.handle_policy(MeshTransport::Quic);
        assert_eq!(path.handle_call(now), Choice::Await);
        path.handle_policy(MeshTransport::Tcp);
        assert!(!path.handle_attempt(Attempt::Answered(NEAR), &mut random, now));
    }
}
