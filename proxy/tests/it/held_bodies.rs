//! Bodies that an external authoriser is shown before they go on, however they are framed.

use crate::support::pair::{App, Pair, Raw, http2};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use weft_core::config_entry::Protocol;

/// Has an authoriser asked that is told four bytes.
async fn ask(pair: &Pair, authoriser: &App, allows_partial: bool) {
    let ext_authz = json!({ "address": authoriser.address, "config": {
        "HttpService": { "Target": { "URI": authoriser.address.to_string(),
            "Timeout": "5s" } },
        "WithRequestBody": { "MaxRequestBytes": 4, "AllowPartialMessage": allows_partial } } });
    let ext_authz = serde_json::from_value(ext_authz).expect("an authoriser");
    pair.server.change(|snapshot| snapshot.inbound.ext_authz = Some(ext_authz)).await;
}

/// The bytes that the service got.
fn bytes(answer: &str) -> Option<u64> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let seen: Value = serde_json::from_str(body.trim()).ok()?;
    seen["bytes"].as_u64()
}

#[tokio::test]
async fn http1_bodies_are_shown_whatever_their_framing() {
    let (app, authoriser) = (App::start("web").await, App::start("authoriser").await);
    let pair = Pair::start(Protocol::Http, app.address).await;
    let head = "POST /a HTTP/1.1\r\nHost: web\r\nConnection: close\r\n";
    for (allows_partial, framing, body, wanted) in [
        (false, "Content-Length: 4\r\n", "abcd", Ok(4)),
        (false, "Content-Length: 5\r\n", "abcde", Err("413")),
        (true, "Content-Length: 5\r\n", "abcde", Ok(5)),
        (false, "Transfer-Encoding: chunked\r\n", "1\r\na\r\n3;x\r\nbcd\r\n0\r\n\r\n", Ok(4)),
        (false, "Transfer-Encoding: chunked\r\n", "5\r\nabcde\r\n0\r\n\r\n", Err("413")),
        (true, "Transfer-Encoding: chunked\r\n", "5\r\nabcde\r\n0\r\n\r\n", Ok(5)),
        (false, "Transfer-Encoding: chunked\r\n", "1 \r\na\r\n0\r\n\r\n", Err("400")),
        (false, "", "", Ok(0)),
    ] {
        ask(&pair, &authoriser, allows_partial).await;
        let before = authoriser.count();
        let mut raw = Raw::connect(pair.call).await;
        // It comes in two pieces, unless the first is enough for a refusal: nobody waits long then.
        let at = if wanted.is_ok() { body.len() / 2 } else { body.len() };
        let (first, second) = body.split_at(at);
        raw.send(&format!("{head}{framing}\r\n{first}")).await;
        raw.send(second).await;
        let answer = raw.rest().await;
        match wanted {
            Ok(count) => {
                assert!(answer.starts_with("HTTP/1.1 200"), "{framing}{body}: {answer}");
                assert_eq!(bytes(&answer), Some(count), "{framing}{body}: {answer}");
                assert_eq!(authoriser.count(), before + 1, "{framing}{body}");
            }
            Err(status) => {
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{framing}: {answer}");
                assert_eq!(authoriser.count(), before, "{framing}{body}");
            }
        }
    }
}

#[tokio::test]
async fn who_waits_to_be_asked_for_the_body_is_asked() {
    let (app, authoriser) = (App::start("web").await, App::start("authoriser").await);
    let pair = Pair::start(Protocol::Http, app.address).await;
    ask(&pair, &authoriser, false).await;
    let mut raw = Raw::connect(pair.call).await;
    raw.send("POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        .await;
    raw.until("HTTP/1.1 100").await;
    raw.send("ab").await;
    assert!(raw.until("\"bytes\":2").await.contains("HTTP/1.1 200"));
}

#[tokio::test]
async fn http2_bodies_are_shown_as_well() {
    let (app, authoriser) = (App::start("web").await, App::start("authoriser").await);
    let pair = Pair::start(Protocol::Http2, app.address).await;
    let mut sender = http2(pair.call).await;
    for (allows_partial, body, wanted) in
        [(false, "abcd", 200), (false, "abcde", 413), (true, "abcde", 200), (false, "", 200)]
    {
        ask(&pair, &authoriser, allows_partial).await;
        let before = authoriser.count();
        let request = Request::post(format!("http://{}/a", pair.call))
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), wanted, "{allows_partial} {body}");
        let said = answer.into_body().collect().await.expect("a body").to_bytes();
        if wanted == 200 {
            let seen: Value = serde_json::from_slice(&said).expect("JSON");
            assert_eq!(seen["bytes"], body.len(), "{seen}");
        }
        assert_eq!(authoriser.count(), before + usize::from(wanted == 200), "{body}");
    }
}
