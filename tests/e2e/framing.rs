//! Payloads on which two readers could part: what a real origin behind the sidecar reads is what the
//! sidecar let in, request for request and body for body.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use weft_core::canonical_path::CanonicalPath;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::frames::Frames;
use weft_tests::{Cluster, eventually, tools};

use crate::origins::{self, Origin, Seen};
use crate::peers::Door;
use crate::story::Shop;

mod downgrade;
mod payloads;
mod reader;

/// How long an answer is waited for before the connection's end is told: an answer comes within
/// milliseconds, and what is cut off while it waits is judged all the same.
const QUIET: Duration = Duration::from_millis(400);
/// Connections at once to one origin.
const SENDERS: usize = 4;

/// What the sidecar's log says of one payload's requests, by method and path.
#[derive(Debug, Default)]
struct Authorised {
    /// Let in; the answer may have been lost.
    let_in: usize,
    /// Answered by the origin with 200, and the bytes of their bodies with their framing.
    answered: Vec<u64>,
}

/// What was found about one origin.
#[derive(Debug, Default)]
struct Tally {
    payloads: usize,
    arrived: usize,
    faults: Vec<String>,
}

#[test]
fn what_an_origin_reads_is_what_was_let_in() {
    let test = "what_an_origin_reads_is_what_was_let_in";
    let cluster = Cluster::start();
    let origins = origins::row(&cluster, test);
    let names: Vec<&str> = origins.iter().map(|origin| origin.name).collect();
    let shop = Shop::open(&cluster, &names);
    for name in &names {
        cluster.agent.configure(&json!({ "Kind": "service-intentions", "Name": name,
            "Sources": [{ "Name": "shop", "Permissions": [
                { "Action": "deny", "HTTP": { "PathPrefix": "/smuggled" } },
                { "Action": "allow", "HTTP": { "PathPrefix": "/" } }] }] }));
        shop.wait_status(name, 200);
    }
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let running: Vec<_> = origins
            .iter()
            .map(|origin| {
                let doors = [
                    Door::Local(shop.to(origin.name).addr()),
                    Door::peer(&cluster, "shop", origin.name),
                ];
                scope.spawn(move || {
                    doors
                        .iter()
                        .enumerate()
                        .map(|(at, door)| try_origin(origin, at, door))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        running.into_iter().flat_map(|thread| thread.join().expect("an origin was tried")).collect()
    });
    let faults: Vec<&String> = tallies.iter().flat_map(|tally| &tally.faults).collect();
    let payloads: usize = tallies.iter().map(|tally| tally.payloads).sum();
    let arrived: usize = tallies.iter().map(|tally| tally.arrived).sum();
    tools::tell(&format!(
        "{test}: {payloads} payloads to {} origins, {arrived} requests arrived, {} disagreements",
        origins.len(),
        faults.len()
    ));
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(arrived * 10 > payloads, "too little arrived: {tallies:?}");
    assert!(payloads >= 2000 * origins.len(), "{payloads}");
}

/// A path in the one spelling in which it goes on, however an origin hands it out.
fn canonical(path: &str) -> String {
    let canonical = CanonicalPath::parse(path.as_bytes());
    canonical.map_or(path.to_owned(), |path| String::from_utf8_lossy(path.as_bytes()).into_owned())
}

/// The number of a payload, by the door and its place.
fn number(door: usize, at: usize) -> String {
    format!("{door}{at:04}")
}

fn try_origin(origin: &Origin, by: usize, door: &Door) -> Tally {
    let mut payloads = payloads::http1();
    for (at, payload) in payloads.iter_mut().enumerate() {
        replace(payload, payloads::NUMBER.as_bytes(), number(by, at).as_bytes());
    }
    let streams = downgrade::streams(|at| number(by, payloads.len() + at));
    origin.forget();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    match (payloads.get(at), streams.get(at.wrapping_sub(payloads.len()))) {
                        (Some(payload), _) => send(door, payload, QUIET),
                        (None, Some(frames)) => send_frames(door, frames),
                        (None, None) => break,
                    }
                }
            });
        }
    });
    let last = format!(
        "GET /c/{}/last HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n",
        number(by, 9999)
    );
    send(door, last.as_bytes(), SPREAD_LIMIT);
    let sidecar = &origin.sidecar.as_ref().expect("each origin has one").process;
    eventually(SPREAD_LIMIT, "origin and sidecar have written all down", || {
        let is_last = |seen: &Seen| seen.paths.iter().any(|path| path.ends_with("/last"));
        let is_seen = origin.seen().iter().any(is_last);
        let is_logged = sidecar.log().contains(&format!("/c/{}/last\"", number(by, 9999)));
        if is_seen && is_logged { Ok(()) } else { Err(format!("{is_seen} {is_logged}")) }
    });
    let seen = origin.seen();
    let mut tally =
        compare(origin.name, &payloads, &seen, &authorised(&sidecar.log(), &format!("/c/{by}")));
    tally.payloads = payloads.len() + streams.len();
    tally
}

