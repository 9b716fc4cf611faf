//! The index never goes backwards for one client: over all servers when it reads what is newest,
//! and at each server, as long as its process lives, when it reads stale.
//!
//! **Source**: Consul: api-docs/features/blocking.

use std::collections::BTreeMap;

use crate::history::{History, Sight};

/// Whose index it is: client, register, and for stale reads the server with its life.
type Line<'a> = (usize, &'a str, Option<(usize, u64)>);

pub(super) fn check(history: &History) -> Vec<String> {
    let mut last: BTreeMap<Line<'_>, &Sight> = BTreeMap::new();
    let mut breaches = Vec::new();
    for sight in &history.sights {
        let server = sight.is_stale.then_some((sight.server, sight.life));
        let line = (sight.client, sight.key.as_str(), server);
        if let Some(before) = last.insert(line, sight)
            && before.index > sight.index
        {
            breaches.push(format!("an index fell: {before:?}, then {sight:?}"));
        }
    }
    breaches
}
