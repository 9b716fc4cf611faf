//! The embedded store: small records that must survive a power cut.
//!
//! The only place that names sled. Its `flush` writes pages but is no fsync, and big values go
//! unsynced to files of their own; the rules here make it sound: [`Store::sync`] follows a flush
//! by an fdatasync of the database file, values are bounded, each carries its own checksum, and
//! a blob file is an error.

mod engine;
mod record;
#[cfg(feature = "sim")]
mod twin;

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::{Engine, Tree};
#[cfg(feature = "sim")]
pub use twin::Twin;

/// Bytes of one value. Pages above a quarter of a segment become blob files, and a page holds
/// many values: 256 KiB makes blobs within 40 inserts, 64 KiB makes none in 400.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// States why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Pages went to files that are never synced: the bound on values was too weak.
    #[error("the store in {dir:?} has written unsynced blob files; acknowledged data is at risk")]
    Blobs {
        /// The store's directory.
        dir: PathBuf,
    },
    /// Another process has it.
    #[error("the store in {dir:?} is in use by another process; stop it first")]
    Busy {
        /// The store's directory.
        dir: PathBuf,
    },
    /// A record is not what was written.
    #[error("a record in table {table:?} is damaged (key {key})")]
    DamagedRecord {
        /// The table.
        table: String,
        /// The key in hex.
        key: String,
    },
    /// The engine refused.
    #[error("the store in {dir:?} cannot be {doing}")]
    Engine {
        /// The store's directory.
        dir: PathBuf,
        /// What was attempted: opened, read, written.
        doing: &'static str,
        /// The engine's words.
        #[source]
        source: sled::Error,
    },
    /// A file operation failed.
    #[error("cannot {doing} {path:?}")]
    File {
        /// What was attempted.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// A sync failed before; what was written since may be lost, so nothing more is.
    #[error(
        "the store in {dir:?} failed to reach the disk earlier; restart after the disk is mended"
    )]
    Poisoned {
        /// The store's directory.
        dir: PathBuf,
    },
    /// A value is larger than the bound.
    #[error("a value of {bytes} bytes is more than the {VALUE_BYTES_MAX} allowed")]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// An open store. Clones share it.
///
/// Every method blocks its thread.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    engine: Engine,
    poisoned: AtomicBool,
}

impl Store {
    /// Opens the store in a directory, which is made when it does not exist.
    ///
    /// # Errors
    /// [`StoreError`] when another process holds it, or it cannot be read.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let engine = Engine::open(dir)?;
        let shared = Shared { dir: dir.to_owned(), engine, poisoned: AtomicBool::new(false) };
        let store = Self { shared: Arc::new(shared) };
        store.refuse_blobs()?;
        Ok(store)
    }

    /// Opens a table, which is made when it does not exist. A handful of tables at most.
    ///
    /// # Errors
    /// [`StoreError`] when the engine refuses.
    pub fn table(&self, name: &str) -> Result<Table, StoreError> {
        let tree = self.shared.engine.tree(name).map_err(|source| self.engine("opened", source))?;
        Ok(Table { store: self.clone(), tree, name: name.into() })
    }

    /// Returns when all that was written before the call will survive a power cut.
    ///
    /// # Errors
    /// [`StoreError`] when the disk refused; the store takes no more writes then.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.refuse_poisoned()?;
        let synced = self.shared.engine.sync(&self.shared.dir).and_then(|()| self.refuse_blobs());
        if synced.is_err() {
            self.shared.poisoned.store(true, Ordering::Release);
        }
        synced
    }

    fn refuse_poisoned(&self) -> Result<(), StoreError> {
        if self.shared.poisoned.load(Ordering::Acquire) {
            return Err(StoreError::Poisoned { dir: self.shared.dir.clone() });
        }
        Ok(())
    }

    fn refuse_blobs(&self) -> Result<(), StoreError> {
        let blobs = self.shared.dir.join("blobs");
        match fs::read_dir(&blobs) {
            Ok(mut files) => match files.next() {
                Some(_) => Err(StoreError::Blobs { dir: self.shared.dir.clone() }),
                None => Ok(()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(file_error("read", &blobs)(error)),
        }
    }

    fn engine(&self, doing: &'static str, source: sled::Error) -> StoreError {
        StoreError::Engine { dir: self.shared.dir.clone(), doing, source }
    }
}

/// An ordered map of bytes.
#[derive(Clone)]
pub struct Table {
    store: Store,
    tree: Tree,
    name: Box<str>,
}

/// A key with its value.
pub type Pair = (Vec<u8>, Vec<u8>);

impl Table {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read, or is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes = self.tree.get(key).map_err(|source| self.store.engine("read", source))?;
        bytes.map(|bytes| self.open(key, &bytes)).transpose()
    }

    /// Writes a value. It is durable after the next [`Store::sync`].
    ///
    /// # Errors
    /// [`StoreError`] when the value is too large, or the store cannot be written.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.store.refuse_poisoned()?;
        let sealed = record::seal(key, value)?;
        self.tree.insert(key, sealed).map_err(|source| self.store.engine("written", source))?;
        Ok(())
    }

    /// Removes a key, if it is there. Durable as [`Table::put`].
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        self.store.refuse_poisoned()?;
        self.tree.remove(key).map_err(|source| self.store.engine("written", source))?;
        Ok(())
    }

    /// Returns the pairs whose keys lie in a range, by key.
    pub fn range<'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = Result<Pair, StoreError>> + use<'a> {
        let keys = (from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec));
        self.tree.range(keys).map(|pair| {
            let (key, bytes) = pair.map_err(|source| self.store.engine("read", source))?;
            Ok((key.clone(), self.open(&key, &bytes)?))
        })
    }

    /// Returns all pairs, by key.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = Result<Pair, StoreError>> + use<'_> {
        self.range(Bound::Unbounded, Bound::Unbounded)
    }

    fn open(&self, key: &[u8], bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        record::open(key, bytes).map(<[u8]>::to_vec).ok_or_else(|| StoreError::DamagedRecord {
            table: self.name.to_string(),
            key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

/// Makes the names in a directory survive a power cut.
///
/// # Errors
/// [`StoreError::File`] when the system refuses.
pub fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let opened = File::open(dir).map_err(file_error("open", dir))?;
    opened.sync_all().map_err(file_error("sync", dir))
}

/// Writes a whole file so that after a power cut there is either the old one or the new one.
///
/// **Units**: `mode` is the file's Unix permission bits.
///
/// # Errors
/// [`StoreError::File`] when the system refuses; the old file stays.
pub fn write_file(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), StoreError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    let unfinished = PathBuf::from(unfinished);
    match fs::remove_file(&unfinished) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file_error("replace", &unfinished)(error)),
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&unfinished)
        .map_err(file_error("create", &unfinished))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(file_error("write", &unfinished))?;
    fs::rename(&unfinished, path).map_err(file_error("replace", path))?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_dir(parent),
        None => sync_dir(Path::new(".")),
    }
}

