//! HTTP/2 connections that cost a sidecar more than they cost their sender: memory stays bounded, others
//! are served meanwhile, and once they end there is rest.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::frames::{Frame, Frames, PREFACE, block, flag, kind};
use weft_tests::proc::{cpu_seconds, rss_mb};
use weft_tests::{Cluster, TestProxy, eventually, tools};

use crate::peers::{Door, Wire};
use crate::story::{Shop, called, speaks};

/// How long each flood lasts, unless it is cut off before.
const FLOOD: Duration = Duration::from_millis(1500);
/// What a sidecar may grow by in all floods together: its buffers for 256 streams and more.
const GROWTH_MB_MAX: f64 = 96.0;
/// How long another caller's request may take meanwhile; a machine that is busy is not at fault.
const SERVED_LIMIT: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(20);

type Flood = fn(&mut Frames<Box<dyn Wire>>, &dyn Fn() -> bool) -> std::io::Result<()>;

const FLOODS: [(&str, Flood); 13] = [
    ("rapid reset (CVE-2023-44487)", rapid_reset),
    ("resets that the server is made to send (CVE-2025-8671)", made_reset),
    ("resets for a length that does not fit (CVE-2025-8671)", made_reset_by_length),
    ("CONTINUATION without end (CVE-2024-27919, RUSTSEC-2024-0332)", continuation),
    ("empty CONTINUATION", empty_continuation),
    ("a head that unpacks to megabytes (CVE-2026-47774)", amplified),
    ("cookie crumbs", crumbs),
    ("SETTINGS (CVE-2019-9515)", settings),
    ("PING (CVE-2019-9512)", ping),
    ("empty DATA (CVE-2019-9518)", empty_data),
    ("DATA of one byte (CVE-2019-9517)", tiny_data),
    ("PRIORITY (CVE-2019-9513)", priority),
    ("answers that are never read (CVE-2019-9511)", stalled),
];

fn plain(path: &[u8]) -> [(&[u8], &[u8]); 4] {
    [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"web"), (b":path", path)]
}

fn head(stream: u32, flags: u8) -> Frame {
    Frame::new(kind::HEADERS, flags | flag::END_HEADERS, stream, block(&plain(b"/")))
}

fn rapid_reset(
    frames: &mut Frames<Box<dyn Wire>>,
    goes_on: &dyn Fn() -> bool,
) -> std::io::Result<()> {
    while goes_on() {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            let stream = frames.stream_id();
            bytes.extend(head(stream, flag::END_STREAM).bytes());
            bytes.extend(Frame::new(kind::RST_STREAM, 0, stream, [0, 0, 0, 8]).bytes());
        }
        frames.write(&bytes)?;
    }
    Ok(())
}

fn made_reset(
    frames: &mut Frames<Box<dyn Wire>>,
    goes_on: &dyn Fn() -> bool,
) -> std::io::Result<()> {
    while goes_on() {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            let stream = frames.stream_id();
            bytes.extend(head(stream, 0).bytes());
            bytes.extend(Frame::new(kind::WINDOW_UPDATE, 0, stream, [0, 0, 0, 0]).bytes());
        }
        frames.write(&bytes)?;
    }
    Ok(())
}

fn made_reset_by_length(
    frames: &mut Frames<Box<dyn Wire>>,
    goes_on: &dyn Fn() -> bool,
) -> std::io::Result<()> {
    while goes_on() {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            let stream = frames.stream_id();
            let mut fields = plain(b"/").to_vec();
            fields.push((b"content-length", b"1"));
            bytes.extend(
                Frame::new(kind::HEADERS, flag::END_HEADERS, stream, block(&fields)).bytes(),
            );
            bytes.extend(Frame::new(kind::DATA, flag::END_STREAM, stream, *b"hello").bytes());
        }
        frames.write(&bytes)?;
    }
    Ok(())
}

