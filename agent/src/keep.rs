//! What the agent keeps of its cluster over restarts: one checked file for each thing.
//!
//! A file says which cluster and which thing it is of, under a checksum. What is damaged is set
//! aside and what is of another cluster removed: neither keeps the agent from starting. What
//! the contents mean is known to `views` and `leaf`. Everything here blocks its thread.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use weft_core::limits;
use weft_proto::envelope::{self, InvalidEnvelope};
use weft_runtime::store::{self, StoreError};
use weft_runtime::tls::fingerprint;

/// Only the agent's user reads what is kept: it tells who is where, and holds keys.
const FILE_MODE: u32 = 0o600;
/// What the files end in.
const ENDING: &str = "kept";
/// What is added to the name of a file that is set aside.
const ASIDE: &str = "damaged";
/// Bytes of a readable file name; longer ones are shortened.
const NAME_BYTES_MAX: usize = 160;
/// Bytes of a number in the file: the checksum, the length of the head.
const NUMBER_BYTES: usize = 4;
/// Bytes of one file: the largest view, and room for its head.
const FILE_BYTES_MAX: u64 = limits::VIEW_BYTES_MAX as u64 + (64 << 10);

/// A folder of kept things of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    folder: PathBuf,
    cluster_id: String,
}

/// What is to become of a file, by what it holds.
pub(crate) enum Verdict {
    /// Its content is in use.
    Taken,
    /// It is of no use any more, for this reason, and is removed.
    Dropped(&'static str),
    /// It does not hold what it should, and is set aside.
    Damaged(Box<dyn std::error::Error>),
}

/// How much a file has to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A crash of the agent; after a power cut it may be the one before, or damaged.
    Process,
    /// A power cut, too.
    Synced,
}

/// States why a thing was not kept or not removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error("{} cannot be written", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a file says of itself.
#[derive(Serialize, Deserialize)]
struct Head {
    cluster_id: String,
    key: String,
}

/// States why a file cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its head is damaged")]
    Head(#[from] InvalidEnvelope),
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error("it is none of this agent's files")]
    Name,
    #[error("it has {0} bytes")]
    TooLarge(u64),
    #[error("it is too short")]
    TooShort,
}

impl Keep {
    /// Opens a folder, which is made when it does not exist, and shows each of its things, key
    /// and content, to `take`.
    ///
    /// Never fails: what cannot be used is logged, and is missing then.
    pub(crate) fn open(
        folder: PathBuf,
        cluster_id: &str,
        mut take: impl FnMut(&str, &[u8]) -> Verdict,
    ) -> Self {
        let keep = Self { folder, cluster_id: cluster_id.to_owned() };
        match keep.files() {
            Ok(files) => files.iter().for_each(|path| keep.load(path, &mut take)),
            Err(error) => {
                let folder = keep.folder.display();
                warn!(%folder, %error, "what was kept cannot be read");
            }
        }
        keep
    }

    /// Keeps a thing in the place of the one with the same key.
    ///
    /// # Errors
    /// [`KeepError`] when it cannot be written; the one before stays then.
    pub(crate) fn put(
        &self,
        key: &str,
        content: &[u8],
        durability: Durability,
    ) -> Result<(), KeepError> {
        let path = self.path(key);
        let bytes = self.seal(key, content);
        match durability {
            Durability::Synced => Ok(store::write_file(&path, FILE_MODE, &bytes)?),
            Durability::Process => {
                write(&path, &bytes).map_err(|source| KeepError::File { path, source })
            }
        }
    }

