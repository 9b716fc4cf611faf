//! The demo's work directory: data of the processes and their logs, removed at the end.
//!
//! Its name carries the owner's process id, so that a later run can tell what a crashed one left.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

const PREFIX: &str = "weft-demo-";

/// Present in a directory that its owner wants to keep.
const KEEP: &str = "keep";

/// Only the user who runs the demo may look in: there are keys inside.
const MODE: u32 = 0o700;

/// A directory that goes with its value, unless it is to be kept.
#[derive(Debug)]
pub(super) struct Workdir {
    path: PathBuf,
    keep: bool,
}

impl Workdir {
    /// Makes a fresh directory below `parent`, after removing what crashed runs left there.
    pub(super) fn create(parent: &Path, keep: bool) -> anyhow::Result<Self> {
        remove_leftovers(parent);
        let unique: String = weft_runtime::entropy::uuid().chars().take(8).collect();
        let path = parent.join(format!("{PREFIX}{}-{unique}", std::process::id()));
        let made = DirBuilder::new().mode(MODE).create(&path);
        made.with_context(|| format!("making the work directory {}", path.display()))?;
        let mut made = Self { path, keep: false };
        if keep {
            made.keep()?;
        }
        Ok(made)
    }

    /// Keeps it, against later runs as well; returns its path as text.
    pub(super) fn keep(&mut self) -> anyhow::Result<String> {
        let marker = self.path.join(KEEP);
        fs::write(&marker, "").with_context(|| format!("writing {}", marker.display()))?;
        self.keep = true;
        Ok(self.path.display().to_string())
    }

    /// Returns where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder in it.
    pub(super) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        let made = DirBuilder::new().mode(MODE).recursive(true).create(&path);
        made.with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("weft demo: could not remove {}: {error}", self.path.display());
        }
    }
}

/// Removes directories whose owner is gone. What cannot be read or removed is another user's, or
/// is being removed by another run, and is left alone.
fn remove_leftovers(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(owner) else { continue };
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && !is_alive(owner) && !entry.path().join(KEEP).exists() {
            removed(fs::remove_dir_all(entry.path()), &entry.path());
        }
    }
}

fn removed(result: io::Result<()>, path: &Path) {
    if let Err(error) = result {
        tracing::debug!(path = %path.display(), %error, "leftover stays");
    }
}

/// Returns the process id in a work directory's name.
fn owner(name: &str) -> Option<u32> {
    let (pid, unique) = name.strip_prefix(PREFIX)?.split_once('-')?;
    if unique.is_empty() { None } else { pid.parse().ok() }
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_a_dead_owner_is_removed_and_others_stay() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        // No process has id 4194305: the kernel's highest is 4194304.
        let dead = parent.path().join("weft-demo-4194305-0011aabb");
        let kept = parent.path().join("weft-demo-4194305-kept");
        let alive = parent.path().join(format!("weft-demo-{}-x", std::process::id()));
        let foreign = parent.path().join("weft-demo-notes");
        for path in [&dead, &kept, &alive, &foreign] {
            fs::create_dir(path).expect("a folder");
        }
        fs::write(kept.join(KEEP), "").expect("a marker");
        let own = Workdir::create(parent.path(), false).expect("a work directory");
        assert!(!dead.exists());
        assert!(kept.exists() && alive.exists() && foreign.exists() && own.path().exists());
        let path = own.path().to_owned();
        drop(own);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_to_keep_stays() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let own = Workdir::create(parent.path(), true).expect("a work directory");
        let path = own.path().to_owned();
        drop(own);
        assert!(path.exists());
    }
}
