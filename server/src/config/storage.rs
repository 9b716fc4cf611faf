//! The `storage` section: when snapshots are written, and how much room is kept free.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_core::limits;
use weft_core::time::Span;
use weft_proto::text::Fault;

/// The `storage` section.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageSection {
    /// A snapshot is written after so many entries; 16,384 when left out.
    pub snapshot_entries: Option<u64>,
    /// For the number of entries alone not more often than this; 30 s when left out.
    pub snapshot_interval: Option<Span>,
    /// A snapshot is written when the log behind the last one has so many bytes, at once; 64 MiB
    /// when left out.
    pub snapshot_log_bytes: Option<u64>,
    /// With fewer bytes free on the disk the server leads no writes; 64 MiB when left out.
    pub disk_reserve_bytes: Option<u64>,
}

/// When snapshots are written, and how much room is kept free; checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// Entries after which a snapshot is written.
    pub snapshot_entries: u64,
    /// The shortest time between two snapshots for the number of entries.
    pub snapshot_interval: Duration,
    /// Bytes of the log after which a snapshot is written.
    pub snapshot_log_bytes: u64,
    /// Bytes free on the disk below which this server leads no writes.
    pub disk_reserve_bytes: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            snapshot_entries: limits::SNAPSHOT_ENTRIES_DEFAULT,
            snapshot_interval: limits::SNAPSHOT_INTERVAL_DEFAULT,
            snapshot_log_bytes: limits::SNAPSHOT_LOG_BYTES_DEFAULT,
            disk_reserve_bytes: limits::DISK_RESERVE_BYTES_DEFAULT,
        }
    }
}

/// Checks the section; what is wrong is added to the faults.
pub(super) fn resolve(section: &StorageSection, faults: &mut Vec<Fault>) -> StorageConfig {
    let default = StorageConfig::default();
    let mut at_least = |field: &str, value: Option<u64>, least: u64, default: u64| {
        let value = value.unwrap_or(default);
        if value < least {
            faults.push(Fault::new(format!("storage.{field}"), format!("write {least} or more")));
        }
        value
    };
    StorageConfig {
        snapshot_entries: at_least(
            "snapshot_entries",
            section.snapshot_entries,
            limits::SNAPSHOT_ENTRIES_MIN,
            default.snapshot_entries,
        ),
        snapshot_interval: section.snapshot_interval.map_or(default.snapshot_interval, |it| it.0),
        snapshot_log_bytes: at_least(
            "snapshot_log_bytes",
            section.snapshot_log_bytes,
            limits::SNAPSHOT_LOG_BYTES_MIN,
            default.snapshot_log_bytes,
        ),
        disk_reserve_bytes: section.disk_reserve_bytes.unwrap_or(default.disk_reserve_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_too_small_are_told_by_name() {
        let section = StorageSection {
            snapshot_entries: Some(1),
            snapshot_log_bytes: Some(5),
            ..StorageSection::default()
        };
        let mut faults = Vec::new();
        resolve(&section, &mut faults);
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["storage.snapshot_entries", "storage.snapshot_log_bytes"]);
        faults.clear();
        assert_eq!(resolve(&StorageSection::default(), &mut faults), StorageConfig::default());
        assert!(faults.is_empty());
    }
}
