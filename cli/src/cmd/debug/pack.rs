//! One archive of many small files: `tar`, compressed. Only what `weft debug` needs of it.
//!
//! **Source**: Spec: POSIX.1-2017, pax, "ustar Interchange Format".

use anyhow::{Context, bail};
use bytes::Bytes;

/// Bytes of a block.
const BLOCK: usize = 512;
/// Bytes of a name that needs no second field.
const NAME_BYTES_MAX: usize = 100;

/// An archive in the making, in memory.
#[derive(Debug)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// The folder that everything is in.
    folder: String,
    /// Seconds since the Unix epoch, of every file.
    time: u64,
    left_out: usize,
}

impl Archive {
    /// Begins an archive that takes no more than so many bytes before it is compressed.
    pub(super) fn new(folder: String, time: u64, bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, folder, time, left_out: 0 }
    }

    /// Adds a file, or counts it as left out when the archive is full.
    ///
    /// # Errors
    /// When its name is too long.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let padded = content.len().div_ceil(BLOCK) * BLOCK;
        if self.bytes.len() + BLOCK + padded > self.bytes_max {
            self.left_out += 1;
            return Ok(());
        }
        self.bytes.extend(self.header(name, content.len())?);
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len() + padded - content.len(), 0);
        Ok(())
    }

    /// Returns how many files found no room.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Ends the archive and compresses it.
    ///
    /// # Errors
    /// When it cannot be compressed.
    pub(super) fn finish(mut self) -> anyhow::Result<Bytes> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        weft_runtime::http::gzip(&self.bytes).context("cannot compress the archive")
    }

    fn header(&self, name: &str, length: usize) -> anyhow::Result<[u8; BLOCK]> {
        let path = format!("{}/{name}", self.folder);
        if path.len() >= NAME_BYTES_MAX {
            bail!("the name {path:?} is too long for an archive; choose a shorter --output");
        }
        let mut block = [0; BLOCK];
        let mut put =
            |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, &path);
        // Mode, owner and group: readable by whoever unpacks it.
        put(100, "0000600\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{length:011o}\0"));
        put(136, &format!("{:011o}\0", self.time));
        // The sum is taken with blanks in its own place.
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\0");
        put(263, "00");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_systems_tar_unpacks_what_was_packed() {
        let mut archive = Archive::new("debug".to_owned(), 1_700_000_000, 16 << 10);
        archive.add("a.json", b"{}").expect("added");
        archive.add("0001/b.txt", &[b'x'; 1000]).expect("added");
        archive.add("huge", &[0; 16 << 10]).expect("left out");
        assert_eq!(archive.left_out(), 1);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("debug.tar.gz");
        std::fs::write(&file, archive.finish().expect("packed")).expect("written");
        let tar = Command::new("tar").arg("xzf").arg(&file).arg("-C").arg(folder.path()).status();
        assert!(tar.expect("tar runs").success());
        let read = |name: &str| std::fs::read(folder.path().join(name)).expect("a file");
        assert_eq!(read("debug/a.json"), b"{}");
        assert_eq!(read("debug/0001/b.txt").len(), 1000);
    }
}
