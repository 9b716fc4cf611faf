//! The bodies of `/v1/kv/…`.
//!
//! **Source**: Consul: api-docs/kv.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use weft_core::kv::KvEntry;

/// An entry as it is shown: its value in base64, `null` when it is empty.
#[derive(Debug, Clone, Copy)]
pub struct KvShown<'a> {
    /// The entry.
    pub entry: &'a KvEntry,
    /// Whether the value is shown; a transaction's writes answer without.
    pub with_value: bool,
}

impl<'a> KvShown<'a> {
    /// Shows all of it.
    pub fn whole(entry: &'a KvEntry) -> Self {
        Self { entry, with_value: true }
    }
}

impl Serialize for KvShown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = self.entry;
        let fields = 6 + usize::from(entry.session.is_some());
        let mut shown = serializer.serialize_struct("KvEntry", fields)?;
        shown.serialize_field("LockIndex", &entry.lock_index)?;
        shown.serialize_field("Key", &entry.key)?;
        shown.serialize_field("Flags", &entry.flags)?;
        let value = (self.with_value && !entry.value.is_empty()).then(|| encode(&entry.value));
        shown.serialize_field("Value", &value)?;
        if let Some(session) = entry.session {
            shown.serialize_field("Session", &session)?;
        }
        shown.serialize_field("CreateIndex", &entry.create_index)?;
        shown.serialize_field("ModifyIndex", &entry.modify_index)?;
        shown.end()
    }
}

/// An entry as clients read it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KvPair {
    /// How often its lock was acquired.
    #[serde(default)]
    pub lock_index: u64,
    /// Its key.
    pub key: String,
    /// The number beside the value.
    #[serde(default)]
    pub flags: u64,
    /// Its value, decoded.
    #[serde(default, deserialize_with = "value")]
    pub value: Bytes,
    /// The session that holds the lock; empty for none.
    #[serde(default)]
    pub session: String,
    /// When it was written first.
    #[serde(default)]
    pub create_index: u64,
    /// When it last changed.
    #[serde(default)]
    pub modify_index: u64,
}

/// Writes a value as the API does.
pub fn encode(value: &[u8]) -> String {
    STANDARD.encode(value)
}

/// Reads base64, `null` as nothing.
pub(crate) fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        None => Ok(Bytes::new()),
        Some(text) => match STANDARD.decode(text) {
            Ok(value) => Ok(value.into()),
            Err(error) => Err(de::Error::custom(format!("is not base64: {error}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::index::Index;
    use weft_core::kv::KvKey;

    #[test]
    fn entries_have_the_shape_that_clients_read() {
        let mut entry = KvEntry {
            key: KvKey::parse("a/b").expect("a key"),
            value: Bytes::from_static(b"test"),
            flags: 7,
            session: None,
            lock_index: 0,
            create_index: Index(5),
            modify_index: Index(6),
        };
        let text = serde_json::to_string(&KvShown::whole(&entry)).expect("JSON");
        assert_eq!(
            text,
            r#"{"LockIndex":0,"Key":"a/b","Flags":7,"Value":"dGVzdA==","CreateIndex":5,"ModifyIndex":6}"#
        );
        let pair: KvPair = serde_json::from_str(&text).expect("a pair");
        assert_eq!((&pair.value[..], pair.flags, pair.session.as_str()), (&b"test"[..], 7, ""));
        entry.session = "adf4238a-882b-9ddc-4a9d-5b6758e4159e".parse().ok();
        entry.value = Bytes::new();
        let shown = serde_json::to_value(KvShown::whole(&entry)).expect("JSON");
        assert_eq!(shown["Session"], "adf4238a-882b-9ddc-4a9d-5b6758e4159e");
        assert!(shown["Value"].is_null());
        assert!(serde_json::from_str::<KvPair>(r#"{"Key":"a","Value":"!"}"#).is_err());
    }
}
