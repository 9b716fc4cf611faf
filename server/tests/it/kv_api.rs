//! `/v1/kv/…` as clients see it.

use std::time::Duration;

use crate::support::world::{Open, header, index};
use http::{Method, StatusCode};
use serde_json::json;
use weft_server::config::LimitsSection;

async fn start() -> Open {
    Open::start(LimitsSection { kv_max_value_size: Some(1_000), ..Default::default() }).await
}

impl Open {
    async fn put_text(&self, path: &str, body: &str) -> String {
        let answer = self.call(Method::PUT, path, body.as_bytes()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.text()
    }

    async fn delete(&self, path: &str) -> String {
        let answer = self.call(Method::DELETE, path, b"").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.text()
    }

    async fn is_missing(&self, path: &str) -> u64 {
        let answer = self.call(Method::GET, path, b"").await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::NOT_FOUND, ""), "{path}");
        index(&answer)
    }
}

#[tokio::test]
async fn entries_are_written_read_and_removed_in_the_shapes_that_clients_know() {
    let world = start().await;
    assert_eq!(world.is_missing("/v1/kv/a/b").await, 1);
    assert_eq!(world.put_text("/v1/kv/a/b?flags=18446744073709551615", "test").await, "true");
    let (index, entries) = world.get("/v1/kv/a/b").await;
    assert_eq!(
        entries,
        json!([{ "LockIndex": 0, "Key": "a/b", "Flags": u64::MAX, "Value": "dGVzdA==",
                 "CreateIndex": index, "ModifyIndex": index }])
    );
    let raw = world.call(Method::GET, "/v1/kv/a/b?raw", b"").await;
    assert_eq!(raw.text(), "test");
    assert_eq!(header(&raw, "content-type"), "text/plain");
    assert_eq!(header(&raw, "content-security-policy"), "sandbox");
    assert_eq!(header(&raw, "x-content-type-options"), "nosniff");

    // Any bytes, any text as a key, and an empty value, which is null.
    let answer = world.call(Method::PUT, "/v1/kv/a/%C3%A9%20%2F?flags=3", &[0, 255]).await;
    assert_eq!(answer.text(), "true");
    assert_eq!(world.get("/v1/kv/a/%C3%A9%20%2F").await.1[0]["Value"], "AP8=");
    world.put_text("/v1/kv/c", "").await;
    assert!(world.get("/v1/kv/c").await.1[0]["Value"].is_null());

    let (_, keys) = world.get("/v1/kv/?keys&separator=/").await;
    assert_eq!(keys, json!(["a/", "c"]));
    assert_eq!(world.get("/v1/kv/a?keys&seperator=/").await.1, json!(["a/"]));
    assert_eq!(world.get("/v1/kv/a/?keys").await.1, json!(["a/b", "a/é /"]));
    let (_, tree) = world.get("/v1/kv/?recurse").await;
    assert_eq!(tree.as_array().map(Vec::len), Some(3));
    for path in ["/v1/kv/x?keys", "/v1/kv/x?recurse", "/v1/kv/x?raw"] {
        world.is_missing(path).await;
    }
    assert_eq!(world.delete("/v1/kv/a?recurse").await, "true");
    assert_eq!(world.delete("/v1/kv/c").await, "true");
    assert_eq!(world.delete("/v1/kv/c").await, "true");
    assert_eq!(world.get("/v1/kv/?keys").await.1, json!([]));
    assert_eq!(world.get("/v1/kv?keys").await.1, json!([]));
    world.is_missing("/v1/kv/?recurse").await;
    world.server.stop().await;
}

