//! The hosts that offer the same service, and which of them to try next.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::net::{self, MemberStream};
use crate::tls::tokio_rustls::TlsConnector;
use crate::tls::tokio_rustls::client::TlsStream;
use crate::tls::{ClientTlsCell, peer_name};

/// The time for one host: far more than two round trips around the world with a handshake,
/// short enough to try the next one while a caller waits.
const HOST_LIMIT: Duration = Duration::from_secs(3);

/// A list of `host:port`; clones share it. Connections go to the last good one, and on along
/// the list when it fails.
#[derive(Debug, Clone)]
pub struct Hosts {
    inner: Arc<Mutex<List>>,
    connected: Arc<watch::Sender<u64>>,
}

#[derive(Debug)]
struct List {
    hosts: Vec<String>,
    next: usize,
}

impl Hosts {
    /// Makes a list; connections fail while it is empty.
    pub fn new(hosts: Vec<String>) -> Self {
        let inner = Arc::new(Mutex::new(List { hosts, next: 0 }));
        Self { inner, connected: Arc::new(watch::Sender::new(0)) }
    }

    /// Replaces the list; open connections stay.
    pub fn replace(&self, hosts: Vec<String>) {
        *self.inner.lock() = List { hosts, next: 0 };
    }

    /// Returns the list.
    pub fn list(&self) -> Vec<String> {
        self.inner.lock().hosts.clone()
    }

    /// Returns the host that the next connection goes to first.
    pub fn current(&self) -> Option<String> {
        let list = self.inner.lock();
        list.hosts.get(list.next).cloned()
    }

    /// Has the next connection go to the host after the current one first.
    pub fn move_on(&self) {
        let mut list = self.inner.lock();
        list.next = (list.next + 1) % list.hosts.len().max(1);
    }

    /// Returns a receiver that changes with each connection made.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connected.subscribe()
    }

    /// Connects to the first host that answers, from the current one on, each tried once.
    pub(super) async fn connect(&self, tls: &ClientTlsCell) -> io::Result<TlsStream<MemberStream>> {
        let mut failure =
            io::Error::new(io::ErrorKind::AddrNotAvailable, "no host is known to connect to");
        let attempts = self.inner.lock().hosts.len();
        for _ in 0..attempts {
            let Some(host) = self.take_next() else { break };
            match tokio::time::timeout(HOST_LIMIT, connect(&host, tls)).await {
                Ok(Ok(stream)) => {
                    self.keep(&host);
                    self.connected.send_modify(|count| *count += 1);
                    return Ok(stream);
                }
                Ok(Err(error)) => {
                    failure = io::Error::new(error.kind(), format!("{host}: {error}"));
                }
                Err(_) => {
                    let text = format!("{host}: no TLS connection in time");
                    failure = io::Error::new(io::ErrorKind::TimedOut, text);
                }
            }
        }
        Err(failure)
    }

    /// Moves on at once, so that an attempt that is given up halfway counts as failed.
    fn take_next(&self) -> Option<String> {
        let mut list = self.inner.lock();
        let host = list.hosts.get(list.next).cloned();
        list.next = (list.next + 1) % list.hosts.len().max(1);
        host
    }

    fn keep(&self, host: &str) {
        let mut list = self.inner.lock();
        if let Some(at) = list.hosts.iter().position(|known| known == host) {
            list.next = at;
        }
    }
}

async fn connect(host: &str, tls: &ClientTlsCell) -> io::Result<TlsStream<MemberStream>> {
    let stream = net::connect_member(host, HOST_LIMIT).await?;
    let name = peer_name(stream.peer_addr()?);
    TlsConnector::from(tls.load()).connect(name, stream).await
}
