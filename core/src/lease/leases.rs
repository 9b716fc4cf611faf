//! The leader's judgement: who is alive, whose lease is over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::{Heard, LeaseTimes, Presence};
use crate::name::NodeName;

/// A verdict that could not be written is given again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A leader that looks at the clock this late has stood still itself: silence meanwhile says
/// nothing of others.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// What is to be written of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseVerdict {
    /// Its lease is over: its check turns critical.
    Lost(NodeName),
    /// It has been without a stream for so long that it leaves the catalog.
    Reap(NodeName),
    /// It is back: its check passes.
    Returned(NodeName),
}

/// What one server said last.
#[derive(Debug)]
struct Roll {
    epoch: u64,
    version: u64,
    heard: Instant,
    nodes: BTreeSet<NodeName>,
}

/// A host of the catalog.
#[derive(Debug)]
struct Host {
    is_critical: bool,
    /// When something is to be done if no stream is opened before.
    due: Option<Instant>,
}

/// All leases, as of one leadership.
#[derive(Debug)]
pub struct Leases {
    times: LeaseTimes,
    rolls: BTreeMap<u64, Roll>,
    hosts: BTreeMap<NodeName, Host>,
    by_due: BTreeSet<(Instant, NodeName)>,
    looked: Instant,
    verdicts: VecDeque<LeaseVerdict>,
}

impl Leases {
    /// Begins with a whole lease for everybody.
    pub fn new(times: LeaseTimes, now: Instant) -> Self {
        Self {
            times,
            rolls: BTreeMap::new(),
            hosts: BTreeMap::new(),
            by_due: BTreeSet::new(),
            looked: now,
            verdicts: VecDeque::new(),
        }
    }

