//! Events of a watch as gRPC messages that share their value: what thousands of agents are sent
//! alike is in memory once.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::grpc::v1::WatchEvent;
use crate::grpc::v1::watch_event::Answer;

/// Bytes before a message: whether it is compressed, and its length. Spec: gRPC over HTTP/2,
/// Length-Prefixed-Message.
const PREFIX_BYTES: usize = 5;
/// The number of the field `value` in `WatchEvent`.
const VALUE_FIELD: u32 = 3;
/// A shorter value is copied: a frame of its own costs more.
const SHARED_BYTES_MIN: usize = 1024;

/// States that an event is longer than a gRPC message can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of {bytes} bytes is longer than a message can be")]
pub struct TooLong {
    /// The length of the event.
    pub bytes: usize,
}

/// Writes an event as a gRPC message in two parts, of which the second may be empty. It shares
/// its memory with the event.
///
/// # Errors
/// [`TooLong`] for an event of 4 GB.
pub fn watch_event(mut event: WatchEvent) -> Result<[Bytes; 2], TooLong> {
    let value = match event.answer {
        Some(Answer::Value(ref mut value)) if value.len() >= SHARED_BYTES_MIN => {
            let value = std::mem::take(value);
            event.answer = None;
            value
        }
        _ => Bytes::new(),
    };
    let mut before = event.encoded_len();
    if !value.is_empty() {
        before += key_len(VALUE_FIELD) + encoded_len_varint(value.len() as u64);
    }
    let bytes = before + value.len();
    let length = u32::try_from(bytes).map_err(|_| TooLong { bytes })?;
    let mut head = BytesMut::with_capacity(PREFIX_BYTES + before);
    head.put_u8(0);
    head.put_u32(length);
    event.encode(&mut head).expect("a buffer that grows has room");
    if !value.is_empty() {
        encode_key(VALUE_FIELD, WireType::LengthDelimited, &mut head);
        encode_varint(value.len() as u64, &mut head);
    }
    Ok([head.freeze(), value])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::v1::{WatchDelta, WatchUnchanged};

    #[test]
    fn the_parts_together_are_the_message_and_the_second_is_not_copied() {
        let value = Bytes::from(vec![7; SHARED_BYTES_MIN]);
        let delta = WatchDelta { from_index: 3, changed: value.clone(), removed: Bytes::new() };
        for (answer, is_shared) in [
            (None, false),
            (Some(Answer::Value(Bytes::new())), false),
            (Some(Answer::Value(value.slice(1..))), false),
            (Some(Answer::Value(value.clone())), true),
            (Some(Answer::Delta(delta)), false),
            (Some(Answer::Problem("x".repeat(2000))), false),
            (Some(Answer::Unchanged(WatchUnchanged {})), false),
        ] {
            let event = WatchEvent { id: 300, index: 70_000, answer };
            let [head, rest] = watch_event(event.clone()).expect("short enough");
            assert_eq!(!rest.is_empty(), is_shared, "{event:?}");
            if is_shared {
                assert_eq!(rest.as_ptr(), value.as_ptr());
            }
            let message = [&head[..], &rest[..]].concat();
            assert_eq!(message[0], 0);
            let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]);
            assert_eq!(length as usize, message.len() - PREFIX_BYTES);
            assert_eq!(WatchEvent::decode(&message[PREFIX_BYTES..]), Ok(event));
        }
    }
}
