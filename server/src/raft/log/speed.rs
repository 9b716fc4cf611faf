//! How fast the log is, segments beside tables. In a debug build it only proves that it works:
//! `cargo test --release -p weft-server --lib log::speed -- --nocapture` tells figures.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::{CommittedLeaderId, EntryPayload};
use weft_proto::envelope;
use weft_runtime::clock;
use weft_runtime::disk::RealDisk;
use weft_runtime::store::Store;

use super::medium::Medium;
use super::segment::SegmentLog;
use super::table::TableLog;
use crate::raft::types::{Entry, LogId};

/// Bytes of an entry.
const ENTRY_BYTES: usize = 512;
/// How long each measurement runs.
const LONG: Duration = Duration::from_millis(if cfg!(debug_assertions) { 50 } else { 2_000 });

/// Appends batches, each durable before the next. Returns entries per second.
fn measure(medium: &mut dyn Medium, next: &mut u64, batch: u64) -> f64 {
    let started = clock::instant();
    let first = *next;
    while clock::instant().duration_since(started) < LONG {
        let entries: Vec<_> = (*next..*next + batch).map(|at| (at, body())).collect();
        medium.append(&entries).and_then(|()| medium.sync()).expect("written");
        *next += batch;
        if let Some(chore) = medium.chore() {
            drop(std::thread::spawn(chore));
        }
    }
    let read = medium.entries().read(first, *next, u64::MAX).expect("readable");
    assert_eq!(read.len() as u64, *next - first);
    let seconds = clock::instant().duration_since(started).as_secs_f64();
    (*next - first) as f64 / seconds
}

fn body() -> Bytes {
    Bytes::from_static(&[7; ENTRY_BYTES])
}

/// The last entry must be one that can be read when the log is opened.
fn finish(medium: &mut dyn Medium, next: u64) {
    let log_id = LogId::new(CommittedLeaderId::new(1, 1), next);
    let entry = Entry { log_id, payload: EntryPayload::Blank };
    let entries = [(next, envelope::encode(&entry))];
    medium.append(&entries).and_then(|()| medium.sync()).expect("written");
}

fn segments(dir: &Path) -> SegmentLog {
    SegmentLog::open(Arc::new(RealDisk), &dir.join("log")).expect("a log")
}

#[test]
fn batches_are_appended_and_read_back_from_both() {
    // Beside the program: a temporary directory may lie in memory.
    let here = std::env::current_exe().expect("this program");
    let dir = tempfile::tempdir_in(here.parent().expect("a directory")).expect("a directory");
    let store = Store::open(&dir.path().join("store")).expect("a store");
    let mut tables = TableLog::open(&store).expect("tables");
    let mut files = segments(dir.path());
    let (mut in_tables, mut in_files) = (1, 1);
    for batch in [1, 16, 256] {
        let files_per_s = measure(&mut files, &mut in_files, batch);
        let tables_per_s = measure(&mut tables, &mut in_tables, batch);
        println!(
            "batch {batch:>3}: segments {files_per_s:>9.0} entries/s, tables \
             {tables_per_s:>9.0}, ratio {:.1}",
            files_per_s / tables_per_s
        );
    }
    finish(&mut files, in_files);
    drop(files);
    assert_eq!(segments(dir.path()).bounds().last.map(|id| id.index), Some(in_files));
}
