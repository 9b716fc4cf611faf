//! Free ports on loopback for processes that must come back on the same port.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// The search stays below the range from which the kernel picks source ports: a port inside it
/// may be somebody's source port at the moment when a killed process wants it back, and a client
/// that retries it on loopback may end up connected to itself.
const LOWEST: u16 = 22_000;
const SPAN: u16 = 10_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Finds a port that is free for TCP and UDP and that this process has not given out before.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    // Two test programs at once start at different places.
    let start = u16::try_from(process::id() % 97).unwrap_or_default() * 101;
    for _ in 0..SPAN {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = LOWEST + (start.wrapping_add(step)) % SPAN;
        let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free {
            return port;
        }
    }
    panic!("no port from {LOWEST} on is free on 127.0.0.1");
}
