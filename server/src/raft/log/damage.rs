//! Why a log cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use weft_proto::envelope;
use weft_runtime::store::StoreError;

/// States why the log of a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogDamage {
    /// Bytes that were acknowledged are not there any more.
    #[error(
        "the log file {path:?} is damaged at byte {offset}: {fault}; move the data directory \
         aside and join again as a new server"
    )]
    Bytes {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        fault: &'static str,
    },
    /// A file operation failed.
    #[error("cannot {doing} {path:?}: {source}")]
    File {
        /// What was attempted.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// An entry is missing in the middle.
    #[error(
        "the log lacks entry {index}; move the data directory aside and join again as a new server"
    )]
    Hole {
        /// The first index that is missing.
        index: u64,
    },
    /// A write failed before; nobody knows what of it is on the disk.
    #[error("the log failed earlier and takes nothing more; restart once the disk is mended")]
    Poisoned,
    /// A record is there and not readable.
    #[error("the log has a record that cannot be understood")]
    Record(#[from] envelope::InvalidEnvelope),
    /// Entries that the cluster has agreed on are gone from the end.
    #[error(
        "the log ends at entry {last}, but entry {committed} was committed here; move the data \
         directory aside and join again as a new server"
    )]
    Short {
        /// The last entry there is.
        last: u64,
        /// The entry that was there.
        committed: u64,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two logs that do not agree.
    #[error(
        "the data directory has a log in its store that goes on to entry {store}, and log files \
         that end at {files}; it was used by two releases in turn: move it aside and join again \
         as a new server"
    )]
    Two {
        /// The last entry in the store.
        store: u64,
        /// The last entry in the files.
        files: u64,
    },
}

impl LogDamage {
    /// Names the operation and the file of a system's error.
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }
}