fn file_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_is_there_after_opening_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("store");
        let store = Store::open(&path).expect("a new store");
        let table = store.table("log").expect("a table");
        for n in 0..500u64 {
            table.put(&n.to_be_bytes(), format!("value {n}").as_bytes()).expect("written");
        }
        table.remove(&7u64.to_be_bytes()).expect("removed");
        store.sync().expect("synced");
        drop((table, store));

        fs::write(path.join("snap.00000000000000AA.generating"), b"").expect("left by a crash");
        let store = Store::open(&path).expect("the same store");
        let table = store.table("log").expect("a table");
        assert_eq!(table.get(&7u64.to_be_bytes()).expect("readable"), None);
        let pairs: Vec<_> = table.all().collect::<Result<_, _>>().expect("readable");
        assert_eq!(pairs.len(), 499);
        assert_eq!(pairs[8], (9u64.to_be_bytes().to_vec(), b"value 9".to_vec()));
        let last = table.all().next_back().expect("a last one").expect("readable");
        assert_eq!(last.0, 499u64.to_be_bytes());
    }

    #[test]
    fn a_store_belongs_to_one_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Store::open(dir.path()).expect("a new store");
        assert!(matches!(Store::open(dir.path()), Err(StoreError::Busy { .. })));
        drop(first);
        Store::open(dir.path()).expect("free again");
    }

    #[test]
    fn large_values_are_refused_and_those_allowed_make_no_blobs() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a new store");
        let table = store.table("log").expect("a table");
        let large = vec![7u8; VALUE_BYTES_MAX + 1];
        assert!(matches!(table.put(b"a", &large), Err(StoreError::ValueTooLarge { .. })));
        for n in 0..400u64 {
            table.put(&n.to_be_bytes(), &large[1..]).expect("written");
        }
        store.sync().expect("no blobs");
    }

    #[test]
    fn a_blob_file_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a new store");
        fs::create_dir_all(dir.path().join("blobs")).expect("a directory");
        fs::write(dir.path().join("blobs/1"), b"x").expect("a blob");
        assert!(matches!(store.sync(), Err(StoreError::Blobs { .. })));
        assert!(matches!(store.sync(), Err(StoreError::Poisoned { .. })));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        write_file(&path, 0o600, b"one").expect("written");
        fs::write(dir.path().join("token.tmp"), b"left by a crash").expect("written");
        write_file(&path, 0o600, b"two").expect("written");
        assert_eq!(fs::read(&path).expect("readable"), b"two");
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
