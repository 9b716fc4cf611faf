//! Is there one order of all calls on an object that explains every answer?
//!
//! Each call takes effect at one moment between its call and its return; one whose outcome is
//! unknown may take effect at any later moment, or never. The search goes through all orders,
//! and remembers where it has been. First without the calls of which nobody saw anything again:
//! what is explained without them is explained.
//!
//! **Source**: Herlihy and Wing 1990 (linearizability); Wing and Gong 1993 with the memory of
//! Lowe 2017.

use std::collections::BTreeSet;

use crate::history::{Call, Cells, Operation, Outcome};

/// States looked at before the search gives up. A history of one object is some sixty calls
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
    let mut seen = BTreeSet::new();
    for it in operations {
        match (&it.call, it.outcome) {
            (Call::Read(_), Outcome::Value(value)) => seen.extend(value),
            (Call::ReadAll, Outcome::Values(values)) => seen.extend(values.iter().flatten()),
            (Call::Cas { expect, .. }, _) => seen.extend(*expect),
            (Call::DeleteIf(_, expect), _) => seen.extend([*expect]),
            (Call::Txn { expect, .. }, _) => seen.extend(expect.iter().filter_map(|it| it.1)),
            _ => {}
        }
    }
    seen
}

/// What a call writes, if it does.
fn written(operation: &Operation) -> Option<u64> {
    match operation.call {
        Call::Write(_, new) | Call::Cas { new, .. } => Some(new),
        // All that one writes is one value.
        Call::Txn { after, .. } => after.into_iter().flatten().next(),
        Call::Delete(_) | Call::DeleteIf(..) | Call::Read(_) | Call::ReadAll => None,
    }
}

fn search(operations: &[&Operation]) -> Result<(), Fault> {
    let words = operations.len().div_ceil(64).max(1);
    let mut seen: BTreeSet<(Done, Cells)> = BTreeSet::new();
    let mut stack: Vec<(Done, Cells)> = vec![(vec![0; words], Cells::default())];
    let mut explained = 0;
    while let Some((done, cells)) = stack.pop() {
        if !seen.insert((done.clone(), cells)) {
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
            if let Some(cells) = step(operations[at], cells) {
                let mut done = done.clone();
                done[at / 64] |= 1 << (at % 64);
                stack.push((done, cells));
            }
        }
    }
    Err(Fault::NotLinearizable { explained })
}

/// A read without an answer tells nothing.
fn matters(operation: &Operation) -> bool {
    let is_read = matches!(operation.call, Call::Read(_) | Call::ReadAll);
    !(is_read && operation.outcome == Outcome::Unknown)
}

/// The object after a call, if the call can have had its outcome now.
fn step(operation: &Operation, cells: Cells) -> Option<Cells> {
    let with = |cell: usize, value: Option<u64>| {
        let mut cells = cells;
        cells[cell] = value;
        cells
    };
    let (holds, after) = match &operation.call {
        Call::Read(cell) => {
            return (operation.outcome == Outcome::Value(cells[*cell])).then_some(cells);
        }
        Call::ReadAll => return (operation.outcome == Outcome::Values(cells)).then_some(cells),
        Call::Write(cell, new) => (true, with(*cell, Some(*new))),
        Call::Delete(cell) => (true, with(*cell, None)),
        Call::DeleteIf(cell, expect) => {
            (cells[*cell].is_none_or(|value| value == *expect), with(*cell, None))
        }
        Call::Cas { cell, expect, new } => (cells[*cell] == *expect, with(*cell, Some(*new))),
        Call::Txn { expect, after } => {
            (expect.iter().all(|(cell, value)| cells[*cell] == *value), *after)
        }
    };
    match operation.outcome {
        Outcome::Done | Outcome::Unknown => holds.then_some(after),
        Outcome::Mismatch => (!holds).then_some(cells),
        Outcome::Value(_) | Outcome::Values(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(call: Call, outcome: Outcome, called: u64, returned: u64) -> Operation {
        Operation { client: 0, server: 0, call, called, returned, outcome }
    }

    fn write(value: u64, called: u64, returned: u64) -> Operation {
        operation(Call::Write(0, value), Outcome::Done, called, returned)
    }

    fn read(value: Option<u64>, called: u64, returned: u64) -> Operation {
        operation(Call::Read(0), Outcome::Value(value), called, returned)
    }

    fn unknown(call: Call, called: u64) -> Operation {
        operation(call, Outcome::Unknown, called, u64::MAX)
    }

    fn cas(expect: Option<u64>, new: u64, outcome: Outcome, at: u64) -> Operation {
        operation(Call::Cas { cell: 0, expect, new }, outcome, at, at + 1)
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
        let lost = unknown(Call::Write(0, 1), 0);
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
            unknown(Call::Cas { cell: 0, expect: Some(1), new: 2 }, 2),
            read(Some(2), 3, 4),
        ])
        .expect("it happened");
    }

    #[test]
    fn a_transaction_happens_whole_or_not_at_all() {
        let both = |value, at| {
            let call = Call::Txn { expect: Vec::new(), after: [Some(value); 2] };
            operation(call, Outcome::Done, at, at + 1)
        };
        let read_all = |cells, at| operation(Call::ReadAll, Outcome::Values(cells), at, at + 1);
        check(&[both(1, 0), both(2, 2), read_all([Some(2); 2], 4)]).expect("explained");
        assert!(check(&[both(1, 0), both(2, 2), read_all([Some(2), Some(1)], 4)]).is_err());
        // Refused as the second cell was another, and yet the first one was written.
        let call = Call::Txn { expect: vec![(1, Some(7))], after: [Some(2); 2] };
        let refused = operation(call, Outcome::Mismatch, 2, 3);
        check(&[both(1, 0), refused.clone(), read_all([Some(1); 2], 4)]).expect("refused");
        assert!(check(&[both(1, 0), refused, read_all([Some(2), Some(1)], 4)]).is_err());
    }

    #[test]
    fn a_delete_of_what_another_wrote_is_refused() {
        let delete = |expect, outcome| operation(Call::DeleteIf(0, expect), outcome, 2, 3);
        check(&[write(1, 0, 1), delete(1, Outcome::Done), read(None, 4, 5)]).expect("deleted");
        check(&[write(1, 0, 1), delete(2, Outcome::Mismatch), read(Some(1), 4, 5)])
            .expect("refused");
        check(&[delete(2, Outcome::Done), read(None, 4, 5)]).expect("nothing was there");
        assert!(check(&[write(1, 0, 1), delete(2, Outcome::Done)]).is_err());
    }
}
