//! `/v1/session/…`, `/v1/txn`, `/v1/event/…` and `/v1/coordinate/…` as clients see them.

use std::time::Duration;

use crate::support::TestHost;
use crate::support::world::Open;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use weft_core::time::Span;
use weft_server::config::LimitsSection;

impl Open {
    /// With a node that no agent speaks for.
    async fn with_node() -> Self {
        let limits = LimitsSection {
            session_ttl_min: Some(Span(Duration::from_millis(100))),
            txn_max_ops: Some(130),
            ..Default::default()
        };
        let world = Self::start(limits).await;
        let node = json!({ "Node": "ext", "Address": "10.0.0.9",
            "Check": { "Name": "up", "Status": "passing" } });
        world.put("/v1/catalog/register", node).await;
        world
    }

    async fn put(&self, path: &str, body: Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.call(Method::PUT, path, &text).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json().expect("JSON")
    }

    async fn session(&self, body: Value) -> String {
        let made = self.put("/v1/session/create", body).await;
        made["ID"].as_str().expect("an id").to_owned()
    }
}

#[tokio::test]
async fn a_session_is_made_shown_and_ended_and_frees_its_lock() {
    let world = Open::with_node().await;
    let id = world.session(json!({ "Name": "one", "Node": "ext", "LockDelay": "0s" })).await;
    let (_, shown) = world.get(&format!("/v1/session/info/{id}")).await;
    assert_eq!((&shown[0]["Name"], &shown[0]["LockDelay"]), (&json!("one"), &json!(0)));
    assert_eq!(shown[0]["NodeChecks"], json!(["serfHealth"]));
    for path in ["/v1/session/list", "/v1/session/node/EXT"] {
        assert_eq!(world.get(path).await.1[0]["ID"], json!(id), "{path}");
    }
    let key = format!("/v1/kv/lock?acquire={id}");
    assert_eq!(world.put(&key, json!("mine")).await, true);
    let (at, entry) = world.get("/v1/kv/lock").await;
    assert_eq!((&entry[0]["Session"], &entry[0]["LockIndex"]), (&json!(id), &json!(1)));

    // The end of the session and of the lock are one change.
    let path = format!("/v1/kv/lock?index={at}&wait=60s");
    let destroy = format!("/v1/session/destroy/{id}");
    let (freed, _) = tokio::join!(world.get(&path), world.put(&destroy, Value::Null));
    assert!(freed.1[0].get("Session").is_none(), "{}", freed.1);
    assert_eq!(world.get(&format!("/v1/session/info/{id}")).await, (freed.0, json!([])));
    assert_eq!(world.put(&destroy, Value::Null).await, true);
    let answer = world.call(Method::PUT, &format!("/v1/session/renew/{id}"), "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.text(), format!("Session id '{id}' not found"));

    for (body, status, told) in [
        (json!({ "Node": "ext", "TTL": "1ms" }), 500, "Invalid Session TTL"),
        (json!({ "Node": "none" }), 500, "Missing node registration"),
        (json!({ "Node": "ext", "Checks": ["x"] }), 500, "Missing check 'x' registration"),
        (json!({}), 400, "Must provide Node"),
        (json!({ "Node": "ext", "Behavior": "x" }), 400, "Request decode failed: Behavior"),
    ] {
        let answer = world.call(Method::PUT, "/v1/session/create", &body.to_string()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}");
        assert!(answer.text().starts_with(told), "{body}: {}", answer.text());
    }
    world.server.stop().await;
}

#[tokio::test]
async fn a_session_ends_at_twice_its_ttl_unless_it_is_renewed() {
    let world = Open::with_node().await;
    let host = TestHost::join(&world.server, "n1").await;
    let node = json!({ "node": { "ID": "id-1", "Node": "n1", "Address": "10.0.0.1",
        "Datacenter": "dc1" } });
    host.register(node).await.expect("written");
    // Through an agent the node need not be said.
    let body = r#"{"TTL":"250ms","behavior":"delete"}"#;
    let made = host.call(Method::PUT, &world.server, "/v1/session/create", body).await;
    let made: Value = made.json().expect("JSON");
    let id = made["ID"].as_str().expect("an id");
    assert_eq!(world.get(&format!("/v1/session/info/{id}")).await.1[0]["Node"], "n1");
    world.put(&format!("/v1/kv/lock?acquire={id}"), json!(1)).await;
    let (at, _) = world.get("/v1/kv/lock").await;
    let began = std::time::Instant::now();
    let wait = format!("/v1/kv/lock?index={at}&wait=100ms");
    // Each look takes 100 ms, which is not yet the end.
    for _ in 0..7 {
        assert_eq!(world.get(&wait).await.1[0]["Session"], json!(id));
        world.put(&format!("/v1/session/renew/{id}"), Value::Null).await;
    }
    assert!(began.elapsed() > Duration::from_millis(600), "it was renewed beyond its time");
    let renewed = std::time::Instant::now();
    let gone = world.call(Method::GET, &format!("/v1/kv/lock?index={at}&wait=60s"), "").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert!(renewed.elapsed() >= Duration::from_millis(400), "{:?}", renewed.elapsed());
    assert_eq!(world.get("/v1/session/list").await.1, json!([]));
    world.server.stop().await;
}

#[tokio::test]
async fn sessions_that_a_snapshot_brings_back_have_their_whole_time_and_no_more() {
    let world = Open::with_node().await;
    let host = TestHost::join(&world.server, "n1").await;
    let node = json!({ "node": { "ID": "id-1", "Node": "n1", "Address": "10.0.0.1",
        "Datacenter": "dc1" } });
    host.register(node).await.expect("written");
    let made = async || {
        let body = r#"{"TTL":"300ms","NodeChecks":[]}"#;
        let made = host.call(Method::PUT, &world.server, "/v1/session/create", body).await;
        let made: Value = made.json().expect("JSON");
        made["ID"].as_str().expect("an id").to_owned()
    };
    let old = made().await;
    let saved = host.call(Method::GET, &world.server, "/v1/snapshot", "").await.body;
    world.put(&format!("/v1/session/destroy/{old}"), Value::Null).await;
    // The times of a session that is younger than the snapshot are kept when it is restored.
    let young = made().await;
    let restored = host.call(Method::PUT, &world.server, "/v1/snapshot", &saved).await;
    assert_eq!(restored.status, StatusCode::OK, "{}", restored.text());
    let back = std::time::Instant::now();
    let (mut at, there) = world.get("/v1/session/list").await;
    assert_eq!(there[0]["ID"], json!(old), "{there}, not {young}");
    loop {
        let (index, there) = world.get(&format!("/v1/session/list?index={at}&wait=10s")).await;
        assert!(back.elapsed() < Duration::from_secs(9), "it lives for ever");
        if there == json!([]) {
            break;
        }
        at = index;
    }
    assert!(back.elapsed() >= Duration::from_millis(550), "{:?}", back.elapsed());
    world.server.stop().await;
}

#[tokio::test]
async fn transactions_answer_in_the_shapes_that_clients_read() {
    let world = Open::with_node().await;
    let done = world
        .put(
            "/v1/txn",
            json!([{ "KV": { "Verb": "set", "Key": "a", "Value": "dGVzdA==", "Flags": 7 } },
                   { "KV": { "Verb": "get", "Key": "a" } },
                   { "KV": { "Verb": "delete", "Key": "none" } },
                   { "Check": { "Verb": "get", "Check": { "Node": "ext", "CheckID": "up" } } }]),
        )
        .await;
    let results = done["Results"].as_array().expect("a list");
    assert_eq!(results.len(), 3, "{done}");
    assert!(results[0]["KV"]["Value"].is_null() && done["Errors"].is_null());
    assert_eq!(results[1]["KV"]["Value"], "dGVzdA==");
    assert_eq!(results[2]["Check"]["Status"], "passing");

    let failing = json!([{ "KV": { "Verb": "set", "Key": "b", "Value": null } },
                         { "KV": { "Verb": "check-index", "Key": "a", "Index": 1 } }]);
    let answer = world.call(Method::PUT, "/v1/txn", &failing.to_string()).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let told: Value = answer.json().expect("JSON");
    assert_eq!(told["Errors"][0]["OpIndex"], 1);
    assert!(told["Errors"][0]["What"].as_str().is_some_and(|it| it.contains("failed index check")));
    assert_eq!(world.call(Method::GET, "/v1/kv/b", "").await.status, StatusCode::NOT_FOUND);

    // As Vault asks at its start; and one more than is configured.
    let looks = |count: usize| {
        let look = |at| json!({ "KV": { "Verb": "get-or-empty", "Key": format!("k{at}") } });
        Value::from((0..count).map(look).collect::<Vec<Value>>())
    };
    let answer = world.put("/v1/txn", looks(130)).await;
    assert_eq!(answer["Results"].as_array().map(Vec::len), Some(130));
    let answer = world.call(Method::PUT, "/v1/txn", &looks(131).to_string()).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.text().contains("too many operations"), "{}", answer.text());
    world.server.stop().await;
}

