//! The machine of autopilot: sightings of servers in, what is to be done out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::AutopilotConfig;
use crate::time::Timestamp;

/// Silence after which a server counts as failed, and may be removed: far above any restart's
/// first second, and short enough that a second failure rarely comes before.
///
/// **Source**: Consul's gossip takes some seconds to declare a server failed; autopilot looks
/// every 10 s.
const FAILED_AFTER: Duration = Duration::from_secs(30);

/// The leader, against whom servers are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// Its term.
    pub term: u64,
    /// The end of its log.
    pub last_index: u64,
}

/// A server as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The server.
    pub id: u64,
    /// Whether it has a vote.
    pub is_voter: bool,
    /// Whether it is never to have one.
    pub is_read_replica: bool,
    /// How long ago it answered the leader; `None`: not since it began to lead.
    pub last_contact: Option<Duration>,
    /// Its term and the end of its log; `None` when it does not say.
    pub progress: Option<(u64, u64)>,
}

/// When a look is taken, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By which is measured how long something has been so: wall clocks jump, and a server that
    /// was away for a second must not seem to have failed.
    pub local: Instant,
    /// Which is shown to people.
    pub wall: Timestamp,
}

/// What is known of a server's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerHealth {
    /// Whether it is in touch, in the leader's term and not far behind.
    pub is_healthy: bool,
    /// Since when that has been so.
    pub since: Timestamp,
    /// Whether it has been silent for so long that it counts as failed.
    pub is_failed: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Learners that get a vote.
    pub promote: BTreeSet<u64>,
    /// A server to remove: one at a time, so that each removal is judged on what is left.
    pub remove: Option<u64>,
}

/// Remembers since when each server has been as it is. One leadership, one judge.
#[derive(Debug, Default, Clone)]
pub struct Judge {
    servers: BTreeMap<u64, Memory>,
}

#[derive(Debug, Clone, Copy)]
struct Memory {
    health: ServerHealth,
    /// Since when it has been as healthy as it is.
    steady_since: Instant,
    /// When it last answered.
    heard: Instant,
}

impl Judge {
    /// Takes one look at every server, and says what is to be done. To be called every second.
    pub fn handle_look(
        &mut self,
        seen: &[Seen],
        leader: Leader,
        config: &AutopilotConfig,
        now: Moment,
    ) -> Verdict {
        self.servers.retain(|id, _| seen.iter().any(|server| server.id == *id));
        for server in seen {
            let is_healthy = is_healthy(server, leader, config);
            // A server that never answered is heard of as of now: each gets its time.
            let memory = self.servers.entry(server.id).or_insert(Memory {
                health: ServerHealth { is_healthy, since: now.wall, is_failed: false },
                steady_since: now.local,
                heard: now.local,
            });
            if memory.health.is_healthy != is_healthy {
                memory.health = ServerHealth { is_healthy, since: now.wall, ..memory.health };
                memory.steady_since = now.local;
            }
            if server.progress.is_some() || server.last_contact.is_some_and(is_recent) {
                memory.heard = now.local;
            }
            memory.health.is_failed = now.local.duration_since(memory.heard) >= FAILED_AFTER;
        }
        let promote = self.promote(seen, config, now.local);
        Verdict { promote, remove: self.remove(seen, config) }
    }

    /// Returns what is known of a server.
    pub fn health(&self, id: u64) -> Option<ServerHealth> {
        self.servers.get(&id).map(|memory| memory.health)
    }

    /// Returns how many voters may fail before there is no majority.
    pub fn failure_tolerance(&self, seen: &[Seen]) -> usize {
        let voters: Vec<&Seen> = seen.iter().filter(|server| server.is_voter).collect();
        let healthy = voters.iter().filter(|server| self.is_healthy(server.id)).count();
        healthy.saturating_sub(voters.len() / 2 + 1)
    }