fn continuation(
    frames: &mut Frames<Box<dyn Wire>>,
    goes_on: &dyn Fn() -> bool,
) -> std::io::Result<()> {
    let stream = frames.stream_id();
    frames.send(&Frame::new(kind::HEADERS, 0, stream, block(&plain(b"/"))))?;
    let value = vec![b'a'; 8000];
    while goes_on() {
        let more = block(&[(b"x-more", &value), (b"x-more", &value)]);
        frames.send(&Frame::new(kind::CONTINUATION, 0, stream, more))?;
    }
    Ok(())
}

fn empty_continuation(
    frames: &mut Frames<Box<dyn Wire>>,
    goes_on: &dyn Fn() -> bool,
) -> std::io::Result<()> {
    let stream = frames.stream_id();
    frames.send(&Frame::new(kind::HEADERS, 0, stream, block(&plain(b"/"))))?;
    let many = Frame::new(kind::CONTINUATION, 0, stream, []).bytes().repeat(1000);
    while goes_on() {
        frames.write(&many)?;
    }
    Ok(())
}

/// One long field goes into the table, and is then said 16,000 times by a byte each.
fn amplified(
    frames: &mut Frames<Box<dyn Wire>>,
    goes_on: &dyn Fn() -> bool,
) -> std::io::Result<()> {
    let mut block = block(&plain(b"/"));
    // A literal with indexing: `x: aaa…`, 3,000 bytes = 127 + 2,873.
    block.extend([0x40, 1, b'x', 127, 0xb9, 0x16]);
    block.extend([b'a'; 3000]);
    while goes_on() {
        let mut whole = block.clone();
        // The first field of the dynamic table.
        whole.resize(16_000, 0x80 | 62);
        let stream = frames.stream_id();
        let flags = flag::END_HEADERS | flag::END_STREAM;
        frames.send(&Frame::new(kind::HEADERS, flags, stream, whole))?;
    }
    Ok(())
}

fn crumbs(frames: &mut Frames<Box<dyn Wire>>, goes_on: &dyn Fn() -> bool) -> std::io::Result<()> {
    let mut fields = plain(b"/").to_vec();
    fields.resize(1500, (b"cookie", b"a"));
    while goes_on() {
        let stream = frames.stream_id();
        let flags = flag::END_HEADERS | flag::END_STREAM;
        frames.send(&Frame::new(kind::HEADERS, flags, stream, block(&fields)))?;
    }
    Ok(())
}

fn settings(frames: &mut Frames<Box<dyn Wire>>, goes_on: &dyn Fn() -> bool) -> std::io::Result<()> {
    let many = Frame::new(kind::SETTINGS, 0, 0, [0, 3, 0, 0, 0, 100]).bytes().repeat(500);
    while goes_on() {
        frames.write(&many)?;
    }
    Ok(())
}

fn ping(frames: &mut Frames<Box<dyn Wire>>, goes_on: &dyn Fn() -> bool) -> std::io::Result<()> {
    let many = Frame::new(kind::PING, 0, 0, *b"weftweft").bytes().repeat(500);
    while goes_on() {
        frames.write(&many)?;
    }
    Ok(())
}

fn empty_data(
    frames: &mut Frames<Box<dyn Wire>>,
    goes_on: &dyn Fn() -> bool,
) -> std::io::Result<()> {
    let stream = frames.stream_id();
    frames.send(&head(stream, 0))?;
    let many = Frame::new(kind::DATA, 0, stream, []).bytes().repeat(1000);
    while goes_on() {
        frames.write(&many)?;
    }
    Ok(())
}

fn tiny_data(
    frames: &mut Frames<Box<dyn Wire>>,
    goes_on: &dyn Fn() -> bool,
) -> std::io::Result<()> {
    let stream = frames.stream_id();
    frames.send(&head(stream, 0))?;
    let many = Frame::new(kind::DATA, 0, stream, *b"a").bytes().repeat(100);
    while goes_on() {
        frames.write(&many)?;
    }
    Ok(())
}

