//! Whether the addresses at which Weft is to listen are free, and else who has them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use weft_runtime::net::{probe_tcp, probe_udp};

use super::finding::Finding;

/// Where a process is to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    /// What listens there.
    pub(crate) what: &'static str,
    /// The setting that changes it.
    pub(crate) setting: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Tries each address. Needs the runtime: sockets are opened and closed again.
pub(crate) fn check(wanted: &[Wanted]) -> Vec<Finding> {
    wanted.iter().map(look_at).collect()
}

fn look_at(wanted: &Wanted) -> Finding {
    let Wanted { address, transport, what, setting } = wanted;
    let port = address.port();
    let name = format!("port {port}/{}", transport.word());
    let tried = match transport {
        Transport::Tcp => probe_tcp(*address),
        Transport::Udp => probe_udp(*address),
    };
    match tried {
        Ok(()) => Finding::good(name, format!("free at {} for {what}", address.ip())),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = holder(Path::new("/proc"), port, *transport);
            let (holder, stop) = match holder {
                Some(holder) => (holder, "stop it"),
                None => ("another process".to_owned(), "stop it (`ss -lntup` names it to root)"),
            };
            let detail = format!("wanted for {what}, and taken by {holder}");
            Finding::bad(name, detail, format!("{stop}, or choose another address: {setting}"))
        }
        Err(error) => {
            let detail = format!("cannot be opened for {what}: {error}");
            Finding::bad(name, detail, format!("choose another address: {setting}"))
        }
    }
}

/// Finds the process with a listening socket on a port, as far as this user may see it.
///
/// **Source**: proc(5), `/proc/net/tcp` and `/proc/[pid]/fd`.
fn holder(proc: &Path, port: u16, transport: Transport) -> Option<String> {
    let tables = [format!("net/{}", transport.word()), format!("net/{}6", transport.word())];
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| std::fs::read_to_string(proc.join(table)).ok())
        .flat_map(|text| inodes(&text, port, transport))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = std::fs::read_dir(proc).ok()?.flatten().map(|entry| entry.path());
    let numbered = processes.filter_map(|process| {
        let number: u32 = process.file_name()?.to_str()?.parse().ok()?;
        Some((number, process))
    });
    let mut owners = numbered.filter(|(_, process)| has_socket(process, &inodes));
    let (number, process) = owners.next()?;
    let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
    Some(format!("{} (process {number})", name.trim()))
}

/// Reads the inodes of sockets that listen on a port, or are bound to it, out of a table of the kernel.
fn inodes(table: &str, port: u16, transport: Transport) -> Vec<String> {
    let is_wanted = |fields: &[&str]| {
        let local = fields.get(1).and_then(|local| local.rsplit_once(':'));
        let is_port = local.is_some_and(|(_, it)| u16::from_str_radix(it, 16) == Ok(port));
        // State 0A is LISTEN; sockets of UDP have none.
        is_port && (transport == Transport::Udp || fields.get(3) == Some(&"0A"))
    };
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        is_wanted(&fields).then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

fn has_socket(process: &Path, sockets: &[String]) -> bool {
    let Ok(open) = std::fs::read_dir(process.join("fd")) else { return false };
    open.flatten().any(|entry| {
        let target = std::fs::read_link(entry.path());
        target
            .is_ok_and(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let wanted =
            Wanted { address, transport: Transport::Tcp, what: "the API", setting: "http.addr" };
        let found = look_at(&wanted);
        let own = format!("(process {})", std::process::id());
        assert!(found.is_bad() && found.detail.contains(&own), "{found:?}");
        assert!(found.fix.contains("http.addr"), "{found:?}");
        drop(listener);
        let found = look_at(&wanted);
        assert!(!found.is_bad(), "{found:?}");
    }

    #[test]
    fn tables_of_the_kernel_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:2134 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n   \
             1: 0100007F:2134 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n";
        assert_eq!(inodes(table, 8500, Transport::Tcp), ["4711"]);
        assert_eq!(inodes(table, 8500, Transport::Udp), ["4711", "4712"]);
        assert!(inodes(table, 8501, Transport::Tcp).is_empty());
    }
}
