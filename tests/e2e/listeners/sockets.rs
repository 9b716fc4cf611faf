//! On what a process listens, as the kernel tells it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Socket {
    /// A unix socket, by its path.
    File(String),
    /// A port of `tcp` or `udp`.
    Port(SocketAddr, &'static str),
}

/// Returns the sockets on which a process waits for others: TCP in the state LISTEN, UDP that is bound
/// and has no peer, unix sockets that accept.
pub(super) fn listening(pid: u32) -> BTreeSet<Socket> {
    let inodes: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("it runs")
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| {
            let link = link.to_string_lossy().into_owned();
            Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let mut found = BTreeSet::new();
    for (table, kind, state) in
        [("tcp", "tcp", "0A"), ("tcp6", "tcp", "0A"), ("udp", "udp", "07"), ("udp6", "udp", "07")]
    {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_ours = words.get(9).is_some_and(|inode| inodes.contains(*inode));
            if is_ours && words[3] == state && words[2].ends_with(":0000") {
                found.insert(Socket::Port(address(words[1]), kind));
            }
        }
    }
    let text = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_ours = words.get(6).is_some_and(|inode| inodes.contains(*inode));
        if let (true, "00010000", Some(path)) = (is_ours, words[3], words.get(7)) {
            found.insert(Socket::File((*path).to_owned()));
        }
    }
    found
}

/// The kernel writes each four bytes in the machine's order.
fn address(text: &str) -> SocketAddr {
    let (ip, port) = text.split_once(':').expect("an address and a port");
    let words: Vec<u32> = (0..ip.len() / 8)
        .map(|at| u32::from_str_radix(&ip[at * 8..at * 8 + 8], 16).expect("hexadecimal"))
        .collect();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::V4(Ipv4Addr::from(bytes)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).expect("16 bytes"))),
    };
    SocketAddr::new(ip, u16::from_str_radix(port, 16).expect("hexadecimal"))
}

/// Whether other users are kept from a socket's file, or it is one that asks the kernel who calls.
pub(super) fn is_private(path: &str) -> bool {
    let closed = |path: &Path| path.metadata().is_ok_and(|meta| meta.mode() & 0o007 == 0);
    path.ends_with("/workload.sock") || Path::new(path).ancestors().take(2).any(closed)
}
