//! Registrations as earlier releases kept them: a folder with one file each. Read once; from then on
//! they are in the journal.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Bytes of one record; the API takes none that is larger.
const RECORD_BYTES_MAX: u64 = 4 << 20;

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

/// Reads all records in a folder; none when there is no folder.
///
/// **Shape**: records by file name.
///
/// # Errors
/// When the folder cannot be read; a file that cannot be read is set aside.
pub(super) fn read_folder<T: DeserializeOwned>(
    folder: &Path,
) -> io::Result<(Vec<T>, Vec<DamagedFile>)> {
    let (mut records, mut damaged) = (Vec::new(), Vec::new());
    for path in files(folder)? {
        match read(&path) {
            Ok(record) => records.push(record),
            Err(source) => {
                let set_aside = path.with_extension("damaged");
                fs::rename(&path, &set_aside)?;
                damaged.push(DamagedFile { path, set_aside, source });
            }
        }
    }
    Ok((records, damaged))
}

/// Gives a folder whose records are kept elsewhere now another name, under which nobody reads it.
pub(super) fn set_aside(folder: &Path) -> io::Result<()> {
    match fs::rename(folder, folder.with_extension("moved")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn files(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let mut files = BTreeSet::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            files.insert(path);
        }
    }
    Ok(files)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_set_aside_and_the_others_load() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let folder = directory.path().join("records");
        let read = || read_folder::<String>(&folder).expect("readable");
        assert_eq!(read().0, [""; 0], "no folder");
        fs::create_dir(&folder).expect("made");
        fs::write(folder.join("good.json"), "\"good\"").expect("written");
        fs::write(folder.join("bad.json"), b"{\"half\":").expect("written");
        fs::write(folder.join("left.tmp"), b"x").expect("written");
        let (records, damaged) = read();
        assert_eq!((records.as_slice(), damaged.len()), (["good".to_owned()].as_slice(), 1));
        assert!(damaged[0].set_aside.exists() && !folder.join("bad.json").exists());
        assert_eq!(read().1.len(), 0);
        set_aside(&folder).expect("renamed");
        set_aside(&folder).expect("nothing to rename");
        assert!(!folder.exists());
    }
}
