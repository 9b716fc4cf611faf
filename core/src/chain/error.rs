//! Why config entries do not make a chain.

use std::fmt;

use crate::config_entry::EntryKey;
use crate::name::ServiceName;

/// States what keeps the chain of one service from being compiled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("chain of {service}: {place}: {reason}")]
pub struct ChainError {
    /// The service called.
    pub service: ServiceName,
    /// The entry at fault, and the field.
    pub place: Place,
    /// Why, and what to write instead.
    pub reason: String,
}

/// A field of a config entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The entry.
    pub entry: EntryKey,
    /// The field, empty for the entry as a whole.
    pub field: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.is_empty() {
            true => self.entry.fmt(f),
            false => write!(f, "{} {}", self.entry, self.field),
        }
    }
}
