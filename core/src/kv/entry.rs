//! One entry of the key/value store, and what can be done to it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Keyed, KvKey};
use crate::index::Index;
use crate::session::SessionId;

/// An entry, as the replicated log and snapshots hold it; the API's shape is in `proto`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvEntry {
    /// Its key.
    pub key: KvKey,
    /// Its value; not looked into.
    pub value: Bytes,
    /// A number that clients keep beside the value; not looked into.
    #[serde(default)]
    pub flags: u64,
    /// The session that holds the lock.
    #[serde(default)]
    pub session: Option<SessionId>,
    /// How often the lock was acquired: with the key and the session, a fencing token.
    #[serde(default)]
    pub lock_index: u64,
    /// When it was written first.
    pub create_index: Index,
    /// When it last changed.
    pub modify_index: Index,
}

impl Keyed for Arc<KvEntry> {
    fn key(&self) -> &str {
        self.key.as_str()
    }

    fn index(&self) -> Index {
        self.modify_index
    }
}

/// One write of the key/value store.
///
/// **Source**: Consul: api-docs/kv, api-docs/txn#kv-operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvCommand {
    /// Removes an entry.
    Delete {
        /// Its key.
        key: KvKey,
        /// The modify index that it must have; `None` removes it whatever it is.
        #[serde(default)]
        cas: Option<Index>,
    },
    /// Removes every entry whose key starts with a text.
    DeleteTree {
        /// The text; empty removes everything.
        prefix: KvKey,
    },
    /// Writes an entry.
    Set {
        /// Its key.
        key: KvKey,
        /// Its value.
        value: Bytes,
        /// The number beside the value.
        #[serde(default)]
        flags: u64,
        /// What must hold.
        #[serde(default)]
        condition: KvCondition,
    },
}

/// What must hold for an entry to be written.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvCondition {
    /// The lock is free or this session's, which has it afterwards.
    Acquire(SessionId),
    /// Nothing: locks are advisory.
    #[default]
    Always,
    /// The entry has this modify index; 0 for no entry.
    Cas(Index),
    /// The lock is this session's; it is free afterwards.
    Release(SessionId),
}
