//! What is measured: each kind of work, and what it asks of each kind of peer.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::peers::Kind;
use crate::wire::{Request, proto_bytes, proto_true};

/// Bytes of a value.
const VALUE_BYTES: usize = 256;
/// Keys that puts and gets go over.
const KEYS: u64 = 10_000;
/// Nodes that registrations go over.
const NODES: u64 = 1_000;
/// The service that is looked up, and its instances.
pub(crate) const SERVICE: &str = "bench-web";
pub(crate) const INSTANCES: usize = 3;

/// Which servers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// All of them in turn, as clients that know no leader do.
    Any,
    /// The leader.
    Leader,
}

/// One kind of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Its name.
    pub(crate) name: &'static str,
    /// How many clients do it at once.
    pub(crate) clients: usize,
    /// Which servers they ask.
    pub(crate) at: At,
    /// What a client asks in a round; `None` when the peer has no such thing.
    pub(crate) request: fn(Kind, usize, u64) -> Option<Request>,
}

/// All kinds, in the order of the table.
pub(crate) const WORK: [Work; 11] = [
    Work { name: "put, 1 client", clients: 1, at: At::Leader, request: put },
    Work { name: "put, 64 clients", clients: 64, at: At::Leader, request: put },
    Work { name: "put, 256 clients", clients: 256, at: At::Leader, request: put },
    Work { name: "put, 64 clients, any server", clients: 64, at: At::Any, request: put },
    Work { name: "get, default", clients: 64, at: At::Leader, request: get_default },
    Work { name: "get, consistent", clients: 64, at: At::Leader, request: get_consistent },
    Work { name: "get, stale", clients: 64, at: At::Any, request: get_stale },
    Work { name: "health of a service", clients: 64, at: At::Leader, request: health },
    Work { name: "health, any server", clients: 64, at: At::Any, request: health },
    Work { name: "register, 16 clients", clients: 16, at: At::Leader, request: register },
    Work { name: "register, any server", clients: 16, at: At::Any, request: register },
];

/// Numbers that differ over the whole run, so that no write finds its own value there.
static COUNTER: AtomicU64 = AtomicU64::new(0);

fn key(number: u64) -> String {
    format!("bench/{:05}", number % KEYS)
}

fn value() -> Vec<u8> {
    let mut value = format!("{:016}", COUNTER.fetch_add(1, Ordering::Relaxed)).into_bytes();
    value.resize(VALUE_BYTES, b'v');
    value
}

/// Where a client is in the keys: apart from the others, so that they do not write the same one.
fn place(client: usize, round: u64) -> u64 {
    (client as u64).wrapping_mul(7_919).wrapping_add(round)
}

fn put(kind: Kind, client: usize, round: u64) -> Option<Request> {
    let key = key(place(client, round));
    Some(match kind {
        Kind::Consul | Kind::Weft => {
            Request::Http { method: "PUT", path: format!("/v1/kv/{key}"), body: value() }
        }
        Kind::Etcd => {
            let mut message = Vec::with_capacity(VALUE_BYTES + 32);
            proto_bytes(&mut message, 1, key.as_bytes());
            proto_bytes(&mut message, 2, &value());
            Request::Grpc { method: "/etcdserverpb.KV/Put", message }
        }
    })
}

/// The first keys, which are read.
pub(crate) fn seed(kind: Kind, number: u64) -> Option<Request> {
    put(kind, 0, number)
}

/// How many keys are read.
pub(crate) const SEEDED: u64 = 100;

fn get(kind: Kind, client: usize, round: u64, query: &str, is_serializable: bool) -> Request {
    let key = key(place(client, round) % SEEDED);
    match kind {
        Kind::Consul | Kind::Weft => http_get(format!("/v1/kv/{key}{query}")),
        Kind::Etcd => {
            let mut message = Vec::new();
            proto_bytes(&mut message, 1, key.as_bytes());
            if is_serializable {
                proto_true(&mut message, 7);
            }
            Request::Grpc { method: "/etcdserverpb.KV/Range", message }
        }
    }
}

fn http_get(path: String) -> Request {
    Request::Http { method: "GET", path, body: Vec::new() }
}

/// etcd's default is the linearizable one.
fn get_default(kind: Kind, client: usize, round: u64) -> Option<Request> {
    Some(get(kind, client, round, "", false))
}

fn get_consistent(kind: Kind, client: usize, round: u64) -> Option<Request> {
    Some(get(kind, client, round, "?consistent", false))
}

fn get_stale(kind: Kind, client: usize, round: u64) -> Option<Request> {
    Some(get(kind, client, round, "?stale", true))
}

fn health(kind: Kind, _: usize, _: u64) -> Option<Request> {
    match kind {
        Kind::Consul | Kind::Weft => Some(http_get(format!("/v1/health/service/{SERVICE}"))),
        Kind::Etcd => None,
    }
}

/// Each registration changes something: a node, its instance with another port, its check.
fn register(kind: Kind, client: usize, round: u64) -> Option<Request> {
    let node = (client as u64) * 61 + round % (NODES / 16);
    let port = 1_024 + COUNTER.fetch_add(1, Ordering::Relaxed) % 60_000;
    registration(kind, &format!("bench-node-{node}"), &format!("bench-svc-{}", node % 100), port)
}

/// One instance of the service that is looked up.
pub(crate) fn instance(kind: Kind, number: usize, port: u64) -> Option<Request> {
    registration(kind, &format!("bench-web-{number}"), SERVICE, port)
}

fn registration(kind: Kind, node: &str, service: &str, port: u64) -> Option<Request> {
    if kind == Kind::Etcd {
        return None;
    }
    let body = format!(
        r#"{{"Node":"{node}","Address":"10.0.0.1","Service":{{"ID":"{service}-1","Service":"{service}","Tags":["v1","primary"],"Port":{port},"Meta":{{"version":"1.2.3"}}}},"Check":{{"Node":"{node}","CheckID":"service:{service}-1","Name":"{service} lives","Status":"passing","ServiceID":"{service}-1","Output":"HTTP GET http://10.0.0.1/health: 200 OK"}}}}"#
    );
    let path = "/v1/catalog/register".to_owned();
    Some(Request::Http { method: "PUT", path, body: body.into_bytes() })
}
