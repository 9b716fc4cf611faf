//! Every socket on which a process of Weft listens, and what becomes of those who come to it with no
//! certificate, or a wrong one.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::ports::free_port;
use weft_tests::{Cluster, Daemon, TestProxy, eventually, tools};

use crate::identity::{public_door, spiffe_id};
use crate::peers::{Door, Papers};
use crate::story::{Called, Shop, called, speaks};
use sockets::Socket;

mod peer_namespace;
mod scanners;
mod sockets;

const LIMIT: Duration = Duration::from_secs(10);
/// The certificate of the caller ends a minute after it was signed.
const EXPIRY_LIMIT: Duration = Duration::from_secs(100);

/// Who may come to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Face {
    /// Holders of a certificate that the operator's own authority has signed.
    Api,
    /// Anyone: questions of DNS.
    Dns,
    /// Processes of this host: it listens on loopback or is a file.
    Local,
    /// Members of the mesh: agents and servers, and who joins with a token.
    Members,
    /// Services of the mesh.
    Services,
}

/// Asks a port with these papers for a path; `None` when there is no answer.
type Knock<'a> = &'a dyn Fn(u16, Option<&Papers>, &str) -> Option<String>;

/// The ports of a process, and who may come to each.
type Doors = Vec<(u16, Face)>;

/// Processes with every door that can be configured.
struct Estate {
    // Processes first: they end before their folder goes.
    web: Called,
    shop: Shop,
    upstream: u16,
    api: Papers,
    cluster: Cluster,
    _folder: TempDir,
}

impl Estate {
    fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST)
    }

    /// Starts it with the doors that are for other hosts at an address of this one.
    fn start_at(address: Ipv4Addr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let api = Papers::of_own_authority("api", None);
        let https = |name: &str| {
            let at = |end: &str| folder.path().join(format!("{name}.{end}"));
            fs::write(at("pem"), &api.chain_pem).expect("written");
            fs::write(at("key"), &api.key_pem).expect("written");
            fs::write(at("ca"), &api.root_pem).expect("written");
            json!({ "addr": format!("{address}:{}", free_port()), "cert_file": at("pem"),
                "key_file": at("key"), "ca_file": at("ca") })
        };
        let socket = folder.path().join("http.sock");
        let rpc = format!("{address}:{}", free_port());
        let cluster = Cluster::start_all_with(
            &json!({
                "bind_addr": rpc, "advertise_addr": rpc,
                "leaf_lifetime": "60s",
                "telemetry_addr": format!("127.0.0.1:{}", free_port()),
                "http": { "addr": format!("127.0.0.1:{}", free_port()) },
                "https": https("server"),
            }),
            &json!({
                "bind_addr": address, "advertise_addr": address,
                "http": { "addr": format!("127.0.0.1:{}", free_port()), "socket": socket },
                "https": https("agent"),
                "workload_api": { "socket": folder.path().join("workload.sock"),
                    "entry": [{ "service": "web", "uid": 65534 }] },
            }),
        );
        speaks(&cluster, "web", "http");
        let mut web = called(&cluster, "web-1", "web", "v1");
        let shop = Shop::open(&cluster, &["web"]);
        cluster.agent.intend("shop", "web", "allow");
        cluster.agent.wait_passing("web", 1);
        shop.wait_status("web", 200);
        // Strangers at the door are worth a warning.
        web.proxy.process.expect_log("");
        let upstream = shop.to("web").addr().port();
        let mut estate = Self { web, shop, upstream, api, cluster, _folder: folder };
        estate.cluster.server.process.expect_log("");
        estate.cluster.agent.process.expect_log("");
        estate
    }

    fn ready_port(process: &Daemon, field: &str) -> u16 {
        let addr: SocketAddr = process.ready_field(field).parse().expect("an address");
        addr.port()
    }

    /// What each socket of each process is for. A new listener needs a row here, and what is shown of
    /// its face below.
    fn rows(&self) -> Vec<(&'static str, u32, Doors)> {
        let (server, agent) = (&self.cluster.server.process, &self.cluster.agent.process);
        let at = Self::ready_port;
        let sidecar = |proxy: &TestProxy| at(&proxy.process, "admin");
        let web = public_door(&self.cluster, "web").port();
        let shop = public_door(&self.cluster, "shop").port();
        vec![
            (
                "server",
                server.pid(),
                vec![
                    (at(server, "rpc"), Face::Members),
                    (at(server, "http"), Face::Local),
                    (at(server, "https"), Face::Api),
                    (at(server, "telemetry"), Face::Local),
                ],
            ),
            (
                "agent",
                agent.pid(),
                vec![
                    (at(agent, "http"), Face::Local),
                    (at(agent, "https"), Face::Api),
                    (at(agent, "dns"), Face::Dns),
                ],
            ),
            (
                "web's sidecar",
                self.web.proxy.process.pid(),
                vec![(sidecar(&self.web.proxy), Face::Local), (web, Face::Services)],
            ),
            (
                "shop's sidecar",
                self.shop.proxy.process.pid(),
                vec![
                    (sidecar(&self.shop.proxy), Face::Local),
                    (shop, Face::Services),
                    (self.upstream, Face::Local),
                ],
            ),
        ]
    }

    fn papers_of(&self, caller: &str) -> Papers {
        Papers::of_service(&self.cluster, caller)
    }

    /// The certificate by which the agent is a member.
    fn papers_of_agent(&self) -> Papers {
        let file = self.cluster.folder.path().join("node1").join("member.json");
        let member: Value =
            serde_json::from_str(&fs::read_to_string(file).expect("its papers")).expect("JSON");
        let texts = || {
            member["Leaf"].as_object().into_iter().flatten().filter_map(|(_, text)| text.as_str())
        };
        let with = |mark: &str| texts().find(|text| text.contains(mark)).expect("PEM").to_owned();
        Papers {
            chain_pem: with("BEGIN CERTIFICATE"),
            key_pem: with("PRIVATE KEY"),
            root_pem: String::new(),
        }
    }
}

