//! Two requests on one connection between proxies, one of which is not allowed any more.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::AsyncReadExt;
use weft_core::intention::IntentionSet;
use weft_runtime::net::{TcpListener, TcpStream};

use super::pair::{Raw, Running};

/// Has two requests under way to an application at the listener, then forbids one of them: that one
/// ends, the other waits for its answer still and is returned, with
/// the application's ends.
pub(crate) async fn one_of_two_is_cut(
    call: SocketAddr,
    server: &Running,
    app: &TcpListener,
) -> (Raw, Vec<TcpStream>) {
    let permit = |methods: serde_json::Value| {
        let intention = json!({ "source": "client", "destination": "web", "action": "deny",
            "precedence": 9, "permissions": [
                { "Action": "allow", "HTTP": { "PathPrefix": "/", "Methods": methods } },
            ] });
        let set = json!({ "intentions": [intention], "default_action": "deny" });
        let set: IntentionSet = serde_json::from_value(set).expect("a set");
        server.change(|snapshot| snapshot.inbound.intentions = set)
    };
    permit(json!(["GET", "PUT"])).await;
    let (mut stays, mut goes) = (Raw::connect(call).await, Raw::connect(call).await);
    stays.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
    goes.send("PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n").await;
    let mut asked = Vec::new();
    for _ in 0..2 {
        let (mut stream, _) = app.accept().await.expect("a request");
        stream.read_exact(&mut [0; 4]).await.expect("its head");
        asked.push(stream);
    }
    permit(json!(["GET"])).await;
    let answer = goes.until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 50") || answer.starts_with("HTTP/1.1 403"), "{answer}");
    let read = stays.0.try_read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(std::io::ErrorKind::WouldBlock), "it waits for its answer still");
    (stays, asked)
}
