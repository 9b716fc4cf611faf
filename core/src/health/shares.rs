//! Who among several agents does a piece of work: each can say so for itself, without asking the
//! others, as long as all know the same ones.

/// The start and the factor of FNV-1a with 64 bits.
///
/// **Source**: Spec: draft-eastlake-fnv §5.
const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_FACTOR: u64 = 0x0000_0100_0000_01b3;

/// Returns who of `workers` does `work`: the one whose draw for it is highest. `None` when there are
/// no workers.
///
/// When one is gone its work alone moves, to all others alike; one that comes takes its part from
/// all. The order of the workers does not matter.
pub fn worker_of<'a>(work: &str, workers: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The name decides between equal draws, so that all decide alike.
    workers.into_iter().max_by_key(|worker| (draw(work, worker), *worker))
}

fn draw(work: &str, worker: &str) -> u64 {
    // No name has the byte that separates the two.
    let bytes = work.bytes().chain([0]).chain(worker.bytes());
    let hash =
        bytes.fold(FNV_START, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_FACTOR));
    // The last bytes of a name move the high bits of FNV too little to draw lots by.
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kind: &str, count: usize) -> Vec<String> {
        (0..count).map(|number| format!("{kind}-{number}")).collect()
    }

    fn owner<'a>(work: &str, workers: &'a [String]) -> Option<&'a str> {
        worker_of(work, workers.iter().map(String::as_str))
    }

    #[test]
    fn work_is_spread_evenly_and_by_nothing_but_the_names() {
        let (workers, works) = (names("agent", 4), names("host", 4_000));
        let mut backwards = workers.clone();
        backwards.reverse();
        let mut counts = std::collections::BTreeMap::new();
        for work in &works {
            let one = owner(work, &workers).expect("somebody does it");
            assert_eq!(owner(work, &backwards), Some(one));
            *counts.entry(one).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 4);
        assert!(counts.values().all(|count| (850..1_150).contains(count)), "{counts:?}");
        assert_eq!(worker_of("host", []), None);
    }

    #[test]
    fn only_the_work_of_one_that_is_gone_moves() {
        let (workers, works) = (names("agent", 5), names("host", 1_000));
        let left: Vec<String> = workers.iter().filter(|it| *it != "agent-2").cloned().collect();
        for work in &works {
            let (before, after) = (owner(work, &workers), owner(work, &left));
            assert!(before == Some("agent-2") || before == after, "{work} moved without need");
        }
    }
}
