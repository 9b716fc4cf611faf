//! The `audit` section, which all processes have alike: where it is kept what was asked for and
//! decided.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Fault;

/// Bytes of one file when nothing else is said.
const ROTATE_BYTES_DEFAULT: u64 = 24 << 20;
/// How many full files are kept when nothing else is said.
const ROTATE_FILES_DEFAULT: u64 = 15;
/// The least bytes of a file: the longest record must fit.
const ROTATE_BYTES_MIN: u64 = 64 << 10;
/// The most full files that can be kept; each rotation goes through their names.
const ROTATE_FILES_MAX: u64 = 10_000;

/// The `audit` section, as it is written.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditSection {
    /// The file; nothing is kept when left out. Its directory must be there.
    pub path: Option<PathBuf>,
    /// A file is put aside before it gets larger than this many bytes; at least 64 KiB.
    pub rotate_bytes: Option<u64>,
    /// How many files that were put aside are kept, 1 to 10,000.
    pub rotate_max_files: Option<u64>,
    /// `best-effort`: what cannot be written is lost, and counted. `enforced`: what cannot be
    /// written is not done.
    pub delivery_guarantee: Option<String>,
}

/// The audit log, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// The file.
    pub path: PathBuf,
    /// Bytes of one file.
    pub rotate_bytes: u64,
    /// How many files that were put aside are kept.
    pub rotate_files_max: usize,
    /// Whether that is not done which cannot be written down first.
    pub is_enforced: bool,
}

impl AuditSection {
    /// Checks the section; what is wrong is added to the faults.
    pub fn resolve(&self, faults: &mut Vec<Fault>) -> Option<AuditConfig> {
        // The empty path names no file.
        let path = self.path.clone().filter(|path| !path.as_os_str().is_empty());
        let only_a_path = Self { path: self.path.clone(), ..Self::default() };
        if path.is_none() && *self != only_a_path {
            faults.push(Fault::new("audit.path", "say in which file the audit log is kept"));
        }
        let mut within = |field: &str, value: u64, (least, most): (u64, u64)| {
            if !(least..=most).contains(&value) {
                let reason = format!("{value} is not from {least} to {most}");
                faults.push(Fault::new(field, reason));
            }
            value
        };
        let bytes = self.rotate_bytes.unwrap_or(ROTATE_BYTES_DEFAULT);
        let rotate_bytes = within("audit.rotate_bytes", bytes, (ROTATE_BYTES_MIN, u64::MAX));
        let files = self.rotate_max_files.unwrap_or(ROTATE_FILES_DEFAULT);
        let files = within("audit.rotate_max_files", files, (1, ROTATE_FILES_MAX));
        let is_enforced = match self.delivery_guarantee.as_deref() {
            None | Some("best-effort") => false,
            Some("enforced") => true,
            Some(other) => {
                let reason = format!("{other:?} is not best-effort or enforced");
                faults.push(Fault::new("audit.delivery_guarantee", reason));
                false
            }
        };
        let rotate_files_max = usize::try_from(files).unwrap_or(usize::MAX);
        Some(AuditConfig { path: path?, rotate_bytes, rotate_files_max, is_enforced })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Unknown, decode, parse};

    fn resolve(text: &str) -> (Option<AuditConfig>, Vec<String>) {
        let value = parse("a.hcl", text).expect("it is HCL");
        let section: AuditSection = decode(&value, Unknown::Refuse).expect("it is a section");
        let mut faults = Vec::new();
        let config = section.resolve(&mut faults);
        (config, faults.into_iter().map(|fault| fault.path).collect())
    }

    #[test]
    fn nothing_is_kept_unless_a_file_is_named() {
        assert_eq!(resolve(""), (None, vec![]));
        assert_eq!(resolve("path = \"\""), (None, vec![]));
        let (config, faults) = resolve("path = \"/var/log/a.json\"");
        assert_eq!(faults, Vec::<String>::new());
        let config = config.expect("a file is named");
        assert_eq!((config.rotate_bytes, config.rotate_files_max), (24 << 20, 15));
        assert!(!config.is_enforced);
        let (config, _) = resolve("path = \"a\"\ndelivery_guarantee = \"enforced\"");
        assert!(config.expect("a file is named").is_enforced);
    }

    #[test]
    fn each_fault_names_its_field() {
        for (text, field) in [
            ("rotate_bytes = 1000000", "audit.path"),
            ("path = \"a\"\nrotate_bytes = 100", "audit.rotate_bytes"),
            ("path = \"a\"\nrotate_max_files = 0", "audit.rotate_max_files"),
            ("path = \"a\"\ndelivery_guarantee = \"always\"", "audit.delivery_guarantee"),
        ] {
            assert_eq!(resolve(text).1, [field], "{text}");
        }
    }
}
