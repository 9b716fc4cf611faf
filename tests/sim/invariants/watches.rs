//! A watch loses nothing, shows nothing older, and does not spin.
//!
//! At the end of a quiet time each watcher has the register's last value. An answer with the index
//! that was asked for tells nothing; few come, from servers that end while they are waited on.

use std::collections::BTreeMap;

use crate::history::History;

/// Answers that tell nothing, in one run: each server ends a few times.
const SPURIOUS_MAX: usize = 12;

/// `last` is what registers hold at the end, of those whose watchers had no fault to bear.
pub(crate) fn check(history: &History, last: &BTreeMap<String, Option<u64>>) -> Vec<String> {
    let mut breaches = Vec::new();
    for (key, value) in last {
        let seen = history.watched.get(key).and_then(|watched| watched.steps.last());
        if seen.map(|(_, _, seen)| seen) != Some(value) {
            breaches.push(format!("the watch of {key} ended at {seen:?}; it is {value:?}"));
        }
    }
    let mut spurious = 0;
    for (key, watched) in &history.watched {
        for (asked, answered, _) in &watched.steps {
            if answered < asked {
                breaches.push(format!("the watch of {key} fell from {asked} to {answered}"));
            }
            spurious += usize::from(answered == asked);
        }
    }
    if spurious > SPURIOUS_MAX {
        breaches.push(format!("{spurious} answers of watches told nothing"));
    }
    breaches
}
