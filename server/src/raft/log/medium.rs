//! What the journal writes the log to: segments, or tables of the store.

use std::sync::Arc;

use bytes::Bytes;

use super::damage::LogDamage;
use crate::raft::types::LogId;

/// Work that may be done beside the writes, such as removing files.
pub(super) type Chore = Box<dyn FnOnce() + Send>;

/// Where entries lie. One thread writes; what it has synced others may read.
///
/// After an error nothing more may be written: what became of the write is not known.
pub(super) trait Medium: Send + 'static {
    /// Returns what was there when it was opened.
    fn bounds(&self) -> Bounds;

    /// Adds entries, which follow the last one.
    fn append(&mut self, entries: &[(u64, Bytes)]) -> Result<(), LogDamage>;

    /// Removes entries from an index on.
    fn truncate(&mut self, from: u64) -> Result<(), LogDamage>;

    /// Removes entries up to an index. May be lost in a power cut before the next sync.
    fn purge(&mut self, upto: LogId) -> Result<(), LogDamage>;

    /// Returns when all of it will survive a power cut.
    fn sync(&mut self) -> Result<(), LogDamage>;

    /// Returns the way to read.
    fn entries(&self) -> Arc<dyn Entries>;

    /// Returns work that is due, if any.
    fn chore(&mut self) -> Option<Chore> {
        None
    }
}

/// Where a log begins and ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The last entry removed from the front.
    pub(super) purged: Option<LogId>,
    /// The last entry there is.
    pub(super) last: Option<LogId>,
}

/// What a log takes on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogSize {
    /// Bytes of the entries.
    pub(crate) bytes: u64,
    /// Files; none when they lie in the store.
    pub(crate) segments: u64,
}

/// Reads entries that were synced.
pub(super) trait Entries: Send + Sync + 'static {
    /// Reads entries `from..to` (`to` exclusive): as many of the first as have so many bytes, and
    /// at least one when there is any. The log may begin after `from`; an entry that is missing
    /// further on is an error.
    fn read(&self, from: u64, to: u64, bytes_max: u64) -> Result<Vec<Vec<u8>>, LogDamage>;

    /// Returns what the entries from an index on take on the disk.
    fn size_from(&self, from: u64) -> LogSize;
}
