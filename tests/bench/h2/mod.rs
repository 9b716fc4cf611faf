//! HTTP/2 with prior knowledge for the bench: a client and a service that know just the frames that
//! these requests take, so that both cost little beside the proxies between them.

mod client;
mod service;

pub(crate) use client::{Asked, probe, saturate};
pub(crate) use service::accept;

/// Bytes before a frame's payload.
const FRAME_HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

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
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

/// Takes whole frames off the beginning of what was read; returns how many bytes they had.
fn read_frames(
    bytes: &[u8],
    mut each: impl FnMut(&Frame<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + FRAME_HEADER_BYTES) {
        let length =
            usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let start = at + FRAME_HEADER_BYTES;
        let Some(payload) = bytes.get(start..start + length) else { break };
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        each(&Frame { kind: header[3], flags: header[4], stream, payload })?;
        at = start + length;
    }
    Ok(at)
}

fn write_frame(out: &mut Vec<u8>, (kind, flags): (u8, u8), stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// What each side says first, the client after its preface.
fn write_settings(out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    for (name, value) in [(HEADER_TABLE_SIZE, 0), (INITIAL_WINDOW_SIZE, WINDOW_BYTES)] {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    write_frame(out, (SETTINGS, 0), 0, &payload);
    write_frame(out, (WINDOW_UPDATE, 0), 0, &WINDOW_BYTES.to_be_bytes());
}

/// Writes fields that no table needs to know.
///
/// **Source**: Spec: RFC 7541 §6.2.2, literals without indexing; all lengths here are below 127.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap_or_default());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Answers what concerns the connection and not a stream.
fn answer_control(frame: &Frame<'_>, out: &mut Vec<u8>) {
    match (frame.kind, frame.flags & ACK) {
        (SETTINGS, 0) => write_frame(out, (SETTINGS, ACK), 0, &[]),
        (PING, 0) => write_frame(out, (PING, ACK), 0, frame.payload),
        _ => {}
    }
}
