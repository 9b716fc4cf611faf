//! Free ports on loopback for processes that are started later, and restarted on the same port.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::bail;
use weft_runtime::net::{self, TcpListener, UdpSocket};

/// Where the search starts; ports below are where well-known programs listen.
const LOWEST: u16 = 20_000;

/// Where the kernel takes ports for outgoing connections, where it does not say.
const EPHEMERAL_DEFAULT: u16 = 32_768;

/// Ports that were free when they were taken, held until [`Ports::release`].
///
/// They lie below the range from which the kernel picks source ports. A port from that range,
/// which is what binding to port 0 gives, could be the source of somebody's connection at the
/// moment when a killed process wants to listen on it again; and on loopback a client that
/// retries such a port may be connected to itself.
#[derive(Debug)]
pub(super) struct Ports {
    next: u16,
    end: u16,
    left: u16,
    held: Vec<(TcpListener, UdpSocket)>,
}

impl Ports {
    /// Starts a search at a random place, so that several demos seldom meet.
    pub(super) fn new(seed: u16) -> Self {
        let end = ephemeral_low().unwrap_or(EPHEMERAL_DEFAULT).max(LOWEST + 1_000);
        let span = end - LOWEST;
        Self { next: LOWEST + seed % span, end, left: span, held: Vec::new() }
    }

    /// Takes a port that is free for TCP and UDP.
    pub(super) async fn take(&mut self) -> anyhow::Result<u16> {
        while self.left > 0 {
            let port = self.next;
            self.left -= 1;
            self.next = if port + 1 == self.end { LOWEST } else { port + 1 };
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let Ok(tcp) = net::bind_tcp(addr).await else { continue };
            let Ok(udp) = net::bind_udp(addr).await else { continue };
            self.held.push((tcp, udp));
            return Ok(port);
        }
        bail!("no port between {LOWEST} and {} is free on 127.0.0.1", self.end)
    }

    /// Lets the ports go, for the processes that will listen on them.
    pub(super) fn release(self) {
        drop(self.held);
    }
}

/// Returns the lowest port that the kernel uses for outgoing connections.
fn ephemeral_low() -> Option<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_port_is_given_once_and_skips_what_is_in_use() {
        let mut first = Ports::new(77);
        let mut second = Ports::new(77);
        let a = first.take().await.expect("a port");
        let b = second.take().await.expect("a port");
        let c = first.take().await.expect("a port");
        assert!(a != b && b != c && a != c, "{a} {b} {c}");
        first.release();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, a));
        net::bind_tcp(addr).await.expect("a released port can be bound");
    }
}