    /// Keeps a thing no longer; one that is not there counts as removed.
    ///
    /// # Errors
    /// [`KeepError`] when the file cannot be removed.
    pub(crate) fn remove(&self, key: &str) -> Result<(), KeepError> {
        let path = self.path(key);
        remove(&path).map_err(|source| KeepError::File { path, source })
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        fs::create_dir_all(&self.folder)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            match path.extension().and_then(|ending| ending.to_str()) {
                // What a crash left behind while writing.
                Some("tmp") => remove(&path)?,
                Some(ASIDE) => {}
                Some(_) | None => files.push(path),
            }
        }
        files.sort();
        Ok(files)
    }

    fn load(&self, path: &Path, take: &mut impl FnMut(&str, &[u8]) -> Verdict) {
        let shown = path.display();
        let (head, bytes) = match self.read(path) {
            Ok(read) => read,
            Err(unreadable) => return set_aside(path, &unreadable),
        };
        if head.cluster_id != self.cluster_id {
            warn!(file = %shown, cluster = head.cluster_id, "a file of another cluster is removed");
            return removed(path);
        }
        match take(&head.key, &bytes) {
            Verdict::Taken => {}
            Verdict::Dropped(reason) => {
                info!(file = %shown, reason, "what was kept is of no use any more");
                removed(path);
            }
            Verdict::Damaged(reason) => set_aside(path, &*reason),
        }
    }

    fn read(&self, path: &Path) -> Result<(Head, Vec<u8>), Unreadable> {
        let size = fs::metadata(path)?.len();
        if size > FILE_BYTES_MAX {
            return Err(Unreadable::TooLarge(size));
        }
        if path.extension().is_none_or(|ending| ending != ENDING) {
            return Err(Unreadable::Name);
        }
        let bytes = fs::read(path)?;
        let (sum, rest) = number(&bytes).ok_or(Unreadable::TooShort)?;
        if sum != crc32fast::hash(rest) {
            return Err(Unreadable::Checksum);
        }
        let (length, rest) = number(rest).ok_or(Unreadable::TooShort)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (head, content) = rest.split_at_checked(length).ok_or(Unreadable::TooShort)?;
        let head: Head = envelope::decode(head)?;
        // A copy under another name would be written beside, and come back when it is removed.
        if path != self.path(&head.key) {
            return Err(Unreadable::Name);
        }
        Ok((head, content.to_vec()))
    }

    fn seal(&self, key: &str, content: &[u8]) -> Vec<u8> {
        let head = Head { cluster_id: self.cluster_id.clone(), key: key.to_owned() };
        let head = envelope::encode(&head);
        let length = u32::try_from(head.len()).expect("an id and a key are short");
        let mut bytes = vec![0; NUMBER_BYTES];
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(content);
        let (place, sealed) = bytes.split_at_mut(NUMBER_BYTES);
        place.copy_from_slice(&crc32fast::hash(sealed).to_le_bytes());
        bytes
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{}.{ENDING}", name(key)))
    }
}

/// Makes a file name of a key that may have any character: the key itself where that is safe,
/// else what is safe of it and a digest of the whole.
fn name(key: &str) -> String {
    let is_safe =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let is_visible = !key.is_empty() && !key.starts_with('.');
    if is_visible && key.chars().all(is_safe) && key.len() <= NAME_BYTES_MAX {
        return key.to_owned();
    }
    let digest = fingerprint(key.as_bytes());
    let readable: String = key
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if is_safe(c) && c != '.' { c } else { '_' })
        .take(NAME_BYTES_MAX - digest.len())
        .collect();
    // No safe key has the sign between the two.
    format!("{readable}~{digest}")
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER_BYTES>()?;
    Some((u32::from_le_bytes(*number), rest))
}