fn priority(frames: &mut Frames<Box<dyn Wire>>, goes_on: &dyn Fn() -> bool) -> std::io::Result<()> {
    while goes_on() {
        let mut bytes = Vec::new();
        for _ in 0..1000 {
            let stream = (frames.stream_id() % 2_000_001) | 1;
            bytes.extend(Frame::new(kind::PRIORITY, 0, stream, [0, 0, 0, 0, 255]).bytes());
        }
        frames.write(&bytes)?;
    }
    Ok(())
}

/// No window, and as many streams as there may be.
fn stalled(frames: &mut Frames<Box<dyn Wire>>, goes_on: &dyn Fn() -> bool) -> std::io::Result<()> {
    frames.send(&Frame::new(kind::SETTINGS, 0, 0, [0, 4, 0, 0, 0, 0]))?;
    for _ in 0..256 {
        let stream = frames.stream_id();
        let fields = block(&plain(b"/bytes/1000000"));
        let flags = flag::END_HEADERS | flag::END_STREAM;
        frames.send(&Frame::new(kind::HEADERS, flags, stream, fields))?;
    }
    while goes_on() {
        frames.send(&Frame::new(kind::PING, 0, 0, *b"weftweft"))?;
        frames.receive()?;
    }
    Ok(())
}

#[test]
fn floods_cost_a_sidecar_little_and_others_nothing() {
    let test = "floods_cost_a_sidecar_little_and_others_nothing";
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let mut web = called(&cluster, "web-1", "web", "v1");
    let mut shop = Shop::open(&cluster, &["web"]);
    // What cuts a flood off says so.
    web.proxy.process.expect_log("WARN h2::");
    shop.proxy.process.expect_log("WARN h2::");
    cluster.agent.intend("shop", "web", "allow");
    cluster.agent.wait_passing("web", 1);
    shop.wait_status("web", 200);
    let peer = Door::peer(&cluster, "shop", "web");
    let local = Door::Local(shop.to("web").addr());
    let (mut slowest, mut most) = (Duration::ZERO, 0.0_f64);
    for (door, sidecar) in [(&peer, &web.proxy), (&local, &shop.proxy)] {
        let before = rss_mb(sidecar.process.pid());
        for (name, flood) in FLOODS {
            slowest = slowest.max(served_meanwhile(&shop, || run(door, flood), name));
            let grown = rss_mb(sidecar.process.pid()) - before;
            most = most.max(grown);
            assert!(grown < GROWTH_MB_MAX, "{name}: the sidecar has grown by {grown:.0} MB");
            comes_to_rest(sidecar, name);
        }
    }
    tools::tell(&format!(
        "{test}: {} kinds at 2 doors, at most {most:.0} MB more, others answered within {} ms",
        FLOODS.len(),
        slowest.as_millis()
    ));
}

/// Sends a flood until it is cut off or its time is over.
fn run(door: &Door, flood: Flood) {
    let end = Instant::now() + FLOOD;
    let goes_on = move || Instant::now() < end;
    let opened = door.open("h2", FLOOD).and_then(Frames::open);
    let mut frames = opened.expect("the door is open");
    // To be cut off is the usual end.
    let _ = flood(&mut frames, &goes_on);
}

/// Asks as another caller while `flood` runs; returns how long the slowest answer took.
fn served_meanwhile(shop: &Shop, flood: impl FnOnce() + Send, name: &str) -> Duration {
    let door = shop.to("web");
    thread::scope(|scope| {
        let flooding = scope.spawn(flood);
        let mut slowest = Duration::ZERO;
        loop {
            let is_over = flooding.is_finished();
            let asked = Instant::now();
            let answer = door.get("/status/200").expect("another caller is answered");
            assert_eq!(answer.status, 200, "{name}: {}", answer.body);
            slowest = slowest.max(asked.elapsed());
            if is_over {
                break;
            }
        }
        assert!(slowest < SERVED_LIMIT, "{name}: another caller waited for {slowest:?}");
        slowest
    })
}

