//! One client that takes all it can get does not keep the others from being answered: many
//! connections, large bodies that never end, and questions that wait.

use std::time::{Duration, Instant};

use crate::support::LIMIT;
use crate::support::world::Open;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use weft_core::limits;
use weft_server::config::LimitsSection;

/// The client that takes all, and the others.
const GREEDY: [u8; 4] = [127, 0, 0, 2];
const OTHER: [u8; 4] = [127, 0, 0, 3];
/// Connections of one client, as servers are configured.
const CONNECTIONS: usize = 200;
/// Of the greedy one's connections, those on which it sends bodies.
const BODIES: usize = 60;

impl Open {
    async fn connect(&self, from: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address of this host");
        socket.connect(self.address()).await.expect("connected")
    }
}

fn head(method: &str, path: &str, bytes: usize) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}\r\n\r\n")
}

/// Reads one answer: its head and its body.
async fn answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let reading = async {
        loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                });
                if body.len() >= length.unwrap_or(0) {
                    return text;
                }
            }
            if stream.read_buf(&mut read).await.expect("readable") == 0 {
                return text;
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("answered")
}

async fn ask(stream: &mut TcpStream, method: &str, path: &str, body: &str) -> String {
    let request = head(method, path, body.len()) + body;
    stream.write_all(request.as_bytes()).await.expect("sent");
    answer(stream).await
}

/// Takes every connection that it gets, with a question that waits on most, and on some a body
/// whose last byte never comes. Returns them with what those were told that were refused.
async fn take_all(world: &Open) -> (Vec<TcpStream>, Vec<String>) {
    let mut open = Vec::new();
    for number in 0..CONNECTIONS {
        let mut stream = world.connect(GREEDY).await;
        if number < BODIES {
            let bytes = limits::API_BODY_BYTES_MAX;
            let request = head("PUT", &format!("/v1/kv/greedy/{number}"), bytes);
            stream.write_all(request.as_bytes()).await.expect("sent");
            // A refused body is not read: what fits is sent, the rest does not matter.
            let _ = stream.try_write(&vec![b'x'; bytes - 1]);
        } else {
            let path = format!("/v1/kv/wait/{number}?index=1&wait=600s");
            stream.write_all(head("GET", &path, 0).as_bytes()).await.expect("sent");
        }
        open.push(stream);
    }
    let mut refused = Vec::new();
    for stream in &mut open[..BODIES] {
        let most = limits::API_BODIES_BYTES_PER_SENDER_MAX / limits::API_BODY_BYTES_MAX;
        if refused.len() < BODIES - most {
            // Which of them were first is the server's to say.
            let ready = tokio::time::timeout(Duration::from_millis(200), stream.readable()).await;
            if ready.is_ok() {
                refused.push(answer(stream).await);
            }
        }
    }
    (open, refused)
}

/// Opens connections until twenty have been turned away; those whose body was refused have made
/// room for others. Returns how many were told why they are closed.
async fn fill(world: &Open, open: &mut Vec<TcpStream>) -> usize {
    let mut turned_away = 0;
    for number in 0..2 * CONNECTIONS {
        let mut stream = world.connect(GREEDY).await;
        let told = tokio::time::timeout(Duration::from_millis(200), stream.readable()).await;
        if told.is_ok() {
            let told = answer(&mut stream).await;
            assert!(told.starts_with("HTTP/1.1 429 "), "{told}");
            assert!(told.contains("too many connections"), "{told}");
            turned_away += 1;
        } else {
            let path = format!("/v1/kv/more/{number}?index=1&wait=600s");
            stream.write_all(head("GET", &path, 0).as_bytes()).await.expect("sent");
            open.push(stream);
        }
        if turned_away == 20 {
            break;
        }
    }
    turned_away
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_greedy_client_is_refused_and_the_others_are_answered() {
    let world = Open::start(LimitsSection::default()).await;
    let mut other = world.connect(OTHER).await;
    let first = ask(&mut other, "PUT", "/v1/kv/a", "0").await;
    assert!(first.ends_with("true"), "{first}");
    let (mut open, refused) = take_all(&world).await;
    let most = limits::API_BODIES_BYTES_PER_SENDER_MAX / limits::API_BODY_BYTES_MAX;
    assert_eq!(refused.len(), BODIES - most, "bodies beyond its share are refused");
    for answer in &refused {
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        assert!(answer.contains("this client has bodies of"), "{answer}");
    }
    let turned_away = fill(&world, &mut open).await;
    assert!(turned_away >= 20, "{turned_away}");

    let mut slowest = Duration::ZERO;
    for number in 1..=100 {
        let began = Instant::now();
        let put = ask(&mut other, "PUT", "/v1/kv/a", &number.to_string()).await;
        assert!(put.ends_with("true"), "{put}");
        let got = ask(&mut other, "GET", "/v1/kv/a?raw", "").await;
        assert!(got.ends_with(&format!("\r\n\r\n{number}")), "{got}");
        slowest = slowest.max(began.elapsed());
    }
    let mut large = world.connect(OTHER).await;
    let put = ask(&mut large, "PUT", "/v1/kv/large", &"x".repeat(400_000)).await;
    assert!(put.ends_with("true"), "{}", &put[..put.len().min(200)]);
    // A disk that is busy with others may take a while; a queue behind the greedy one has no end.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");

    // What it gives back it may take again.
    drop(open);
    let again = async {
        loop {
            let mut stream = world.connect(GREEDY).await;
            let told = ask(&mut stream, "PUT", "/v1/kv/b", &"x".repeat(400_000)).await;
            if told.starts_with("HTTP/1.1 200 ") {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, again).await.expect("its places came back");
    world.server.stop().await;
}
