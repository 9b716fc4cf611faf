//! What holds the tables: sled, or in a simulation its twin in memory.

use std::fs::{self, File};
use std::ops::Bound;
use std::path::Path;
use std::time::Duration;

use super::{Pair, StoreError, file_error, sync_dir};

/// Bytes of a segment: pages of up to 2 MiB stay in the synced file. Fixed at creation.
const SEGMENT_BYTES: usize = 8 << 20;

/// How often, and after what pause, the engine's lock is tried again: two seconds in all, as an
/// engine ends within milliseconds even on a busy machine.
const ENGINE_END_TRIES: usize = 200;
const ENGINE_END_PAUSE: Duration = Duration::from_millis(10);

/// Bytes of sled's page cache: what a server's log tail and metadata need.
const CACHE_BYTES: u64 = 64 << 20;

/// The engine of one store.
pub(super) enum Engine {
    Sled {
        db: sled::Db,
        /// Opened apart from sled's own descriptor, for fdatasync.
        file: File,
        /// Held for as long as the store is open.
        _lock: File,
    },
    #[cfg(feature = "sim")]
    Twin(super::Twin),
}

/// One table.
#[derive(Clone)]
pub(super) enum Tree {
    Sled(sled::Tree),
    #[cfg(feature = "sim")]
    Twin(super::Twin, Box<str>),
}

/// Pairs by key, or why there are none.
pub(super) type Pairs<'a> = Box<dyn DoubleEndedIterator<Item = Result<Pair, sled::Error>> + 'a>;

impl Engine {
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        #[cfg(feature = "sim")]
        if let Some(world) = crate::world::current() {
            return Ok(Self::Twin(world.twin(dir)));
        }
        let is_new = !dir.join("db").exists();
        fs::create_dir_all(dir).map_err(file_error("create", dir))?;
        let lock = lock(dir)?;
        remove_unfinished_snapshots(dir)?;
        let db = open_sled(dir)?;
        let path = dir.join("db");
        let file = File::open(&path).map_err(file_error("open", &path))?;
        if is_new {
            file.sync_all().map_err(file_error("sync", &path))?;
            sync_dir(dir)?;
            if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                sync_dir(parent)?;
            }
        }
        Ok(Self::Sled { db, file, _lock: lock })
    }

    pub(super) fn tree(&self, name: &str) -> Result<Tree, sled::Error> {
        match self {
            Self::Sled { db, .. } => db.open_tree(name).map(Tree::Sled),
            #[cfg(feature = "sim")]
            Self::Twin(twin) => Ok(Tree::Twin(twin.clone(), name.into())),
        }
    }

    /// Returns when all that was written before is on disk.
    pub(super) fn sync(&self, dir: &Path) -> Result<(), StoreError> {
        match self {
            Self::Sled { db, file, .. } => {
                db.flush().map_err(|source| StoreError::Engine {
                    dir: dir.to_owned(),
                    doing: "written",
                    source,
                })?;
                file.sync_data().map_err(file_error("sync", &dir.join("db")))
            }
            #[cfg(feature = "sim")]
            Self::Twin(twin) => {
                twin.sync();
                Ok(())
            }
        }
    }
}

impl Tree {
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, sled::Error> {
        match self {
            Self::Sled(tree) => Ok(tree.get(key)?.map(|bytes| bytes.to_vec())),
            #[cfg(feature = "sim")]
            Self::Twin(twin, table) => Ok(twin.get(table, key)),
        }
    }

    pub(super) fn insert(&self, key: &[u8], value: Vec<u8>) -> Result<(), sled::Error> {
        match self {
            Self::Sled(tree) => tree.insert(key, value).map(drop),
            #[cfg(feature = "sim")]
            Self::Twin(twin, table) => {
                twin.set(table, key, Some(value));
                Ok(())
            }
        }
    }

    pub(super) fn remove(&self, key: &[u8]) -> Result<(), sled::Error> {
        match self {
            Self::Sled(tree) => tree.remove(key).map(drop),
            #[cfg(feature = "sim")]
            Self::Twin(twin, table) => {
                twin.set(table, key, None);
                Ok(())
            }
        }
    }

    pub(super) fn range(&self, keys: (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Pairs<'_> {
        match self {
            Self::Sled(tree) => Box::new(
                tree.range::<Vec<u8>, _>(keys)
                    .map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec()))),
            ),
            #[cfg(feature = "sim")]
            Self::Twin(twin, table) => Box::new(twin.range(table, keys).into_iter().map(Ok)),
        }
    }
}

/// Opens the engine, whose own lock an earlier store of this process may hold a little longer:
/// the engine ends on threads of its own, after the store that used it is gone. Our lock, taken
/// before, says that nobody else uses the directory.
fn open_sled(dir: &Path) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None);
    let mut result = config.open();
    for _ in 0..ENGINE_END_TRIES {
        match &result {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::sleep(ENGINE_END_PAUSE);
                result = config.open();
            }
            Ok(_) | Err(_) => break,
        }
    }
    result.map_err(|source| StoreError::Engine { dir: dir.to_owned(), doing: "opened", source })
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(file_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Busy { dir: dir.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(file_error("lock", &path)(source)),
    }
}

/// A `snap.*.generating` left by a crash has made sled unable to open (sled #1166).
fn remove_unfinished_snapshots(dir: &Path) -> Result<(), StoreError> {
    for file in fs::read_dir(dir).map_err(file_error("read", dir))? {
        let path = file.map_err(file_error("read", dir))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if name.is_some_and(|name| name.starts_with("snap.") && name.ends_with(".generating")) {
            fs::remove_file(&path).map_err(file_error("remove", &path))?;
        }
    }
    Ok(())
}
