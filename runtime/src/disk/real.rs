//! The machine's own disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use super::{Disk, DiskFile};

/// The machine's own disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(File::options().read(true).write(true).open(path)?)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        // Every directory above may be new as well; the names lie in their parents.
        let parents = path.ancestors().skip(1);
        for parent in parents.filter(|parent| !parent.as_os_str().is_empty()) {
            self.sync_dir(parent)?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = match fs::read_dir(dir) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for file in files {
            names.push(file?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        // Of what the process may use: a part of the disk may be kept for the administrator.
        let answer = rustix::fs::statvfs(dir)?;
        Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.0.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        // Includes the length and the places of the bytes, without which they cannot be read.
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_listed() {
        let dir = tempfile::tempdir().expect("a directory");
        let below = dir.path().join("a/b");
        let disk = RealDisk;
        assert_eq!(disk.list(&below).expect("none is no error"), Vec::<String>::new());
        disk.create_dir(&below).expect("made");
        let file = disk.create(&below.join("y")).expect("made");
        file.write_at(3, b"abc").expect("written");
        file.sync().expect("synced");
        assert_eq!(file.bytes().expect("known"), 6);
        let mut read = [9u8; 8];
        assert_eq!(file.read_at(2, &mut read).expect("read"), 4);
        assert_eq!(&read[..4], b"\0abc");
        disk.rename(&below.join("y"), &below.join("x")).expect("renamed");
        disk.sync_dir(&below).expect("synced");
        assert_eq!(disk.list(&below).expect("there"), ["x"]);
        assert_eq!(disk.open(&below.join("x")).expect("there").bytes().expect("known"), 6);
        disk.remove(&below.join("x")).expect("removed");
        let gone = disk.open(&below.join("x")).expect_err("it is gone");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert!(disk.free_bytes(dir.path()).expect("known") > 0);
    }
}