/// Once it is over, the sidecar uses less than a fifth of a core.
fn comes_to_rest(sidecar: &TestProxy, name: &str) {
    let pid = sidecar.process.pid();
    let mut since = (Instant::now(), cpu_seconds(pid));
    eventually(LIMIT, &format!("rest after: {name}"), || {
        let (at, used) = (Instant::now(), cpu_seconds(pid));
        let time = (at - since.0).as_secs_f64();
        if time < 0.3 {
            return Err("too early to tell".to_owned());
        }
        let share = (used - since.1) / time;
        since = (at, used);
        if share < 0.2 { Ok(()) } else { Err(format!("it uses {share:.2} of a core")) }
    });
}

/// What a hostile service does with a connection of its sidecar.
type Hostility = fn(&mut TcpStream) -> std::io::Result<()>;

const HOSTILITIES: [(&str, Hostility); 5] = [
    ("GOAWAY at once with no streams (CVE-2021-32780)", |stream| {
        stream.write_all(&Frame::new(kind::SETTINGS, 0, 0, [0, 3, 0, 0, 0, 0]).bytes())?;
        stream.write_all(&Frame::new(kind::GOAWAY, 0, 0, [0; 8]).bytes())
    }),
    ("GOAWAY after the preface", |stream| {
        stream.write_all(&Frame::new(kind::SETTINGS, 0, 0, []).bytes())?;
        stream.write_all(&Frame::new(kind::GOAWAY, 0, 0, [0; 8]).bytes())
    }),
    ("a head without end", |stream| {
        stream.write_all(&Frame::new(kind::SETTINGS, 0, 0, []).bytes())?;
        stream.write_all(&Frame::new(kind::HEADERS, 0, 1, [0x88]).bytes())?;
        let value = vec![b'a'; 8000];
        loop {
            let more = Frame::new(kind::CONTINUATION, 0, 1, block(&[(b"x", &value)]));
            stream.write_all(&more.bytes())?;
        }
    }),
    ("PING without end", |stream| {
        stream.write_all(&Frame::new(kind::SETTINGS, 0, 0, []).bytes())?;
        let many = Frame::new(kind::PING, 0, 0, *b"weftweft").bytes().repeat(100);
        let end = Instant::now() + FLOOD;
        while Instant::now() < end {
            stream.write_all(&many)?;
        }
        Ok(())
    }),
    ("bytes that are no frames", |stream| stream.write_all(&[0xff; 4096])),
];

#[test]
fn a_hostile_service_costs_its_sidecar_little() {
    let cluster = Cluster::start();
    let mut sidecars = Vec::new();
    let names: Vec<String> = (0..HOSTILITIES.len()).map(|at| format!("hostile{at}")).collect();
    for (name, (_, hostility)) in names.iter().zip(HOSTILITIES) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.set_write_timeout(Some(LIMIT));
                let mut preface = [0; PREFACE.len()];
                if stream.read_exact(&mut preface).is_ok() {
                    let _ = hostility(&mut stream);
                    // Stays until the other side goes.
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                }
            }
        });
        speaks(&cluster, name, "http2");
        cluster.agent.register(&meshed(name, name, port, &[]));
        sidecars.push(cluster.agent.sidecar(name));
        cluster.agent.intend("shop", name, "allow");
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let shop = Shop::open(&cluster, &names);
    for ((name, sidecar), (what, _)) in names.iter().zip(&sidecars).zip(HOSTILITIES) {
        let door = Door::Local(shop.to(name).addr());
        let before = rss_mb(sidecar.process.pid());
        eventually(SPREAD_LIMIT, &format!("a request comes to an end: {what}"), || {
            let wire = door.open("h2", LIMIT).map_err(|error| error.to_string())?;
            let mut frames = Frames::open(wire).map_err(|error| error.to_string())?;
            let is_ended = frames.ask(&plain(b"/"), b"");
            if is_ended { Ok(()) } else { Err("the connection broke off".to_owned()) }
        });
        comes_to_rest(sidecar, what);
        let grown = rss_mb(sidecar.process.pid()) - before;
        assert!(grown < GROWTH_MB_MAX, "{what}: the sidecar has grown by {grown:.0} MB");
    }
}
