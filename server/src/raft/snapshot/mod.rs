//! Snapshots as files: written whole or not at all, checked before they are believed.
//!
//! The newest two are kept: should the newest be damaged, the one before it and the log, which
//! reaches back to it, make the same state.

mod data;
mod format;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tracing::warn;
use weft_core::state::State;
use weft_runtime::disk::{Disk, DiskFile};

pub(crate) use self::data::SnapshotData;
pub use self::format::NotASnapshot;
pub(super) use self::format::{decode, digest, write};
use super::types::{LogId, SnapshotMeta};

const SUFFIX: &str = ".snap";
const UNFINISHED: &str = ".tmp";
/// The ending of a file that was set aside.
const DAMAGED: &str = ".damaged";
/// Bytes written at once.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes between two syncs: the log, which is written to the same disk meanwhile, waits for so
/// much at most.
const SYNC_BYTES: u64 = 4 << 20;

/// States why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotDamage {
    /// The bytes are not those that were written.
    #[error("the snapshot cannot be used: {0}")]
    Bytes(#[from] NotASnapshot),
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
    /// No snapshot can be used that the log could complete.
    #[error(
        "no usable snapshot in {dir:?} reaches entry {purged}, before which the log was removed \
         (damaged: {}); move the data directory aside and join again as a new server",
        if damaged.is_empty() { "none".to_owned() } else { damaged.join(", ") }
    )]
    OutOfReach {
        /// The directory.
        dir: PathBuf,
        /// The entry after which the log begins.
        purged: u64,
        /// The files that are damaged.
        damaged: Vec<String>,
    },
}

impl SnapshotDamage {
    /// A snapshot that was received could not be read.
    pub(super) fn receive(source: io::Error) -> Self {
        Self::File { doing: "receive", path: PathBuf::from("a snapshot"), source }
    }

    fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }
}

/// Which snapshots there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// The index of the newest one.
    pub(super) newest: Option<u64>,
    /// The index of the one before it: the log must reach back to it.
    pub(super) previous: Option<u64>,
    /// What the newest one takes on the disk.
    pub(super) bytes: u64,
}

/// The directory of snapshots. Clones share it. Everything but [`Snapshots::kept`] blocks its
/// thread.
#[derive(Debug, Clone)]
pub(super) struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    kept: Arc<watch::Sender<Kept>>,
}

