//! Who came without mutual TLS while that was allowed: by address, as nothing else is known.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use weft_core::time::Timestamp;
use weft_runtime::clock;

/// Sources told apart; what comes from further ones is counted as one.
const SOURCES_MAX: usize = 64;

/// The counts of all workers: such connections are rare beside others, or should become so.
#[derive(Debug)]
pub(super) struct PlaintextSources {
    since: Timestamp,
    seen: Mutex<BTreeMap<Option<IpAddr>, PlaintextSeen>>,
}

/// What came from one source.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaintextSeen {
    pub(crate) connections: u64,
    /// When the last one came.
    pub(crate) last: Timestamp,
}

/// All sources at one moment, by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlaintextReport {
    /// Since when it is counted.
    pub(crate) since: Timestamp,
    pub(crate) sources: Vec<(String, PlaintextSeen)>,
}

impl Default for PlaintextSources {
    fn default() -> Self {
        Self { since: clock::wall(), seen: Mutex::default() }
    }
}

impl PlaintextSources {
    pub(super) fn note(&self, source: Option<IpAddr>, now: Timestamp) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let source = source.filter(|it| all.contains_key(&Some(*it)) || all.len() < SOURCES_MAX);
        let seen = all.entry(source).or_default();
        seen.connections += 1;
        seen.last = now;
    }

    pub(super) fn report(&self) -> PlaintextReport {
        let all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let named = all.iter().map(|(source, seen)| {
            (source.map_or_else(|| "other".to_owned(), |source| source.to_string()), *seen)
        });
        PlaintextReport { since: self.since, sources: named.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_beyond_the_bound_are_counted_as_one() {
        let sources = PlaintextSources::default();
        for last in 0..100u8 {
            sources.note(Some([10, 0, 0, last].into()), Timestamp(u64::from(last)));
        }
        sources.note(Some([10, 0, 0, 1].into()), Timestamp(500));
        let found = sources.report().sources;
        assert_eq!(found.len(), SOURCES_MAX + 1);
        let of = |name: &str| found.iter().find(|(it, _)| it == name).map(|(_, seen)| *seen);
        let first = PlaintextSeen { connections: 2, last: Timestamp(500) };
        assert_eq!(of("10.0.0.1"), Some(first));
        assert_eq!(of("other").map(|seen| seen.connections), Some(36));
    }
}
