//! The file of the host's registrations: each change is one line at its end, under a checksum, and
//! changes that came at the same time are written and synced together.
//!
//! A crash leaves whole lines and perhaps a torn last one, which nobody was told to be kept. When
//! most of the file is of the past it is written anew. What the records mean is known to `kept`.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_runtime::disk::{Disk, DiskFile};

/// The file, and what it is called while it is written anew.
const FILE: &str = "registrations.journal";
const BESIDE: &str = "registrations.new";
/// What a file with lines that cannot be read is called from then on.
const ASIDE: &str = "registrations.damaged";
/// Bytes that may be of the past whatever else there is: some thousand changes.
const PAST_BYTES_MIN: u64 = 1 << 20;
/// Bytes of the file: some hundred thousand registrations. More is not ours.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a checksum in hexadecimal, with the blank behind it.
const SUM_BYTES: usize = 9;

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Check,
    Service,
}

/// What a record is found by.
pub(super) type Key = (Kind, String);

/// Records as JSON.
pub(super) type Records = OrdMap<Key, Arc<str>>;

/// The file.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// `None` when it has to be written anew: there is none, or what was written last may be lost.
    file: Option<Box<dyn DiskFile>>,
    bytes: u64,
}

/// What was found at a start.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The records; `None` when there is no journal.
    pub(super) records: Option<Records>,
    /// Where the file with lines that cannot be read is now.
    pub(super) set_aside: Option<PathBuf>,
}

/// One line: what became of which record, in order; `None` is one that is gone.
type Line = Vec<(Kind, String, Option<Value>)>;

/// A change that is being put together: it is kept whole or not at all.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The line without its brackets.
    text: String,
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Adds a record in the place of the one with that key.
    pub(super) fn set(&mut self, key: &Key, record: &str) {
        let comma = if self.text.is_empty() { "" } else { "," };
        let (kind, id) = (json(&key.0), json(&key.1));
        write!(self.text, "{comma}[{kind},{id},{record}]").expect("a text takes every write");
    }

    /// Takes a record away.
    pub(super) fn remove(&mut self, key: &Key) {
        self.set(key, "null");
    }

    /// Appends it as a line.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let body = format!("[{}]", self.text);
        into.extend_from_slice(format!("{:08x} ", crc32fast::hash(body.as_bytes())).as_bytes());
        into.extend_from_slice(body.as_bytes());
        into.push(b'\n');
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("names and words serialise to memory")
}

impl Journal {
    /// Reads what an earlier run kept. A file with lines that cannot be read, but for a torn last
    /// one, is set aside; what can be read counts.
    pub(super) fn open(disk: Arc<dyn Disk>, directory: &Path) -> io::Result<(Self, Found)> {
        let path = directory.join(FILE);
        let journal =
            |file, bytes| Self { disk: disk.clone(), directory: directory.into(), file, bytes };
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((journal(None, 0), Found::default()));
            }
            Err(error) => return Err(error),
        };
        let content = read(&*file)?;
        let (records, read) = replay(&content);
        let records = Some(records);
        Ok(match read {
            Replayed::Whole => {
                (journal(Some(file), content.len() as u64), Found { records, set_aside: None })
            }
            Replayed::Torn => (journal(None, 0), Found { records, set_aside: None }),
            Replayed::Damaged => {
                let aside = directory.join(ASIDE);
                disk.rename(&path, &aside)?;
                disk.sync_dir(directory)?;
                (journal(None, 0), Found { records, set_aside: Some(aside) })
            }
        })
    }

    /// Writes changes that led to these records, which have so many bytes; they are kept on return.
    ///
    /// # Errors
    /// What the disk says; the file is written anew at the next call then.
    pub(super) fn commit(
        &mut self,
        lines: &[u8],
        (records, bytes): (&Records, u64),
    ) -> io::Result<()> {
        let most = bytes.saturating_mul(2).saturating_add(PAST_BYTES_MIN);
        if let Some(file) = self.file.take()
            && self.bytes + lines.len() as u64 <= most
        {
            file.write_at(self.bytes, lines)?;
            file.sync()?;
            self.bytes += lines.len() as u64;
            self.file = Some(file);
            return Ok(());
        }
        self.rewrite(records)
    }

    /// Has the file written anew at the next call, as after a failure.
    #[cfg(test)]
    pub(super) fn forget_file(&mut self) {
        self.file = None;
    }

    fn rewrite(&mut self, records: &Records) -> io::Result<()> {
        let mut content = Vec::new();
        for (key, record) in records {
            let mut change = Change::default();
            change.set(key, record);
            change.write(&mut content);
        }
        let beside = self.directory.join(BESIDE);
        let file = self.disk.create(&beside)?;
        file.write_at(0, &content)?;
        file.sync()?;
        self.disk.rename(&beside, &self.directory.join(FILE))?;
        self.disk.sync_dir(&self.directory)?;
        (self.file, self.bytes) = (Some(file), content.len() as u64);
        Ok(())
    }
}

