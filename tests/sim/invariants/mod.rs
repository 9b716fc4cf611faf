//! What must hold in every run, one property per file.

mod index;
mod locks;
mod order;
mod replicas;
mod watches;

pub(crate) use replicas::check as check_replicas;
pub(crate) use watches::check as check_watches;

use weft_core::time::Timestamp;

use crate::history::History;
use crate::oracle;

/// Judges what clients saw; no server's wall clock jumped before a moment. Returns every breach.
pub(crate) fn check_history(history: &History, clocks_right_until: Timestamp) -> Vec<String> {
    let mut breaches = history.oddities.clone();
    for (key, operations) in &history.objects {
        if let Err(fault) = oracle::check(operations) {
            let mut lines = vec![format!("{key} is not linearizable: {fault:?}")];
            lines.extend(operations.iter().map(|operation| format!("    {operation}")));
            breaches.push(lines.join("\n"));
            // One is enough to look at, and the others may take as long to search.
            break;
        }
    }
    breaches.extend(order::check(history));
    breaches.extend(index::check(history));
    breaches.extend(locks::check(&history.locks, clocks_right_until));
    breaches
}
