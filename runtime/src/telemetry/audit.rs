//! The audit log: what was asked for and decided, one JSON object a line, appended to a file by
//! a thread of its own.
//!
//! The file is opened for appending only and is its owner's alone. It is put aside when it is
//! full; one that somebody else moved away is begun anew, so that other programs may rotate too.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::oneshot;
use tracing::warn;

use super::metrics::{Family, Registry};
use crate::clock;
use crate::task::TaskTree;

/// Records that wait to be written. When full, further ones are lost, and counted: a slow disk
/// must not stop the traffic. Where each must be written, who asks waits instead.
const WAITING_MAX: usize = 8192;
/// Bytes of one record: a longer one is lost, and counted.
const RECORD_BYTES_MAX: usize = 64 << 10;
/// Records that are written at once.
const BATCH_MAX: usize = 256;

/// Where an audit log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    /// The file; its directory is there.
    pub path: PathBuf,
    /// The file is put aside before it gets larger than this.
    pub rotate_bytes: u64,
    /// How many files that were put aside are kept, at least 1.
    pub rotate_files_max: usize,
}

/// States why nothing can be, or was, written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened.
    #[error("the audit log {path} cannot be opened for appending")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A record that had to be written was not.
    #[error("the audit log cannot be written: {0}")]
    Unwritten(String),
}

/// What has become of a record, as metrics tell it.
type Outcome = [(&'static str, &'static str); 1];

/// In the file.
const WRITTEN: Outcome = [("outcome", "written")];
/// The disk was too slow, or the record too long.
const LOST: Outcome = [("outcome", "lost")];
/// The disk refused.
const FAILED: Outcome = [("outcome", "failed")];

/// The door to the log. Clones are the same.
#[derive(Debug, Clone)]
pub struct AuditLog {
    door: SyncSender<Entry>,
    counts: Family<Outcome, Counter>,
}

#[derive(Debug)]
struct Entry {
    line: Vec<u8>,
    /// Who waits until it is written.
    waiting: Option<oneshot::Sender<Result<(), String>>>,
}

impl AuditLog {
    /// Opens the file and starts the writing thread, which ends when the last door is gone.
    ///
    /// # Errors
    /// [`AuditError::Open`].
    pub fn open(options: AuditOptions, tasks: &TaskTree) -> Result<Self, AuditError> {
        let kept = Kept::open(&options.path).map_err(|source| {
            let path = options.path.clone();
            AuditError::Open { path, source }
        })?;
        let (door, entries) = sync_channel(WAITING_MAX);
        let counts = Family::<Outcome, Counter>::default();
        let writer = Writer { options, kept: Some(kept), counts: counts.clone(), is_told: false };
        let writing = tasks.blocking(move || writer.run(&entries));
        tasks.spawn("audit log", async move {
            // A panic there was logged by the task tree.
            let _ = writing.await;
        });
        Ok(Self { door, counts })
    }

    /// Shows how many records were written, lost and refused by the disk.
    pub fn register(&self, registry: &Registry) {
        let help = "Records of the audit log, by what became of them";
        registry.register("audit_records", help, self.counts.clone());
    }

