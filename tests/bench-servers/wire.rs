//! What goes over a client's connection: HTTP/1.1 with JSON, or gRPC as etcd's clients speak it.
//! As little work as possible, so that the figures are those of the servers.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_tests::frames::{FrameHead, HEAD_BYTES, PREFACE, flag, kind, put};

/// One thing to ask, as the peer wants it.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// An HTTP/1.1 request.
    Http { method: &'static str, path: String, body: Vec<u8> },
    /// A unary gRPC call: the method's path, the encoded message.
    Grpc { method: &'static str, message: Vec<u8> },
}

/// A client's connection.
pub(crate) struct Wire {
    stream: TcpStream,
    host: String,
    out: Vec<u8>,
    buffer: Vec<u8>,
    filled: usize,
    /// The next stream of an HTTP/2 connection; `None` for HTTP/1.1.
    next_stream: Option<u32>,
}

impl Wire {
    /// Connects for HTTP/1.1.
    pub(crate) async fn http(door: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(door).await?;
        stream.set_nodelay(true)?;
        let host = door.to_string();
        let buffer = vec![0; 64 << 10];
        Ok(Self { stream, host, out: Vec::new(), buffer, filled: 0, next_stream: None })
    }

    /// Connects for gRPC.
    pub(crate) async fn grpc(door: SocketAddr) -> anyhow::Result<Self> {
        let mut wire = Self::http(door).await?;
        wire.next_stream = Some(1);
        let mut hello = PREFACE.to_vec();
        // All the room that a server can have: INITIAL_WINDOW_SIZE as large as it goes, and the connection's window as well.
        put(&mut hello, (kind::SETTINGS, 0), 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
        put(&mut hello, (kind::WINDOW_UPDATE, 0), 0, &(0x7fff_ffff_u32 - 65_535).to_be_bytes());
        wire.stream.write_all(&hello).await?;
        Ok(wire)
    }

    /// Sends a request and returns the body of its answer.
    ///
    /// # Errors
    /// When the connection ends, or the answer is not a success.
    pub(crate) async fn ask(&mut self, request: &Request) -> anyhow::Result<&[u8]> {
        self.send(request).await?;
        self.answer().await
    }

    /// Sends a request.
    pub(crate) async fn send(&mut self, request: &Request) -> anyhow::Result<()> {
        self.out.clear();
        match request {
            Request::Http { method, path, body } => {
                write_http(&mut self.out, method, path, &self.host, body);
            }
            Request::Grpc { method, message } => {
                let stream = self.next_stream.context("this connection speaks HTTP/1.1")?;
                self.next_stream = Some(stream + 2);
                write_grpc(&mut self.out, stream, method, &self.host, message);
            }
        }
        self.stream.write_all(&self.out).await?;
        Ok(())
    }

    /// Reads the answer to what was sent.
    pub(crate) async fn answer(&mut self) -> anyhow::Result<&[u8]> {
        match self.next_stream {
            None => {
                let body = self.http_answer().await?;
                Ok(body)
            }
            Some(next) => self.grpc_answer(next - 2).await,
        }
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.filled..]).await?;
        ensure!(read > 0, "the connection ended inside an answer");
        self.filled += read;
        Ok(())
    }

    async fn http_answer(&mut self) -> anyhow::Result<&[u8]> {
        self.filled = 0;
        let head = loop {
            self.fill().await?;
            if let Some(end) = head_end(&self.buffer[..self.filled]) {
                break Head::parse(&self.buffer[..end], end)?;
            }
        };
        let body_end = match head.length {
            Some(length) => {
                while self.filled < head.bytes + length {
                    self.fill().await?;
                }
                head.bytes + length
            }
            None => {
                // Chunked: short answers end with the empty chunk.
                while !self.buffer[head.bytes..self.filled].ends_with(b"0\r\n\r\n") {
                    self.fill().await?;
                }
                self.filled
            }
        };
        let body = &self.buffer[head.bytes..body_end];
        ensure!(head.status == 200, "{}: {}", head.status, String::from_utf8_lossy(body).trim());
        Ok(body)
    }

    /// Reads frames until the stream has ended; a call that failed has no message.
    async fn grpc_answer(&mut self, stream: u32) -> anyhow::Result<&[u8]> {
        let mut message = None;
        let mut at = 0;
        loop {
            let Some(FrameHead { length, kind: is, flags, stream: of }) =
                FrameHead::read(&self.buffer[at..self.filled])
            else {
                self.fill().await?;
                continue;
            };
            while self.filled - at < HEAD_BYTES + length {
                self.fill().await?;
            }
            let payload = at + HEAD_BYTES..at + HEAD_BYTES + length;
            at = payload.end;
            match is {
                kind::SETTINGS | kind::PING if flags & flag::ACK == 0 => {
                    let echo =
                        if is == kind::PING { self.buffer[payload].to_vec() } else { Vec::new() };
                    let mut reply = Vec::new();
                    put(&mut reply, (is, flag::ACK), 0, &echo);
                    self.stream.write_all(&reply).await?;
                }
                kind::GOAWAY => bail!("the server ends the connection"),
                kind::RST_STREAM if of == stream => bail!("the call was broken off"),
                kind::DATA if of == stream && length > 5 => {
                    message = Some(payload.start + 5..payload.end)
                }
                _ => {}
            }
            let is_last = of == stream
                && matches!(is, kind::DATA | kind::HEADERS)
                && flags & flag::END_STREAM != 0;
            if is_last {
                let rest = self.filled - at;
                let message = message.context("the call failed")?;
                let body = self.buffer[message].to_vec();
                self.buffer.copy_within(at..at + rest, 0);
                self.filled = rest;
                self.out = body;
                return Ok(&self.out);
            }
        }
    }

    /// Returns a header of the last HTTP/1.1 answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let end = head_end(&self.buffer[..self.filled])?;
        let head = std::str::from_utf8(&self.buffer[..end]).ok()?;
        let fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, it)| it.trim())
    }
}

fn write_http(out: &mut Vec<u8>, method: &str, path: &str, host: &str, body: &[u8]) {
    for part in [method, " ", path, " HTTP/1.1\r\nhost: ", host, "\r\naccept: */*\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if method == "PUT" {
        out.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

fn write_grpc(out: &mut Vec<u8>, stream: u32, method: &str, host: &str, message: &[u8]) {
    // :method POST and :scheme http from the static table; the rest literal, never indexed.
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).expect("short values only"));
        block.extend_from_slice(value.as_bytes());
    };
    literal(&[0x04], method);
    literal(&[0x01], host);
    literal(&[0x0f, 0x10], "application/grpc");
    literal(&[0x00, 2, b't', b'e'], "trailers");
    put(out, (kind::HEADERS, flag::END_HEADERS), stream, &block);
    let mut data = vec![0];
    data.extend_from_slice(&u32::try_from(message.len()).expect("small messages").to_be_bytes());
    data.extend_from_slice(message);
    put(out, (kind::DATA, flag::END_STREAM), stream, &data);
}

/// What matters of an answer's head.
struct Head {
    bytes: usize,
    status: u16,
    /// `None` for chunks.
    length: Option<usize>,
}

impl Head {
    fn parse(head: &[u8], bytes: usize) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(head).context("the head is not text")?;
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.context("no status")?;
        let length = text
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok());
        Ok(Self { bytes, status, length })
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Appends a protobuf field of bytes.
pub(crate) fn proto_bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    let mut length = value.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(value);
}

/// Appends a protobuf field that is true.
pub(crate) fn proto_true(out: &mut Vec<u8>, field: u8) {
    out.extend_from_slice(&[field << 3, 1]);
}
