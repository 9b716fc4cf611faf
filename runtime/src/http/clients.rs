//! How many connections each client has open, by its IP address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::connection::Connection;
use super::{BoxError, Remote};

/// What a connection beyond the bound is told.
///
/// **Source**: Consul answers 429 with a line of text and closes.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 66\r\nConnection: close\r\n\r\n\
    this client has too many connections open; close some and retry\r\n\n";
/// The time in which it must have taken that.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// The counts. Bounded by the connections that are open.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    max: Option<usize>,
    open: Arc<Open>,
}

/// Open connections by client.
#[derive(Debug, Default)]
struct Open(Mutex<BTreeMap<IpAddr, usize>>);

/// One counted connection; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Client {
    counted: Option<(IpAddr, Arc<Open>)>,
}

impl Clients {
    pub(super) fn new(max: Option<usize>) -> Self {
        Self { max, open: Arc::default() }
    }

    /// Counts a connection; `None` when its client has as many as it may.
    pub(super) fn enter(&self, remote: Remote) -> Option<Client> {
        let (Some(max), Remote::Tcp(address)) = (self.max, remote) else {
            return Some(Client { counted: None });
        };
        let ip = address.ip().to_canonical();
        let mut open = self.open.0.lock();
        let count = open.entry(ip).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Client { counted: Some((ip, self.open.clone())) })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let Some((ip, open)) = self.counted.take() else { return };
        let mut open = open.0.lock();
        if let Some(count) = open.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(&ip);
            }
        }
    }
}

/// Tells a connection beyond the bound why it is closed. Nothing is said where a handshake would
/// come first, as that is what is to be spared.
pub(super) async fn turn_away(
    mut connection: Connection<impl AsyncWrite + Unpin>,
) -> Result<(), BoxError> {
    if connection.tls.is_none() {
        let write = async {
            connection.stream.write_all(TURNED_AWAY).await?;
            connection.stream.shutdown().await
        };
        tokio::time::timeout(WRITE_LIMIT, write).await??;
    }
    Err("its client has too many connections open".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_places_and_gets_them_back() {
        let clients = Clients::new(Some(2));
        let remote = |last| Remote::Tcp(([10, 0, 0, last], 1).into());
        let first = clients.enter(remote(1));
        let second = clients.enter(remote(1));
        assert!(first.is_some() && second.is_some());
        assert!(clients.enter(remote(1)).is_none());
        assert!(clients.enter(remote(2)).is_some());
        assert!(clients.enter(Remote::Unix).is_some());
        drop(first);
        let third = clients.enter(remote(1));
        assert!(third.is_some());
        drop((second, third));
        assert!(clients.open.0.lock().is_empty());
        assert!(Clients::new(None).enter(remote(1)).is_some());
    }

    #[test]
    fn what_is_told_has_the_length_that_it_says() {
        let text = std::str::from_utf8(TURNED_AWAY).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
