//! The clients: connections with some streams each, and a new request as soon as one is answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_tests::frames::{PREFACE, block, flag, kind, put};
use weft_tests::histogram::Histogram;

use super::{STATUS_200, answer_control, read_frames, write_settings};
use crate::load::Seen;

/// Connections, and requests at once on each.
const CONNECTIONS: usize = 8;
const STREAMS: u32 = 8;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A unary call with a message of two bytes.
    Grpc,
    /// `GET /2`.
    Http,
}

impl Asked {
    fn head(self) -> Vec<u8> {
        match self {
            Self::Http => block(&[
                (b":method", b"GET"),
                (b":scheme", b"http"),
                (b":path", b"/2"),
                (b":authority", b"web.bench"),
                (b"accept", b"*/*"),
            ]),
            Self::Grpc => block(&[
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", b"/bench.Web/Two"),
                (b":authority", b"web.bench"),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
                (b"grpc-timeout", b"10S"),
                (b"user-agent", b"bench"),
            ]),
        }
    }

    fn write(self, head: &[u8], out: &mut Vec<u8>, stream: u32) {
        match self {
            Self::Http => {
                put(out, (kind::HEADERS, flag::END_HEADERS | flag::END_STREAM), stream, head)
            }
            Self::Grpc => {
                put(out, (kind::HEADERS, flag::END_HEADERS), stream, head);
                put(out, (kind::DATA, flag::END_STREAM), stream, b"\0\0\0\0\x02hi");
            }
        }
    }
}

/// Asks on all streams of all connections, again and again.
pub(crate) fn saturate(door: SocketAddr, asked: Asked, time: Duration) -> anyhow::Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    let parts = runtime.block_on(async {
        let loops = (0..CONNECTIONS).map(|_| ask(door, asked, STREAMS, start + time));
        futures::future::join_all(loops).await
    });
    let mut seen = Seen { seconds: start.elapsed().as_secs_f64(), ..Seen::default() };
    for part in parts {
        match part {
            Ok(latencies) => seen.latencies.merge(&latencies),
            Err(error) => {
                eprintln!("a connection of the load ended: {error:#}");
                seen.errors += 1;
            }
        }
    }
    Ok(seen)
}

/// One request: is anybody there?
pub(crate) fn probe(door: SocketAddr, asked: Asked) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asking = async {
        let limit = Duration::from_secs(5);
        tokio::time::timeout(limit, ask(door, asked, 1, Instant::now())).await?
    };
    ensure!(runtime.block_on(asking)?.total() == 1, "no answer");
    Ok(())
}

/// One connection with so many requests at once, until the time has come and the last is answered.
async fn ask(
    door: SocketAddr,
    asked: Asked,
    streams: u32,
    end: Instant,
) -> anyhow::Result<Histogram> {
    let mut socket = tokio::net::TcpStream::connect(door).await?;
    socket.set_nodelay(true)?;
    let head = asked.head();
    let mut latencies = Histogram::default();
    let (mut input, mut out) = (Vec::with_capacity(64 * 1024), Vec::new());
    out.extend_from_slice(PREFACE);
    write_settings(&mut out);
    // The streams that wait, each with when it began.
    let mut waiting: Vec<(u32, Instant)> = Vec::new();
    let mut next = 1;
    let mut begin = |out: &mut Vec<u8>, waiting: &mut Vec<(u32, Instant)>| {
        asked.write(&head, out, next);
        waiting.push((next, Instant::now()));
        next += 2;
    };
    (0..streams).for_each(|_| begin(&mut out, &mut waiting));
    while !waiting.is_empty() {
        socket.write_all(&out).await?;
        out.clear();
        ensure!(socket.read_buf(&mut input).await? > 0, "the connection ended inside an answer");
        let (mut answered, mut unread) = (Vec::new(), 0);
        let ended = read_frames(&input, |frame| {
            if frame.head.kind == kind::HEADERS && frame.head.flags & flag::END_STREAM == 0 {
                // Perhaps behind a change of the table's size.
                ensure!(
                    frame.payload.iter().take(3).any(|it| *it == STATUS_200),
                    "not the status 200"
                );
            }
            match frame.head.kind {
                kind::HEADERS | kind::DATA if frame.head.flags & flag::END_STREAM != 0 => {
                    answered.push(frame.head.stream)
                }
                kind::RST_STREAM | kind::GOAWAY => {
                    bail!("reset or told to go away: {:?}", frame.payload)
                }
                _ => answer_control(frame, &mut out),
            }
            unread += if frame.head.kind == kind::DATA { frame.payload.len() } else { 0 };
            Ok(())
        })?;
        input.drain(..ended);
        if unread > 0 {
            put(&mut out, (kind::WINDOW_UPDATE, 0), 0, &u32::try_from(unread)?.to_be_bytes());
        }
        let now = Instant::now();
        for stream in answered {
            let Some(at) = waiting.iter().position(|(number, _)| *number == stream) else {
                bail!("an answer to nothing that was asked");
            };
            latencies.record(now - waiting.swap_remove(at).1);
            if now < end {
                begin(&mut out, &mut waiting);
            }
        }
    }
    Ok(latencies)
}
