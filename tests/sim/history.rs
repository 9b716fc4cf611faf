//! What clients saw: every call with what came of it, in one order of calls and returns.
//!
//! What is called is an object of [`CELLS`] cells: a register has one in use, what transactions
//! write has both. `locks` has what those saw who take locks.

mod locks;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

pub(crate) use locks::{Act, LockCall, LockOutcome, Locks};

/// Cells of an object.
pub(crate) const CELLS: usize = 2;

/// What an object holds.
pub(crate) type Cells = [Option<u64>; CELLS];

/// One cell of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) object: String,
    pub(crate) cell: usize,
}

/// What was asked of an object. Every value is written by one call only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// Writes `new` if the cell is as it was when it held `expect`.
    Cas {
        cell: usize,
        expect: Option<u64>,
        new: u64,
    },
    Delete(usize),
    /// Deletes the cell if it is as it was when it held the value; what is not there is deleted.
    DeleteIf(usize, u64),
    Read(usize),
    /// Reads all cells at one moment.
    ReadAll,
    /// Makes all cells what is said, if each cell named is as it was when it held that.
    Txn {
        expect: Vec<(usize, Option<u64>)>,
        after: Cells,
    },
    Write(usize, u64),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// An index to compare with was another.
    Mismatch,
    /// Nobody knows whether it happened.
    Unknown,
    Value(Option<u64>),
    Values(Cells),
}

/// A call with its outcome.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) server: usize,
    pub(crate) call: Call,
    pub(crate) called: u64,
    /// `u64::MAX` while the outcome is unknown.
    pub(crate) returned: u64,
    pub(crate) outcome: Outcome,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, server, call, called, returned, outcome } = self;
        write!(f, "{called:>6}..")?;
        match outcome {
            Outcome::Unknown => write!(f, "      ")?,
            _ => write!(f, "{returned:<6}")?,
        }
        write!(f, " client {client} at s{}: {call:?} -> {outcome:?}", server + 1)
    }
}

/// A read of any mode, as its headers told of it.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    pub(crate) client: usize,
    pub(crate) server: usize,
    /// Which life of the server, from the call to the answer.
    pub(crate) life: u64,
    pub(crate) is_stale: bool,
    pub(crate) key: String,
    pub(crate) index: u64,
    /// The register's value with its modify index.
    pub(crate) value: Option<(u64, u64)>,
}

/// What one watcher got, in its order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    /// The index asked for, the one answered, and the value.
    pub(crate) steps: Vec<(u64, u64, Option<u64>)>,
}

/// The record of one run.
#[derive(Debug, Default)]
pub(crate) struct History {
    clock: u64,
    pub(crate) objects: BTreeMap<String, Vec<Operation>>,
    pub(crate) locks: Locks,
    /// In the order in which the answers came.
    pub(crate) sights: Vec<Sight>,
    pub(crate) watched: BTreeMap<String, Watched>,
    /// Answers that no client should get.
    pub(crate) oddities: Vec<String>,
    next_value: u64,
}

pub(crate) type SharedHistory = Arc<Mutex<History>>;

/// A call on its way.
#[derive(Debug)]
pub(crate) struct Open {
    object: String,
    at: usize,
}

impl History {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Returns where the order of calls and returns has come to.
    pub(crate) fn now(&self) -> u64 {
        self.clock
    }

    /// Returns a value that nobody has written yet.
    pub(crate) fn new_value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    /// Notes a call before it is made.
    pub(crate) fn call(&mut self, client: usize, server: usize, object: &str, call: Call) -> Open {
        let called = self.tick();
        let operations = self.objects.entry(object.to_owned()).or_default();
        operations.push(Operation {
            client,
            server,
            call,
            called,
            returned: u64::MAX,
            outcome: Outcome::Unknown,
        });
        Open { object: object.to_owned(), at: operations.len() - 1 }
    }

    /// Notes what came of it.
    pub(crate) fn returned(&mut self, open: &Open, outcome: Outcome) {
        let now = self.tick();
        let operations = self.objects.entry(open.object.clone()).or_default();
        if let Some(operation) = operations.get_mut(open.at) {
            operation.outcome = outcome;
            if outcome != Outcome::Unknown {
                operation.returned = now;
            }
        }
    }

    /// A short form of everything seen.
    pub(crate) fn digest(&self) -> u64 {
        let Self { objects, locks, sights, watched, .. } = self;
        let text = format!("{objects:?} {locks:?} {sights:?} {watched:?}");
        // FNV-1a: nobody tries to deceive it.
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// The number of calls, and of those with a known outcome.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let all = self.objects.values().map(Vec::len).sum();
        let known = |operation: &&Operation| operation.outcome != Outcome::Unknown;
        let known = self.objects.values().flatten().filter(known).count();
        (all, known)
    }
}
