//! gRPC-Web callers before a service that speaks gRPC: by bytes of the specification, over HTTP/1.1.

use std::convert::Infallible;
use std::net::SocketAddr;

use crate::support::pair::{Pair, Raw, localhost};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use weft_core::config_entry::{IntentionAction, Protocol};
use weft_core::traffic::grpc_web::{Decoder, encode};
use weft_runtime::net;

/// A service that answers each message with itself twice, and says what it got in its trailers.
async fn service() -> SocketAddr {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(serving);
        }
    });
    address
}

type Frames = futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

async fn answer(request: Request<Incoming>) -> Result<Response<StreamBody<Frames>>, Infallible> {
    let (head, body) = request.into_parts();
    let kind = head.headers["content-type"].clone();
    let is_grpc =
        head.headers["te"] == "trailers" && kind.as_bytes().starts_with(b"application/grpc");
    let asked = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", if is_grpc { "0" } else { "13" }.parse().expect("a value"));
    trailers.insert("x-got", kind);
    let frames = match head.uri.path() {
        "/s/Fails" => vec![],
        _ => vec![
            Ok(Frame::data(asked.clone())),
            Ok(Frame::data(asked)),
            Ok(Frame::trailers(trailers)),
        ],
    };
    let mut answer = Response::builder().header("content-type", "application/grpc+proto");
    if head.uri.path() == "/s/Fails" {
        answer = answer.header("grpc-status", "5");
    }
    Ok(answer.body(StreamBody::new(futures::stream::iter(frames))).expect("an answer"))
}

async fn ask(pair: &Pair, path: &str, kind: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut raw = Raw::connect(pair.call).await;
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: web\r\ncontent-type: {kind}\r\nx-grpc-web: 1\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    raw.send(&head).await;
    tokio::io::AsyncWriteExt::write_all(&mut raw.0, body).await.expect("sent");
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut raw.0, &mut answer).await.expect("the end");
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(answer[..at].to_vec()).expect("text");
    let mut body = answer.split_off(at);
    if head.contains("chunked") {
        let mut whole = Vec::new();
        while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
            let length = std::str::from_utf8(&body[..end]).expect("a length");
            let length = usize::from_str_radix(length, 16).expect("a length");
            whole.extend_from_slice(&body[end + 2..end + 2 + length]);
            body.drain(..end + 2 + length + 2);
        }
        body = whole;
    }
    (head, body)
}

const MESSAGE: &[u8] = b"\0\0\0\0\x05\xffweft";

#[tokio::test]
async fn callers_of_grpc_web_get_trailers_in_the_body() {
    let pair = Pair::start(Protocol::Grpc, service().await).await;
    let trailers = b"grpc-status: 0\r\nx-got: application/grpc+proto\r\n";
    let mut want = [MESSAGE, MESSAGE, &[0x80, 0, 0, 0, trailers.len() as u8]].concat();
    want.extend_from_slice(trailers);
    let (head, body) = ask(&pair, "/s/Echo", "application/grpc-web+proto", MESSAGE).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("content-type: application/grpc-web+proto\r\n"), "{head}");
    assert_eq!(body, want);

    // Each piece of a text may be padded by itself.
    let text = [encode(&MESSAGE[..4]), encode(&MESSAGE[4..])].concat();
    let (head, body) =
        ask(&pair, "/s/Echo", "application/grpc-web-text+proto", text.as_bytes()).await;
    assert!(head.contains("content-type: application/grpc-web-text+proto\r\n"), "{head}");
    assert_eq!(Decoder::default().decode(&body).expect("base64"), want);

    let (head, body) = ask(&pair, "/s/Fails", "application/grpc-web+proto", MESSAGE).await;
    assert!(head.contains("grpc-status: 5\r\n") && body.is_empty(), "{head}");

    // The service gets nothing that cannot be read; its proxy's refusals are in the caller's terms.
    let (head, _) = ask(&pair, "/s/Echo", "application/grpc-web-text", b"no base64!").await;
    assert!(!head.contains("grpc-status: 0"), "{head}");
    pair.server.default_action(IntentionAction::Deny).await;
    let (head, _) = ask(&pair, "/s/Echo", "application/grpc-web+proto", MESSAGE).await;
    assert!(
        head.contains("content-type: application/grpc-web") && head.contains("grpc-status: 7"),
        "{head}"
    );
}