    fn is_healthy(&self, id: u64) -> bool {
        self.health(id).is_some_and(|health| health.is_healthy)
    }

    fn promote(&self, seen: &[Seen], config: &AutopilotConfig, now: Instant) -> BTreeSet<u64> {
        let is_stable = |server: &&Seen| {
            self.servers.get(&server.id).is_some_and(|memory| {
                let steady = now.duration_since(memory.steady_since);
                memory.health.is_healthy && steady >= config.server_stabilization_time.0
            })
        };
        let candidates = seen.iter().filter(|server| !server.is_voter && !server.is_read_replica);
        candidates.filter(is_stable).map(|server| server.id).collect()
    }

    /// A failed server goes when those that are left and healthy are a majority of those that
    /// are left, and of those before; learners go whenever they failed.
    fn remove(&self, seen: &[Seen], config: &AutopilotConfig) -> Option<u64> {
        if !config.cleanup_dead_servers {
            return None;
        }
        let is_failed =
            |server: &&Seen| self.health(server.id).is_some_and(|health| health.is_failed);
        let replica_or_learner = seen.iter().filter(|server| !server.is_voter).find(is_failed);
        if let Some(server) = replica_or_learner {
            // A read replica is somebody's choice; who stops it for long will start it again.
            if !server.is_read_replica {
                return Some(server.id);
            }
        }
        let voters: Vec<&Seen> = seen.iter().filter(|server| server.is_voter).collect();
        let healthy = voters.iter().filter(|server| self.is_healthy(server.id)).count();
        let failed = voters.iter().copied().find(is_failed)?;
        let left = voters.len() - 1;
        let is_enough = healthy > voters.len() / 2
            && healthy > left / 2
            && u64::try_from(left).is_ok_and(|left| left >= config.min_quorum);
        is_enough.then_some(failed.id)
    }
}

fn is_recent(silence: Duration) -> bool {
    silence < FAILED_AFTER
}

