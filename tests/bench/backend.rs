//! The service behind the proxies: fixed answers over HTTP/1.1 and HTTP/2, and a firehose of bytes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::h2;

/// Where the services listen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backend {
    /// `GET /2` answers 2 bytes, `GET /10k` 10,240.
    pub(crate) http: SocketAddr,
    /// Answers requests over HTTP/2 with 2 bytes, those with a body as gRPC does.
    pub(crate) http2: SocketAddr,
    /// Sends bytes to whoever connects, until the connection ends.
    pub(crate) firehose: SocketAddr,
}

/// One write of the firehose.
const CHUNK_BYTES: usize = 256 * 1024;

/// Starts all on a thread of their own, which ends with the program.
pub(crate) fn start() -> anyhow::Result<Backend> {
    let (http, http2, firehose) = (bind()?, bind()?, bind()?);
    let backend = Backend {
        http: http.local_addr()?,
        http2: http2.local_addr()?,
        firehose: firehose.local_addr()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("backend".into()).spawn(move || {
        runtime.block_on(async move {
            let served =
                tokio::try_join!(accept_http(http), h2::accept(http2), accept_firehose(firehose));
            if let Err(error) = served {
                eprintln!("the backend ended: {error}");
            }
        });
    })?;
    Ok(backend)
}

fn bind() -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("binding the backend")?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn accept_http(listener: TcpListener) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let small = answer(b"ok");
    let large = answer(&[b'w'; 10_240]);
    loop {
        let (mut stream, _) = listener.accept().await?;
        let (small, large) = (small.clone(), large.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let mut buffer = vec![0_u8; 16 * 1024];
            let mut filled = 0;
            loop {
                let Ok(read) = stream.read(&mut buffer[filled..]).await else { return };
                if read == 0 {
                    return;
                }
                filled += read;
                while let Some(end) = head_end(&buffer[..filled]) {
                    let is_large = buffer[..end].starts_with(b"GET /10k");
                    let reply = if is_large { &large } else { &small };
                    if stream.write_all(reply).await.is_err() {
                        return;
                    }
                    buffer.copy_within(end..filled, 0);
                    filled -= end;
                }
            }
        });
    }
}

fn answer(body: &[u8]) -> bytes::Bytes {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat().into()
}

/// The offset after the blank line that ends a head.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

async fn accept_firehose(listener: TcpListener) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let chunk = vec![b'w'; CHUNK_BYTES];
            while stream.write_all(&chunk).await.is_ok() {}
        });
    }
}