#[tokio::test]
async fn events_and_coordinates_are_kept_and_told() {
    let world = Open::with_node().await;
    let (none, events) = world.get("/v1/event/list").await;
    assert_eq!((none, events), (1, json!([])));
    let fired = world.call(Method::PUT, "/v1/event/fire/deploy?node=^n", "now").await;
    let fired: Value = fired.json().expect("JSON");
    assert_eq!((&fired["Name"], &fired["Payload"]), (&json!("deploy"), &json!("bm93")));
    world.call(Method::PUT, "/v1/event/fire/other", "").await;
    let (_, events) = world.get("/v1/event/list?name=deploy").await;
    assert_eq!((&events[0]["ID"], &events[0]["LTime"]), (&fired["ID"], &json!(1)));
    let (at, events) = world.get("/v1/event/list").await;
    assert_eq!(events.as_array().map(Vec::len), Some(2));
    // An index that is not that of the last event is old, whatever its size.
    assert_eq!(world.get("/v1/event/list?index=18446744073709551615").await.0, at);
    let wait = format!("/v1/event/list?index={at}&wait=60s");
    let fire = world.call(Method::PUT, "/v1/event/fire/third", "");
    let (next, _) = tokio::join!(world.get(&wait), fire);
    assert_ne!(next.0, at);
    assert_eq!(next.1[2]["Name"], "third");
    let answer = world.call(Method::PUT, "/v1/event/fire/x", &"x".repeat(301)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let answer = world.call(Method::PUT, "/v1/event/fire/x?node=(", "").await;
    assert!(answer.text().starts_with("Invalid node filter"), "{}", answer.text());

    let coordinate = json!({ "Node": "ext", "Coord": { "Vec": [0, 0, 0, 0, 0, 0, 0, 0.5],
        "Error": 1.5, "Adjustment": 0, "Height": 0.00001 } });
    let answer = world.call(Method::PUT, "/v1/coordinate/update", &coordinate.to_string()).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, ""));
    for path in ["/v1/coordinate/nodes", "/v1/coordinate/node/ext"] {
        let (_, told) = world.get(path).await;
        assert_eq!((&told[0]["Node"], &told[0]["Coord"]["Vec"][7]), (&json!("ext"), &json!(0.5)));
    }
    let answer = world.call(Method::GET, "/v1/coordinate/node/none", "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let answer = world.call(Method::GET, "/v1/coordinate/datacenters", "").await;
    assert_eq!(answer.json::<Value>().expect("JSON")[0]["Datacenter"], "dc1");
    world.server.stop().await;
}
