//! The doors of a host as another host meets them: from a network namespace of its own, by a client
//! that nobody here wrote.

use std::net::Ipv4Addr;
use std::process::Command;

use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::{eventually, tools};

use super::{EXPIRY_LIMIT, Estate, Face, judge, public_door};
use crate::identity::spiffe_id;
use crate::listeners::sockets::{self, Socket};
use crate::peers::Papers;

/// Asks over TLS and prints the answer; ends with 3 when nobody listens there for us. It verifies
/// nobody: what is asked is who is let in.
const KNOCK: &str = r#"
import socket, ssl, sys
address, port, path, papers = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
try:
    plain = socket.create_connection((address, port), 5)
except OSError:
    sys.exit(3)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
if papers:
    context.load_cert_chain(*papers)
try:
    plain.settimeout(10)
    wire = context.wrap_socket(plain)
    wire.sendall(f"GET {path} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n".encode())
    while part := wire.recv(65536):
        sys.stdout.buffer.write(part)
except OSError:
    pass
"#;

/// A namespace that sees this host over one link.
struct Peer {
    name: String,
    link: String,
    host: Ipv4Addr,
}

impl Peer {
    /// Makes it, or says what forbids that.
    fn new() -> Result<Self, String> {
        let number = std::process::id() % 16_000;
        // Of the network that is kept for measurements (RFC 2544), four addresses each.
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number * 4;
        let (host, own) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2));
        let peer = Self { name: format!("weft-peer-{number}"), link: format!("wp{number}"), host };
        let (name, link) = (peer.name.as_str(), peer.link.as_str());
        for line in [
            format!("netns add {name}"),
            format!("link add {link} type veth peer name {link} netns {name}"),
            format!("address add {host}/30 dev {link}"),
            format!("link set {link} up"),
            format!("-n {name} address add {own}/30 dev {link}"),
            format!("-n {name} link set {link} up"),
            format!("-n {name} link set lo up"),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            tools::run("ip", &words).ok().map_err(|said| format!("ip {line}: {said}"))?;
        }
        Ok(peer)
    }

    /// Asks a port of the host from there; `Err` when nobody listens for it.
    fn knock(&self, port: u16, papers: Option<&Papers>, path: &str) -> Result<String, ()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(tools::find("ip").expect("it made the namespace"));
        command.args(["netns", "exec", &self.name, "python3", "-c", KNOCK]);
        command.args([&self.host.to_string(), &port.to_string(), path]);
        if let Some(papers) = papers {
            for (end, text) in [("pem", &papers.chain_pem), ("key", &papers.key_pem)] {
                let file = folder.path().join(end);
                std::fs::write(&file, text).expect("a temporary folder can be written");
                command.arg(file);
            }
        }
        let output = command.output().expect("it runs");
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Some(3) => Err(()),
            _ => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its end of the link goes with it, and with that ours.
        tools::run("ip", &["netns", "delete", &self.name]);
        tools::run("ip", &["link", "delete", &self.link]);
    }
}

#[test]
fn another_host_meets_only_the_doors_for_it_and_needs_the_right_papers() {
    let test = "another_host_meets_only_the_doors_for_it_and_needs_the_right_papers";
    if !tools::have(test, &["ip", "python3"]) {
        return;
    }
    let peer = match Peer::new() {
        Ok(peer) => peer,
        Err(why) => return tools::skip(test, &why),
    };
    let estate = Estate::start_at(peer.host);
    let leaf = estate.papers_of("shop");
    let id = spiffe_id(&leaf.first_der());
    let (foreign, by_leaf) = (Papers::of_own_authority("shop", Some(&id)), leaf.sign(&id));
    let knock = |port: u16, papers: Option<&Papers>, path: &str| {
        let answer = peer.knock(port, papers, path).expect("it listens for other hosts");
        (!answer.is_empty()).then_some(answer)
    };
    let (mut closed, mut refused) = (0, 0);
    for (process, pid, rows) in estate.rows() {
        for socket in sockets::listening(pid) {
            let Socket::Port(addr, kind) = socket else { continue };
            let row = rows.iter().find(|(port, _)| *port == addr.port());
            let face = row.unwrap_or_else(|| panic!("{addr} of {process} has no row")).1;
            match face {
                Face::Local | Face::Dns if kind == "udp" => {}
                Face::Local | Face::Dns => {
                    assert_eq!(peer.knock(addr.port(), None, "/"), Err(()), "{addr} of {process}");
                    closed += 1;
                }
                Face::Api | Face::Members | Face::Services => {
                    let (papers, socket) = ([&foreign, &by_leaf, &leaf], Socket::Port(addr, kind));
                    refused += judge(face, &socket, &estate, papers, &knock);
                }
            }
        }
    }
    let web = public_door(&estate.cluster, "web").port();
    eventually(EXPIRY_LIMIT, "the certificate has ended", || {
        knock(web, Some(&leaf), "/").map_or(Ok(()), Err)
    });
    eventually(SPREAD_LIMIT, "the next certificate opens", || {
        let answer = knock(web, Some(&estate.papers_of("shop")), "/").unwrap_or_default();
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    });
    assert!(closed >= 7 && refused >= 20, "{closed} {refused}");
    tools::tell(&format!(
        "{test}: {closed} doors are not there for other hosts, {} callers kept out",
        refused + 1
    ));
}
