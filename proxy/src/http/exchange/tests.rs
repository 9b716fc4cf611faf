//! Attempts after one that failed.

use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::scripted::Scripted;
use super::*;
use crate::listen::Live;

async fn served(request: &str, wires: Vec<DuplexStream>) -> String {
    let (mut caller, client) = tokio::io::duplex(4096);
    let hop = Scripted::new(wires);
    let session = Session::new(client, hop, Rc::new(Live::default()), Buffer::default());
    let calling = async {
        caller.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    tokio::join!(session.run(), calling).1
}

const GET: &str = "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn what_could_not_be_written_once_is_written_by_the_next_attempt() {
    for (request, want) in [(GET, "HTTP/1.1 200 "), (POST, "HTTP/1.1 502 ")] {
        let (mut app, fresh) = tokio::io::duplex(4096);
        let (gone, stale) = tokio::io::duplex(4096);
        drop(gone);
        app.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("scripted");
        let answer = served(request, vec![fresh, stale]).await;
        assert!(answer.starts_with(want), "{answer}");
        let mut seen = String::new();
        app.read_to_string(&mut seen).await.expect("what was sent");
        assert_eq!(seen.starts_with("GET / HTTP/1.1\r\n"), request == GET, "{seen:?}");
        assert_eq!(seen.is_empty(), request == POST, "{seen:?}");
    }
}
