//! A record beside its written form: written once, however often it is kept and sent.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::envelope;

/// A record, and its envelope. Inside another record it is one string of bytes.
///
/// Clones share the envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded<T> {
    record: T,
    bytes: Bytes,
}

impl<T: Serialize> Encoded<T> {
    /// Writes a record.
    pub fn new(record: T) -> Self {
        Self { bytes: envelope::encode(&record), record }
    }
}

impl<T> Encoded<T> {
    /// Returns the record.
    pub fn record(&self) -> &T {
        &self.record
    }

    /// Returns the bytes of the envelope.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl<T> Serialize for Encoded<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Encoded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Reader(PhantomData))
    }
}

struct Reader<T>(PhantomData<T>);

impl<T: DeserializeOwned> Visitor<'_> for Reader<T> {
    type Value = Encoded<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a record")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Encoded<T>, E> {
        let record = envelope::decode(bytes).map_err(E::custom)?;
        // A copy: the record must not hold on to the message that it came in.
        Ok(Encoded { record, bytes: Bytes::copy_from_slice(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_through_another_record_as_it_was_written() {
        let list = vec![Encoded::new("a".repeat(300)), Encoded::new(String::new())];
        let back: Vec<Encoded<String>> =
            envelope::decode(&envelope::encode(&list)).expect("what was written");
        assert_eq!(back, list);
        assert_eq!((back[0].record().len(), back[1].size()), (300, 2));
    }

    #[test]
    fn what_is_no_envelope_of_the_record_is_refused() {
        let numbers = envelope::encode(&vec![Encoded::new(7)]);
        assert!(envelope::decode::<Vec<Encoded<String>>>(&numbers).is_err(), "another kind");
        let bare = envelope::encode(&vec![7]);
        assert!(envelope::decode::<Vec<Encoded<i32>>>(&bare).is_err(), "no bytes");
    }
}