    /// Takes all hosts of the catalog that have a lease, and whether their check is critical.
    pub fn handle_hosts(
        &mut self,
        hosts: impl IntoIterator<Item = (NodeName, bool)>,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.hosts);
        for (node, is_critical) in hosts {
            let known = before.remove(&node);
            let was_critical = known.as_ref().map(|host| host.is_critical);
            let due = known.and_then(|host| host.due);
            self.hosts.insert(node.clone(), Host { is_critical, due });
            if was_critical != Some(is_critical) {
                // The time that it had was for what it was before.
                self.set_due(&node, None);
                self.consider(&node, now);
            }
        }
        for (node, host) in before {
            if let Some(due) = host.due {
                self.by_due.remove(&(due, node));
            }
        }
    }

    /// Takes a server's report.
    pub fn handle_report(&mut self, server: u64, presence: Presence, now: Instant) -> Heard {
        let known = self.rolls.get(&server);
        let is_next = known.is_some_and(|roll| {
            roll.epoch == presence.epoch && presence.base != 0 && roll.version == presence.base
        });
        let is_whole = presence.base == 0;
        if !is_next && !is_whole {
            return Heard::Unknown;
        }
        let mut roll = self.rolls.remove(&server).unwrap_or_else(|| Roll {
            epoch: presence.epoch,
            version: 0,
            heard: now,
            nodes: BTreeSet::new(),
        });
        (roll.epoch, roll.version, roll.heard) = (presence.epoch, presence.version, now);
        let (mut came, mut left): (_, BTreeSet<_>) =
            (presence.present, presence.gone.into_iter().collect());
        if is_whole {
            let present: BTreeSet<NodeName> = came.into_iter().collect();
            left = roll.nodes.difference(&present).cloned().collect();
            came = present.difference(&roll.nodes).cloned().collect();
        }
        roll.nodes.retain(|node| !left.contains(node));
        roll.nodes.extend(came.iter().cloned());
        self.rolls.insert(server, roll);
        for node in came {
            self.consider(&node, now);
        }
        for node in left {
            self.miss(&node, now + self.times.grace());
        }
        Heard::Noted
    }

    /// Finds out what is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        let pause = now.saturating_duration_since(self.looked);
        self.looked = now;
        if pause > self.times.report() + STOOD_STILL {
            self.postpone(pause);
        }
        let silence = self.times.silence();
        let silent: Vec<u64> = self
            .rolls
            .iter()
            .filter(|(_, roll)| now.saturating_duration_since(roll.heard) > silence)
            .map(|(server, _)| *server)
            .collect();
        for server in silent {
            let Some(roll) = self.rolls.remove(&server) else { continue };
            // Its agents have to find out that it is gone, and find another server.
            let due = roll.heard + self.times.whole();
            roll.nodes.iter().for_each(|node| self.miss(node, due));
        }
        while let Some((due, _)) = self.by_due.first()
            && *due <= now
        {
            let Some((_, node)) = self.by_due.pop_first() else { return };
            let is_present = self.is_present(&node);
            let Some(host) = self.hosts.get_mut(&node) else { continue };
            host.due = None;
            match (is_present, host.is_critical) {
                (true, true) => self.verdicts.push_back(LeaseVerdict::Returned(node)),
                (true, false) => {}
                (false, true) => self.verdicts.push_back(LeaseVerdict::Reap(node)),
                (false, false) => self.verdicts.push_back(LeaseVerdict::Lost(node)),
            }
        }
    }

    /// Returns when to look next: there is always a report to miss.
    pub fn poll_timeout(&self) -> Instant {
        let next = self.looked + self.times.report();
        self.by_due.first().map_or(next, |(due, _)| (*due).min(next))
    }

    /// Returns what is to be written. Drained until `None`; each is answered with
    /// [`Self::handle_written`] or [`Self::handle_not_written`].
    pub fn poll_output(&mut self) -> Option<LeaseVerdict> {
        self.verdicts.pop_front()
    }

    /// A verdict was written.
    pub fn handle_written(&mut self, verdict: &LeaseVerdict, now: Instant) {
        match verdict {
            LeaseVerdict::Lost(node) => self.note(node, true, now),
            LeaseVerdict::Returned(node) => self.note(node, false, now),
            LeaseVerdict::Reap(node) => drop(self.hosts.remove(node)),
        }
    }

    /// A verdict was not written, and is given again later if it still holds.
    pub fn handle_not_written(&mut self, verdict: &LeaseVerdict, now: Instant) {
        match verdict {
            LeaseVerdict::Lost(node) | LeaseVerdict::Reap(node) | LeaseVerdict::Returned(node) => {
                self.set_due(node, Some(now + RETRY_AFTER))
            }
        }
    }

    /// Returns how many hosts have a stream, and how many do not.
    pub fn counts(&self) -> (usize, usize) {
        let present = self.hosts.keys().filter(|node| self.is_present(node)).count();
        (present, self.hosts.len() - present)
    }

    fn note(&mut self, node: &NodeName, is_critical: bool, now: Instant) {
        if let Some(host) = self.hosts.get_mut(node) {
            host.is_critical = is_critical;
            self.consider(node, now);
        }
    }

    /// Decides what is next for a host of which something has become known.
    fn consider(&mut self, node: &NodeName, now: Instant) {
        let Some(host) = self.hosts.get(node) else { return };
        let (is_critical, due) = (host.is_critical, host.due);
        match (self.is_present(node), is_critical) {
            (true, true) => {
                self.set_due(node, None);
                self.verdicts.push_back(LeaseVerdict::Returned(node.clone()));
            }
            (true, false) => self.set_due(node, None),
            (false, true) => self.set_due(node, Some(now + self.times.reap())),
            // One that has a time keeps it.
            (false, false) if due.is_none() => self.set_due(node, Some(now + self.times.whole())),
            (false, false) => {}
        }
    }

    /// A host has lost a stream: it has until `due`, if it has no other.
    fn miss(&mut self, node: &NodeName, due: Instant) {
        let is_alive = self.hosts.get(node).is_some_and(|host| !host.is_critical);
        if is_alive && !self.is_present(node) {
            self.set_due(node, Some(due));
        }
    }

    fn is_present(&self, node: &NodeName) -> bool {
        self.rolls.values().any(|roll| roll.nodes.contains(node))
    }

    fn set_due(&mut self, node: &NodeName, due: Option<Instant>) {
        let Some(host) = self.hosts.get_mut(node) else { return };
        if let Some(before) = std::mem::replace(&mut host.due, due) {
            self.by_due.remove(&(before, node.clone()));
        }
        if let Some(due) = due {
            self.by_due.insert((due, node.clone()));
        }
    }

    /// Gives everybody the time during which the leader stood still.
    fn postpone(&mut self, pause: Duration) {
        for roll in self.rolls.values_mut() {
            roll.heard += pause;
        }
        for host in self.hosts.values_mut() {
            host.due = host.due.map(|due| due + pause);
        }
        let by_due = std::mem::take(&mut self.by_due);
        self.by_due = by_due.into_iter().map(|(due, node)| (due + pause, node)).collect();
    }
}
