//! When a certificate is renewed. Keys, requests and their deadlines are `agent::leaf`'s.
//!
//! **Source**: Consul: `agent/leafcert` (60 % to 90 % of the lifetime, 30 s window after a
//! change of roots).

use std::collections::VecDeque;
use std::time::Duration;

use rand_core::RngCore;

use crate::time::Timestamp;

mod turns;

pub use turns::{TooMany, Turns};

/// The earliest share of a lifetime at which to renew, in percent: most of a certificate's use
/// is had, and 40 % are left for retries.
const RENEW_PERCENT_MIN: u64 = 60;
/// The share at which to renew at once, in percent; renewals between the two are spread, so that
/// certificates made together are not renewed together.
const RENEW_PERCENT_MAX: u64 = 90;
/// The window over which renewals are spread when the roots change: every holder learns of it at
/// the same moment.
const ROOTS_WINDOW: Duration = Duration::from_secs(30);
/// The first window over which requests are spread that a server had no time for, and what it
/// doubles up to: so it grows with the number of leaves that are renewed at once.
const BUSY_WINDOW: Duration = Duration::from_secs(30);
const BUSY_WINDOW_MAX: Duration = Duration::from_secs(600);
/// The first window while there is no certificate at all.
const FIRST_BUSY_WINDOW: Duration = Duration::from_secs(1);
/// The shortest pause after a failure.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The shortest pause while there is no certificate at all: somebody waits for the service, and
/// the servers may learn of its registration only a moment later.
const FIRST_RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest pause while there is no certificate.
const FIRST_RETRY_MAX: Duration = Duration::from_secs(30);
/// The longest pause after a failure: a signer that is back is found within minutes.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// What is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Renewal fails and time runs out: tell a person.
    Alarm {
        /// When the certificate ends.
        valid_before: Timestamp,
        /// Failures in a row.
        failures: u32,
    },
    /// The certificate has ended: use it no longer.
    Expired,
    /// Make a key, have it signed, and tell how it went.
    Request,
}

/// Decides when one certificate is renewed.
///
/// Times are wall times, as a certificate's are; a clock that steps is seen at the next call.
/// Call [`Renewal::handle_timeout`] at [`Renewal::poll_timeout`], or earlier; drain
/// [`Renewal::poll_output`] after creation and after every `handle_…`.
pub struct Renewal {
    rng: Box<dyn RngCore + Send>,
    lifetime: Option<Lifetime>,
    state: State,
    failures: u32,
    /// How often in a row the servers had too much to do.
    busy: u32,
    has_alarmed: bool,
    outputs: VecDeque<Output>,
}

/// The dates of the certificate in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lifetime {
    valid_after: Timestamp,
    valid_before: Timestamp,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The answer to a request; `again` when the roots changed meanwhile.
    Answer { again: bool },
    /// The moment to ask.
    Moment(Timestamp),
}

impl Renewal {
    /// Starts without a certificate: the first is asked for at once.
    pub fn new(rng: Box<dyn RngCore + Send>) -> Self {
        Self {
            rng,
            lifetime: None,
            state: State::Answer { again: false },
            failures: 0,
            busy: 0,
            has_alarmed: false,
            outputs: VecDeque::from([Output::Request]),
        }
    }

    /// Takes a certificate into use: the answer to a request, or one kept from before.
    pub fn handle_certificate(
        &mut self,
        valid_after: Timestamp,
        valid_before: Timestamp,
        now: Timestamp,
    ) {
        let lifetime = Lifetime { valid_after, valid_before };
        let due = match self.state {
            State::Answer { again: true } => self.soon(lifetime, now),
            State::Answer { again: false } | State::Moment(_) => self.due(lifetime),
        };
        // A certificate that is due on arrival (a signer whose clock is off) is not asked for
        // again in a tight loop.
        let due = due.max(now.saturating_add(RETRY_MIN));
        self.lifetime = Some(lifetime);
        self.failures = 0;
        self.busy = 0;
        self.has_alarmed = false;
        self.outputs.clear();
        self.state = State::Moment(due);
    }

    /// Takes note that a request failed; the certificate in use stays.
    pub fn handle_failure(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.state = State::Moment(now.saturating_add(self.pause()));
        self.handle_timeout(now);
    }

