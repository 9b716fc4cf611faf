//! Moves the log of an earlier release out of the store's tables into files.
//!
//! The files are written beside their place and renamed as a whole, then the tables are emptied:
//! a crash in between leaves either the tables in force or both, and the files are whole then.

use std::path::Path;
use std::sync::Arc;

use tracing::info;
use weft_runtime::disk::Disk;
use weft_runtime::store::Store;

use super::damage::LogDamage;
use super::medium::{Entries, Medium};
use super::segment::SegmentLog;
use super::table::TableLog;

/// Bytes that are read and written at a time.
const STRETCH_BYTES: u64 = 4 << 20;

/// Opens the log in a directory; what the store's tables hold is moved there first.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    store: &Store,
) -> Result<SegmentLog, LogDamage> {
    let mut tables = TableLog::open(store)?;
    if tables.is_empty() {
        return SegmentLog::open(disk, dir);
    }
    if disk.list(dir).map_err(LogDamage::file("read", dir))?.is_empty() {
        let moving = dir.with_extension("moving");
        for name in disk.list(&moving).map_err(LogDamage::file("read", &moving))? {
            let path = moving.join(name);
            disk.remove(&path).map_err(LogDamage::file("remove", &path))?;
        }
        let mut files = SegmentLog::open(disk.clone(), &moving)?;
        let moved = copy(&tables, &mut files)?;
        drop(files);
        disk.rename(&moving, dir).map_err(LogDamage::file("rename", &moving))?;
        let parent = dir.parent().unwrap_or(dir);
        disk.sync_dir(parent).map_err(LogDamage::file("sync", parent))?;
        info!(entries = moved, ?dir, "the log was moved from the store into files");
    }
    let files = SegmentLog::open(disk, dir)?;
    let (in_store, in_files) = (tables.bounds(), files.bounds());
    if in_store.last > in_files.last.max(in_files.purged) {
        return Err(LogDamage::Two {
            store: in_store.last.map_or(0, |id| id.index),
            files: in_files.last.map_or(0, |id| id.index),
        });
    }
    tables.clear()?;
    Ok(files)
}

/// Returns how many entries there were.
fn copy(tables: &TableLog, files: &mut SegmentLog) -> Result<u64, LogDamage> {
    let bounds = tables.bounds();
    if let Some(purged) = bounds.purged {
        files.purge(purged)?;
    }
    let (Some(first), Some(last)) = (tables.first()?, bounds.last) else {
        files.sync()?;
        return Ok(0);
    };
    let entries: Arc<dyn Entries> = tables.entries();
    let mut from = first;
    while from <= last.index {
        let found = entries.read(from, last.index + 1, STRETCH_BYTES)?;
        let stretch: Vec<_> = (from..).zip(found.into_iter().map(Into::into)).collect();
        files.append(&stretch)?;
        files.sync()?;
        from += stretch.len() as u64;
    }
    files.sync()?;
    Ok(last.index + 1 - first)
}

#[cfg(test)]
mod tests {
    use weft_proto::envelope;
    use weft_runtime::disk::RealDisk;

    use super::*;
    use crate::raft::types::{Entry, LogId};

    fn entry(index: u64) -> (u64, bytes::Bytes) {
        let id = LogId::new(openraft::CommittedLeaderId::new(2, 1), index);
        let entry = Entry { log_id: id, payload: openraft::EntryPayload::Blank };
        (index, envelope::encode(&entry))
    }

    #[test]
    fn the_log_of_an_earlier_release_is_moved_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("store")).expect("a store");
        let mut tables = TableLog::open(&store).expect("tables");
        let written: Vec<_> = (1..=50).map(entry).collect();
        tables.append(&written).expect("written");
        let purged = LogId::new(openraft::CommittedLeaderId::new(2, 1), 20);
        tables.purge(purged).expect("purged");
        tables.sync().expect("synced");

        let at = dir.path().join("log");
        // A first try that a crash cut short.
        let disk = Arc::new(RealDisk);
        let mut cut_short = SegmentLog::open(disk.clone(), &at.with_extension("moving"));
        let cut_short = cut_short.as_mut().expect("a new log");
        cut_short.append(&[entry(7)]).and_then(|()| cut_short.sync()).expect("written");

        let files = open(disk.clone(), &at, &store).expect("moved");
        assert_eq!(files.bounds().purged, Some(purged));
        assert_eq!(files.bounds().last.map(|id| id.index), Some(50));
        let read = files.entries().read(21, 51, u64::MAX).expect("all there");
        assert!(read.iter().zip(&written[20..]).all(|(read, (_, bytes))| read == bytes));
        assert!(TableLog::open(&store).expect("tables").is_empty());
        drop(files);
        assert_eq!(
            open(disk.clone(), &at, &store).expect("again").bounds().last.map(|id| id.index),
            Some(50)
        );

        // An older program was started on the directory in between.
        tables.append(&[entry(51)]).expect("written");
        assert!(matches!(open(disk, &at, &store), Err(LogDamage::Two { store: 51, files: 50 })));
    }
}
