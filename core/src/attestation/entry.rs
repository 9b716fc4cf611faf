//! Entries of the configuration: by what processes are known, and for which service they speak.

use super::cgroup::is_unit;
use super::pod::is_uid;
use super::{Caller, Pod};
use crate::name::ServiceName;

/// Bytes of a control group's path in an entry: those of systemd and of containers have some
/// hundred.
const CGROUP_BYTES_MAX: usize = 1_024;

/// By what the processes of a service are known; each that is given must be so.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Selectors {
    /// Their user.
    pub uid: Option<u32>,
    /// Their group.
    pub gid: Option<u32>,
    /// Their systemd unit, with its suffix.
    pub unit: Option<String>,
    /// Their control group, or one above it.
    pub cgroup: Option<String>,
    /// Their pod, by its UID as Kubernetes shows it.
    pub pod: Option<String>,
}

/// Some processes of a host, by what they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processes(Selectors);

/// A service, and by what its processes are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub(super) service: ServiceName,
    processes: Processes,
}

/// States why an entry would match nobody, or everybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// The control group is no path, or stands for all.
    #[error(
        "{cgroup:?} is no group below the root; write its path as in /proc/PID/cgroup, such as \
         \"/system.slice/web.service\""
    )]
    Cgroup {
        /// What was given.
        cgroup: String,
    },
    /// Nothing is said of the processes.
    #[error("say which processes are meant: uid, gid, unit, cgroup or pod")]
    NoSelector,
    /// The pod is no UID of one.
    #[error(
        "{pod:?} is no UID of a pod; write what `kubectl get pod NAME -o jsonpath={{.metadata.uid}}` \
         prints"
    )]
    Pod {
        /// What was given.
        pod: String,
    },
    /// The unit is no name of one.
    #[error("{unit:?} is no unit that holds processes; write its whole name, as \"web.service\"")]
    Unit {
        /// What was given.
        unit: String,
    },
}

impl Processes {
    /// Takes those that meet all that is given.
    ///
    /// # Errors
    /// [`InvalidEntry`] when there is no selector, or one that cannot be met.
    pub fn new(selectors: Selectors) -> Result<Self, InvalidEntry> {
        if selectors == Selectors::default() {
            return Err(InvalidEntry::NoSelector);
        }
        let Selectors { uid: _, gid: _, unit, cgroup, pod } = &selectors;
        if let Some(unit) = unit.as_deref().filter(|unit| !is_unit(unit)) {
            return Err(InvalidEntry::Unit { unit: unit.to_owned() });
        }
        if let Some(cgroup) = cgroup.as_deref().filter(|path| !is_group(path)) {
            return Err(InvalidEntry::Cgroup { cgroup: cgroup.to_owned() });
        }
        if let Some(pod) = pod.as_deref().filter(|pod| !is_uid(pod)) {
            return Err(InvalidEntry::Pod { pod: pod.to_owned() });
        }
        Ok(Self(selectors))
    }

    /// Whether a caller has all that is asked for.
    pub fn contain(&self, caller: &Caller) -> bool {
        let Selectors { uid, gid, unit, cgroup, pod } = &self.0;
        uid.is_none_or(|uid| uid == caller.uid)
            && gid.is_none_or(|gid| gid == caller.gid)
            && unit.as_deref().is_none_or(|unit| caller.cgroup.unit() == Some(unit))
            && cgroup.as_deref().is_none_or(|path| caller.cgroup.is_in(path))
            && pod.as_deref().is_none_or(|uid| caller.cgroup.pod().map(Pod::uid) == Some(uid))
    }
}

impl Entry {
    /// Makes an entry.
    ///
    /// # Errors
    /// [`InvalidEntry`] when there is no selector, or one that cannot be met.
    pub fn new(service: ServiceName, selectors: Selectors) -> Result<Self, InvalidEntry> {
        Ok(Self { service, processes: Processes::new(selectors)? })
    }

    /// Returns the service.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Whether a caller has all that is asked for.
    pub fn matches(&self, caller: &Caller) -> bool {
        self.processes.contain(caller)
    }
}

/// Whether a text is the path of a group, other than the root of all.
fn is_group(path: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.len() <= CGROUP_BYTES_MAX
        && path
            .strip_prefix('/')
            .is_some_and(|rest| rest.strip_suffix('/').unwrap_or(rest).split('/').all(is_part))
}
