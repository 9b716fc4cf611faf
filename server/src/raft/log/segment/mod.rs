//! The log in files that are only ever appended to.
//!
//! A file is filled with zeros before it is used, so that a sync has bytes to write and no
//! places of the file system. Groups of records are written at once and synced at once. What is
//! removed is said in a record; a file goes when nothing in it is needed.
//!
//! `<sequence>.log` begins with 8 bytes of magic; see `record` for what follows.

mod places;
mod record;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tracing::warn;
use weft_core::limits;
use weft_proto::envelope;
use weft_runtime::disk::{Disk, DiskFile};

use self::places::{Place, Places, Segment};
use self::record::{Kind, Record, bytes_of};
use self::scan::{FIRST_SEQUENCE, Live, MAGIC, Opening, file_name};
use super::damage::LogDamage;
use super::medium::{Bounds, Chore, Entries, LogSize, Medium};
use crate::raft::types::{Entry, LogId};

/// The ending of files that are not yet part of the log.
const UNFINISHED: &str = ".tmp";
/// The file made in advance.
const SPARE: &str = "spare.tmp";
/// Bytes of zeros between two syncs while a file is made: a log that is written at the same time
/// waits for one piece at most.
const ZEROS_BYTES: usize = 1 << 20;

/// The log in files. One thread writes.
pub(super) struct SegmentLog {
    shared: Arc<Shared>,
    /// The files, oldest first; the last is written to.
    segments: VecDeque<Live>,
    /// Where the next group goes in the last file, and how much that file holds.
    end: u64,
    capacity: u64,
    /// Records of the group that is gathered.
    group: Vec<u8>,
    /// What the group does to the places, in order.
    effects: Vec<Effect>,
    /// The index after the last entry, with those gathered.
    next: u64,
    purged: Option<LogId>,
    bounds: Bounds,
    /// Whether there are files to remove since the last chore.
    removes: bool,
    is_poisoned: bool,
}

struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    places: RwLock<Places>,
    segments: AtomicU64,
    spare: Mutex<Spare>,
    /// Files that nothing needs any more, oldest first.
    unneeded: Mutex<VecDeque<PathBuf>>,
    /// Held while files are removed: they go one after another.
    removing: Mutex<()>,
}

/// The file made in advance.
enum Spare {
    /// None could be made; tried again with the next file.
    Failed,
    /// One is being made.
    InTheMaking,
    /// One is there, filled with zeros.
    Ready(Box<dyn DiskFile>),
    /// One should be made.
    Wanted,
}

enum Effect {
    Entry { index: u64, offset: u64, bytes: u64 },
    Purge { upto: u64 },
    Truncate { from: u64 },
}