    /// Takes note that the servers have more to sign than they can: the next request falls
    /// somewhere into a window that is twice as long each time.
    ///
    /// Differs: Consul's window stays 30 s, so that a fleet that is too large for it keeps asking
    /// in vain.
    pub fn handle_busy(&mut self, now: Timestamp) {
        let (first, max) = match self.lifetime {
            Some(lifetime) => (BUSY_WINDOW, BUSY_WINDOW_MAX.min(lifetime.whole() / 10)),
            None => (FIRST_BUSY_WINDOW, FIRST_RETRY_MAX),
        };
        let window = first.saturating_mul(1 << self.busy.min(16)).min(max);
        self.busy = self.busy.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        let due = now.saturating_add(RETRY_MIN.min(window) + self.share(window));
        self.state = State::Moment(due);
        self.handle_timeout(now);
    }

    /// Takes note that the certificate in use is refused by others from now on: another one is
    /// asked for at once.
    pub fn handle_revoked(&mut self, now: Timestamp) {
        if let (Some(_), State::Moment(_), 0) = (self.lifetime, self.state, self.failures) {
            self.state = State::Moment(now);
            self.handle_timeout(now);
        }
    }

    /// Takes note that the roots changed.
    pub fn handle_roots_changed(&mut self, now: Timestamp) {
        match (self.lifetime, self.state) {
            (_, State::Answer { .. }) => self.state = State::Answer { again: true },
            (Some(lifetime), State::Moment(due)) => {
                self.state = State::Moment(self.soon(lifetime, now).min(due));
            }
            // The pause after a failure goes on: there is nothing to replace.
            (None, State::Moment(_)) => {}
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if let State::Moment(due) = self.state
            && due <= now
        {
            self.state = State::Answer { again: false };
            self.outputs.push_back(Output::Request);
        }
        let Some(lifetime) = self.lifetime else { return };
        if lifetime.valid_before <= now {
            self.lifetime = None;
            self.outputs.push_back(Output::Expired);
        }
        if self.failures > 0 && !self.has_alarmed && lifetime.at(RENEW_PERCENT_MAX) <= now {
            self.has_alarmed = true;
            let Lifetime { valid_before, .. } = lifetime;
            self.outputs.push_back(Output::Alarm { valid_before, failures: self.failures });
        }
    }

    /// Returns when to call [`Renewal::handle_timeout`]; `None` while only an answer is waited
    /// for.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let due = match self.state {
            State::Answer { .. } => None,
            State::Moment(due) => Some(due),
        };
        let end = self.lifetime.map(|lifetime| lifetime.valid_before);
        let alarm = (self.failures > 0 && !self.has_alarmed)
            .then_some(self.lifetime)
            .flatten()
            .map(|lifetime| lifetime.at(RENEW_PERCENT_MAX));
        [due, end, alarm].into_iter().flatten().min()
    }

    /// Returns what to do next, `None` when there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Draws the moment of a regular renewal.
    fn due(&mut self, lifetime: Lifetime) -> Timestamp {
        let (from, to) = (lifetime.at(RENEW_PERCENT_MIN), lifetime.at(RENEW_PERCENT_MAX));
        from.saturating_add(self.share(to.since(from)))
    }

    /// Draws the moment of a renewal after a change of roots: within the window, or within a
    /// tenth of a short lifetime.
    fn soon(&mut self, lifetime: Lifetime, now: Timestamp) -> Timestamp {
        let window = ROOTS_WINDOW.min(lifetime.whole() / 10);
        now.saturating_add(self.share(window))
    }

    /// Draws the pause after a failure: even between the shortest and a ceiling that doubles.
    fn pause(&mut self) -> Duration {
        let (min, max) = match self.lifetime {
            // A short-lived certificate has no minutes to lose.
            Some(lifetime) => (RETRY_MIN, RETRY_MAX.min(lifetime.whole() / 20).max(RETRY_MIN)),
            None => (FIRST_RETRY_MIN, FIRST_RETRY_MAX),
        };
        let ceiling = min.saturating_mul(1 << self.failures.min(16)).min(max);
        min + self.share(ceiling - min)
    }

    /// Draws evenly from zero to below `whole`, in milliseconds.
    fn share(&mut self, whole: Duration) -> Duration {
        let ms = (u128::from(self.rng.next_u64()) * whole.as_millis()) >> 64;
        Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

impl Lifetime {
    fn whole(self) -> Duration {
        self.valid_before.since(self.valid_after)
    }

    /// Returns the moment at which so many percent are over.
    fn at(self, percent: u64) -> Timestamp {
        let ms = self.whole().as_millis() * u128::from(percent) / 100;
        let part = Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX));
        self.valid_after.saturating_add(part)
    }
}

#[cfg(test)]
mod fleet;
#[cfg(test)]
mod tests;
