//! Copies of requests for another version, told by an application that writes down what it gets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::json;
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::{Api, Cluster, eventually, tools};

use crate::story::{Shop, called, speaks, who};

/// Requests as they came: the first line, the host, and the body.
type Seen = Arc<Mutex<Vec<String>>>;

/// Starts an application that writes down what it gets; returns its port.
fn recorder() -> (u16, Seen) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let port = listener.local_addr().expect("it is bound").port();
    let seen = Seen::default();
    let noted = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let noted = noted.clone();
            thread::spawn(move || serve(stream, &noted));
        }
    });
    (port, seen)
}

fn serve(stream: TcpStream, seen: &Seen) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
        let mut noted = line.trim_end().to_owned();
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line).is_err() {
                return;
            }
            let lower = line.trim_end().to_ascii_lowercase();
            if lower.is_empty() {
                break;
            }
            if let Some(host) = lower.strip_prefix("host: ") {
                noted.push_str(&format!(" {host}"));
            }
            if let Some(said) = lower.strip_prefix("content-length: ") {
                length = said.parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        noted.push_str(&format!(" {}", String::from_utf8_lossy(&body)));
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
        if reader.get_mut().write_all(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
        line.clear();
    }
}

fn has(seen: &Seen, wanted: &str) -> Result<(), String> {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let is_there = seen.iter().any(|line| line.starts_with(wanted));
    if is_there { Ok(()) } else { Err(format!("{wanted}: {seen:?}")) }
}

/// A mesh in which `shop` calls version 1 of `web`, and version 2 gets copies of what is below `/copied`.
fn story(cluster: &Cluster) -> Seen {
    speaks(cluster, "web", "http");
    let (port, seen) = recorder();
    let mut second = meshed("web-2", "web", port, &[]);
    second["Meta"] = json!({ "version": "v2" });
    cluster.agent.register(&second);
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "web", "DefaultSubset": "v1",
        "Subsets": {
            "v1": { "Filter": "Service.Meta.version == v1" },
            "v2": { "Filter": "Service.Meta.version == v2" },
        },
    }));
    cluster.agent.configure(&json!({
        "Kind": "service-router", "Name": "web",
        "Routes": [{
            "Match": { "HTTP": { "PathPrefix": "/copied" } },
            "Destination": { "PrefixRewrite": "/as", "Mirror": { "ServiceSubset": "v2" } },
        }],
    }));
    cluster.agent.intend("shop", "web", "allow");
    seen
}

fn asked(door: &Api, path: &str, body: &str) {
    let host = [("host", "web.example:81")];
    let answer = door.request("POST", path, &host, body).expect("an answer");
    assert_eq!((answer.status, &*who(&answer)), (200, "web-1"), "{answer:?}");
}

#[test]
fn another_version_gets_copies_and_what_it_makes_of_them_is_nobodys_affair() {
    let cluster = Cluster::start();
    let seen = story(&cluster);
    let _first = called(&cluster, "web-1", "web", "v1");
    let _sidecar = cluster.agent.sidecar("web-2");
    cluster.agent.wait_passing("web", 2);
    let shop = Shop::open(&cluster, &["web"]);
    shop.wait_status("web", 200);
    let door = shop.to("web");
    let long = "x".repeat(70_000);
    eventually(SPREAD_LIMIT, "the copies come", || {
        asked(&door, "/copied/a?b=c", "hello");
        has(&seen, "POST /as/a?b=c HTTP/1.1 web.example-shadow:81 hello")
    });
    asked(&door, "/copied/long", &long);
    asked(&door, "/other", "hello");
    asked(&door, "/copied/last", "");
    eventually(SPREAD_LIMIT, "a copy of the last", || {
        has(&seen, "POST /as/last HTTP/1.1 web.example-shadow:81 ")
    });
    if tools::have("another_version_gets_copies", &["curl"]) {
        let url = format!("http://{}/copied/h2", door.addr());
        let args = ["-sS", "--http2-prior-knowledge", "-m", "20", "-d", "two", &url];
        let answer = tools::run("curl", &args).ok().expect("curl gets an answer");
        assert!(answer.contains("web-1"), "{answer}");
        eventually(SPREAD_LIMIT, "a copy of what came over HTTP/2", || {
            has(&seen, "POST /as/h2 HTTP/1.1 127.0.0.1-shadow:").and_then(|()| {
                let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let is_whole = seen.iter().any(|line| line.ends_with(" two"));
                if is_whole { Ok(()) } else { Err(format!("{seen:?}")) }
            })
        });
    }
    let text = shop.proxy.admin().get("/metrics").expect("metrics").body;
    for action in ["mirrored", "mirror-skipped"] {
        assert!(text.contains(&format!("action=\"{action}\"")), "{action}: {text}");
    }
    for path in ["/as/long", "/other"] {
        assert!(has(&seen, &format!("POST {path}")).is_err(), "{path} is not copied");
    }
}
