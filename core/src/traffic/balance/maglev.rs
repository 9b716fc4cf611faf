//! A table of hashes in which each endpoint has its share of the places.

use super::hash;
use super::shares::Shares;

/// Places of the table: prime, and a hundred for each of some hundred endpoints.
///
/// **Source**: Envoy: `MaglevLbConfig.table_size`, 65,537.
const PLACES: u64 = 65_537;

/// A table of hashes.
///
/// **Source**: Eisenbud et al.: Maglev, NSDI 2016, §3.4; weights as Envoy's.
#[derive(Debug)]
pub(super) struct Maglev(Box<[u16]>);

/// An endpoint that takes places in the order of its own permutation.
struct Turn {
    offset: u64,
    skip: u64,
    next: u64,
    credit: f64,
}

impl Maglev {
    /// Makes a table; endpoints beyond the 65,535th have no place.
    pub(super) fn new(names: &[String], shares: &Shares) -> Self {
        let names = &names[..names.len().min(usize::from(u16::MAX))];
        let mut turns: Vec<Turn> = names
            .iter()
            .map(|name| Turn {
                offset: hash::of(name.as_bytes(), 1) % PLACES,
                skip: hash::of(name.as_bytes(), 2) % (PLACES - 1) + 1,
                next: 0,
                credit: 0.0,
            })
            .collect();
        let heaviest = (0..names.len()).map(|number| shares.share(number)).fold(0.0, f64::max);
        let mut table = vec![u16::MAX; PLACES as usize];
        let mut left = if names.is_empty() { 0 } else { PLACES };
        while left > 0 {
            for (number, turn) in turns.iter_mut().enumerate() {
                turn.credit += shares.share(number);
                // The heaviest takes a place in each round, the others in proportion.
                if left == 0 || turn.credit + 1e-12 < heaviest {
                    continue;
                }
                turn.credit -= heaviest;
                let place = turn.next_free(&table);
                table[place] = number as u16;
                left -= 1;
            }
        }
        Self(table.into())
    }

    /// Returns the endpoint of a key, or the first of those after it in the table that is taken.
    pub(super) fn find(&self, key: u64, takes: impl Fn(usize) -> bool) -> Option<usize> {
        let at = (key % PLACES) as usize;
        let mut last = u16::MAX;
        self.0[at..].iter().chain(&self.0[..at]).find_map(|number| {
            let is_other = std::mem::replace(&mut last, *number) != *number;
            let number = usize::from(*number);
            (is_other && takes(number)).then_some(number)
        })
    }
}

impl Turn {
    /// Returns the next place of the permutation that nobody has. There is one: the step shares no
    /// factor with the number of places, so every place comes.
    fn next_free(&mut self, table: &[u16]) -> usize {
        loop {
            let place = ((self.offset + self.skip * self.next) % PLACES) as usize;
            self.next += 1;
            if table[place] == u16::MAX {
                return place;
            }
        }
    }
}
