//! Files as what must not be lost sees them: written at a place, synced, renamed.
//!
//! The log and the snapshots of servers go through this seam, so that the same code runs on the
//! machine's disk and on one that fails or loses power at a chosen call.

mod real;
mod simulated;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;
pub use simulated::{Fault, SimulatedDisk};

/// Returns the machine's own disk, or that of the simulated world that was entered.
pub fn system() -> Arc<dyn Disk> {
    #[cfg(feature = "sim")]
    if let Some(world) = crate::world::current() {
        return world.disk();
    }
    Arc::new(RealDisk)
}

/// A disk. Every method blocks its thread.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes an empty file that only its owner may read, in place of one of that name.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that exists, for reading and writing.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::NotFound`] when there is none.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a directory with those above it, unless it exists, and makes it last.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Returns the names in a directory, sorted; none when there is no such directory.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Renames a file or a directory, in place of a file of that name. It lasts after
    /// [`Disk::sync_dir`] of the directories of both names.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. It lasts after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory survive a power cut.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Returns how much more may be written to the disk of a directory.
    ///
    /// **Units**: bytes.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// Returns the length.
    ///
    /// **Units**: bytes.
    ///
    /// # Errors
    /// What the system says.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads from a place on, and returns how much was read: less than asked for only at the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes at a place. They last after [`DiskFile::sync`].
    ///
    /// # Errors
    /// What the system says; part of the bytes may be written then.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when all that was written will survive a power cut.
    ///
    /// # Errors
    /// What the system says. What was written since the last success may be lost then, even if
    /// a later call succeeds: the file must not be relied on any more.
    fn sync(&self) -> io::Result<()>;
}
