//! Which hosts are alive, by the streams that their agents keep open to servers.
//!
//! There is no gossip: an agent's stream is its lease. Each server knows who has a stream to it
//! ([`Attendance`]) and tells the leader what changes ([`Presence`]); the leader puts that
//! together and judges ([`Leases`]): a host without a stream anywhere has a short grace to come
//! back, and then its check [`SERF_HEALTH`](crate::catalog::SERF_HEALTH) turns critical. None of it
//! is replicated but the check; a new leader begins with a whole lease for every host.

mod attendance;
mod leases;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use attendance::Attendance;
pub use leases::{LeaseVerdict, Leases};

use crate::name::NodeName;

/// The times of leases, all in proportion to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    whole: Duration,
    reap: Duration,
}

impl LeaseTimes {
    /// How long a host that died may stay in answers, when nothing else is configured.
    pub const WHOLE_DEFAULT: Duration = Duration::from_secs(10);
    /// The shortest lease: pings every 750 ms.
    pub const WHOLE_MIN: Duration = Duration::from_secs(3);
    /// The longest lease.
    pub const WHOLE_MAX: Duration = Duration::from_secs(600);
    /// How long a failed host is remembered, when nothing else is configured.
    ///
    /// **Source**: Consul: docs/agent/config#reconnect_timeout.
    pub const REAP_DEFAULT: Duration = Duration::from_secs(72 * 3600);

    /// Makes the times: `whole` from [`Self::WHOLE_MIN`] to [`Self::WHOLE_MAX`] is kept, others
    /// are moved to the nearer end; a failed host is removed from the catalog after `reap`.
    pub fn new(whole: Duration, reap: Duration) -> Self {
        Self { whole: whole.clamp(Self::WHOLE_MIN, Self::WHOLE_MAX), reap }
    }

    /// Within this time after its death a host leaves the answers.
    pub fn whole(self) -> Duration {
        self.whole
    }

    /// A stream that is silent for this long is asked whether its agent lives, which has as long
    /// again to answer: so a death is seen in half a lease.
    pub fn ping(self) -> Duration {
        self.whole / 4
    }

    /// How long after the end of its last stream a host may come back as if nothing had been.
    pub fn grace(self) -> Duration {
        self.whole * 2 / 5
    }

    /// How often a server reports to the leader, with or without news.
    pub fn report(self) -> Duration {
        (self.whole / 10).min(Duration::from_secs(1))
    }

    /// A server whose reports stop for this long speaks for nobody any more.
    pub fn silence(self) -> Duration {
        self.report() * 3
    }

    /// How long a failed host stays in the catalog.
    pub fn reap(self) -> Duration {
        self.reap
    }
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self::new(Self::WHOLE_DEFAULT, Self::REAP_DEFAULT)
    }
}

/// What a server tells the leader: who has a stream to it, or what is different since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// A random number of the server's run: versions of another run say nothing.
    pub epoch: u64,
    /// The version that this is the difference to; 0 says that `present` is everybody.
    pub base: u64,
    /// The version that this leads to, from 1.
    pub version: u64,
    /// Who has a stream now.
    pub present: Vec<NodeName>,
    /// Who has none any more.
    pub gone: Vec<NodeName>,
}

/// What the leader says to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Heard {
    /// The leader knows the version now.
    Noted,
    /// The leader does not know the base; everybody is to be named.
    Unknown,
}

#[cfg(test)]
mod tests;
