//! Where lines go: a stream of the process, or a file that somebody may move away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_core::config_entry::{AccessLogType, AccessLogs, Collector};
use weft_runtime::clock;

/// How often it is looked whether the file was moved away: who turns logs over waits longer before
/// it packs them.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Who may read a file that is made: its owner and group.
const FILE_MODE: u32 = 0o640;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Never opened here: such lines go to the task that tells collectors.
    Collector(Arc<Collector>),
    File(PathBuf),
    Stderr,
    Stdout,
}

impl Place {
    /// Reads it from the configuration.
    pub(super) fn of(config: &AccessLogs) -> Self {
        if let Some(collector) = config.collector() {
            return Self::Collector(Arc::new(collector));
        }
        match config.kind {
            AccessLogType::File => Self::File(PathBuf::from(&config.path)),
            AccessLogType::Stderr => Self::Stderr,
            AccessLogType::Otlp | AccessLogType::Stdout | AccessLogType::Unset => Self::Stdout,
        }
    }

    /// Returns the collector that is told.
    pub(super) fn collector(&self) -> Option<&Arc<Collector>> {
        match self {
            Self::Collector(collector) => Some(collector),
            Self::File(_) | Self::Stderr | Self::Stdout => None,
        }
    }
}

/// An open place.
#[derive(Debug)]
pub(super) struct Sink {
    place: Place,
    file: Option<File>,
    looked: Instant,
}

impl Sink {
    pub(super) fn new(place: Place) -> Self {
        Self { place, file: None, looked: clock::instant() }
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// Those of the operating system; a file is opened anew the next time.
    pub(super) fn write(&mut self, lines: &str) -> io::Result<()> {
        let path = match &self.place {
            Place::Collector(_) => return Ok(()),
            Place::File(path) => path,
            Place::Stderr => return io::stderr().lock().write_all(lines.as_bytes()),
            Place::Stdout => {
                let mut out = io::stdout().lock();
                return out.write_all(lines.as_bytes()).and_then(|()| out.flush());
            }
        };
        let now = clock::instant();
        if now >= self.looked + LOOK_EVERY {
            self.looked = now;
            self.file.take_if(|file| !is_at(file, path));
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?,
        };
        file.write_all(lines.as_bytes())?;
        self.file = Some(file);
        Ok(())
    }
}

/// Whether a file is the one that its path leads to.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(found)) => (open.dev(), open.ino()) == (found.dev(), found.ino()),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let mut sink = Sink::new(Place::File(path.clone()));
        sink.write("one\n").expect("written");
        std::fs::rename(&path, folder.path().join("access.log.1")).expect("moved");
        sink.looked -= LOOK_EVERY;
        sink.write("two\n").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "two\n");
        let old = std::fs::read_to_string(folder.path().join("access.log.1"));
        assert_eq!(old.expect("read"), "one\n");
        let mode = std::fs::metadata(&path).expect("there").mode() & 0o777;
        assert_eq!(mode & 0o007, 0, "{mode:o}");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("later").join("access.log");
        let mut sink = Sink::new(Place::File(path.clone()));
        assert!(sink.write("one\n").is_err());
        std::fs::create_dir(folder.path().join("later")).expect("made");
        sink.write("two\n").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "two\n");
    }
}
