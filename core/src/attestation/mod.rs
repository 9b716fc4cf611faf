//! For which services a process of this host may speak: what is known of it, against selectors.
//!
//! Who asked is found out by the agent, and nothing here is taken from what the process says.

mod cgroup;
mod entry;
mod pod;

use std::fmt;

pub use cgroup::{Cgroup, InvalidCgroup};
pub use entry::{Entry, InvalidEntry, Processes, Selectors};
pub use pod::Pod;

use crate::name::ServiceName;

/// A process of this host, as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user that it ran as when it connected.
    pub uid: u32,
    /// Its group at that time; further groups do not count.
    pub gid: u32,
    /// Its number, for people.
    pub pid: u32,
    /// Where it stands among the processes of the host.
    pub cgroup: Cgroup,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, gid, pid, cgroup } = self;
        write!(f, "uid {uid}, gid {gid}, ")?;
        match cgroup.unit() {
            Some(unit) => write!(f, "unit {unit}, ")?,
            None => f.write_str("no systemd unit, ")?,
        }
        if let Some(pod) = cgroup.pod() {
            write!(f, "{pod}, ")?;
        }
        write!(f, "cgroup {}, pid {pid}", cgroup.path())
    }
}

/// Returns the services for which a caller may speak.
///
/// **Shape**: in the order of the entries, each once; empty when nothing matches.
pub fn services(entries: &[Entry], caller: &Caller) -> Vec<ServiceName> {
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| entry.matches(caller)) {
        if !found.contains(&entry.service) {
            found.push(entry.service.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests;