fn is_healthy(server: &Seen, leader: Leader, config: &AutopilotConfig) -> bool {
    let is_in_touch =
        server.last_contact.is_some_and(|silence| silence <= config.last_contact_threshold.0);
    let is_level = server.progress.is_some_and(|(term, last_index)| {
        term == leader.term
            && leader.last_index.saturating_sub(last_index) <= config.max_trailing_logs
    });
    is_in_touch && is_level
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    const LEADER: Leader = Leader { term: 2, last_index: 1_000 };

    fn well(id: u64) -> Seen {
        Seen {
            id,
            is_voter: true,
            is_read_replica: false,
            last_contact: Some(Duration::from_millis(50)),
            progress: Some((2, 990)),
        }
    }

    fn gone(id: u64) -> Seen {
        Seen { last_contact: None, progress: None, ..well(id) }
    }

    /// So many seconds after a beginning; which one does not matter.
    fn at(second: u64) -> Moment {
        #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        let wall = Timestamp(second * 1_000);
        Moment { local: *BEGINNING + Duration::from_secs(second), wall }
    }

    #[test]
    fn a_wall_clock_that_jumps_makes_no_server_fail_and_gives_no_vote() {
        let config = AutopilotConfig::default();
        let mut judge = Judge::default();
        let learner = Seen { is_voter: false, ..well(4) };
        let seen = [well(1), well(2), gone(3), learner];
        judge.handle_look(&seen, LEADER, &config, at(0));
        let jumped = Moment { wall: Timestamp(3_600_000), ..at(2) };
        assert_eq!(judge.handle_look(&seen, LEADER, &config, jumped), Verdict::default());
    }

    #[test]
    fn health_is_touch_term_and_progress() {
        let config = AutopilotConfig::default();
        let late = Seen { last_contact: Some(Duration::from_millis(201)), ..well(1) };
        let behind = Seen { progress: Some((2, 749)), ..well(1) };
        let elsewhere = Seen { progress: Some((1, 1_000)), ..well(1) };
        for (server, healthy) in
            [(well(1), true), (late, false), (behind, false), (elsewhere, false), (gone(1), false)]
        {
            assert_eq!(is_healthy(&server, LEADER, &config), healthy, "{server:?}");
        }
    }

    #[test]
    fn a_learner_gets_its_vote_once_it_has_been_healthy_for_long_enough() {
        let config = AutopilotConfig::default();
        let mut judge = Judge::default();
        let learner = Seen { is_voter: false, ..well(4) };
        let replica = Seen { is_read_replica: true, ..Seen { id: 5, ..learner.clone() } };
        let mut look = |learner: &Seen, second| {
            let seen = [well(1), well(2), well(3), learner.clone(), replica.clone()];
            judge.handle_look(&seen, LEADER, &config, at(second)).promote
        };
        assert_eq!(look(&learner, 0), BTreeSet::new());
        assert_eq!(look(&learner, 9), BTreeSet::new());
        let stumbles = Seen { last_contact: Some(Duration::from_secs(1)), ..learner.clone() };
        assert_eq!(look(&stumbles, 10), BTreeSet::new());
        assert_eq!(look(&learner, 11), BTreeSet::new(), "its time starts over");
        assert_eq!(look(&learner, 21), BTreeSet::from([4]));
    }

    #[test]
    fn the_failed_go_only_while_a_majority_stands() {
        let settled = |seen: &[Seen], config: &AutopilotConfig| {
            let mut judge = Judge::default();
            judge.handle_look(seen, LEADER, config, at(0));
            let verdict = judge.handle_look(seen, LEADER, config, at(29));
            assert_eq!(verdict.remove, None, "it gets its time");
            judge.handle_look(seen, LEADER, config, at(30)).remove
        };
        let config = AutopilotConfig::default();
        let five = [well(1), well(2), well(3), well(4), gone(5)];
        assert_eq!(settled(&five, &config), Some(5));
        assert_eq!(settled(&[well(1), well(2), well(3), gone(4), gone(5)], &config), Some(4));
        assert_eq!(settled(&[well(1), well(2), gone(3), gone(4), gone(5)], &config), None);
        assert_eq!(settled(&[well(1), well(2), gone(3)], &config), Some(3));
        assert_eq!(settled(&[well(1), gone(2)], &config), None);
        let off = AutopilotConfig { cleanup_dead_servers: false, ..config.clone() };
        assert_eq!(settled(&five, &off), None);
        let held = AutopilotConfig { min_quorum: 5, ..config.clone() };
        assert_eq!(settled(&five, &held), None);
        let held = AutopilotConfig { min_quorum: 3, ..config };
        assert_eq!(settled(&[well(1), well(2), gone(3)], &held), None);
    }

    #[test]
    fn failed_learners_go_and_read_replicas_stay() {
        let config = AutopilotConfig::default();
        let learner = Seen { is_voter: false, ..gone(4) };
        for (server, removed) in
            [(learner.clone(), Some(4)), (Seen { is_read_replica: true, ..learner }, None)]
        {
            let seen = [well(1), well(2), well(3), server];
            let mut judge = Judge::default();
            judge.handle_look(&seen, LEADER, &config, at(0));
            let verdict = judge.handle_look(&seen, LEADER, &config, at(31));
            assert_eq!(verdict.remove, removed);
        }
    }

    #[test]
    fn tolerance_counts_the_healthy_beyond_a_majority() {
        let mut judge = Judge::default();
        let config = AutopilotConfig::default();
        for (seen, tolerance) in [
            (vec![well(1)], 0),
            (vec![well(1), well(2), well(3)], 1),
            (vec![well(1), well(2), gone(3)], 0),
            (vec![well(1), well(2), well(3), well(4), gone(5)], 1),
        ] {
            judge.handle_look(&seen, LEADER, &config, at(0));
            assert_eq!(judge.failure_tolerance(&seen), tolerance);
        }
    }
}
