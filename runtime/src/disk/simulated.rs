//! A disk in memory that fails, fills up or loses power at a chosen call.
//!
//! Harsher than most real ones: until a sync, every sector of every write and every change of a
//! name may survive a power cut without those before it. After a sync that failed, a later one
//! succeeds without bringing the lost bytes back, as on Linux.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand_core::RngCore;

use super::{Disk, DiskFile};

/// Bytes that a power cut leaves whole or not written at all.
const SECTOR_BYTES: usize = 512;

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power is gone: this call and all later ones fail.
    Cut,
    /// The call fails once, with an input/output error.
    Error,
}

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Debug, Default)]
struct World {
    files: BTreeMap<u64, Content>,
    next_file: u64,
    directories: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    kept_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the last sync of their directory.
    renamings: Vec<Renaming>,
    calls: u64,
    plan: Option<(u64, Fault)>,
    is_cut: bool,
    forgets_syncs: bool,
    capacity: Option<u64>,
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    kept: Vec<u8>,
    /// Writes since the last sync.
    writes: Vec<(usize, Vec<u8>)>,
}

/// One change of names, which happens whole or not at all.
#[derive(Debug)]
struct Renaming {
    gone: Option<PathBuf>,
    made: Option<(PathBuf, u64)>,
}

impl SimulatedDisk {
    /// Makes a fault happen at the call of that number, counted from now; the first is 1.
    pub fn plan(&self, call: u64, fault: Fault) {
        let mut world = self.world.lock();
        world.plan = Some((world.calls + call, fault));
    }

    /// Returns how many calls that change or sync something there were.
    pub fn calls(&self) -> u64 {
        self.world.lock().calls
    }

    /// Returns what all files that have a name take.
    ///
    /// **Units**: bytes.
    pub fn used(&self) -> u64 {
        self.world.lock().used()
    }

    /// Bounds what all files together may have; further bytes are refused as on a full disk.
    ///
    /// **Units**: bytes.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world.lock().capacity = bytes;
    }

    /// Makes every later sync do nothing, as a planted bug or a disk that lies.
    pub fn forget_syncs(&self) {
        self.world.lock().forgets_syncs = true;
    }

    /// Cuts the power and returns the disk as the next start finds it. All that was open on
    /// this one fails from here on.
    pub fn cut(&self, dice: &mut impl RngCore) -> Self {
        let mut world = self.world.lock();
        world.is_cut = true;
        let mut heads = || dice.next_u32() & 1 == 0;
        let mut names = world.kept_names.clone();
        for renaming in &world.renamings {
            if heads() {
                renaming.carry_out(&mut names);
            }
        }
        let mut files = BTreeMap::new();
        for (id, content) in &world.files {
            let mut kept = content.kept.clone();
            for (offset, bytes) in &content.writes {
                for (at, sector) in sectors(*offset, bytes) {
                    if heads() {
                        put(&mut kept, at, sector);
                    }
                }
            }
            files.insert(*id, Content { now: kept.clone(), kept, writes: Vec::new() });
        }
        let next = World {
            files,
            next_file: world.next_file,
            directories: world.directories.clone(),
            kept_names: names.clone(),
            names,
            capacity: world.capacity,
            ..World::default()
        };
        Self { world: Arc::new(Mutex::new(next)) }
    }

    /// Returns a disk of its own with all that was written, synced or not: what the next start
    /// finds after a program was killed.
    pub fn image(&self) -> Self {
        let world = self.world.lock();
        let copy = |content: &Content| Content {
            now: content.now.clone(),
            kept: content.now.clone(),
            writes: Vec::new(),
        };
        let image = World {
            files: world.files.iter().map(|(id, content)| (*id, copy(content))).collect(),
            next_file: world.next_file,
            directories: world.directories.clone(),
            names: world.names.clone(),
            kept_names: world.names.clone(),
            capacity: world.capacity,
            ..World::default()
        };
        Self { world: Arc::new(Mutex::new(image)) }
    }

    /// Changes one byte of a file for good, as a failing medium does.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such file or byte.
    pub fn damage(&self, path: &Path, offset: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        let id = world.find(path)?;
        let content = world.files.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::NotFound)?;
        for bytes in [&mut content.now, &mut content.kept] {
            *bytes.get_mut(at).ok_or(io::ErrorKind::NotFound)? ^= 0x55;
        }
        Ok(())
    }
}

