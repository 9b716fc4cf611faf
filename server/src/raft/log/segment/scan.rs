//! Opening the files of a log: all of it is read and checked before a byte is believed.
//!
//! A group that was being written when the power went is torn: nobody was told that it is kept,
//! and it is removed. Anything else that is not as it was written is damage, and refused.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_proto::envelope;
use weft_runtime::disk::{Disk, DiskFile};

use super::places::{Places, Segment};
use super::record::{ALIGNMENT, Kind, Record};
use crate::raft::log::damage::LogDamage;
use crate::raft::types::LogId;

/// The first bytes of each file.
pub(super) const MAGIC: &[u8; 8] = b"WEFTLOG\x01";
/// The ending of a file's name, after its sequence number.
const SUFFIX: &str = ".log";
/// The number of the first file of a log.
pub(super) const FIRST_SEQUENCE: u64 = 1;

/// What the first record of a file says of those before.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opening {
    /// The last entry removed from the front, when the file was begun.
    pub(super) purged: Option<LogId>,
    /// Where the records of the file before end.
    pub(super) previous_end: u64,
}

/// A file that belongs to the log.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) segment: Arc<Segment>,
    /// The highest index of an entry in it, also of one that was removed later.
    pub(super) highest: Option<u64>,
}

/// A log as it was found.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// The files, oldest first.
    pub(super) segments: VecDeque<Live>,
    pub(super) places: Places,
    pub(super) purged: Option<LogId>,
    /// Where the records of the last file end.
    pub(super) end: u64,
    /// How much the last file holds.
    pub(super) capacity: u64,
}

/// Returns the name of a file.
pub(super) fn file_name(sequence: u64) -> String {
    format!("{sequence:020}{SUFFIX}")
}

/// Opens the log in a directory. Removes what a crash left half done.
pub(super) fn open(disk: &dyn Disk, dir: &Path) -> Result<Opened, LogDamage> {
    let mut opened = Opened::default();
    let names = disk.list(dir).map_err(LogDamage::file("read", dir))?;
    let mut last_bytes = Vec::new();
    for name in names {
        let path = dir.join(&name);
        let digits = name.strip_suffix(SUFFIX);
        let Some(sequence) = digits.and_then(|digits| digits.parse::<u64>().ok()) else {
            // Files of ours that never became part of the log; whatever else is not ours.
            if name.ends_with(super::UNFINISHED) {
                disk.remove(&path).map_err(LogDamage::file("remove", &path))?;
            }
            continue;
        };
        let file = disk.open(&path).map_err(LogDamage::file("open", &path))?;
        last_bytes = read_whole(&*file).map_err(LogDamage::file("read", &path))?;
        opened.take(Arc::new(Segment { sequence, path, file }), &last_bytes)?;
    }
    if let Some(last) = opened.segments.back() {
        cut_torn_tail(&last.segment, &last_bytes, opened.end)?;
    }
    opened.check_front()?;
    Ok(opened)
}

fn read_whole(file: &dyn DiskFile) -> std::io::Result<Vec<u8>> {
    let length = usize::try_from(file.bytes()?).map_err(std::io::Error::other)?;
    let mut bytes = vec![0; length];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

impl Opened {
    /// Reads the file that follows those before.
    fn take(&mut self, segment: Arc<Segment>, bytes: &[u8]) -> Result<(), LogDamage> {
        let damage = |offset: usize, fault| LogDamage::Bytes {
            path: segment.path.clone(),
            offset: offset as u64,
            fault,
        };
        let after_magic = bytes.strip_prefix(MAGIC).unwrap_or_default();
        let first = Record::read(segment.sequence, after_magic);
        let first = first.filter(|record| record.kind == Kind::Opening);
        let first = first.ok_or_else(|| damage(0, "its first record is not whole"))?;
        let opening: Opening = envelope::decode(first.body)?;
        match self.segments.back() {
            None => {
                self.purged = opening.purged;
                self.places.truncate(first.index);
            }
            Some(last) => {
                if segment.sequence != last.segment.sequence + 1 {
                    return Err(damage(0, "the file before it is missing"));
                }
                if opening.previous_end != self.end || first.index != self.places.next() {
                    return Err(LogDamage::Bytes {
                        path: last.segment.path.clone(),
                        offset: self.end,
                        fault: "records are missing at its end",
                    });
                }
            }
        }
        let mut at = MAGIC.len() + first.bytes();
        let mut highest = None;
        while let Some(record) = Record::read(segment.sequence, &bytes[at.min(bytes.len())..]) {
            self.replay(&record, &segment, at).map_err(|fault| damage(at, fault))?;
            if record.kind == Kind::Entry {
                highest = highest.max(Some(record.index));
            }
            at += record.bytes();
        }
        self.end = at as u64;
        self.capacity = bytes.len() as u64;
        self.segments.push_back(Live { segment, highest });
        Ok(())
    }

    fn replay(
        &mut self,
        record: &Record<'_>,
        segment: &Arc<Segment>,
        at: usize,
    ) -> Result<(), &'static str> {
        match record.kind {
            Kind::Entry => {
                if record.index != self.places.next() {
                    return Err("its entries are not in order");
                }
                self.places.push(segment, at as u64, record.bytes() as u64);
            }
            Kind::Opening => return Err("it begins twice"),
            Kind::Purge => {
                let upto: LogId =
                    envelope::decode(record.body).map_err(|_| "a mark cannot be understood")?;
                self.purged = Some(upto);
                self.places.purge(upto.index);
            }
            Kind::Truncate => {
                if self.purged.is_some_and(|purged| record.index <= purged.index) {
                    return Err("entries are removed that were agreed on");
                }
                self.places.truncate(record.index);
            }
        }
        Ok(())
    }

    /// Whether the entries follow what was removed before them.
    fn check_front(&self) -> Result<(), LogDamage> {
        let Some(purged) = self.purged else {
            let first = self.segments.front().map_or(FIRST_SEQUENCE, |it| it.segment.sequence);
            return if first == FIRST_SEQUENCE {
                Ok(())
            } else {
                Err(LogDamage::Hole { index: 0 })
            };
        };
        let first = self.places.first().unwrap_or(self.places.next());
        if first != purged.index + 1 {
            return Err(LogDamage::Hole { index: purged.index + 1 });
        }
        Ok(())
    }
}

/// Removes what is left of a group that was being written when the power went.
///
/// A whole record further on, of a group that began later, says that the bytes here had been
/// synced and were acknowledged: then they are damaged.
fn cut_torn_tail(segment: &Segment, bytes: &[u8], end: u64) -> Result<(), LogDamage> {
    let at = usize::try_from(end).unwrap_or(usize::MAX).min(bytes.len());
    let tail = &bytes[at..];
    let Some(last) = tail.iter().rposition(|byte| *byte != 0) else { return Ok(()) };
    let is_later = |record: Record<'_>| u64::from(record.group) > end;
    let mut starts = (0..tail.len()).step_by(ALIGNMENT);
    if starts.any(|start| Record::read(segment.sequence, &tail[start..]).is_some_and(is_later)) {
        return Err(LogDamage::Bytes {
            path: segment.path.clone(),
            offset: end,
            fault: "a record is not what was written",
        });
    }
    // Whole records in what is torn must not come back once others stand before them.
    let cut = segment.file.write_at(end, &vec![0; last + 1]).and_then(|()| segment.file.sync());
    cut.map_err(LogDamage::file("write", &segment.path))
}
