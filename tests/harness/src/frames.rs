//! HTTP/2 by hand: frames with any content, for what no client library sends.
//!
//! **Source**: Spec: RFC 9113 §4 and §6; headers as RFC 7541 §6.2.2 literals, so that any byte can
//! stand in them.

use std::io::{self, Read, Write};

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes before a frame's payload.
pub const HEAD_BYTES: usize = 9;

/// The kinds of frames.
pub mod kind {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// A head, or trailers.
    pub const HEADERS: u8 = 1;
    /// A wish about order.
    pub const PRIORITY: u8 = 2;
    /// The end of one stream.
    pub const RST_STREAM: u8 = 3;
    /// What a side can do.
    pub const SETTINGS: u8 = 4;
    /// A question whether the other side lives.
    pub const PING: u8 = 6;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// Leave to send more.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a head.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// Nothing follows on the stream.
    pub const END_STREAM: u8 = 1;
    /// It answers a SETTINGS or a PING.
    pub const ACK: u8 = 1;
    /// The head is whole.
    pub const END_HEADERS: u8 = 4;
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u8,
    /// Of [`flag`].
    pub flags: u8,
    /// The stream; 0 for the connection.
    pub stream: u32,
    /// The rest.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Makes a frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// Returns its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.payload.len());
        put(&mut bytes, (self.kind, self.flags), self.stream, &self.payload);
        bytes
    }
}

/// The beginning of a frame, as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of the payload.
    pub length: usize,
    /// One of [`kind`].
    pub kind: u8,
    /// Of [`flag`].
    pub flags: u8,
    /// The stream; 0 for the connection.
    pub stream: u32,
}

impl FrameHead {
    /// Reads it off the beginning of what was received; `None` while it is not whole.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD_BYTES>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Some(Self { length, kind: head[3], flags: head[4], stream })
    }
}

/// Writes a frame behind what is there; of a longer payload than 2^24 only the length is wrong.
pub fn put(out: &mut Vec<u8>, (kind, flags): (u8, u8), stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Writes a head as literals that are neither indexed nor compressed.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            push_length(text.len(), &mut out);
            out.extend_from_slice(text);
        }
    }
    out
}

/// **Source**: Spec: RFC 7541 §5.1 with a prefix of seven bits.
fn push_length(length: usize, out: &mut Vec<u8>) {
    if length < 127 {
        out.push(length as u8);
        return;
    }
    out.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        out.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// A connection as its client.
#[derive(Debug)]
pub struct Frames<S> {
    stream: S,
    next: u32,
}

impl<S: Read + Write> Frames<S> {
    /// Opens a connection that lets the other side send as much as it likes.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub fn open(stream: S) -> io::Result<Self> {
        let mut frames = Self { stream, next: 1 };
        frames.write(PREFACE)?;
        frames.send(&Frame::new(kind::SETTINGS, 0, 0, []))?;
        let most = (i32::MAX as u32 - 65_535).to_be_bytes();
        frames.send(&Frame::new(kind::WINDOW_UPDATE, 0, 0, most))?;
        Ok(frames)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the other side takes no more.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the other side takes no more.
    pub fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.write(&frame.bytes())
    }

    /// Returns the number for a new stream.
    pub fn stream_id(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Reads the next frame; questions whether we live are answered.
    ///
    /// # Errors
    /// When the connection has ended or nothing came within its time limit.
    pub fn receive(&mut self) -> io::Result<Frame> {
        let mut head = [0; HEAD_BYTES];
        self.stream.read_exact(&mut head)?;
        let Some(FrameHead { length, kind, flags, stream }) = FrameHead::read(&head) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        let frame = Frame { kind, flags, stream, payload };
        let is_asked = matches!(kind, self::kind::SETTINGS | self::kind::PING);
        if is_asked && frame.flags & flag::ACK == 0 {
            let payload = if kind == self::kind::PING { frame.payload.clone() } else { Vec::new() };
            self.send(&Frame::new(kind, flag::ACK, 0, payload))?;
        }
        Ok(frame)
    }

    /// Waits until a stream has ended. Returns whether the connection can be used further.
    pub fn wait_end(&mut self, stream: u32) -> bool {
        loop {
            let Ok(frame) = self.receive() else { return false };
            let is_end = match frame.kind {
                kind::GOAWAY => return false,
                kind::RST_STREAM => true,
                kind::DATA | kind::HEADERS => frame.flags & flag::END_STREAM != 0,
                _ => false,
            };
            if is_end && frame.stream == stream {
                return true;
            }
        }
    }

    /// Sends a request and waits for its end, as [`Self::wait_end`].
    pub fn ask(&mut self, fields: &[(&[u8], &[u8])], body: &[u8]) -> bool {
        let stream = self.stream_id();
        let ends = if body.is_empty() { flag::END_STREAM } else { 0 };
        let head = Frame::new(kind::HEADERS, flag::END_HEADERS | ends, stream, block(fields));
        if self.send(&head).is_err() {
            return false;
        }
        if !body.is_empty() {
            let data = Frame::new(kind::DATA, flag::END_STREAM, stream, body);
            if self.send(&data).is_err() {
                return false;
            }
        }
        self.wait_end(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_has_its_length_in_pieces() {
        let value = [b'v'; 300];
        let block = block(&[(b"n", &value)]);
        // 300 = 127 + 128 + 45.
        assert_eq!(block[..5], [0, 1, b'n', 127, 173]);
        assert_eq!((block[5], block.len()), (1, 306));
        let frame = Frame::new(kind::DATA, flag::END_STREAM, 3, *b"ab");
        assert_eq!(frame.bytes(), [0, 0, 2, 0, 1, 0, 0, 0, 3, b'a', b'b']);
    }
}