fn read(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let bytes = file.bytes()?;
    if bytes > FILE_BYTES_MAX {
        let reason = format!("{FILE} has {bytes} bytes, which are too many");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let mut content = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    let read = file.read_at(0, &mut content)?;
    content.truncate(read);
    Ok(content)
}

/// How much of a file could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replayed {
    /// Lines before the last one cannot be read.
    Damaged,
    /// All but the last line.
    Torn,
    /// All.
    Whole,
}

fn replay(content: &[u8]) -> (Records, Replayed) {
    let mut records = Records::new();
    let (mut replayed, mut rest) = (Replayed::Whole, content);
    while !rest.is_empty() {
        if replayed == Replayed::Torn {
            // The line that could not be read was not the last one.
            replayed = Replayed::Damaged;
        }
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.get(1..).unwrap_or_default();
        match parse(line).filter(|_| end.is_some()) {
            Some(line) => apply(line, &mut records),
            None if replayed == Replayed::Whole => replayed = Replayed::Torn,
            None => {}
        }
    }
    (records, replayed)
}

fn parse(line: &[u8]) -> Option<Line> {
    let (sum, body) = line.split_at_checked(SUM_BYTES)?;
    let sum = std::str::from_utf8(sum).ok()?.strip_suffix(' ')?;
    let is_whole = u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(body);
    is_whole.then(|| serde_json::from_slice(body).ok())?
}

fn apply(line: Line, records: &mut Records) {
    for (kind, id, record) in line {
        match record {
            Some(record) => records.insert((kind, id), record.to_string().into()),
            None => records.remove(&(kind, id)),
        };
    }
}

#[cfg(test)]
mod tests {
    use weft_runtime::disk::SimulatedDisk;

    use super::*;

    const DIR: &str = "/data";

    /// Numbers by an additive sequence.
    struct Spread(u64);

