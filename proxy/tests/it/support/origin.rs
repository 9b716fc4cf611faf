//! An origin that writes down what it got, and reads it as strictly as anyone could.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_runtime::net;

use super::pair::localhost;
use super::strict::first_request;

/// What arrived: requests in their order, and what is no request.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// Method and target, and the body without its framing.
    pub(crate) requests: Vec<(String, String)>,
    /// What no proxy should send.
    pub(crate) faults: Vec<String>,
}

/// The origin; answers each request with 200.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Origin {
    /// Starts it; each request must come with exactly this `x-forwarded-client-cert`.
    pub(crate) async fn start(certificate: &'static str) -> Self {
        let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, certificate, log.clone()));
            }
        });
        Self { address, seen }
    }

    /// Returns what arrived since the last call.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().expect("not poisoned"))
    }
}

async fn serve(mut stream: net::TcpStream, certificate: &str, log: Arc<Mutex<Seen>>) {
    let mut read = Vec::new();
    loop {
        match first_request(&read, Some(certificate)) {
            Ok(Some((request, length))) => {
                let is_head = request.0.starts_with("HEAD ");
                log.lock().expect("not poisoned").requests.push(request);
                read.drain(..length);
                let body = if is_head { "" } else { "ok" };
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(None) => {}
            Err(fault) => {
                let bytes = String::from_utf8_lossy(&read).into_owned();
                log.lock().expect("not poisoned").faults.push(format!("{fault}: {bytes:?}"));
                return;
            }
        }
        // What breaks off is no request.
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
}