impl Snapshots {
    /// Opens the directory, which is made when it does not exist.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, SnapshotDamage> {
        disk.create_dir(dir).map_err(SnapshotDamage::file("create", dir))?;
        let snapshots = Self { disk, dir: dir.to_owned(), kept: Arc::default() };
        for name in snapshots.names()?.iter().filter(|name| name.ends_with(UNFINISHED)) {
            let path = snapshots.dir.join(name);
            snapshots.disk.remove(&path).map_err(SnapshotDamage::file("remove", &path))?;
        }
        snapshots.tell_kept()?;
        Ok(snapshots)
    }

    /// Returns which snapshots there are, now and whenever that changes.
    pub(super) fn kept(&self) -> watch::Receiver<Kept> {
        self.kept.subscribe()
    }

    /// Returns the newest state that can be read, and that a log which begins after `purged`
    /// completes; the empty state when there is none. Damaged files are set aside.
    pub(super) fn recall(
        &self,
        purged: Option<LogId>,
    ) -> Result<(SnapshotMeta, State), SnapshotDamage> {
        let mut damaged = Vec::new();
        let mut found = None;
        for name in self.finished()?.into_iter().rev() {
            let path = self.dir.join(&name);
            let bytes = self.disk.open(&path).and_then(|file| data::read_whole(&*file));
            let bytes = bytes.map_err(SnapshotDamage::file("read", &path))?;
            match format::decode(&bytes) {
                Ok(decoded) => {
                    found = Some(decoded);
                    break;
                }
                Err(reason) => {
                    warn!(?path, %reason, "a snapshot is damaged");
                    damaged.push(name);
                }
            }
        }
        let (meta, state) = found.unwrap_or_default();
        if meta.last_log_id < purged {
            let purged = purged.map_or(0, |id| id.index);
            return Err(SnapshotDamage::OutOfReach { dir: self.dir.clone(), purged, damaged });
        }
        for name in &damaged {
            let (path, aside) = (self.dir.join(name), self.dir.join(format!("{name}{DAMAGED}")));
            self.disk.rename(&path, &aside).map_err(SnapshotDamage::file("rename", &path))?;
        }
        if !damaged.is_empty() {
            self.sync_dir()?;
            self.tell_kept()?;
        }
        Ok((meta, state))
    }

    /// Writes a snapshot, and removes those before the last one before it.
    pub(super) fn build(&self, meta: &SnapshotMeta, state: &State) -> Result<(), SnapshotDamage> {
        let name = self.save(meta, |writer| format::write(meta, state, writer))?;
        let finished = self.finished()?;
        let older: Vec<_> = finished.into_iter().filter(|other| *other < name).collect();
        self.remove_all(&older[..older.len().saturating_sub(1)])
    }

    /// Keeps a snapshot that came from the leader, and none else.
    pub(super) fn keep(&self, meta: &SnapshotMeta, bytes: &[u8]) -> Result<(), SnapshotDamage> {
        let name = self.save(meta, |writer| writer.write_all(bytes))?;
        let mut others = self.finished()?;
        others.retain(|other| *other != name);
        self.remove_all(&others)
    }

    /// Returns the newest snapshot. It is as it was written or as it was checked at the start;
    /// who receives it checks it again.
    pub(super) fn newest(&self) -> Result<Option<(SnapshotMeta, SnapshotData)>, SnapshotDamage> {
        let Some(name) = self.finished()?.pop() else { return Ok(None) };
        let path = self.dir.join(name);
        let file = self.disk.open(&path).map_err(SnapshotDamage::file("open", &path))?;
        let mut start = vec![0; format::START_BYTES];
        let read = file.read_at(0, &mut start).map_err(SnapshotDamage::file("read", &path))?;
        let meta = format::describe(&start[..read])?;
        Ok(Some((meta, SnapshotData::File { file, at: 0 })))
    }

    fn save(
        &self,
        meta: &SnapshotMeta,
        fill: impl FnOnce(&mut BufWriter<FileWriter>) -> io::Result<()>,
    ) -> Result<String, SnapshotDamage> {
        let (term, index) = meta.last_log_id.map_or((0, 0), |id| (id.leader_id.term, id.index));
        let name = format!("{term:020}-{index:020}{SUFFIX}");
        let path = self.dir.join(&name);
        let unfinished = self.dir.join(format!("{name}{UNFINISHED}"));
        let written = self.disk.create(&unfinished).and_then(|file| {
            let writer = FileWriter { file, at: 0, synced: 0 };
            let mut writer = BufWriter::with_capacity(PIECE_BYTES, writer);
            fill(&mut writer)?;
            writer.flush()?;
            writer.get_ref().file.sync()?;
            self.disk.rename(&unfinished, &path)?;
            self.disk.sync_dir(&self.dir)
        });
        if let Err(error) = written {
            // What is there of it must not take the space that the next try needs.
            let _ = self.disk.remove(&unfinished);
            return Err(SnapshotDamage::file("write", &path)(error));
        }
        self.tell_kept()?;
        Ok(name)
    }

    fn remove_all(&self, names: &[String]) -> Result<(), SnapshotDamage> {
        for name in names {
            if let Err(error) = self.disk.remove(&self.dir.join(name)) {
                // It costs disk and nothing else: the newest is taken.
                warn!(name, %error, "an old snapshot cannot be removed");
            }
        }
        self.tell_kept()
    }

    fn tell_kept(&self) -> Result<(), SnapshotDamage> {
        let finished = self.finished()?;
        let index_of = |name: &String| {
            let (_, index) = name.strip_suffix(SUFFIX)?.split_once('-')?;
            index.parse::<u64>().ok()
        };
        let mut names = finished.iter().rev();
        let newest = names.next();
        let bytes = newest.map_or(Ok(0), |name| {
            let path = self.dir.join(name);
            let length = self.disk.open(&path).and_then(|file| file.bytes());
            length.map_err(SnapshotDamage::file("open", &path))
        })?;
        let kept = Kept {
            newest: newest.and_then(index_of),
            previous: names.next().and_then(index_of),
            bytes,
        };
        self.kept.send_replace(kept);
        Ok(())
    }

    /// Returns the names of whole snapshots, oldest first: they sort by term and index.
    fn finished(&self) -> Result<Vec<String>, SnapshotDamage> {
        let mut names = self.names()?;
        names.retain(|name| name.ends_with(SUFFIX));
        Ok(names)
    }

    fn names(&self) -> Result<Vec<String>, SnapshotDamage> {
        self.disk.list(&self.dir).map_err(SnapshotDamage::file("read", &self.dir))
    }

    fn sync_dir(&self) -> Result<(), SnapshotDamage> {
        self.disk.sync_dir(&self.dir).map_err(SnapshotDamage::file("sync", &self.dir))
    }
}

/// Writes a file from its start on.
struct FileWriter {
    file: Box<dyn DiskFile>,
    at: u64,
    synced: u64,
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        if self.at - self.synced >= SYNC_BYTES {
            self.file.sync()?;
            self.synced = self.at;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