/// Writes a file as a whole, and leaves it to the system when it reaches the disk.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let beside = path.with_extension(format!("{ENDING}.tmp"));
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    options.open(&beside)?.write_all(bytes)?;
    fs::rename(&beside, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn removed(path: &Path) {
    if let Err(error) = remove(path) {
        warn!(file = %path.display(), %error, "a kept file cannot be removed");
    }
}

fn set_aside(path: &Path, reason: &(dyn std::error::Error + 'static)) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{ASIDE}"));
    let aside = PathBuf::from(aside);
    let file = path.display();
    match fs::rename(path, &aside) {
        Ok(()) => warn!(%file, reason, aside = %aside.display(), "a kept file is set aside"),
        Err(error) => warn!(%file, reason, %error, "a kept file can be neither used nor moved"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    type Things = BTreeMap<String, Vec<u8>>;

    fn open(folder: &Path, cluster_id: &str) -> (Keep, Things) {
        let mut things = Things::new();
        let keep = Keep::open(folder.join("things"), cluster_id, |key, content| {
            things.insert(key.to_owned(), content.to_owned());
            Verdict::Taken
        });
        (keep, things)
    }

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).expect("readable").count()
    }

    #[test]
    fn things_are_found_again_whatever_their_keys_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let (keep, none) = open(folder.path(), "c1");
        assert!(none.is_empty());
        let keys = ["web", "Web", "a/b", "a.b", "../up", ".hidden", &"ü".repeat(100), "a~b", ""];
        for (at, key) in keys.iter().enumerate() {
            let durability = [Durability::Process, Durability::Synced][at % 2];
            keep.put(key, b"old", durability).expect("written");
            keep.put(key, key.as_bytes(), durability).expect("written over");
        }
        keep.put("gone", b"x", Durability::Process).expect("written");
        keep.remove("gone").expect("removed");
        keep.remove("never there").expect("nothing to do");
        let (_, things) = open(folder.path(), "c1");
        let expected: Things =
            keys.iter().map(|key| ((*key).to_owned(), key.as_bytes().to_vec())).collect();
        assert_eq!(things, expected);
        assert_eq!(count(folder.path()), 1, "a key led out of the folder");
        let mode = fs::metadata(folder.path().join("things/web.kept")).expect("there");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn damaged_and_foreign_files_are_set_aside_and_the_others_load() {
        let folder = tempfile::tempdir().expect("a folder");
        let (keep, _) = open(folder.path(), "c1");
        let things = folder.path().join("things");
        for key in ["good", "flipped", "short", "copied"] {
            keep.put(key, b"content", Durability::Process).expect("written");
        }
        let mut bytes = fs::read(things.join("flipped.kept")).expect("there");
        *bytes.last_mut().expect("not empty") ^= 1;
        fs::write(things.join("flipped.kept"), bytes).expect("written");
        fs::write(things.join("short.kept"), b"abc").expect("written");
        fs::rename(things.join("copied.kept"), things.join("other.kept")).expect("moved");
        fs::write(things.join("notes.txt"), b"mine").expect("written");
        fs::write(things.join("left.kept.tmp"), b"by a crash").expect("written");
        let (_, loaded) = open(folder.path(), "c1");
        assert_eq!(loaded.into_keys().collect::<Vec<_>>(), ["good"]);
        for name in ["flipped.kept", "short.kept", "other.kept", "notes.txt"] {
            assert!(!things.join(name).exists(), "{name}");
            assert!(things.join(format!("{name}.damaged")).exists(), "{name}");
        }
        assert_eq!(count(&things), 5, "the unfinished file is gone");
        let (_, loaded) = open(folder.path(), "c1");
        assert_eq!((loaded.len(), count(&things)), (1, 5));
    }

    #[test]
    fn what_is_of_another_cluster_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (keep, _) = open(folder.path(), "c1");
        keep.put("web", b"content", Durability::Process).expect("written");
        let (_, things) = open(folder.path(), "c2");
        assert!(things.is_empty());
        assert_eq!(count(&folder.path().join("things")), 0);
    }

    #[test]
    fn whoever_takes_decides_what_becomes_of_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (keep, _) = open(folder.path(), "c1");
        for key in ["damaged", "dropped", "taken"] {
            keep.put(key, b"", Durability::Process).expect("written");
        }
        let things = folder.path().join("things");
        Keep::open(things.clone(), "c1", |key, _| match key {
            "taken" => Verdict::Taken,
            "dropped" => Verdict::Dropped("it is old"),
            _ => Verdict::Damaged("not of the right kind".into()),
        });
        assert!(things.join("taken.kept").exists());
        assert!(things.join("damaged.kept.damaged").exists());
        assert_eq!(count(&things), 2);
    }

    #[test]
    fn a_folder_that_cannot_be_used_stops_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("things"), b"a file").expect("written");
        let (keep, things) = open(folder.path(), "c1");
        assert!(things.is_empty());
        keep.put("web", b"", Durability::Process).expect_err("there is no folder");
    }
}
