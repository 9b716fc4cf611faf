//! The key/value store's records: keys, entries, and the tree in which they lie.
//!
//! What may be written, and what a write does to locks, is `state`'s affair.

mod entry;
mod key;
mod tree;

pub use entry::{KvCommand, KvCondition, KvEntry};
pub use key::{InvalidKey, KvKey};
pub use tree::{Keyed, Tree, Under};
