//! The doors of a proxy through which the agent probes the instance beside it (`Expose.Checks`): who
//! asks for them, and which port each has.
//!
//! **Source**: Consul: docs/connect/proxies/proxy-config-reference#expose-paths-configuration-reference.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::config_entry::ExposedPath;
use crate::name::{CheckId, InstanceId};

/// What a proxy does with the checks of the instance beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// The instance.
    pub instance: InstanceId,
    /// Whether its checks go through doors of the proxy.
    pub is_on: bool,
    /// Ports that the proxy needs for other paths.
    pub other_ports: BTreeSet<u16>,
}

/// A check that is to go through a door of its proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckDoor {
    /// The check.
    pub check: CheckId,
    /// The door, or why there is none.
    pub path: Result<ExposedPath, String>,
}

/// Gives each check a port of its own: the one that it had, if nothing else needs that now, or the
/// lowest that is free.
///
/// **Shape**: every check that is asked for; `None` when no port is free.
pub fn assign_ports<'a>(
    range: &RangeInclusive<u16>,
    taken: &BTreeSet<u16>,
    wanted: impl Iterator<Item = (&'a CheckId, Option<u16>)>,
) -> BTreeMap<CheckId, Option<u16>> {
    let mut in_use = taken.clone();
    let mut assigned = BTreeMap::new();
    for (check, before) in wanted {
        let kept = before.filter(|port| range.contains(port) && in_use.insert(*port));
        assigned.insert(check.clone(), kept);
    }
    let mut free = range.clone().filter(|port| !in_use.contains(port));
    for port in assigned.values_mut().filter(|port| port.is_none()) {
        *port = free.next();
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(range: RangeInclusive<u16>, taken: &[u16], wanted: &[(&str, u16)]) -> String {
        let parsed = |(id, before): &(&str, u16)| {
            (id.parse::<CheckId>().expect("an id"), (*before > 0).then_some(*before))
        };
        let wanted: Vec<(CheckId, Option<u16>)> = wanted.iter().map(parsed).collect();
        let taken = taken.iter().copied().collect();
        let wanted = wanted.iter().map(|(id, before)| (id, *before));
        let assigned = assign_ports(&range, &taken, wanted);
        let show = |(id, port): (&CheckId, &Option<u16>)| format!("{id} {}", port.unwrap_or(0));
        assigned.iter().map(show).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_check_keeps_its_port_and_others_get_the_lowest_that_is_free() {
        for (range, taken, wanted, expected) in [
            (1..=9, &[][..], &[("a", 0), ("b", 0)][..], "a 1, b 2"),
            (1..=9, &[1, 2], &[("a", 0), ("b", 0)], "a 3, b 4"),
            // Who comes later moves nobody.
            (1..=9, &[], &[("a", 0), ("b", 1)], "a 2, b 1"),
            (1..=9, &[1], &[("a", 0), ("b", 1)], "a 2, b 3"),
            // A range that was changed.
            (5..=9, &[], &[("a", 2), ("b", 6)], "a 5, b 6"),
            // From a file that somebody wrote into.
            (1..=9, &[], &[("a", 4), ("b", 4)], "a 4, b 1"),
            (1..=2, &[2], &[("a", 0), ("b", 0)], "a 1, b 0"),
            (1..=2, &[1], &[("a", 0), ("b", 2)], "a 0, b 2"),
        ] {
            assert_eq!(shown(range, taken, wanted), expected, "{wanted:?} beside {taken:?}");
        }
    }
}
