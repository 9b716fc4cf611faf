//! Where a mesh keeps its data: a directory that is given, or one that goes with the process.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tracing::warn;
use weft_runtime::entropy;

/// A directory; a temporary one is removed with the value.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    /// Uses a directory, which is made if it is not there, and keeps it.
    pub(super) fn kept(path: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)
            .and_then(|()| path.canonicalize())
            .map(|path| Self { path, is_temporary: false })
            .with_context(|| format!("cannot make the data directory {}", path.display()))
    }

    /// Makes a new directory that only its owner can enter: keys will be in it.
    pub(super) fn temporary(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(format!("weft-dev-{}", &entropy::uuid()[..8]));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make the temporary directory {}", path.display()))?;
        Ok(Self { path, is_temporary: true })
    }

    /// Returns where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_temporary {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            warn!(path = %self.path.display(), %error, "temporary directory not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_goes_and_a_given_one_stays() {
        let parent = tempfile::tempdir().expect("a folder");
        let temporary = Folder::temporary(parent.path()).expect("made");
        let path = temporary.path().to_owned();
        std::fs::write(path.join("file"), "x").expect("written");
        drop(temporary);
        assert!(!path.exists());
        let given = parent.path().join("a/b");
        drop(Folder::kept(&given).expect("made"));
        assert!(given.is_dir());
    }
}
