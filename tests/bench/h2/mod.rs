//! HTTP/2 with prior knowledge for the bench: a client and a service that know just the frames that
//! these requests take, so that both cost little beside the proxies between them.

mod client;
mod service;

use weft_tests::frames::{FrameHead, HEAD_BYTES, flag, kind, put};

pub(crate) use client::{Asked, probe, saturate};
pub(crate) use service::accept;

/// `:status: 200`.
///
/// **Source**: Spec: RFC 7541 appendix A.
const STATUS_200: u8 = 0x88;

/// No table of the other side's fields is kept: each head stands for itself.
const HEADER_TABLE_SIZE: u16 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// The window of each stream and of a connection, so that nobody waits for either.
const WINDOW_BYTES: u32 = 1 << 30;

/// One frame of what was read.
struct Frame<'a> {
    head: FrameHead,
    payload: &'a [u8],
}

/// Takes whole frames off the beginning of what was read; returns how many bytes they had.
fn read_frames(
    bytes: &[u8],
    mut each: impl FnMut(&Frame<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let mut at = 0;
    while let Some(head) = FrameHead::read(&bytes[at..]) {
        let start = at + HEAD_BYTES;
        let Some(payload) = bytes.get(start..start + head.length) else { break };
        each(&Frame { head, payload })?;
        at = start + head.length;
    }
    Ok(at)
}

/// What each side says first, the client after its preface.
fn write_settings(out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    for (name, value) in [(HEADER_TABLE_SIZE, 0), (INITIAL_WINDOW_SIZE, WINDOW_BYTES)] {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    put(out, (kind::SETTINGS, 0), 0, &payload);
    put(out, (kind::WINDOW_UPDATE, 0), 0, &WINDOW_BYTES.to_be_bytes());
}

/// Answers what concerns the connection and not a stream.
fn answer_control(frame: &Frame<'_>, out: &mut Vec<u8>) {
    match (frame.head.kind, frame.head.flags & flag::ACK) {
        (kind::SETTINGS, 0) => put(out, (kind::SETTINGS, flag::ACK), 0, &[]),
        (kind::PING, 0) => put(out, (kind::PING, flag::ACK), 0, frame.payload),
        _ => {}
    }
}
