//! Keeping changes: those who come while the disk is at work are kept together by the first of them.
//!
//! A change is seen as soon as it is entered, and acknowledged once it is kept. When it cannot be
//! kept, everything goes back to what is.

use std::io;
use std::sync::{Arc, OnceLock};

use super::book::Book;
use super::journal::{Journal, Records};
use super::kept::Taken;
use super::{Inner, LocalError};

/// Changes that are kept together, or not at all.
#[derive(Debug, Default)]
pub(super) struct Group {
    outcome: OnceLock<Result<(), (io::ErrorKind, String)>>,
}

/// The journal, and what is in it.
#[derive(Debug)]
pub(super) struct Committer {
    pub(super) journal: Journal,
    pub(super) durable: Durable,
}

/// What is on disk.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) records: Records,
    /// Bytes of all records.
    pub(super) bytes: u64,
    pub(super) book: Book,
}

impl Group {
    fn outcome(&self) -> Option<io::Result<()>> {
        let outcome = self.outcome.get()?;
        Some(outcome.clone().map_err(|(kind, message)| io::Error::new(kind, message)))
    }
}

impl Inner {
    /// Returns when a group's changes are kept. Blocks its thread.
    ///
    /// # Errors
    /// [`LocalError::Unkept`]; they are undone then.
    pub(super) fn commit(&self, group: &Group) -> Result<(), LocalError> {
        let mut committer = self.committer.lock();
        if let Some(outcome) = group.outcome() {
            return outcome.map_err(|error| self.unkept(error));
        }
        // Whoever is first keeps what all others have entered meanwhile.
        let taken = {
            let mut disk = self.disk.lock();
            let book = self.book.lock().clone();
            disk.take(book)
        };
        let Taken { group, lines, durable } = taken;
        let written = committer.journal.commit(&lines, (&durable.records, durable.bytes));
        let outcome = written.map_err(|error| (error.kind(), error.to_string()));
        // Each group is taken once, so nobody has said anything of it.
        let _ = group.outcome.set(outcome.clone());
        match outcome {
            Ok(()) => {
                committer.durable = durable;
                Ok(())
            }
            Err(fault) => {
                let later = self.go_back(&committer.durable);
                let _ = later.outcome.set(Err(fault.clone()));
                Err(self.unkept(io::Error::new(fault.0, fault.1)))
            }
        }
    }

    fn go_back(&self, durable: &Durable) -> Arc<Group> {
        let mut disk = self.disk.lock();
        let later = disk.go_back(durable);
        let mut book = self.book.lock();
        book.go_back(&durable.book);
        self.publish(&book);
        later
    }
}
