//! The hosts that offer the same service, and which of them to try next.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand_core::RngCore;
use tokio::sync::watch;

use crate::entropy;
use crate::net::{self, MemberStream};
use crate::tls::tokio_rustls::TlsConnector;
use crate::tls::tokio_rustls::client::TlsStream;
use crate::tls::{ClientTlsCell, peer_name};

/// The time for one host: far more than two round trips around the world with a handshake,
/// short enough to try the next one while a caller waits.
const HOST_LIMIT: Duration = Duration::from_secs(3);

/// Why one of several hosts could not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{host}: {error}")]
struct AtHost {
    host: String,
    #[source]
    error: io::Error,
}

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

    /// Makes a list of which any host may be the first to be tried, so that many callers with the
    /// same list spread over it.
    pub fn spread(hosts: Vec<String>) -> Self {
        let all = Self::new(hosts);
        {
            let mut list = all.inner.lock();
            list.next = any_of(list.hosts.len());
        }
        all
    }

    /// Replaces the list; open connections stay. The current host stays the first to be tried if
    /// it is in the new list; else it is any.
    pub fn replace(&self, hosts: Vec<String>) {
        let mut list = self.inner.lock();
        let current = list.hosts.get(list.next).cloned();
        let stays = current.and_then(|current| hosts.iter().position(|host| *host == current));
        let next = stays.unwrap_or_else(|| any_of(hosts.len()));
        *list = List { hosts, next };
    }

    /// Returns any host of the list, each as likely as the others; `None` while it is empty.
    pub fn any(&self) -> Option<String> {
        let list = self.inner.lock();
        list.hosts.get(any_of(list.hosts.len())).cloned()
    }

    /// Has the next connection go to this host first, if it is in the list.
    pub fn go_to(&self, host: &str) {
        self.keep(host);
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
                    failure = io::Error::new(error.kind(), AtHost { host, error });
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

/// Draws one of so many places.
fn any_of(count: usize) -> usize {
    let drawn = usize::try_from(entropy::rng().next_u64() >> 33).unwrap_or_default();
    drawn % count.max(1)
}

async fn connect(host: &str, tls: &ClientTlsCell) -> io::Result<TlsStream<MemberStream>> {
    let stream = net::connect_member(host, HOST_LIMIT).await?;
    let name = peer_name(stream.peer_addr()?);
    TlsConnector::from(tls.load()).connect(name, stream).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("s{number}:8300")).collect()
    }

    #[test]
    fn many_callers_spread_over_the_list() {
        let first = || Hosts::spread(names(3)).current().expect("a host");
        let seen: BTreeSet<String> = (0..200).map(|_| first()).collect();
        assert_eq!(seen.len(), 3, "{seen:?}");
        let hosts = Hosts::new(names(3));
        let drawn: BTreeSet<String> = (0..200).filter_map(|_| hosts.any()).collect();
        assert_eq!(drawn.len(), 3, "{drawn:?}");
        assert_eq!(hosts.current().as_deref(), Some("s0:8300"), "drawing moves nobody");
        assert_eq!(Hosts::spread(Vec::new()).any(), None);
    }

    #[test]
    fn a_new_list_moves_nobody_whose_host_is_in_it() {
        let hosts = Hosts::new(names(3));
        hosts.go_to("s2:8300");
        hosts.replace(vec!["s9:8300".to_owned(), "s2:8300".to_owned()]);
        assert_eq!(hosts.current().as_deref(), Some("s2:8300"));
        hosts.replace(names(1));
        assert_eq!(hosts.current().as_deref(), Some("s0:8300"));
    }
}
