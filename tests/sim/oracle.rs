//! Is there one order of all calls on a register that explains every answer?
//!
//! Each call takes effect at one moment between its call and its return; one whose outcome is
//! unknown may take effect at any later moment, or never. The search goes through all orders,
//! and remembers where it has been. First without the calls of which nobody saw anything again:
//! what is explained without them is explained.
//!
//! **Source**: Herlihy and Wing 1990 (linearizability); Wing and Gong 1993 with the memory of
//! Lowe 2017.

use std::collections::BTreeSet;

use crate::history::{Call, Operation, Outcome};

/// States looked at before the search gives up. A history of one register is some sixty calls
/// of a handful of clients, which takes a few hundred.
const STATES_MAX: usize = 20_000;

/// Why a history is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No order explains it. The longest explanation found is so many calls long.
    NotLinearizable { explained: usize },
    /// The search became too large: nobody knows.
    Undecided,
}

/// The calls that have taken effect, as bits.
type Done = Vec<u64>;

/// Looks for an order.
pub(crate) fn check(operations: &[Operation]) -> Result<(), Fault> {
    let all: Vec<&Operation> = operations.iter().filter(|it| matters(it)).collect();
    let seen = seen_values(&all);
    let (known, unknown): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| {
        it.outcome != Outcome::Unknown || written(it).is_some_and(|value| seen.contains(&value))
    });
    let outcome = search(&known);
    if outcome.is_ok() || unknown.is_empty() {
        return outcome;
    }
    // What nobody knows of is tried last.
    search(&unknown.into_iter().chain(known).collect::<Vec<_>>())
}

/// The values that someone read or expected.
fn seen_values(operations: &[&Operation]) -> BTreeSet<u64> {
    let seen = operations.iter().filter_map(|it| match (&it.call, it.outcome) {
        (Call::Read, Outcome::Value(value)) => value,
        (Call::Cas { expect, .. }, _) => *expect,
        _ => None,
    });
    seen.collect()
}

/// What a call writes, if it does.
fn written(operation: &Operation) -> Option<u64> {
    match operation.call {
        Call::Write(new) | Call::Cas { new, .. } => Some(new),
        Call::Delete | Call::Read => None,
    }
}

fn search(operations: &[&Operation]) -> Result<(), Fault> {
    let words = operations.len().div_ceil(64).max(1);
    let mut seen: BTreeSet<(Done, Option<u64>)> = BTreeSet::new();
    let mut stack: Vec<(Done, Option<u64>)> = vec![(vec![0; words], None)];
    let mut explained = 0;
    while let Some((done, value)) = stack.pop() {
        if !seen.insert((done.clone(), value)) {
            continue;
        }
        if seen.len() > STATES_MAX {
            return Err(Fault::Undecided);
        }
        let is_done = |at: usize| done[at / 64] & (1 << (at % 64)) != 0;
        let open = || (0..operations.len()).filter(|at| !is_done(*at));
        explained = explained.max(operations.len() - open().count());
        if open().all(|at| operations[at].outcome == Outcome::Unknown) {
            return Ok(());
        }
        // What was called after another's return cannot take effect before it.
        let first_return = open().map(|at| operations[at].returned).min().unwrap_or(u64::MAX);
        for at in open().filter(|at| operations[*at].called < first_return) {
            if let Some(value) = step(operations[at], value) {
                let mut done = done.clone();
                done[at / 64] |= 1 << (at % 64);
                stack.push((done, value));
            }
        }
    }
    Err(Fault::NotLinearizable { explained })
}

/// A read without an answer tells nothing.
fn matters(operation: &Operation) -> bool {
    !(operation.call == Call::Read && operation.outcome == Outcome::Unknown)
}

/// The register after a call, if the call can have had its outcome now.
fn step(operation: &Operation, value: Option<u64>) -> Option<Option<u64>> {
    match (&operation.call, operation.outcome) {
        (Call::Read, Outcome::Value(read)) => (read == value).then_some(value),
        (Call::Write(new), Outcome::Done | Outcome::Unknown) => Some(Some(*new)),
        (Call::Delete, Outcome::Done | Outcome::Unknown) => Some(None),
        (Call::Cas { expect, new }, Outcome::Done | Outcome::Unknown) => {
            (*expect == value).then_some(Some(*new))
        }
        (Call::Cas { expect, .. }, Outcome::Mismatch) => (*expect != value).then_some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(call: Call, outcome: Outcome, called: u64, returned: u64) -> Operation {
        Operation { client: 0, server: 0, call, called, returned, outcome }
    }

    fn write(value: u64, called: u64, returned: u64) -> Operation {
        operation(Call::Write(value), Outcome::Done, called, returned)
    }

    fn read(value: Option<u64>, called: u64, returned: u64) -> Operation {
        operation(Call::Read, Outcome::Value(value), called, returned)
    }

    fn unknown(call: Call, called: u64) -> Operation {
        operation(call, Outcome::Unknown, called, u64::MAX)
    }

    fn cas(expect: Option<u64>, new: u64, outcome: Outcome, at: u64) -> Operation {
        operation(Call::Cas { expect, new }, outcome, at, at + 1)
    }

    #[test]
    fn calls_at_the_same_time_may_take_effect_in_any_order() {
        for seen in [1, 2] {
            check(&[write(1, 0, 9), write(2, 1, 8), read(Some(seen), 10, 11)]).expect("explained");
        }
        check(&[write(1, 0, 9), read(None, 1, 2), read(Some(1), 3, 4)]).expect("explained");
    }

    #[test]
    fn a_lost_write_and_a_stale_read_are_found() {
        assert!(check(&[write(1, 0, 1), read(None, 2, 3)]).is_err());
        assert!(check(&[write(1, 0, 1), write(2, 2, 3), read(Some(1), 4, 5)]).is_err());
        // Two reads one after the other see time go backwards.
        let backwards = [write(1, 0, 1), write(2, 2, 9), read(Some(2), 3, 4), read(Some(1), 5, 6)];
        assert!(check(&backwards).is_err());
        assert!(check(&[read(Some(7), 0, 1)]).is_err(), "nobody wrote it");
    }

    #[test]
    fn an_unknown_write_may_happen_late_or_never_but_once() {
        let lost = unknown(Call::Write(1), 0);
        check(&[lost.clone(), read(None, 2, 3)]).expect("never");
        check(&[lost.clone(), read(None, 2, 3), read(Some(1), 4, 5)]).expect("late");
        let twice = [lost, read(Some(1), 2, 3), write(2, 4, 5), read(Some(1), 6, 7)];
        assert!(check(&twice).is_err());
    }

    #[test]
    fn a_compare_and_set_is_judged_by_what_was_there() {
        check(&[write(1, 0, 1), cas(Some(1), 2, Outcome::Done, 2), read(Some(2), 4, 5)])
            .expect("explained");
        assert!(check(&[write(1, 0, 1), cas(None, 2, Outcome::Done, 2)]).is_err());
        assert!(check(&[write(1, 0, 1), cas(Some(1), 2, Outcome::Mismatch, 2)]).is_err());
        // Said to have failed, and yet it happened.
        let both = [write(1, 0, 1), cas(Some(1), 2, Outcome::Mismatch, 2), read(Some(2), 4, 5)];
        assert!(check(&both).is_err());
        check(&[
            write(1, 0, 1),
            unknown(Call::Cas { expect: Some(1), new: 2 }, 2),
            read(Some(2), 3, 4),
        ])
        .expect("it happened");
    }
}
