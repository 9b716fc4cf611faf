//! Who may call whom: intentions of one destination, in the order in which they decide.
//!
//! Enforcement on connections is the proxy's.

use serde::{Deserialize, Serialize};

use crate::config_entry::{IntentionAction, SourceName};

/// All intentions that concern one destination, and what happens when none does.
///
/// **Shape**: by falling precedence, so that the first one that matches decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentionSet {
    /// The intentions.
    pub intentions: Vec<Intention>,
    /// What is done when none matches.
    pub default_action: IntentionAction,
}

/// One source's standing with one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intention {
    /// The caller.
    pub source: SourceName,
    /// The destination as written: the service itself or `*`.
    pub destination: SourceName,
    /// What is done.
    pub action: IntentionAction,
    /// From 9 to 5.
    ///
    /// **Source**: Consul: docs/connect/intentions#precedence-and-match-order.
    pub precedence: u8,
}
