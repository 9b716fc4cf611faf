//! Which files are read, and in which order.

use std::path::{Path, PathBuf};

use weft_proto::text::Fault;

/// Files of one folder that are read; more is not a configuration but some other folder.
const FILES_PER_FOLDER_MAX: usize = 256;

/// Returns the files that the paths name: files as they stand, and of each folder those that
/// end in `.hcl` or `.json`, in lexical order.
pub(super) fn find(paths: &[PathBuf], faults: &mut Vec<Fault>) -> Vec<String> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            // What does not exist is told when it is read.
            files.push(shown(path));
            continue;
        }
        match of_folder(path) {
            Ok(found) if found.len() > FILES_PER_FOLDER_MAX => {
                let reason = format!("has more than {FILES_PER_FOLDER_MAX} configuration files");
                faults.push(Fault::new(shown(path), reason));
            }
            Ok(found) => files.extend(found.iter().map(|file| shown(file))),
            Err(error) => {
                faults.push(Fault::new(shown(path), format!("cannot be read: {error}")));
            }
        }
    }
    files
}

fn of_folder(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_config =
            path.extension().is_some_and(|extension| extension == "hcl" || extension == "json");
        if is_config && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