impl World {
    /// Counts a call that changes or syncs something, and fails it when its turn has come.
    fn call(&mut self) -> io::Result<()> {
        self.reach()?;
        self.calls += 1;
        match self.plan {
            Some((at, fault)) if at == self.calls => {
                self.is_cut = fault == Fault::Cut;
                Err(io::Error::other("simulated disk fault"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn reach(&self) -> io::Result<()> {
        if self.is_cut {
            return Err(io::Error::other("simulated power cut"));
        }
        Ok(())
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> u64 {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        let files = self.files.iter().filter(|(id, _)| named.contains(id));
        files.map(|(_, content)| content.now.len() as u64).sum()
    }

    fn rename(&mut self, renaming: Renaming) {
        renaming.carry_out(&mut self.names);
        self.renamings.push(renaming);
    }
}

impl Renaming {
    fn carry_out(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((path, file)) = &self.made {
            names.insert(path.clone(), *file);
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        let made = self.made.as_ref().map(|(path, _)| path);
        self.gone.iter().chain(made).any(|path| path.parent() == Some(dir))
    }
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world.lock();
        world.call()?;
        let id = world.next_file;
        world.next_file += 1;
        world.files.insert(id, Content::default());
        world.rename(Renaming { gone: None, made: Some((path.to_owned(), id)) });
        Ok(Box::new(SimulatedFile { disk: self.clone(), id }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let world = self.world.lock();
        world.reach()?;
        let id = world.find(path)?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), id }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        if world.directories.contains(path) {
            return world.reach();
        }
        world.call()?;
        world.directories.insert(path.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.world.lock();
        world.reach()?;
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.call()?;
        if world.directories.remove(from) {
            // A directory goes with all that is in it, at once and for good.
            world.directories.insert(to.to_owned());
            let inside = world.names.keys().filter(|it| it.starts_with(from)).cloned();
            let inside: Vec<_> = inside.collect();
            for old in inside {
                let rest = old.strip_prefix(from).map_err(io::Error::other)?;
                let id = world.find(&old)?;
                let renaming =
                    Renaming { gone: Some(old.clone()), made: Some((to.join(rest), id)) };
                renaming.carry_out(&mut world.names);
                if world.kept_names.contains_key(&old) {
                    renaming.carry_out(&mut world.kept_names);
                }
            }
            return Ok(());
        }
        let id = world.find(from)?;
        world.rename(Renaming { gone: Some(from.to_owned()), made: Some((to.to_owned(), id)) });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.call()?;
        world.find(path)?;
        world.rename(Renaming { gone: Some(path.to_owned()), made: None });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.call()?;
        if world.forgets_syncs {
            return Ok(());
        }
        let world = &mut *world;
        let (here, elsewhere) =
            std::mem::take(&mut world.renamings).into_iter().partition(|it| it.is_in(dir));
        world.renamings = elsewhere;
        let here: Vec<Renaming> = here;
        for renaming in here {
            renaming.carry_out(&mut world.kept_names);
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let world = self.world.lock();
        world.reach()?;
        Ok(world.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(world.used())))
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    id: u64,
}

impl DiskFile for SimulatedFile {
    fn bytes(&self) -> io::Result<u64> {
        let world = self.disk.world.lock();
        world.reach()?;
        Ok(world.files.get(&self.id).map_or(0, |content| content.now.len() as u64))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let world = self.disk.world.lock();
        world.reach()?;
        let content = world.files.get(&self.id).map_or(&[][..], |content| &content.now);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let read = into.len().min(content.len() - from);
        into[..read].copy_from_slice(&content[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.disk.world.lock();
        let outcome = world.call();
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let used = world.used();
        let room = world.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used));
        let content = world.files.entry(self.id).or_default();
        let more = (at + bytes.len()).saturating_sub(content.now.len()) as u64;
        if outcome.is_ok() && more > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // A write that fails may have happened, in part or whole.
        put(&mut content.now, at, bytes);
        content.writes.push((at, bytes.to_vec()));
        outcome
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world.lock();
        let outcome = world.call();
        if world.is_cut || world.forgets_syncs {
            return outcome;
        }
        let content = world.files.entry(self.id).or_default();
        let writes = std::mem::take(&mut content.writes);
        if outcome.is_ok() {
            for (at, bytes) in writes {
                put(&mut content.kept, at, &bytes);
            }
        }
        outcome
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Cuts a write where the disk's sectors end.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let rest = rest.chunks(SECTOR_BYTES).enumerate();
    std::iter::once((offset, head))
        .chain(rest.map(move |(n, sector)| (offset + first + n * SECTOR_BYTES, sector)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn read(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
        let file = disk.open(Path::new(path)).ok()?;
        let mut bytes = vec![0; usize::try_from(file.bytes().expect("known")).expect("small")];
        file.read_at(0, &mut bytes).expect("readable");
        Some(bytes)
    }

    #[test]
    fn what_was_synced_survives_a_cut_and_the_rest_may_not() {
        let dir = Path::new("/d");
        let (mut lost, mut torn) = (0, 0);
        for seed in 0..64 {
            let disk = SimulatedDisk::default();
            let file = disk.create(&dir.join("a")).expect("made");
            file.write_at(0, &[1; 2048]).expect("written");
            file.sync().expect("synced");
            disk.sync_dir(dir).expect("synced");
            file.write_at(0, &[2; 2048]).expect("written");
            disk.create(&dir.join("b")).expect("made");
            let after = disk.cut(&mut StdRng::seed_from_u64(seed));
            assert!(file.sync().is_err(), "the old disk is off");
            let a = read(&after, "/d/a").expect("its name was synced");
            assert!(a.chunks(512).all(|sector| sector == [1; 512] || sector == [2; 512]));
            torn += usize::from(a.contains(&1) && a.contains(&2));
            lost += usize::from(read(&after, "/d/b").is_none());
        }
        assert!(torn > 32, "{torn}");
        assert!((16..48).contains(&lost), "{lost}");
    }

    #[test]
    fn a_failed_sync_loses_its_bytes_although_the_next_one_succeeds() {
        let disk = SimulatedDisk::default();
        let file = disk.create(Path::new("/d/a")).expect("made");
        disk.sync_dir(Path::new("/d")).expect("synced");
        file.write_at(0, &[1; 100]).expect("written");
        disk.plan(1, Fault::Error);
        assert!(file.sync().is_err());
        file.sync().expect("the system says it is well");
        assert_eq!(read(&disk.image(), "/d/a"), Some(vec![1; 100]), "a kill loses nothing");
        let after = disk.cut(&mut StdRng::seed_from_u64(1));
        assert_eq!(read(&after, "/d/a"), Some(Vec::new()));
    }

    #[test]
    fn a_full_disk_refuses_more_bytes_but_not_others_in_their_place() {
        let disk = SimulatedDisk::default();
        disk.set_capacity(Some(1000));
        let file = disk.create(Path::new("/d/a")).expect("made");
        file.write_at(0, &[0; 1000]).expect("fits");
        assert_eq!(disk.free_bytes(Path::new("/d")).expect("known"), 0);
        let refused = file.write_at(990, &[0; 20]).expect_err("is too much");
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        file.write_at(500, &[1; 500]).expect("needs no more room");
    }
}
