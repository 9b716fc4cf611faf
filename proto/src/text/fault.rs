//! What is wrong with a text that someone wrote, and where in it.

use std::fmt;

/// One thing that is wrong with a request body or a configuration file.
///
/// **Shape**: `path` is empty when the fault is about the whole text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where: a field such as `Connect.SidecarService.Port`, or a file.
    pub path: String,
    /// Why, and what to write instead.
    pub reason: String,
}

impl Fault {
    /// Makes a fault about the place named.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }

    /// Joins several faults into one line, for answers that have room for one.
    pub fn line(faults: &[Self]) -> String {
        let texts: Vec<String> = faults.iter().map(Self::to_string).collect();
        texts.join("; ")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.reason),
            false => write!(f, "{}: {}", self.path, self.reason),
        }
    }
}

impl std::error::Error for Fault {}
