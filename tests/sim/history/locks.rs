//! What those saw who take a lock: every call, with when it was made and when its answer came.

use weft_core::time::Timestamp;

/// What was asked about the lock, for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Acquire,
    /// A session with its TTL and its lock delay, in milliseconds. Noted once it is known.
    Create {
        ttl_ms: u64,
        delay_ms: u64,
    },
    Destroy,
    /// A read of the lock.
    Look,
    Release,
    Renew,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LockOutcome {
    /// It was declined; of a renewal: there is no such session.
    Declined,
    Done,
    /// Who holds the lock.
    Seen {
        holder: Option<String>,
        lock_index: u64,
        modify_index: u64,
    },
    /// Nobody knows whether it happened.
    Unknown,
}

/// A call of one who takes the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockCall {
    pub(crate) client: usize,
    pub(crate) server: usize,
    pub(crate) session: String,
    pub(crate) act: Act,
    /// By a clock that is right and never jumps.
    pub(crate) called: Timestamp,
    /// The end of time while the outcome is unknown.
    pub(crate) returned: Timestamp,
    pub(crate) outcome: LockOutcome,
}

/// The calls about one lock, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    pub(crate) calls: Vec<LockCall>,
}

impl Locks {
    /// Notes a call before it is made; returns its place.
    pub(crate) fn call(&mut self, call: LockCall) -> usize {
        self.calls.push(call);
        self.calls.len() - 1
    }

    /// Notes what came of it.
    pub(crate) fn returned(&mut self, at: usize, now: Timestamp, outcome: LockOutcome) {
        if let Some(call) = self.calls.get_mut(at) {
            call.outcome = outcome;
            if call.outcome != LockOutcome::Unknown {
                call.returned = now;
            }
        }
    }

    /// Returns how often the lock was taken.
    pub(crate) fn taken(&self) -> usize {
        let taken = |it: &&LockCall| it.act == Act::Acquire && it.outcome == LockOutcome::Done;
        self.calls.iter().filter(taken).count()
    }
}