/// Asks over TLS with these papers; `None` when the handshake is refused.
fn knock(port: u16, papers: Option<&Papers>, path: &str) -> Option<String> {
    let config: Arc<ClientConfig> = Papers::config(papers);
    let door = Door::Peer(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), config);
    let mut wire = door.open("", LIMIT).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    wire.write_all(request.as_bytes()).and_then(|()| wire.flush()).ok()?;
    let mut answer = Vec::new();
    // The end may come without a word.
    let _ = wire.read_to_end(&mut answer);
    (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn every_listening_socket_is_known_and_keeps_strangers_out() {
    let test = "every_listening_socket_is_known_and_keeps_strangers_out";
    let estate = Estate::start();
    let leaf = estate.papers_of("shop");
    let id = spiffe_id(&leaf.first_der());
    let foreign = Papers::of_own_authority("shop", Some(&id));
    let signed_by_leaf = leaf.sign(&id);
    let (mut sockets, mut checks) = (0, 0);
    for (process, pid, rows) in estate.rows() {
        let found = sockets::listening(pid);
        let mut unseen: BTreeSet<u16> = rows.iter().map(|(port, _)| *port).collect();
        for socket in &found {
            sockets += 1;
            let face = match socket {
                Socket::File(_) => Face::Local,
                Socket::Port(addr, _) => {
                    unseen.remove(&addr.port());
                    let row = rows.iter().find(|(port, _)| *port == addr.port());
                    row.unwrap_or_else(|| panic!("{socket:?} of {process} has no row here")).1
                }
            };
            checks += judge(face, socket, &estate, [&foreign, &signed_by_leaf, &leaf], &knock);
        }
        assert!(unseen.is_empty(), "{process} does not listen at {unseen:?}, only at {found:?}");
    }
    checks += an_expired_certificate_opens_nothing(&estate, &leaf);
    tools::tell(&format!("{test}: {sockets} sockets of 4 processes, {checks} callers kept out"));
}

/// Shows that a socket is what its row says to those who knock so; returns how many it has kept out.
fn judge(
    face: Face,
    socket: &Socket,
    estate: &Estate,
    papers: [&Papers; 3],
    knock: Knock<'_>,
) -> usize {
    let [foreign, signed_by_leaf, leaf] = papers;
    let port = match socket {
        Socket::File(path) => {
            assert!(sockets::is_private(path), "{path} can be reached by every user");
            return 0;
        }
        Socket::Port(addr, _) => addr.port(),
    };
    let refused = |papers: &[Option<&Papers>], path: &str| {
        for papers in papers {
            let answer = knock(port, *papers, path);
            assert_eq!(answer, None, "{socket:?} ({face:?}) let {papers:?} in");
        }
        papers.len()
    };
    let agent = estate.papers_of_agent();
    match face {
        Face::Dns => 0,
        Face::Local => {
            let Socket::Port(addr, _) = socket else { return 0 };
            assert!(addr.ip().is_loopback(), "{socket:?} can be reached from outside");
            0
        }
        Face::Api => {
            let answer = knock(port, Some(&estate.api), "/v1/status/leader").unwrap_or_default();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            refused(&[None, Some(foreign), Some(leaf), Some(&agent)], "/v1/status/leader")
        }
        Face::Members => {
            let raft = "/weft.v1.Raft/Append";
            for (papers, path, wanted) in [
                (None, "/", "a certificate of the mesh is needed"),
                (None, raft, "grpc-status: 7"),
                (Some(leaf), "/", "is a service"),
                (Some(leaf), raft, "grpc-status: 7"),
                (Some(&agent), raft, "grpc-status: 7"),
            ] {
                let answer = knock(port, papers, path).unwrap_or_default();
                assert!(answer.contains(wanted), "{socket:?}, {path}: {answer:?}");
            }
            5 + refused(&[Some(foreign), Some(signed_by_leaf), Some(&estate.api)], raft)
        }
        Face::Services => {
            if port == public_door(&estate.cluster, "web").port() {
                let answer = knock(port, Some(leaf), "/").unwrap_or_default();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            }
            let strangers =
                [None, Some(foreign), Some(signed_by_leaf), Some(&estate.api), Some(&agent)];
            refused(&strangers, "/")
        }
    }
}

/// A certificate that was good until now is refused once its time is over.
fn an_expired_certificate_opens_nothing(estate: &Estate, leaf: &Papers) -> usize {
    let web = public_door(&estate.cluster, "web").port();
    let rpc = Estate::ready_port(&estate.cluster.server.process, "rpc");
    eventually(EXPIRY_LIMIT, "the certificate has ended", || match knock(web, Some(leaf), "/") {
        None => Ok(()),
        Some(answer) => Err(answer.lines().next().unwrap_or_default().to_owned()),
    });
    let fresh = estate.papers_of("shop");
    let answer = knock(web, Some(&fresh), "/").unwrap_or_default();
    assert!(answer.starts_with("HTTP/1.1 200"), "the next certificate opens: {answer}");
    eventually(SPREAD_LIMIT, "the servers refuse it as well", || {
        knock(rpc, Some(leaf), "/").map_or(Ok(()), Err)
    });
    2
}