    impl rand_core::RngCore for Spread {
        fn next_u32(&mut self) -> u32 {
            (self.next_u64() >> 32) as u32
        }
        fn next_u64(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.0
        }
        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill_with(|| self.next_u32() as u8);
        }
    }

    fn open(disk: &SimulatedDisk) -> (Journal, Found) {
        Journal::open(Arc::new(disk.clone()), Path::new(DIR)).expect("readable")
    }

    /// Sets one record and keeps it.
    fn set(journal: &mut Journal, records: &mut Records, id: &str, text: &str) -> io::Result<()> {
        let (key, record) = ((Kind::Check, id.to_owned()), format!("{{\"text\":\"{text}\"}}"));
        let (mut change, mut lines) = (Change::default(), Vec::new());
        change.set(&key, &record);
        change.write(&mut lines);
        records.insert(key, record.into());
        let bytes = records.values().map(|record| record.len() as u64).sum();
        journal.commit(&lines, (records, bytes))
    }

    fn ids(found: &Found) -> Vec<String> {
        found.records.iter().flatten().map(|((_, id), _)| id.clone()).collect()
    }

    #[test]
    fn what_was_kept_is_found_and_most_of_the_past_is_not() {
        let disk = SimulatedDisk::default();
        disk.create_dir(Path::new(DIR)).expect("made");
        let (mut journal, found) = open(&disk);
        assert!(found.records.is_none());
        let mut records = Records::new();
        let long = "x".repeat(10_000);
        for at in 0..500 {
            set(&mut journal, &mut records, &format!("c{}", at % 3), &long).expect("kept");
        }
        assert!(disk.used() < 2 * PAST_BYTES_MIN, "{} bytes", disk.used());
        let (_, found) = open(&disk);
        assert_eq!(found.records, Some(records));
    }

    #[test]
    fn a_power_cut_at_any_call_leaves_all_that_was_kept() {
        for call in 1..40 {
            let disk = SimulatedDisk::default();
            disk.create_dir(Path::new(DIR)).expect("made");
            disk.sync_dir(Path::new("/")).expect("synced");
            let (mut journal, _) = open(&disk);
            disk.plan(call, weft_runtime::disk::Fault::Cut);
            let mut records = Records::new();
            let mut kept = Vec::new();
            for at in 0..12 {
                let id = format!("c{at:02}");
                if set(&mut journal, &mut records, &id, "x").is_err() {
                    break;
                }
                kept.push(id);
            }
            let after = disk.cut(&mut Spread(call));
            let (_, found) = open(&after);
            let found = ids(&found);
            assert!(found.starts_with(&kept), "call {call}: {kept:?} of {found:?}");
            assert!(found.len() <= kept.len() + 1, "call {call}: {kept:?} of {found:?}");
        }
    }

    #[test]
    fn a_failed_write_is_made_good_by_the_next_one() {
        for call in 1..8 {
            let disk = SimulatedDisk::default();
            disk.create_dir(Path::new(DIR)).expect("made");
            let (mut journal, _) = open(&disk);
            disk.plan(call, weft_runtime::disk::Fault::Error);
            let mut records = Records::new();
            let mut failed = 0;
            for at in 0..6 {
                let before = records.clone();
                if set(&mut journal, &mut records, &format!("c{at}"), "x").is_err() {
                    (records, failed) = (before, failed + 1);
                }
            }
            assert_eq!(failed, 1, "call {call}");
            let (_, found) = open(&disk);
            assert_eq!(found.records, Some(records), "call {call}");
        }
    }

    #[test]
    fn a_damaged_line_is_passed_over_and_the_file_set_aside() {
        let mut content = Vec::new();
        for id in ["a", "b", "c"] {
            let mut change = Change::default();
            change.set(&(Kind::Service, id.to_owned()), "{}");
            change.write(&mut content);
        }
        let line = content.len() / 3;
        let found = |content: &[u8]| {
            let (records, replayed) = replay(content);
            (records.keys().map(|(_, id)| id.clone()).collect::<String>(), replayed)
        };
        assert_eq!(found(&content), ("abc".to_owned(), Replayed::Whole));
        for cut in 2 * line + 1..3 * line {
            assert_eq!(found(&content[..cut]), ("ab".to_owned(), Replayed::Torn), "{cut}");
        }
        content[line + 20] ^= 1;
        assert_eq!(found(&content), ("ac".to_owned(), Replayed::Damaged));
        assert_eq!(found(b"no journal\nat all"), (String::new(), Replayed::Damaged));
        let disk = SimulatedDisk::default();
        disk.create_dir(Path::new(DIR)).expect("made");
        let file = disk.create(&Path::new(DIR).join(FILE)).expect("made");
        file.write_at(0, &content).expect("written");
        let (mut journal, read) = open(&disk);
        assert_eq!(ids(&read), ["a", "c"]);
        assert_eq!(read.set_aside.as_deref(), Some(Path::new("/data/registrations.damaged")));
        let mut records = read.records.expect("some");
        set(&mut journal, &mut records, "d", "x").expect("kept");
        assert_eq!(ids(&open(&disk).1).len(), 3);
    }
}
