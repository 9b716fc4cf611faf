//! The binary form of records: replicated entries, snapshots, what agents persist, and the
//! values inside gRPC messages.
//!
//! One byte of version, then MessagePack with named fields. Readers skip fields that they do
//! not know and fill in those that are missing, so that neighbouring releases understand each
//! other.

use std::io;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_core::limits::RECORD_DEPTH_MAX;

/// The version written. A reader takes exactly the versions that it knows.
const VERSION: u8 = 1;

/// States why bytes are not the record expected.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEnvelope {
    /// There was not even a version.
    #[error("the record is empty")]
    Empty,
    /// It was written by a release that this one does not understand.
    #[error("the record has version {0}, this program reads version {VERSION}")]
    Version(u8),
    /// The body does not have the expected form.
    #[error("the record is damaged or of another kind")]
    Body(#[from] rmp_serde::decode::Error),
}

/// Writes a record.
///
/// # Panics
/// Never for types whose maps have text keys, which all records are.
pub fn encode<T: Serialize + ?Sized>(record: &T) -> Bytes {
    let mut bytes = vec![VERSION];
    rmp_serde::encode::write_named(&mut bytes, record)
        .expect("records serialise: their maps have text keys and a Vec takes every write");
    bytes.into()
}

/// Writes a record piece by piece, without holding it in memory.
///
/// # Errors
/// What the writer says.
///
/// # Panics
/// As [`encode`].
pub fn write<T: Serialize + ?Sized>(record: &T, writer: &mut impl io::Write) -> io::Result<()> {
    writer.write_all(&[VERSION])?;
    let mut writer = Keeping { writer, error: None };
    match (rmp_serde::encode::write_named(&mut writer, record), writer.error) {
        (Ok(()), None) => Ok(()),
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(io::Error::other(error)),
    }
}

/// Keeps the writer's own error, which the encoder wraps beyond recognition.
struct Keeping<'a, W> {
    writer: &'a mut W,
    error: Option<io::Error>,
}

impl<W: io::Write> io::Write for Keeping<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.writer.write(bytes) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
            // A writer that is full, which the encoder would tell as a fault of its own.
            Ok(0) if !bytes.is_empty() => {
                self.error = Some(io::ErrorKind::WriteZero.into());
                Err(io::ErrorKind::WriteZero.into())
            }
            outcome => outcome,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Reads a record.
///
/// # Errors
/// [`InvalidEnvelope`] when the version is unknown or the body is not a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, InvalidEnvelope> {
    match bytes {
        [] => Err(InvalidEnvelope::Empty),
        [VERSION, body @ ..] => {
            let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
            deserializer.set_max_depth(RECORD_DEPTH_MAX);
            Ok(T::deserialize(&mut deserializer)?)
        }
        [version, ..] => Err(InvalidEnvelope::Version(*version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use weft_core::config_entry::ConfigEntry;

    #[test]
    fn a_tagged_record_survives_a_round_trip() {
        let json = r#"{"Kind":"service-splitter","Name":"web","Splits":[
            {"Weight":90,"ServiceSubset":"v1"},{"Weight":9.99,"ServiceSubset":"v2"}]}"#;
        let entry: ConfigEntry = serde_json::from_str(json).expect("a splitter");
        assert_eq!(decode::<ConfigEntry>(&encode(&entry)).expect("the same"), entry);
    }

    #[test]
    fn a_record_written_in_pieces_is_the_same_and_the_writers_error_is_kept() {
        let record = vec!["a".repeat(40_000), "b".to_owned()];
        let mut pieces = Vec::new();
        write(&record, &mut pieces).expect("a Vec takes every write");
        assert_eq!(pieces, encode(&record));
        let mut short = [0u8; 100];
        let error = write(&record, &mut &mut short[..]).expect_err("it does not fit");
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn added_fields_are_skipped_and_missing_ones_filled_in() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Old {
            a: u8,
        }
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct New {
            a: u8,
            #[serde(default)]
            b: String,
        }
        let new = New { a: 1, b: "x".into() };
        assert_eq!(decode::<Old>(&encode(&new)).expect("readable"), Old { a: 1 });
        let filled = decode::<New>(&encode(&Old { a: 1 })).expect("readable");
        assert_eq!(filled, New { a: 1, b: String::new() });
    }

    #[test]
    fn a_nest_is_refused_before_it_takes_the_stack_and_what_json_allows_is_kept() {
        let nest = b"\x81\xa1a".repeat(100_000);
        let bytes = [[VERSION].as_slice(), &nest].concat();
        assert!(matches!(decode::<Old>(&bytes), Err(InvalidEnvelope::Body(_))));
        #[derive(Debug, Deserialize)]
        struct Old {
            #[serde(rename = "b", default)]
            _b: u8,
        }
        // The deepest value that the API takes.
        let deep =
            (0..126).fold(serde_json::json!(1), |inner, _| serde_json::json!({ "a": inner }));
        let entry: ConfigEntry = serde_json::from_value(serde_json::json!({
            "Kind": "proxy-defaults", "Name": "global", "Config": deep,
        }))
        .expect("an entry");
        assert_eq!(decode::<ConfigEntry>(&encode(&entry)).expect("the same"), entry);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert!(matches!(decode::<u8>(&[]), Err(InvalidEnvelope::Empty)));
        assert!(matches!(decode::<u8>(&[9, 1]), Err(InvalidEnvelope::Version(9))));
        assert!(matches!(decode::<String>(&[1, 1]), Err(InvalidEnvelope::Body(_))));
    }
}
