//! One door for each outside library: replaceable, findable, testable.

use crate::paths::mentions;
use crate::tree::{Tree, Violation};

/// A thing of the outside world and the only places that may touch it.
struct Door {
    thing: &'static str,
    paths: &'static [&'static str],
    /// Path endings that count wherever they are reached from, such as `Instant::now`.
    endings: &'static [&'static str],
    at: &'static [&'static str],
    advice: &'static str,
}

const DOORS: [Door; 13] = [
    Door {
        thing: "openraft",
        paths: &["openraft"],
        endings: &[],
        at: &["server/src/raft/"],
        advice: "call server::propose or server::read",
    },
    Door {
        thing: "sled",
        paths: &["sled"],
        endings: &[],
        at: &["runtime/src/store/"],
        advice: "use runtime::store",
    },
    Door {
        thing: "hickory",
        paths: &["hickory_server", "hickory_proto", "hickory_resolver", "hickory_client"],
        endings: &[],
        at: &["agent/src/dns/"],
        advice: "answers are decided in core::dns and encoded in agent::dns",
    },
    Door {
        thing: "quinn",
        paths: &["quinn", "quinn_proto", "quinn_udp"],
        endings: &[],
        at: &["proxy/src/transport/quic/"],
        advice: "ask proxy::transport for a stream",
    },
    Door {
        thing: "certificate making",
        paths: &["rcgen"],
        endings: &[],
        at: &[
            "server/src/ca/",
            "server/src/join/",
            "agent/src/leaf/",
            "agent/src/join",
            // What the webhook shows the API server is no certificate of the mesh.
            "k8s/src/webhook/certificate.rs",
        ],
        advice: "servers sign in server::ca, agents make keys in agent::leaf",
    },
    Door {
        thing: "rustls configurations",
        paths: &[],
        endings: &[
            "ServerConfig::builder",
            "ServerConfig::builder_with_details",
            "ServerConfig::builder_with_provider",
            "ServerConfig::builder_with_protocol_versions",
            "ClientConfig::builder",
            "ClientConfig::builder_with_details",
            "ClientConfig::builder_with_provider",
            "ClientConfig::builder_with_protocol_versions",
        ],
        at: &["runtime/src/tls/"],
        advice: "take a configuration from runtime::tls, which checks SPIFFE identities",
    },
    Door {
        thing: "sockets",
        paths: &[
            "tokio::net",
            "socket2",
            "nix::sys::socket",
            "rustix::net",
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
            "std::os::unix::net",
        ],
        endings: &[],
        at: &["runtime/src/net.rs", "runtime/src/net/"],
        advice: "use runtime::net, which the simulation replaces",
    },
    Door {
        thing: "tasks",
        paths: &[
            "tokio::spawn",
            "tokio::task::spawn",
            "tokio::task::spawn_local",
            "tokio::task::spawn_blocking",
            "tokio::task::JoinSet",
            "std::thread::spawn",
        ],
        endings: &[],
        at: &["runtime/src/task.rs", "runtime/src/task/"],
        advice: "every task has a parent, a name and an end: spawn from a runtime::task::TaskTree",
    },
    Door {
        thing: "the clock",
        paths: &[],
        endings: &["Instant::now", "SystemTime::now"],
        at: &["runtime/src/clock.rs"],
        advice: "ask runtime::clock, or take `now` as an argument",
    },
    Door {
        thing: "randomness of the system",
        paths: &["getrandom", "rand::rng", "rand::thread_rng", "rand::random", "aws_lc_rs::rand"],
        endings: &["OsRng", "SystemRandom::new", "from_os_rng", "try_from_os_rng", "from_entropy"],
        at: &["runtime/src/entropy.rs"],
        advice: "take a generator from runtime::entropy, or as an argument",
    },
    Door {
        thing: "hyper",
        paths: &["h2", "hyper", "hyper_util"],
        endings: &[],
        at: &["runtime/src/http/", "runtime/src/rpc/", "proxy/src/http/", "cli/src/client.rs"],
        advice: "use runtime::http; only the proxy's data path has its own",
    },
    Door {
        thing: "the YAML parser",
        paths: &["saphyr_parser"],
        endings: &[],
        at: &["k8s/src/manifest/read.rs"],
        advice: "read a tree by k8s::manifest",
    },
    Door {
        thing: "tonic",
        paths: &["tonic", "tonic_prost"],
        endings: &[],
        at: &[
            "proto/src/grpc.rs",
            "runtime/src/rpc/",
            // It refuses calls in their own language before they reach a service.
            "server/src/door.rs",
            "server/src/grpc/",
            "server/src/raft/",
            "agent/src/grpc/",
            "agent/src/servers/",
            "agent/src/join",
            "agent/src/sync.rs",
            "proxy/src/control/",
            "proxy/src/inbound/ext_authz/",
            "proxy/src/observe/",
        ],
        advice: "services and clients live in the grpc folders; pass domain types further in",
    },
];

/// Each mention of a thing stands behind its door; of a file the first one is told. Tests may use
/// any library.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.sources.iter().filter(|f| !f.path.starts_with("tests/")) {
        let mentions = mentions(file);
        for door in &DOORS {
            if door.at.iter().any(|place| file.path.starts_with(place)) {
                continue;
            }
            let first = mentions
                .iter()
                .find(|mention| file.is_production(mention.line) && touches(door, &mention.path));
            if let Some(mention) = first {
                found.push(Violation::at(
                    file.place(mention.line),
                    format!(
                        "`{}`: {} only in {}; {}",
                        mention.path,
                        door.thing,
                        door.at.join(", "),
                        door.advice
                    ),
                ));
            }
        }
    }
    found
}

fn touches(door: &Door, path: &str) -> bool {
    let by_start =
        door.paths.iter().any(|start| path == *start || path.starts_with(&format!("{start}::")));
    let by_end = door.endings.iter().any(|end| path == *end || path.ends_with(&format!("::{end}")));
    by_start || by_end
}

#[test]
fn each_door_finds_a_planted_break_in() {
    let planted = [
        "use openraft::Raft;",
        "use sled::Db;",
        "use hickory_proto::op::Message;",
        "use quinn::Endpoint;",
        "fn f() { rcgen::KeyPair::generate(); }",
        "use rustls::ServerConfig;\nfn f() { ServerConfig::builder(); }",
        "use tokio::{net::TcpStream, time};",
        "use tokio::task;\nfn f() { task::spawn(g()); }",
        "use std::time::Instant;\nfn f() { Instant::now(); }",
        "fn f() { rand::random::<u8>(); }",
        "use hyper::Request;",
        "use saphyr_parser::Parser;",
        "use tonic::Status;",
    ];
    assert_eq!(planted.len(), DOORS.len(), "every door has a planted case");
    for text in planted {
        let found = check(&Tree::planted(&[("cli/src/planted.rs", text)]));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
    }
}

#[test]
fn the_door_itself_tests_and_comments_are_free() {
    let free = [
        ("server/src/raft/types.rs", "use openraft::Raft;"),
        ("cli/src/a.rs", "// tokio::spawn is not used\nconst A: &str = \"tokio::spawn\";"),
        ("cli/src/a.rs", "#[cfg(test)]\nmod tests {\n    use tokio::net::TcpStream;\n}\n"),
        ("cli/src/a.rs", "use std::net::{IpAddr, SocketAddr};"),
    ];
    for file in free {
        assert_eq!(check(&Tree::planted(&[file])).len(), 0, "{file:?}");
    }
}
