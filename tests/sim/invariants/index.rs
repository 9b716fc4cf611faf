//! The index never goes backwards for one client: over all servers when it reads what is newest,
//! and at each server, as long as its process lives, when it reads stale.
//!
//! A server that starts again has its snapshot and of its log what it knows to be committed, by a
//! mark that may be old. That may be less than it has shown before; it learns the rest from the
//! next leader. Raft promises no more of one server's own state, and clients begin anew
//! when an index falls. Answers to default and consistent reads wait for that leader.
//!
//! **Source**: Consul: api-docs/features/blocking#implementation-details; Raft §5.3, §8.

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
