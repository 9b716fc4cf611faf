//! The key of an entry.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::KV_KEY_BYTES_MAX;

/// A key: any text up to [`KV_KEY_BYTES_MAX`] bytes. Slashes mean nothing to the store; the empty
/// key is the prefix of all.
///
/// **Shape**: ordered byte by byte, which is the order of answers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvKey(Arc<str>);

/// States why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// It is longer than allowed.
    #[error("the key has {length} bytes, more than the {limit} allowed")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

impl KvKey {
    /// Parses the text.
    ///
    /// # Errors
    /// [`InvalidKey`] when it is too long.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        if text.len() > KV_KEY_BYTES_MAX {
            return Err(InvalidKey::TooLong { length: text.len(), limit: KV_KEY_BYTES_MAX });
        }
        Ok(Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for KvKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for KvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for KvKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for KvKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A record that was once accepted is read whatever the limit is now.
        Arc::<str>::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_any_text_up_to_the_limit() {
        assert_eq!(KvKey::parse("").map(|key| key.to_string()).as_deref(), Ok(""));
        assert_eq!(KvKey::parse("a//é b").map(|key| key.to_string()).as_deref(), Ok("a//é b"));
        assert!(KvKey::parse(&"x".repeat(KV_KEY_BYTES_MAX)).is_ok());
        let error = KvKey::parse(&"x".repeat(KV_KEY_BYTES_MAX + 1)).expect_err("too long");
        assert!(error.to_string().contains("more than the 1024 allowed"), "{error}");
    }
}