    /// Returns how many records were written, lost and refused by the disk, by name.
    pub fn counts(&self) -> [(&'static str, u64); 3] {
        [WRITTEN, LOST, FAILED].map(|outcome| {
            let [(_, name)] = outcome;
            (name, self.counts.get_or_create(&outcome).get())
        })
    }

    /// Has a record written, if there is room for it.
    pub fn write(&self, record: &impl Serialize) {
        let sent = line(record).and_then(|line| {
            let sent = self.door.try_send(Entry { line, waiting: None });
            sent.map_err(|error| error.to_string())
        });
        if sent.is_err() {
            self.count(LOST, 1);
        }
    }

    /// Has a record written, and waits until the system has taken it.
    ///
    /// # Errors
    /// [`AuditError::Unwritten`]; what the record tells of must not be done.
    pub async fn demand(&self, record: &impl Serialize) -> Result<(), AuditError> {
        let (waiting, written) = oneshot::channel();
        let line = line(record).map_err(AuditError::Unwritten)?;
        let sent = self.door.try_send(Entry { line, waiting: Some(waiting) });
        sent.map_err(|error| {
            self.count(LOST, 1);
            AuditError::Unwritten(match error {
                TrySendError::Full(_) => format!("{WAITING_MAX} records wait already"),
                TrySendError::Disconnected(_) => "it has ended".to_owned(),
            })
        })?;
        let written = written.await.unwrap_or_else(|_| Err("it has ended".to_owned()));
        written.map_err(AuditError::Unwritten)
    }

    fn count(&self, outcome: Outcome, records: u64) {
        self.counts.get_or_create(&outcome).inc_by(records);
    }
}

fn line(record: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut line = serde_json::to_vec(record).map_err(|error| error.to_string())?;
    if line.len() >= RECORD_BYTES_MAX {
        return Err(format!("a record of {} bytes is too long", line.len()));
    }
    line.push(b'\n');
    Ok(line)
}

/// The file as it was opened.
#[derive(Debug)]
struct Kept {
    file: File,
    bytes: u64,
    /// Device and inode, by which a file that was moved away is noticed.
    identity: (u64, u64),
}

impl Kept {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let known = file.metadata()?;
        Ok(Self { file, bytes: known.len(), identity: (known.dev(), known.ino()) })
    }

    fn is_at(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == self.identity)
    }
}

struct Writer {
    options: AuditOptions,
    kept: Option<Kept>,
    counts: Family<Outcome, Counter>,
    /// Whether it was said that the disk refuses.
    is_told: bool,
}

impl Writer {
    fn run(mut self, entries: &Receiver<Entry>) {
        while let Ok(first) = entries.recv() {
            let mut batch = vec![first];
            batch.extend(entries.try_iter().take(BATCH_MAX - 1));
            let text: Vec<u8> = batch.iter().flat_map(|entry| entry.line.iter().copied()).collect();
            let outcome = self.append(&text);
            match &outcome {
                Ok(()) => self.is_told = false,
                Err(error) if !self.is_told => {
                    self.is_told = true;
                    let path = self.options.path.display();
                    warn!(%path, %error, "the audit log cannot be written");
                }
                Err(_) => {}
            }
            let counted = if outcome.is_ok() { WRITTEN } else { FAILED };
            let count = self.counts.get_or_create(&counted).clone();
            count.inc_by(batch.len() as u64);
            for waiting in batch.into_iter().filter_map(|entry| entry.waiting) {
                // Who has gone needs no answer.
                let _ = waiting.send(outcome.as_ref().copied().map_err(ToString::to_string));
            }
        }
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let path = self.options.path.clone();
        let mut kept = match self.kept.take().filter(|kept| kept.is_at(&path)) {
            Some(kept) => kept,
            None => Kept::open(&path)?,
        };
        let more = text.len() as u64;
        if kept.bytes > 0 && kept.bytes + more > self.options.rotate_bytes {
            self.put_aside()?;
            kept = Kept::open(&path)?;
        }
        // A part that was written before the disk refused stays; the next begins on its own line.
        let written = kept.file.write_all(text);
        if written.is_err() {
            let _ = kept.file.write_all(b"\n");
        }
        kept.bytes = kept.file.metadata()?.len();
        self.kept = Some(kept);
        written
    }

    /// Gives the full file a name with the time, and removes the oldest ones.
    fn put_aside(&self) -> io::Result<()> {
        let path = &self.options.path;
        let mut old = files_aside(path)?;
        old.sort_unstable();
        // Behind all others, also by a clock that was set back.
        let after = old.last().map_or(0, |(last, _)| last + 1);
        let now = clock::wall().0.max(after);
        let aside = path.with_file_name(aside_name(path, now));
        std::fs::rename(path, &aside)?;
        old.push((now, aside));
        let kept = self.options.rotate_files_max;
        for (_, oldest) in old.iter().take(old.len().saturating_sub(kept)) {
            std::fs::remove_file(oldest)?;
        }
        Ok(())
    }
}

/// `audit.json` is put aside as `audit-1700000000000000000.json`: the time, of fixed width.
fn aside_name(path: &Path, now: u64) -> String {
    let (stem, extension) = parts(path);
    format!("{stem}-{now:020}{extension}")
}

fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let extension = path.extension().map(|_| format!(".{}", text(path.extension())));
    (text(path.file_stem()), extension.unwrap_or_default())
}

/// Returns the files that were put aside, with their times.
fn files_aside(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let (stem, extension) = parts(path);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let time = name
            .strip_prefix(&stem)
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|rest| rest.strip_suffix(&extension))
            .filter(|digits| digits.len() == 20)
            .and_then(|digits| digits.parse().ok());
        if let Some(time) = time {
            found.push((time, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(folder: &tempfile::TempDir) -> AuditOptions {
        let path = folder.path().join("audit.json");
        AuditOptions { path, rotate_bytes: 1 << 20, rotate_files_max: 2 }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).expect("the file is there");
        text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
    }

    #[tokio::test]
    async fn records_are_appended_one_a_line_for_the_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (options, tasks) = (options(&folder), TaskTree::root("test"));
        let registry = Registry::new("test");
        for round in 0..2_u64 {
            let log = AuditLog::open(options.clone(), &tasks).expect("opened");
            log.register(&registry);
            log.write(&serde_json::json!({ "round": round, "text": "two\nlines" }));
            log.demand(&serde_json::json!({ "round": round })).await.expect("written");
        }
        let rounds: Vec<_> =
            lines(&options.path).iter().filter_map(|line| line["round"].as_u64()).collect();
        assert_eq!(rounds, [0, 0, 1, 1], "the file is kept over a restart");
        let mode = std::fs::metadata(&options.path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = registry.encode();
        assert!(text.contains("weft_test_audit_records_total{outcome=\"written\"} 2"), "{text}");
    }

    #[tokio::test]
    async fn a_full_file_is_put_aside_and_the_oldest_are_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = AuditOptions { rotate_bytes: 60, ..options(&folder) };
        let other = folder.path().join("audit-note.json");
        std::fs::write(&other, "").expect("written");
        let log = AuditLog::open(options.clone(), &TaskTree::root("test")).expect("opened");
        for number in 0..12_u64 {
            // 25 to 26 bytes: two a file.
            let record = serde_json::json!({ "number": number, "text": "x" });
            log.demand(&record).await.expect("written");
        }
        let mut aside = files_aside(&options.path).expect("read");
        aside.sort_unstable();
        assert_eq!(aside.len(), 2, "{aside:?}");
        let kept = aside.iter().map(|(_, path)| path).chain([&options.path]);
        let numbers: Vec<_> =
            kept.flat_map(|path| lines(path)).filter_map(|it| it["number"].as_u64()).collect();
        assert_eq!(numbers, [6, 7, 8, 9, 10, 11], "nothing between is lost");
        assert!(other.exists(), "what is not the log's stays");
    }

    #[tokio::test]
    async fn a_file_that_was_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(&folder);
        let log = AuditLog::open(options.clone(), &TaskTree::root("test")).expect("opened");
        log.demand(&serde_json::json!({ "number": 1 })).await.expect("written");
        let moved = folder.path().join("moved");
        std::fs::rename(&options.path, &moved).expect("moved");
        log.demand(&serde_json::json!({ "number": 2 })).await.expect("written");
        assert_eq!((lines(&moved).len(), lines(&options.path).len()), (1, 1));
    }

    #[tokio::test]
    async fn what_is_demanded_and_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(&folder);
        let log = AuditLog::open(options.clone(), &TaskTree::root("test")).expect("opened");
        let too_long = "x".repeat(RECORD_BYTES_MAX);
        let refused = log.demand(&too_long).await.expect_err("too long");
        assert!(refused.to_string().contains("too long"), "{refused}");
        // The directory goes with the file.
        drop(folder);
        let refused = log.demand(&"record").await.expect_err("nowhere to write");
        assert!(refused.to_string().contains("No such file"), "{refused}");
        let missing = AuditOptions { path: "/nonexistent/audit".into(), ..options };
        let error = AuditLog::open(missing, &TaskTree::root("test")).expect_err("nowhere");
        assert!(error.to_string().contains("/nonexistent/audit"), "{error}");
    }
}