#[tokio::test]
async fn conditions_answer_true_or_false() {
    let world = start().await;
    assert_eq!(world.put_text("/v1/kv/a?cas=7", "x").await, "false");
    assert_eq!(world.put_text("/v1/kv/a?cas=0", "x").await, "true");
    assert_eq!(world.put_text("/v1/kv/a?cas=0", "y").await, "false");
    let (at, _) = world.get("/v1/kv/a").await;
    assert_eq!(world.put_text(&format!("/v1/kv/a?cas={at}"), "z").await, "true");
    assert_eq!(world.delete(&format!("/v1/kv/a?cas={at}")).await, "false");
    // What is equal already stays as it is.
    let (at, _) = world.get("/v1/kv/a").await;
    assert_eq!(world.put_text("/v1/kv/a", "z").await, "true");
    assert_eq!(world.get("/v1/kv/a").await.0, at);
    assert_eq!(world.delete(&format!("/v1/kv/a?cas={at}")).await, "true");
    assert_eq!(world.delete("/v1/kv/a?cas=1").await, "true");
    world.server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_in_words() {
    let world = start().await;
    let id = "adf4238a-882b-9ddc-4a9d-5b6758e4159e";
    let long = "x".repeat(1_001);
    for (method, path, body, status, text) in [
        (Method::PUT, "/v1/kv/", "", 400, "Missing key name"),
        (Method::GET, "/v1/kv/", "", 400, "Missing key name"),
        (Method::DELETE, "/v1/kv", "", 400, "Missing key name"),
        (Method::PUT, "/v1/kv/a?cas=1&acquire=x", "", 400, "Conflicting flags: acquire&cas"),
        (Method::DELETE, "/v1/kv/a?cas=1&recurse", "", 400, "Conflicting flags: cas&recurse"),
        (Method::PUT, "/v1/kv/a?cas=x", "", 400, "Invalid value for ?cas"),
        (Method::PUT, "/v1/kv/a?flags=-1", "", 400, "Invalid value for ?flags"),
        (Method::PUT, "/v1/kv/a?acquire=x", "", 500, "invalid session \"x\""),
        (Method::PUT, &format!("/v1/kv/a?acquire={id}"), "", 500, "invalid session \"adf4"),
        (Method::PUT, "/v1/kv/a?acquire=", "", 500, "missing session"),
        (Method::PUT, "/v1/kv/a/%2e%2e/b", "", 400, "Invalid key name"),
        (Method::PUT, "/v1/kv/%20a", "", 400, "Invalid key name"),
        (Method::PUT, &format!("/v1/kv/{}", "k".repeat(1_025)), "", 400, "more than the 1024"),
        (Method::PUT, "/v1/kv/a", &long, 413, "Request body(1001 bytes) too large"),
        (Method::POST, "/v1/kv/a", "", 405, "method POST not allowed"),
    ] {
        let answer = world.call(method, path, body.as_bytes()).await;
        let told = answer.text();
        assert_eq!(answer.status.as_u16(), status, "{path}: {told}");
        assert!(told.starts_with(text) || status == 400 && told.contains(text), "{path}: {told}");
    }
    for words in ["Value exceeds", "is too large", "Request body"] {
        for length in [1_001, 1 << 20, (1 << 20) + 1] {
            let answer = world.call(Method::PUT, "/v1/kv/a", &vec![b'x'; length]).await;
            assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
            assert!(answer.text().contains(words), "{length}: {}", answer.text());
        }
    }
    world.is_missing("/v1/kv/a").await;
    world.server.stop().await;
}

#[tokio::test]
async fn who_waits_for_a_key_or_a_prefix_is_answered_when_it_changes_and_not_before() {
    let world = start().await;
    world.put_text("/v1/kv/a/1", "x").await;
    let (at_key, _) = world.get("/v1/kv/a/1").await;
    let (at_tree, _) = world.get("/v1/kv/a/?recurse").await;
    let at_missing = world.is_missing("/v1/kv/a/2").await;
    world.put_text("/v1/kv/b", "x").await;

    // Another key changed: these wait until their time is over, and answer with the same index.
    for path in [
        format!("/v1/kv/a/1?index={at_key}&wait=50ms"),
        format!("/v1/kv/a/?recurse&index={at_tree}&wait=50ms"),
        format!("/v1/kv/a/?keys&index={at_tree}&wait=50ms"),
    ] {
        let began = std::time::Instant::now();
        let (index, _) = world.get(&path).await;
        assert!(began.elapsed() >= Duration::from_millis(50), "{path}");
        assert_eq!(index, at_key, "{path}");
    }
    let began = std::time::Instant::now();
    world.is_missing(&format!("/v1/kv/a/2?index={at_missing}&wait=50ms")).await;
    assert!(began.elapsed() >= Duration::from_millis(50));

    let path = format!("/v1/kv/a/2?index={at_missing}&wait=60s");
    let (appeared, _) = tokio::join!(world.get(&path), world.put_text("/v1/kv/a/2", "y"));
    assert_eq!(appeared.1[0]["Value"], "eQ==");
    let path = format!("/v1/kv/a/?keys&index={at_tree}&wait=60s");
    assert_eq!(world.get(&path).await.1, json!(["a/1", "a/2"]));
    let path = format!("/v1/kv/a/1?index={at_key}&wait=60s");
    let (gone, _) = tokio::join!(world.is_missing(&path), world.delete("/v1/kv/a/?recurse"));
    assert!(gone > at_key);
    world.server.stop().await;
}
