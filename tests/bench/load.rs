//! The clients: saturation, fixed rate, new mTLS connections, bulk bytes, idle connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::head_end;
use weft_tests::histogram::Histogram;

/// What one measurement saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// How long it took.
    pub(crate) seconds: f64,
    /// Latencies of what was answered.
    pub(crate) latencies: Histogram,
    /// What failed or had another status than 200.
    pub(crate) errors: u64,
    /// Bytes received, where they are what is measured.
    pub(crate) bytes: u64,
}

impl Seen {
    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.total() as f64 / self.seconds
    }
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: web.bench\r\naccept: */*\r\n\r\n").into_bytes()
}

/// Each connection asks again as soon as it has its answer.
pub(crate) fn saturate(
    door: SocketAddr,
    path: &str,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = request(path);
    let start = Instant::now();
    let parts = runtime.block_on(async {
        let loops = (0..connections).map(|_| closed_loop(door, &request, start + time));
        futures::future::join_all(loops).await
    });
    let mut seen = Seen { seconds: start.elapsed().as_secs_f64(), ..Seen::default() };
    for part in parts {
        match part {
            Ok(latencies) => seen.latencies.merge(&latencies),
            Err(_) => seen.errors += 1,
        }
    }
    Ok(seen)
}

async fn closed_loop(door: SocketAddr, request: &[u8], end: Instant) -> anyhow::Result<Histogram> {
    let mut stream = tokio::net::TcpStream::connect(door).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Histogram::default();
    let mut buffer = vec![0_u8; 32 * 1024];
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(latencies);
        }
        stream.write_all(request).await?;
        let mut filled = 0;
        let mut wanted = usize::MAX;
        while filled < wanted {
            let read = stream.read(&mut buffer[filled..]).await?;
            if read == 0 {
                bail!("the connection ended inside an answer");
            }
            filled += read;
            if wanted == usize::MAX {
                wanted = answer_length(&buffer[..filled])?.unwrap_or(usize::MAX);
            }
        }
        latencies.record(start.elapsed());
    }
}

/// The length of head and body once the head is there.
fn answer_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = head_end(bytes) else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("the head is not text")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("not the status 200: {}", head.lines().next().unwrap_or_default());
    }
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .context("no content-length in the answer")?;
    Ok(Some(end + length))
}

/// A fixed number of requests a second, whether or not answers come.
///
/// A connection that is still busy when its next request is due starts the clock of that request
/// at its due time, so that a stall is counted for everyone who would have met it. The
/// generator's own lateness in waking is not counted. Threads are used since their timers are
/// finer than those of an event loop.
pub(crate) fn pace(
    door: SocketAddr,
    path: &str,
    rate: f64,
    connections: u32,
    time: Duration,
) -> anyhow::Result<Seen> {
    let interval = Duration::from_secs_f64(f64::from(connections) / rate);
    let start = Instant::now() + Duration::from_millis(50);
    let threads: Vec<_> = (0..connections)
        .map(|n| {
            let request = request(path);
            let first = start + interval.mul_f64(f64::from(n) / f64::from(connections));
            thread::spawn(move || paced_loop(door, &request, first, interval, start + time))
        })
        .collect();
    let mut seen = Seen { seconds: time.as_secs_f64(), ..Seen::default() };
    for handle in threads {
        match handle.join() {
            Ok(Ok(latencies)) => seen.latencies.merge(&latencies),
            _ => seen.errors += 1,
        }
    }
    Ok(seen)
}

fn paced_loop(
    door: SocketAddr,
    request: &[u8],
    first: Instant,
    interval: Duration,
    end: Instant,
) -> anyhow::Result<Histogram> {
    let mut stream = connect(door)?;
    let mut latencies = Histogram::default();
    let mut buffer = vec![0_u8; 32 * 1024];
    let mut due = first;
    while due < end {
        let now = Instant::now();
        let start = if now < due {
            thread::sleep(due - now);
            Instant::now()
        } else {
            due
        };
        ask(&mut stream, request, &mut buffer)?;
        latencies.record(start.elapsed());
        due += interval;
    }
    Ok(latencies)
}

/// A fixed number of connections a second that ask once and end; as in [`pace`], who is late starts
/// the clock when it was due.
pub(crate) fn short(
    door: SocketAddr,
    lanes: u32,
    rate: f64,
    time: Duration,
) -> anyhow::Result<Seen> {
    let interval = Duration::from_secs_f64(f64::from(lanes) / rate);
    let start = Instant::now() + Duration::from_millis(50);
    let threads: Vec<_> = (0..lanes)
        .map(|n| {
            let mut due = start + interval.mul_f64(f64::from(n) / f64::from(lanes));
            thread::spawn(move || {
                let (mut latencies, mut errors) = (Histogram::default(), 0);
                let request = request("/2");
                let mut buffer = vec![0; 4 * 1024];
                while due < start + time {
                    let wait = due.saturating_duration_since(Instant::now());
                    thread::sleep(wait);
                    let began = if wait.is_zero() { due } else { Instant::now() };
                    match connect(door).and_then(|mut it| ask(&mut it, &request, &mut buffer)) {
                        Ok(()) => latencies.record(began.elapsed()),
                        Err(_) => errors += 1,
                    }
                    due += interval;
                }
                (latencies, errors)
            })
        })
        .collect();
    let mut seen = Seen { seconds: time.as_secs_f64(), ..Seen::default() };
    for handle in threads {
        if let Ok((latencies, errors)) = handle.join() {
            seen.latencies.merge(&latencies);
            seen.errors += errors;
        }
    }
    Ok(seen)
}

fn connect(door: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&door, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

fn ask(stream: &mut (impl Read + Write), request: &[u8], buffer: &mut [u8]) -> anyhow::Result<()> {
    stream.write_all(request)?;
    let (mut filled, mut wanted) = (0, usize::MAX);
    while filled < wanted {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            bail!("the connection ended inside an answer");
        }
        filled += read;
        if wanted == usize::MAX {
            wanted = answer_length(&buffer[..filled])?.unwrap_or(usize::MAX);
        }
    }
    Ok(())
}

/// One request on a connection of its own: is anybody there?
pub(crate) fn probe(door: SocketAddr, path: &str) -> anyhow::Result<()> {
    ask(&mut connect(door)?, &request(path), &mut vec![0; 32 * 1024])
}

/// Opens connections that have asked once and then say nothing; they end when dropped.
pub(crate) fn idle(door: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let request = request("/2");
    let mut buffer = vec![0; 32 * 1024];
    (0..count)
        .map(|_| {
            let mut stream = connect(door)?;
            ask(&mut stream, &request, &mut buffer)?;
            Ok(stream)
        })
        .collect()
}

/// New mTLS connections, each with one request, one after another on each of `lanes`.
pub(crate) fn handshakes(
    door: SocketAddr,
    client: &Arc<rustls::ClientConfig>,
    lanes: usize,
    time: Duration,
) -> anyhow::Result<Seen> {
    let start = Instant::now();
    let threads: Vec<_> = (0..lanes)
        .map(|_| {
            let client = Arc::clone(client);
            thread::spawn(move || {
                let (mut latencies, mut errors) = (Histogram::default(), 0);
                while start.elapsed() < time {
                    let began = Instant::now();
                    match handshake(door, &client) {
                        Ok(()) => latencies.record(began.elapsed()),
                        Err(_) => errors += 1,
                    }
                }
                (latencies, errors)
            })
        })
        .collect();
    let mut seen = Seen::default();
    for handle in threads {
        if let Ok((latencies, errors)) = handle.join() {
            seen.latencies.merge(&latencies);
            seen.errors += errors;
        }
    }
    seen.seconds = start.elapsed().as_secs_f64();
    Ok(seen)
}

/// One mTLS connection with one request.
pub(crate) fn handshake(
    door: SocketAddr,
    client: &Arc<rustls::ClientConfig>,
) -> anyhow::Result<()> {
    let name = ServerName::try_from("web.bench").context("a name")?;
    let connection = rustls::ClientConnection::new(Arc::clone(client), name)?;
    let mut stream = rustls::StreamOwned::new(connection, connect(door)?);
    ask(&mut stream, &request("/2"), &mut vec![0; 4 * 1024])?;
    stream.conn.send_close_notify();
    let _ = stream.conn.complete_io(&mut stream.sock);
    Ok(())
}

/// Reads bytes from one connection for a time.
pub(crate) fn drink(door: SocketAddr, time: Duration) -> anyhow::Result<Seen> {
    let mut stream = connect(door)?;
    let mut buffer = vec![0_u8; 256 * 1024];
    let start = Instant::now();
    let mut seen = Seen::default();
    while start.elapsed() < time {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            bail!("the stream of bytes ended");
        }
        seen.bytes += read as u64;
    }
    seen.seconds = start.elapsed().as_secs_f64();
    Ok(seen)
}
