//! Where each entry of the log lies.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use weft_runtime::disk::DiskFile;

/// A file of the log. It stays readable for as long as somebody holds it, also once removed.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
}

/// Where an entry lies.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// Bytes of this entry and all before it, counted from an arbitrary start.
    end: u64,
}

/// The places of all entries that are on the disk, without holes.
#[derive(Debug, Default)]
pub(super) struct Places {
    first: u64,
    places: VecDeque<Place>,
}

impl Places {
    /// Returns the index after the last entry.
    pub(super) fn next(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// Returns the index of the first entry, if there is any.
    pub(super) fn first(&self) -> Option<u64> {
        (!self.places.is_empty()).then_some(self.first)
    }

    /// Notes the entry after the last one.
    pub(super) fn push(&mut self, segment: &Arc<Segment>, offset: u64, bytes: u64) {
        let end = self.places.back().map_or(0, |last| last.end) + bytes;
        self.places.push_back(Place { segment: segment.clone(), offset, bytes, end });
    }

    /// Forgets entries from an index on; the next one has that index.
    pub(super) fn truncate(&mut self, from: u64) {
        if from < self.first {
            self.first = from;
        }
        let keep = usize::try_from(from - self.first).unwrap_or(usize::MAX);
        self.places.truncate(keep);
        if self.places.is_empty() {
            self.first = from;
        }
    }

    /// Forgets entries up to an index; the next one comes after it.
    pub(super) fn purge(&mut self, upto: u64) {
        while self.first <= upto && self.places.pop_front().is_some() {
            self.first += 1;
        }
        if self.places.is_empty() {
            self.first = self.first.max(upto + 1);
        }
    }

    /// Returns the places of entries `from..to`, `None` when one of them is not there.
    pub(super) fn range(&self, from: u64, to: u64) -> Option<Vec<Place>> {
        let start = usize::try_from(from.checked_sub(self.first)?).ok()?;
        let count = usize::try_from(to.checked_sub(from)?).ok()?;
        let end = start.checked_add(count).filter(|end| *end <= self.places.len())?;
        Some(self.places.range(start..end).cloned().collect())
    }

    /// Returns the bytes of the entries from an index on.
    pub(super) fn bytes_from(&self, from: u64) -> u64 {
        let Some(last) = self.places.back() else { return 0 };
        let skipped = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        match self.places.get(skipped) {
            Some(place) => last.end - (place.end - place.bytes),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use weft_runtime::disk::{Disk, SimulatedDisk};

    #[test]
    fn entries_are_found_by_index_and_counted_in_bytes() {
        let file = SimulatedDisk::default().create(Path::new("/a")).expect("made");
        let segment = Arc::new(Segment { sequence: 1, path: "/a".into(), file });
        let mut places = Places::default();
        places.truncate(5);
        for n in 0..10u64 {
            places.push(&segment, n * 10, 10);
        }
        assert_eq!((places.first(), places.next()), (Some(5), 15));
        assert_eq!(places.bytes_from(0), 100);
        assert_eq!(places.bytes_from(14), 10);
        assert_eq!(places.bytes_from(15), 0);
        let found = places.range(7, 9).expect("both there");
        assert_eq!(found.iter().map(|it| it.offset).collect::<Vec<_>>(), [20, 30]);
        assert!(places.range(4, 6).is_none() && places.range(14, 16).is_none());
        places.truncate(13);
        places.purge(6);
        assert_eq!((places.first(), places.next(), places.bytes_from(0)), (Some(7), 13, 60));
        places.purge(99);
        assert_eq!((places.first(), places.next()), (None, 100));
    }
}
