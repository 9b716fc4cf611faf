//! The service: fixed answers, to requests of HTTP and of gRPC alike.

use std::net::TcpListener;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_tests::frames::{PREFACE, block, flag, kind, put};

use super::{STATUS_200, answer_control, read_frames, write_settings};

/// What is answered on each stream, with the stream's number left to fill in.
struct Answers {
    /// To a request without a body: a head and two bytes.
    http: [Vec<u8>; 2],
    /// To a request with one: head, message, trailers.
    grpc: [Vec<u8>; 3],
}

impl Answers {
    fn new() -> Self {
        let head = |more: &[(&[u8], &[u8])]| [vec![STATUS_200], block(more)].concat();
        Self {
            http: [
                head(&[(b"content-type", b"text/plain"), (b"content-length", b"2")]),
                b"ok".to_vec(),
            ],
            grpc: [
                head(&[(b"content-type", b"application/grpc")]),
                b"\0\0\0\0\x02ok".to_vec(),
                block(&[(b"grpc-status", b"0")]),
            ],
        }
    }

    fn write(&self, out: &mut Vec<u8>, stream: u32, has_body: bool) {
        if has_body {
            put(out, (kind::HEADERS, flag::END_HEADERS), stream, &self.grpc[0]);
            put(out, (kind::DATA, 0), stream, &self.grpc[1]);
            put(out, (kind::HEADERS, flag::END_HEADERS | flag::END_STREAM), stream, &self.grpc[2]);
        } else {
            put(out, (kind::HEADERS, flag::END_HEADERS), stream, &self.http[0]);
            put(out, (kind::DATA, flag::END_STREAM), stream, &self.http[1]);
        }
    }
}

/// Serves whoever connects.
pub(crate) async fn accept(listener: TcpListener) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // Whoever went away is no affair of the others.
            let _ = serve(stream).await;
        });
    }
}

/// Serves one connection.
async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let answers = Answers::new();
    let (mut input, mut out) = (Vec::with_capacity(64 * 1024), Vec::new());
    write_settings(&mut out);
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    anyhow::ensure!(preface == *PREFACE, "not HTTP/2");
    loop {
        let (mut ended, mut unread) = (0, 0);
        ended += read_frames(&input, |frame| {
            match frame.head.kind {
                kind::HEADERS | kind::DATA if frame.head.flags & flag::END_STREAM != 0 => {
                    answers.write(&mut out, frame.head.stream, frame.head.kind == kind::DATA);
                }
                _ => answer_control(frame, &mut out),
            }
            unread += if frame.head.kind == kind::DATA { frame.payload.len() } else { 0 };
            Ok(())
        })?;
        input.drain(..ended);
        if unread > 0 {
            let count = u32::try_from(unread)?.to_be_bytes();
            put(&mut out, (kind::WINDOW_UPDATE, 0), 0, &count);
        }
        stream.write_all(&out).await?;
        out.clear();
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}