impl SegmentLog {
    /// Opens the log in a directory, which is made when it does not exist, and checks all of it.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, LogDamage> {
        Self::open_with(disk, dir, limits::LOG_SEGMENT_BYTES)
    }

    fn open_with(disk: Arc<dyn Disk>, dir: &Path, segment_bytes: u64) -> Result<Self, LogDamage> {
        disk.create_dir(dir).map_err(LogDamage::file("create", dir))?;
        let scan::Opened { segments, places, purged, end, capacity } = scan::open(&*disk, dir)?;
        let next = places.next();
        let shared = Arc::new(Shared {
            disk,
            dir: dir.to_owned(),
            segment_bytes,
            places: RwLock::new(places),
            segments: AtomicU64::new(segments.len() as u64),
            spare: Mutex::new(Spare::Wanted),
            unneeded: Mutex::default(),
            removing: Mutex::default(),
        });
        let last = match shared.first() {
            Some(first) if first < next => {
                let entries = shared.read(next - 1, next, u64::MAX)?;
                let entry = entries.first().map(|bytes| envelope::decode::<Entry>(bytes));
                entry.transpose()?.map(|entry| entry.log_id)
            }
            Some(_) | None => None,
        };
        let mut log = Self {
            shared,
            segments,
            end,
            capacity,
            group: Vec::new(),
            effects: Vec::new(),
            next,
            purged,
            bounds: Bounds { purged, last },
            removes: false,
            is_poisoned: false,
        };
        log.drop_unneeded();
        Ok(log)
    }

    fn refuse_poisoned(&self) -> Result<(), LogDamage> {
        if self.is_poisoned { Err(LogDamage::Poisoned) } else { Ok(()) }
    }

    /// Adds a record to the group; begins another file when it does not fit.
    fn gather(&mut self, kind: Kind, index: u64, body: &[u8]) -> Result<u64, LogDamage> {
        let bytes = bytes_of(body.len()) as u64;
        if self.segments.is_empty() || self.end + self.group.len() as u64 + bytes > self.capacity {
            self.write_group()?;
            self.begin_segment(bytes, index)?;
        }
        let offset = self.end + self.group.len() as u64;
        let group = u32::try_from(self.end).expect("a file has at most one entry above its size");
        let sequence = self.segments.back().map_or(FIRST_SEQUENCE, |it| it.segment.sequence);
        Record { kind, group, index, body }.put(sequence, &mut self.group);
        Ok(offset)
    }

    fn write_group(&mut self) -> Result<(), LogDamage> {
        let Some(last) = self.segments.back_mut() else { return Ok(()) };
        if self.group.is_empty() {
            return Ok(());
        }
        let file = &last.segment.file;
        file.write_at(self.end, &self.group)
            .map_err(LogDamage::file("write", &last.segment.path))?;
        file.sync().map_err(LogDamage::file("sync", &last.segment.path))?;
        self.end += self.group.len() as u64;
        self.group.clear();
        {
            let mut places = self.shared.places.write();
            for effect in self.effects.drain(..) {
                match effect {
                    Effect::Entry { index, offset, bytes } => {
                        places.push(&last.segment, offset, bytes);
                        last.highest = last.highest.max(Some(index));
                    }
                    Effect::Purge { upto } => places.purge(upto),
                    Effect::Truncate { from } => places.truncate(from),
                }
            }
        }
        self.drop_unneeded();
        Ok(())
    }

    /// Begins the next file. The group must be written: a file is complete before the next.
    fn begin_segment(&mut self, bytes: u64, index: u64) -> Result<(), LogDamage> {
        let sequence =
            self.segments.back().map_or(FIRST_SEQUENCE, |last| last.segment.sequence + 1);
        // The first entry of all may have any index; a purge names one that is not there.
        if self.segments.is_empty() && self.effects.is_empty() && self.next == 0 {
            self.next = index;
        }
        let opening = Opening { purged: self.purged, previous_end: self.end };
        let body = envelope::encode(&opening);
        let mut head = MAGIC.to_vec();
        let group = u32::try_from(MAGIC.len()).expect("eight bytes of magic");
        let record = Record { kind: Kind::Opening, group, index: self.next, body: &body };
        record.put(sequence, &mut head);

        let path = self.shared.dir.join(file_name(sequence));
        let failed = |error| LogDamage::file("create", &path)(error);
        let needed = head.len() as u64 + bytes;
        let file = self.shared.place_file(&path, &head, needed).map_err(failed)?;
        self.capacity = file.bytes().map_err(failed)?;
        self.end = head.len() as u64;
        let segment = Arc::new(Segment { sequence, path: path.clone(), file });
        self.segments.push_back(Live { segment, highest: None });
        if self.segments.len() == 1 {
            self.shared.places.write().truncate(self.next);
        }
        self.shared.segments.store(self.segments.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Puts aside the oldest files, as far as all in them was removed.
    fn drop_unneeded(&mut self) {
        let Some(purged) = self.purged else { return };
        while self.segments.len() > 1
            && let Some(first) = self.segments.front()
            && first.highest.is_none_or(|highest| highest <= purged.index)
        {
            self.shared.unneeded.lock().push_back(first.segment.path.clone());
            self.segments.pop_front();
            self.removes = true;
        }
        self.shared.segments.store(self.segments.len() as u64, Ordering::Relaxed);
    }

    fn poison_on<T>(&mut self, outcome: Result<T, LogDamage>) -> Result<T, LogDamage> {
        self.is_poisoned |= outcome.is_err();
        outcome
    }
}

impl Medium for SegmentLog {
    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn append(&mut self, entries: &[(u64, Bytes)]) -> Result<(), LogDamage> {
        self.refuse_poisoned()?;
        for (index, body) in entries {
            if self.purged.is_some_and(|purged| *index <= purged.index) {
                // A snapshot has it.
                continue;
            }
            let is_first = self.segments.is_empty() && self.next == 0;
            if *index != self.next && !is_first {
                return Err(LogDamage::Hole { index: self.next });
            }
            let gathered = self.gather(Kind::Entry, *index, body);
            let offset = self.poison_on(gathered)?;
            let bytes = bytes_of(body.len()) as u64;
            self.effects.push(Effect::Entry { index: *index, offset, bytes });
            self.next = index + 1;
        }
        Ok(())
    }

    fn truncate(&mut self, from: u64) -> Result<(), LogDamage> {
        self.refuse_poisoned()?;
        if from >= self.next {
            return Ok(());
        }
        let gathered = self.gather(Kind::Truncate, from, &[]);
        self.poison_on(gathered)?;
        self.effects.push(Effect::Truncate { from });
        self.next = from;
        Ok(())
    }

    fn purge(&mut self, upto: LogId) -> Result<(), LogDamage> {
        self.refuse_poisoned()?;
        let gathered = self.gather(Kind::Purge, upto.index, &envelope::encode(&upto));
        self.poison_on(gathered)?;
        self.effects.push(Effect::Purge { upto: upto.index });
        self.purged = Some(upto);
        self.next = self.next.max(upto.index + 1);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogDamage> {
        self.refuse_poisoned()?;
        let written = self.write_group();
        self.poison_on(written)
    }

    fn entries(&self) -> Arc<dyn Entries> {
        self.shared.clone()
    }

    fn chore(&mut self) -> Option<Chore> {
        let removes = std::mem::take(&mut self.removes);
        let makes_spare = {
            let mut spare = self.shared.spare.lock();
            let wanted = matches!(*spare, Spare::Wanted);
            if wanted {
                *spare = Spare::InTheMaking;
            }
            wanted
        };
        if !removes && !makes_spare {
            return None;
        }
        let shared = self.shared.clone();
        Some(Box::new(move || {
            if removes {
                shared.remove_unneeded();
            }
            if makes_spare {
                shared.make_spare();
            }
        }))
    }
}

impl Shared {
    fn first(&self) -> Option<u64> {
        self.places.read().first()
    }

    /// Makes a file part of the log: the spare one, or a new one when that is away or too small.
    fn place_file(&self, path: &Path, head: &[u8], needed: u64) -> io::Result<Box<dyn DiskFile>> {
        let (file, unfinished) = match self.take_spare(needed) {
            Some(file) => (file, self.dir.join(SPARE)),
            None => {
                let unfinished = path.with_extension("log.tmp");
                let bytes = needed.max(self.segment_bytes);
                (self.fill_with_zeros(&unfinished, bytes)?, unfinished)
            }
        };
        file.write_at(0, head)?;
        file.sync()?;
        self.disk.rename(&unfinished, path)?;
        self.disk.sync_dir(&self.dir)?;
        Ok(file)
    }

    fn take_spare(&self, needed: u64) -> Option<Box<dyn DiskFile>> {
        let mut spare = self.spare.lock();
        match std::mem::replace(&mut *spare, Spare::Wanted) {
            Spare::Ready(file) if needed <= self.segment_bytes => Some(file),
            other @ (Spare::InTheMaking | Spare::Ready(_)) => {
                *spare = other;
                None
            }
            Spare::Failed | Spare::Wanted => None,
        }
    }

    fn fill_with_zeros(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.create(path)?;
        let zeros = vec![0; ZEROS_BYTES];
        let mut at = 0;
        while at < bytes {
            let piece = (bytes - at).min(ZEROS_BYTES as u64);
            file.write_at(at, &zeros[..usize::try_from(piece).map_err(io::Error::other)?])?;
            file.sync()?;
            at += piece;
        }
        Ok(file)
    }

    fn make_spare(&self) {
        match self.fill_with_zeros(&self.dir.join(SPARE), self.segment_bytes) {
            Ok(file) => *self.spare.lock() = Spare::Ready(file),
            Err(error) => {
                *self.spare.lock() = Spare::Failed;
                warn!(dir = ?self.dir, %error, "the next log file cannot be made in advance");
            }
        }
    }

    /// Removes files, the oldest first and each for good before the next: a gap is damage.
    fn remove_unneeded(&self) {
        let _one_at_a_time = self.removing.lock();
        loop {
            let Some(path) = self.unneeded.lock().front().cloned() else { return };
            let removed = match self.disk.remove(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                outcome => outcome,
            };
            if let Err(error) = removed.and_then(|()| self.disk.sync_dir(&self.dir)) {
                // Tried again with the next ones, which must not go before it.
                warn!(?path, %error, "a log file that is not needed cannot be removed");
                return;
            }
            self.unneeded.lock().pop_front();
        }
    }

    fn read_at(&self, index: u64, place: &Place) -> Result<Vec<u8>, LogDamage> {
        let segment = &place.segment;
        let length = usize::try_from(place.bytes).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let read = segment.file.read_at(place.offset, &mut bytes);
        let read = read.map_err(LogDamage::file("read", &segment.path))?;
        match Record::read(segment.sequence, &bytes[..read]) {
            Some(Record { kind: Kind::Entry, index: found, body, .. }) if found == index => {
                Ok(body.to_vec())
            }
            Some(_) | None => Err(LogDamage::Bytes {
                path: segment.path.clone(),
                offset: place.offset,
                fault: "an entry is not what was written",
            }),
        }
    }
}

impl Entries for Shared {
    fn read(&self, from: u64, to: u64, bytes_max: u64) -> Result<Vec<Vec<u8>>, LogDamage> {
        let (from, places) = {
            let places = self.places.read();
            let from = from.max(places.first().unwrap_or(from));
            (from, places.range(from, to))
        };
        let places = places.ok_or(LogDamage::Hole { index: from })?;
        let (mut entries, mut bytes) = (Vec::with_capacity(places.len()), 0);
        for (index, place) in (from..).zip(&places) {
            bytes += place.bytes;
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(self.read_at(index, place)?);
        }
        Ok(entries)
    }

    fn size_from(&self, from: u64) -> LogSize {
        let bytes = self.places.read().bytes_from(from);
        LogSize { bytes, segments: self.segments.load(Ordering::Relaxed) }
    }
}
