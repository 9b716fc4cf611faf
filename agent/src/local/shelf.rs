//! Records kept as one readable file each, so that a restart finds them again.
//!
//! A file is written whole beside its place, flushed, and renamed into it; a crash leaves the
//! old or the new record, never a part. Nothing here knows what the records mean, and
//! everything here blocks its thread.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of a file name before its ending: half of what file systems allow, which leaves room
/// for endings.
const STEM_BYTES_MAX: usize = 120;
/// Bytes of one record; the API takes none that is larger.
const RECORD_BYTES_MAX: u64 = 4 << 20;

/// A directory with one file for each record, found by key.
#[derive(Debug)]
pub(super) struct Shelf {
    directory: PathBuf,
    stems: BTreeMap<String, String>,
}

/// A file that holds no record; it was set aside under another name.
#[derive(Debug, thiserror::Error)]
#[error("{} holds no readable record and was set aside as {}", path.display(), set_aside.display())]
pub(super) struct DamagedFile {
    /// Where the record was expected.
    pub(super) path: PathBuf,
    /// Where the file is now.
    pub(super) set_aside: PathBuf,
    /// What is wrong with it.
    #[source]
    pub(super) source: io::Error,
}

impl Shelf {
    /// Opens the directory, makes it if it is missing, and reads all records in it.
    ///
    /// **Shape**: records by file name; `key_of` gives the key under which a record was put.
    ///
    /// # Errors
    /// When the directory cannot be made or read; a file that cannot be read is set aside.
    pub(super) fn open<T: DeserializeOwned>(
        directory: PathBuf,
        key_of: impl Fn(&T) -> String,
    ) -> io::Result<(Self, Vec<T>, Vec<DamagedFile>)> {
        fs::create_dir_all(&directory)?;
        let mut shelf = Self { directory, stems: BTreeMap::new() };
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        for path in shelf.files()? {
            match read(&path) {
                Ok(record) => {
                    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                    shelf.stems.insert(key_of(&record), stem.into_owned());
                    records.push(record);
                }
                Err(source) => {
                    let set_aside = path.with_extension("damaged");
                    fs::rename(&path, &set_aside)?;
                    damaged.push(DamagedFile { path, set_aside, source });
                }
            }
        }
        Ok((shelf, records, damaged))
    }

    fn files(&self) -> io::Result<BTreeSet<PathBuf>> {
        let mut files = BTreeSet::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("json") => {
                    files.insert(path);
                }
                // What a crash left behind while writing; the old record still stands.
                Some("tmp") => fs::remove_file(&path)?,
                _ => {}
            }
        }
        Ok(files)
    }

    /// Writes a record in the place of the one with the same key.
    ///
    /// # Errors
    /// When the file cannot be written; the old record stands then.
    pub(super) fn put<T: Serialize>(&mut self, key: &str, record: &T) -> io::Result<()> {
        let stem = match self.stems.get(key) {
            Some(stem) => stem.clone(),
            None => self.free_stem(key),
        };
        write_whole(&self.place(&stem), &serde_json::to_vec_pretty(record)?)?;
        self.stems.insert(key.to_owned(), stem);
        Ok(())
    }

    /// Removes a record; one that is not there counts as removed.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub(super) fn remove(&mut self, key: &str) -> io::Result<()> {
        let Some(stem) = self.stems.get(key) else { return Ok(()) };
        match fs::remove_file(self.place(stem)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        flush_directory(&self.directory)?;
        self.stems.remove(key);
        Ok(())
    }

    fn place(&self, stem: &str) -> PathBuf {
        self.directory.join(format!("{stem}.json"))
    }

    /// Makes a name that people can read from a key that may have any character.
    fn free_stem(&self, key: &str) -> String {
        let readable: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' })
            .take(STEM_BYTES_MAX)
            .collect();
        // Compared without regard to case, as some file systems do.
        let taken: BTreeSet<String> =
            self.stems.values().map(|stem| stem.to_ascii_lowercase()).collect();
        let is_free = |stem: &String| !taken.contains(&stem.to_ascii_lowercase());
        let numbered = (2..).map(|number: u32| format!("{readable}~{number}"));
        std::iter::once(readable.clone()).chain(numbered).find(is_free).unwrap_or(readable)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let size = fs::metadata(path)?.len();
    if size > RECORD_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{size} bytes are too many"),
        ));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Writes a file so that a crash at any moment leaves the old or the new content.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let beside = path.with_extension("tmp");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), flush_directory)
}

/// A rename or removal outlasts a crash only when the directory is flushed.
fn flush_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> (Shelf, Vec<String>, Vec<DamagedFile>) {
        Shelf::open(directory.join("records"), String::clone).expect("a directory to write in")
    }

    #[test]
    fn records_are_found_again_whatever_their_keys_are() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let keys = ["web", "WEB", "a/b", "a:b", "../up", &"x".repeat(250), "ü"];
        let (mut shelf, ..) = open(directory.path());
        for key in keys {
            shelf.put(key, &key).expect("written");
            shelf.put(key, &key).expect("written over");
        }
        shelf.remove("a:b").expect("removed");
        shelf.remove("never there").expect("removed");
        let (_, mut records, damaged) = open(directory.path());
        records.sort();
        let mut expected: Vec<&str> = keys.into_iter().filter(|key| *key != "a:b").collect();
        expected.sort_unstable();
        assert_eq!(records, expected);
        assert!(damaged.is_empty());
        let outside = fs::read_dir(directory.path()).expect("readable").count();
        assert_eq!(outside, 1, "a key led out of the directory");
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_the_others_load() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (mut shelf, ..) = open(directory.path());
        shelf.put("good", &"good").expect("written");
        let bad = directory.path().join("records/bad.json");
        fs::write(&bad, b"{\"half\":").expect("written");
        fs::write(directory.path().join("records/left.tmp"), b"x").expect("written");
        let (_, records, damaged) = open(directory.path());
        assert_eq!(records, ["good"]);
        assert_eq!(damaged.len(), 1);
        assert_eq!(damaged[0].path, bad);
        assert!(damaged[0].set_aside.exists() && !bad.exists());
        let (_, records, damaged) = open(directory.path());
        assert_eq!((records.len(), damaged.len()), (1, 0));
    }
}
