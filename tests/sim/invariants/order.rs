//! One order of writes: a modify index of a register stands for one value, whoever tells.

use std::collections::BTreeMap;

use crate::history::History;

pub(super) fn check(history: &History) -> Vec<String> {
    let mut known: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    let mut breaches = Vec::new();
    for sight in &history.sights {
        let Some((value, modified)) = sight.value else { continue };
        let before = *known.entry((&sight.key, modified)).or_insert(value);
        if before != value {
            let key = &sight.key;
            breaches.push(format!("{key} was {before} and {value} at index {modified}: {sight:?}"));
        }
    }
    breaches
}