/// Holds what was seen against what was let in, and what the payload says.
fn compare(
    name: &str,
    payloads: &[Vec<u8>],
    seen: &[Seen],
    authorised: &BTreeMap<(String, String), Authorised>,
) -> Tally {
    let mut tally = Tally { arrived: seen.len(), ..Tally::default() };
    let mut counts = BTreeMap::<(String, String), Vec<&Seen>>::new();
    for one in seen {
        let key = (one.method.clone(), canonical(one.paths.first().map_or("", String::as_str)));
        counts.entry(key).or_default().push(one);
    }
    let shown = |path: &str| {
        let number: Option<usize> = path.get(4..8).and_then(|digits| digits.parse().ok());
        let payload = number.and_then(|number| payloads.get(number));
        payload.map(|payload| String::from_utf8_lossy(payload).into_owned())
    };
    for (key, all) in &counts {
        let (method, path) = key;
        let none = Authorised::default();
        let known = authorised.get(key).unwrap_or(&none);
        let is_ours = path.starts_with("/c/");
        if !is_ours || all.len() > known.let_in {
            let payload = shown(path);
            tally.faults.push(format!("{name} read {all:?}, let in {known:?}; of {payload:?}"));
        }
        // What the payload says to the letter; HTTP/2 says it by its own framing.
        let number: usize = path.get(4..8).and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let Some(payload) = payloads.get(number) else {
            for one in all.iter().filter(|one| !downgrade::BODIES.contains(&&*one.body)) {
                tally.faults.push(format!("{name} read {one:?} in HTTP/2"));
            }
            continue;
        };
        let meant = reader::requests(payload);
        // Of a request that broke off, the rest was not told.
        for one in all.iter().filter(|_| !known.answered.is_empty()) {
            let body: Vec<u8> = one.body.chars().map(|c| c as u8).collect();
            let is_meant = meant.iter().any(|read| {
                (&read.method, &canonical(&read.path), &read.body) == (method, path, &body)
            });
            if !is_meant {
                tally
                    .faults
                    .push(format!("{name} read {one:?}, meant {meant:?}; of {:?}", shown(path)));
            }
        }
    }
    for (key, known) in authorised {
        let count = counts.get(key).map_or(0, Vec::len);
        if count < known.answered.len() {
            let payload = shown(&key.1);
            tally.faults.push(format!(
                "{name} wrote down {count} of {key:?}, let in {known:?}; of {payload:?}"
            ));
        }
    }
    tally
}

/// What the sidecar let in with paths that start so, by method and path.
fn authorised(log: &str, start: &str) -> BTreeMap<(String, String), Authorised> {
    let mut out = BTreeMap::<(String, String), Authorised>::new();
    let lines = log.lines().filter(|line| line.starts_with('{'));
    for value in lines.filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        // Of what was refused the log tells as well, but not that it went anywhere.
        let is_inbound = text("upstream_cluster") == "local_app";
        if !is_inbound || value["upstream_host"].is_null() || !text("path").starts_with(start) {
            continue;
        }
        let entry = out.entry((text("method"), text("path"))).or_default();
        entry.let_in += 1;
        if value["response_code_details"] == "via_upstream" && value["response_code"] == 200 {
            entry.answered.push(value["bytes_received"].as_u64().unwrap_or(0));
        }
    }
    out
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    for at in 0..bytes.len().saturating_sub(from.len() - 1) {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
}

/// Sends bytes on a connection of their own and reads until its end, or until nothing has come for
/// some time.
fn send(door: &Door, bytes: &[u8], quiet: Duration) {
    let Ok(mut wire) = door.open("http/1.1", quiet) else { return };
    // Answers to what came before may have ended it: the rest is of no interest.
    let _ = wire.write_all(bytes).and_then(|()| wire.flush());
    let mut buffer = [0; 4096];
    while wire.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

fn send_frames(door: &Door, frames: &downgrade::Stream) {
    let Ok(wire) = door.open("h2", QUIET) else { return };
    let Ok(mut connection) = Frames::open(wire) else { return };
    let sent: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes()).collect();
    if connection.write(&sent).is_ok() {
        connection.wait_end(1);
    }
}

/// Each kind of disagreement is told.
#[test]
fn what_was_not_let_in_is_a_fault() {
    let payload = b"POST /c/00000/1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".to_vec();
    let let_in = |answered: &[u64]| {
        let known = Authorised { let_in: 1, answered: answered.to_vec() };
        BTreeMap::from([(("POST".to_owned(), "/c/00000/1".to_owned()), known)])
    };
    let found = |seen: &[(&str, &str)], known: &BTreeMap<(String, String), Authorised>| {
        let seen: Vec<Seen> =
            seen.iter().map(|(path, body)| Seen::of("POST", path, body)).collect();
        compare("it", std::slice::from_ref(&payload), &seen, known).faults.len()
    };
    let one = ("/c/00000/1", "hello");
    assert_eq!(found(&[one], &let_in(&[5])), 0);
    assert_eq!(found(&[], &let_in(&[])), 0, "it may have been cut off");
    assert_eq!(found(&[], &let_in(&[5])), 1, "an answer without a request");
    assert_eq!(found(&[one, one], &let_in(&[5])), 1, "twice");
    assert_eq!(found(&[("/c/00000/1", "hell")], &let_in(&[5])), 1, "another body");
    assert!(found(&[one, ("/smuggled/00000", "")], &let_in(&[5])) >= 1, "another request");
    assert!(found(&[one], &BTreeMap::new()) >= 1, "never let in");
}
