//! Which addresses the demo's processes listen on, as the kernel tells it, not as they do.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The kernel's tables of sockets, and the state in which each kind waits for callers: `0A` is
/// LISTEN for TCP; a UDP socket that is not connected is `07`.
const TABLES: [(&str, &str); 4] = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];

/// Returns where the given processes listen, TCP and UDP.
pub(super) fn of(pids: &[u32]) -> BTreeSet<SocketAddr> {
    let inodes: BTreeSet<u64> = pids.iter().flat_map(|pid| sockets_of(*pid)).collect();
    let mut found = BTreeSet::new();
    for (table, state) in TABLES {
        let text = fs::read_to_string(Path::new("/proc/net").join(table)).unwrap_or_default();
        let lines = text.lines().skip(1).filter_map(|line| parse(line, state));
        found.extend(lines.filter(|(_, inode)| inodes.contains(inode)).map(|(addr, _)| addr));
    }
    found
}

/// Returns the inodes of a process's sockets; none for one that is gone.
fn sockets_of(pid: u32) -> Vec<u64> {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    links
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            inode.parse().ok()
        })
        .collect()
}

/// Reads address and inode out of a table's line, if the socket is in the given state.
fn parse(line: &str, state: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != state {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((SocketAddr::from((ip(address)?, port)), fields.get(9)?.parse().ok()?))
}

/// Reads an address: words of 32 bits in the machine's own byte order.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut octets = [0; 16];
            for (number, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(number * 8)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use weft_runtime::net;

    use super::*;

    #[tokio::test]
    async fn a_listener_of_a_process_is_found() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let tcp = net::bind_tcp(any).await.expect("a port");
        let udp = net::bind_udp(any).await.expect("a port");
        let found = of(&[std::process::id()]);
        assert!(found.contains(&tcp.local_addr().expect("an address")), "{found:?}");
        assert!(found.contains(&udp.local_addr().expect("an address")), "{found:?}");
    }

    #[test]
    fn a_wildcard_is_seen_as_one() {
        assert_eq!(ip("00000000"), Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let any = "0".repeat(32);
        assert_eq!(ip(&any), Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        assert_eq!(ip("12"), None);
    }

    #[test]
    fn a_process_that_is_gone_listens_nowhere() {
        assert_eq!(of(&[4_194_305]), BTreeSet::new());
    }
}
