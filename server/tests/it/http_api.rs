//! The JSON API as agents pass it on.

use std::time::Duration;

use crate::support::TestHost;
use crate::support::world::{Joined, header, index};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use weft_proto::grpc::v1 as wire;
use weft_runtime::http::HttpResponse;

impl Joined {
    async fn put(&self, path: &str, body: Value) -> HttpResponse {
        self.call(Method::PUT, path, &body.to_string()).await
    }

    async fn register(&self, status: &str) -> u64 {
        let registration = json!({
            "node": { "ID": "id-1", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1",
                      "Meta": { "rack": "r1" } },
            "services": [
                { "ID": "web-1", "Service": "web", "Port": 8080, "Tags": ["v1", "Prod"] },
                { "ID": "web-1-sidecar-proxy", "Service": "web-sidecar-proxy", "Port": 21000,
                  "Kind": "connect-proxy", "Proxy": { "DestinationServiceName": "web",
                  "DestinationServiceID": "web-1" } },
            ],
            "checks": [{ "Node": "n1", "CheckID": "c1", "Name": "c1", "Status": status,
                         "ServiceID": "web-1" }],
        });
        self.host.register(registration).await.expect("written")
    }
}

#[tokio::test]
async fn the_catalog_and_its_health_have_the_shapes_that_clients_read() {
    let world = Joined::start().await;
    let (empty_index, empty) = world.get_indexed("/v1/health/service/web").await;
    assert_eq!(empty, json!([]));
    assert!(empty_index >= 1);
    world.register("passing").await;

    let (_, services) = world.get_indexed("/v1/catalog/services").await;
    assert_eq!(services, json!({ "web": ["Prod", "v1"], "web-sidecar-proxy": [] }));
    let (_, nodes) = world.get_indexed("/v1/catalog/nodes?node-meta=rack:r1").await;
    assert_eq!(nodes[0]["Node"], "n1");
    assert_eq!(world.get_indexed("/v1/catalog/nodes?node-meta=rack:r2").await.1, json!([]));
    let (_, flat) = world.get_indexed("/v1/catalog/service/web?tag=V1&tag=prod").await;
    assert_eq!(flat[0]["ServiceID"], "web-1");
    assert_eq!(flat[0]["ServicePort"], 8080);
    assert_eq!(world.get_indexed("/v1/catalog/service/web?tag=v2").await.1, json!([]));
    let (_, node) = world.get_indexed("/v1/catalog/node/N1").await;
    assert_eq!(node["Services"]["web-1"]["Service"], "web");
    assert_eq!(world.get_indexed("/v1/catalog/node/none").await.1, Value::Null);
    assert_eq!(world.get_indexed("/v1/catalog/datacenters").await.1, json!(["dc1"]));

    let (_, health) = world.get_indexed("/v1/health/service/web?passing").await;
    assert_eq!(health[0]["Node"]["Node"], "n1");
    assert_eq!(health[0]["Service"]["ID"], "web-1");
    assert_eq!(health[0]["Checks"][0]["CheckID"], "c1");
    let (_, doors) = world.get_indexed("/v1/health/connect/web").await;
    assert_eq!(doors[0]["Service"]["ID"], "web-1-sidecar-proxy");
    assert_eq!(doors[0]["Checks"][0]["CheckID"], "c1");
    world.register("critical").await;
    assert_eq!(world.get_indexed("/v1/health/service/web?passing").await.1, json!([]));
    for path in ["/v1/health/node/n1", "/v1/health/checks/web", "/v1/health/state/any"] {
        assert_eq!(world.get_indexed(path).await.1[0]["Status"], "critical", "{path}");
    }
    assert_eq!(world.get_indexed("/v1/health/state/passing").await.1, json!([]));
    let filter = "/v1/health/service/web?filter=Service.Port%20%3D%3D%208080";
    assert_eq!(world.get_indexed(filter).await.1.as_array().map(Vec::len), Some(1));

    let (_, leader) = world.get_plain("/v1/status/leader").await;
    assert_eq!(leader, json!(world.server.address()));
    assert_eq!(world.get_plain("/v1/status/peers").await.1, json!([world.server.address()]));
    world.server.stop().await;
}

impl Joined {
    /// For pages without an index.
    async fn get_plain(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.call(Method::GET, path, "").await;
        (answer.status, answer.json().expect("JSON"))
    }
}

#[tokio::test]
async fn a_service_is_found_in_any_spelling_and_shown_in_its_own() {
    let world = Joined::start().await;
    let (at, _) = world.get_indexed("/v1/health/service/web").await;
    let path = format!("/v1/health/service/web?index={at}&wait=30s");
    let registration = json!({
        "node": { "ID": "id-1", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1",
                  "Meta": { "rack": "r1" } },
        "services": [
            { "ID": "w", "Service": "Web", "Tags": ["v1"] },
            { "ID": "w-p", "Service": "Web-sidecar-proxy", "Port": 21000, "Kind": "connect-proxy",
              "Proxy": { "DestinationServiceName": "Web", "DestinationServiceID": "w" } },
        ],
        "checks": [{ "Node": "n1", "CheckID": "c", "Name": "c", "Status": "passing",
                     "ServiceID": "w" }],
    });
    let written = async { world.host.register(registration).await.expect("written") };
    let ((_, woken), _) = tokio::join!(world.get_indexed(&path), written);
    assert_eq!(woken[0]["Service"]["Service"], "Web");
    for name in ["web", "Web", "WEB"] {
        for (page, pointer, expected) in [
            ("catalog/service", "/0/ServiceName", "Web"),
            ("catalog/connect", "/0/ServiceID", "w-p"),
            ("health/service", "/0/Service/Service", "Web"),
            ("health/connect", "/0/Service/ID", "w-p"),
            ("health/checks", "/0/ServiceName", "Web"),
        ] {
            let (_, answer) = world.get_indexed(&format!("/v1/{page}/{name}")).await;
            assert_eq!(answer.pointer(pointer), Some(&json!(expected)), "{page} {name}");
        }
    }
    for path in ["/v1/catalog/services", "/v1/catalog/services?node-meta=rack:r1"] {
        let (_, services) = world.get_indexed(path).await;
        assert_eq!(services, json!({ "Web": ["v1"], "Web-sidecar-proxy": [] }), "{path}");
    }
    // Certificates and intentions are for exactly one spelling.
    let csr = crate::support::csr(&crate::support::new_key());
    for (service, is_signed) in [("Web", true), ("web", false)] {
        let request =
            wire::SignLeafRequest { service: service.into(), csr_der: csr.clone().into() };
        assert_eq!(world.host.ca().sign_leaf(request).await.is_ok(), is_signed, "{service}");
    }
    let exact = "/v1/connect/intentions/exact?source=web&destination=db";
    world.put(exact, json!({ "Action": "allow" })).await;
    for (pair, allowed) in [
        ("source=web&destination=db", true),
        ("source=Web&destination=db", false),
        ("source=web&destination=DB", false),
    ] {
        let check = format!("/v1/connect/intentions/check?{pair}");
        assert_eq!(world.get_indexed(&check).await.1["Allowed"], allowed, "{pair}");
    }
    world.server.stop().await;
}

#[tokio::test]
async fn every_answer_says_what_it_is() {
    let world = Joined::start().await;
    let answer = world.call(Method::GET, "/v1/catalog/nodes?consistent", "").await;
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-content-type-options", "nosniff"),
        ("x-consul-knownleader", "true"),
        ("x-consul-lastcontact", "0"),
        ("x-consul-effective-consistency", "consistent"),
        ("x-consul-query-backend", "blocking-query"),
        ("x-consul-default-acl-policy", "allow"),
    ] {
        assert_eq!(header(&answer, name), value, "{name}");
    }
    let answer = world.call(Method::GET, "/v1/catalog/nodes?pretty", "").await;
    assert_eq!(answer.text(), "[]");
    for (method, path, status, text) in [
        (Method::GET, "/v1/nothing", 404, "Invalid URL path: not a recognized HTTP API endpoint"),
        (Method::POST, "/v1/catalog/nodes", 405, "method POST not allowed"),
        (Method::GET, "/v1/catalog/nodes?index=x", 400, "Invalid index"),
        (Method::GET, "/v1/catalog/nodes?index=99999999999999999999", 400, "Invalid index"),
        (Method::GET, "/v1/catalog/nodes?wait=x", 400, "Invalid wait time"),
        (Method::GET, "/v1/catalog/nodes?a=%zz", 400, "Invalid query parameter"),
        (Method::DELETE, "/v1/config/service-defaults/web?cas=", 400, "Invalid value for ?cas"),
        (Method::DELETE, "/v1/config/nothing/web", 400, "\"nothing\" is not a kind"),
        (Method::PUT, "/v1/config/service-defaults/web", 405, "method PUT not allowed"),
        (Method::DELETE, "/v1/connect/intentions/exact?source=a", 400, "'destination' not set"),
        (Method::PUT, "/v1/connect/intentions/exact?source=a&destination=b", 400, "decode failed"),
        (
            Method::PUT,
            "/v1/connect/intentions/exact?source=a%20&destination=b",
            400,
            "Invalid source",
        ),
        (Method::DELETE, "/v1/connect/intentions", 405, "method DELETE not allowed"),
        (Method::GET, "/v1/catalog/nodes?stale&consistent", 400, "Cannot specify ?stale"),
        (Method::GET, "/v1/catalog/nodes?dc=dc9", 500, "No path to datacenter \"dc9\""),
        (Method::GET, "/v1/health/state/bad", 400, "\"bad\" is not a status"),
        (Method::GET, "/v1/health/service/web?passing=x", 400, "Invalid value for ?passing"),
        (Method::GET, "/v1/health/service/a%20b", 400, "service name"),
        (Method::GET, "/v1/health/service/web?filter=(", 400, "Failed to create boolean"),
        (Method::GET, "/v1/catalog/service/web?filter=A%20%3D%3D%20b", 400, "has no field A"),
        (Method::GET, "/v1/config/nothing", 400, "\"nothing\" is not a kind"),
        (Method::GET, "/v1/config/service-defaults/web", 404, "Config entry not found for"),
        (Method::PUT, "/v1/config", 400, "Request decode failed"),
        (Method::GET, "/v1/connect/intentions/exact?source=a", 400, "'destination' not set"),
        (Method::GET, "/v1/connect/intentions/match?by=x&name=a", 400, "'by' parameter must be"),
    ] {
        let answer = world.call(method.clone(), path, "").await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text());
        assert!(answer.text().contains(text), "{method} {path}: {}", answer.text());
        assert_eq!(header(&answer, "content-type"), "text/plain; charset=utf-8", "{path}");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{path}");
    }
    let names = "&name=a".repeat(65);
    let path = format!("/v1/connect/intentions/match?by=source{names}");
    let answer = world.call(Method::GET, &path, "").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    world.server.stop().await;
}

#[tokio::test]
async fn methods_that_only_ask_are_answered() {
    let world = Joined::start().await;
    let answer = world.call(Method::DELETE, "/v1/config", "").await;
    assert_eq!(header(&answer, "allow"), "OPTIONS, PUT");
    let answer = world.call(Method::OPTIONS, "/v1/config/service-defaults/web", "").await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, ""));
    assert_eq!(header(&answer, "allow"), "OPTIONS, GET, DELETE");
    assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
    // HEAD is GET without the body; the length, which may be left out, is.
    for path in ["/v1/catalog/nodes", "/v1/catalog/nodes?pretty", "/v1/catalog/nodes?index=x"] {
        let (head, get) =
            tokio::join!(world.call(Method::HEAD, path, ""), world.call(Method::GET, path, ""));
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.text(), "", "{path}");
        assert_eq!(header(&head, "content-length"), "", "{path}");
        for name in ["content-type", "x-consul-index", "x-content-type-options"] {
            assert_eq!(header(&head, name), header(&get, name), "{path} {name}");
        }
    }
    let answer = world.call(Method::HEAD, "/v1/config", "").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    world.server.stop().await;
}

#[tokio::test]
async fn hosts_without_an_agent_are_registered_and_deregistered() {
    let world = Joined::start().await;
    world.register("passing").await;
    let host = json!({
        "Datacenter": "dc1", "Node": "mainframe", "ID": "x", "Address": "db.example.com",
        "NodeMeta": { "external-node": "true" },
        "Service": { "Service": "ledger", "Port": 5432, "Tags": ["v1"] },
        "Check": { "Name": "up", "ServiceID": "ledger", "Status": "passing" },
    });
    let answer = world.put("/v1/catalog/register", host).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "true"));
    let (_, health) = world.get_indexed("/v1/health/service/ledger?passing").await;
    assert_eq!(health[0]["Node"]["Address"], "db.example.com");
    assert_eq!(health[0]["Checks"][0]["ServiceName"], "ledger");
    // Whoever only has news of a check need not know the node.
    let news = json!({ "Node": "mainframe", "SkipNodeUpdate": true,
        "Check": { "CheckID": "up", "ServiceID": "ledger", "Status": "critical" } });
    assert_eq!(world.put("/v1/catalog/register", news).await.text(), "true");
    let (_, health) = world.get_indexed("/v1/health/service/ledger").await;
    assert_eq!(health[0]["Checks"][0]["Status"], "critical");
    assert_eq!(health[0]["Node"]["Meta"]["external-node"], "true");

    // A node with an agent is that agent's: its own, and no other's.
    let own = json!({ "Node": "N1", "SkipNodeUpdate": true, "Service": { "Service": "extra" } });
    assert_eq!(world.put("/v1/catalog/register", own.clone()).await.text(), "true");
    let other = TestHost::join(&world.server, "n2").await;
    let body = own.to_string();
    let answer = other.call(Method::PUT, &world.server, "/v1/catalog/register", &body).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());
    let body = json!({ "Node": "n1", "ServiceID": "web-1" }).to_string();
    let answer = other.call(Method::PUT, &world.server, "/v1/catalog/deregister", &body).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());

    for (path, body, told) in [
        ("register", json!({ "Node": "x" }), "Address: is missing"),
        ("register", json!({ "Address": "10.0.0.1" }), "Node: is missing"),
        ("register", json!({ "Node": "x", "SkipNodeUpdate": true }), "Address: is missing"),
        ("register", json!({ "Node": "x", "Address": "a", "Datacenter": "dc9" }), "Datacenter: is"),
        (
            "register",
            json!({ "Node": "x", "Address": "a", "Check": { "Name": "c",
            "ServiceID": "none" } }),
            "speaks of service \"none\"",
        ),
        ("deregister", json!({}), "Node: is missing"),
        ("deregister", json!({ "Node": "x", "Datacenter": "dc9" }), "Datacenter: is"),
    ] {
        let answer = world.put(&format!("/v1/catalog/{path}"), body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {told}");
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
    }

    for (body, left) in [
        (json!({ "Node": "mainframe", "CheckID": "up" }), json!({ "ledger": ["v1"] })),
        (json!({ "Node": "mainframe", "ServiceID": "ledger" }), json!({})),
        (json!({ "Node": "mainframe" }), json!({})),
        (json!({ "Node": "mainframe" }), json!({})),
    ] {
        assert_eq!(world.put("/v1/catalog/deregister", body).await.text(), "true");
        let path = "/v1/catalog/services?node-meta=external-node:true";
        assert_eq!(world.get_indexed(path).await.1, left);
    }
    assert_eq!(world.get_indexed("/v1/catalog/node/mainframe").await.1, Value::Null);
    world.server.stop().await;
}

#[tokio::test]
async fn config_entries_are_written_read_and_removed() {
    let world = Joined::start().await;
    let defaults =
        |protocol: &str| json!({ "kind": "service-defaults", "name": "web", "protocol": protocol });
    let answer = world.put("/v1/config", defaults("http")).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "true"));
    let (at, entry) = world.get_indexed("/v1/config/service-defaults/web").await;
    assert_eq!((&entry["Kind"], &entry["Protocol"]), (&json!("service-defaults"), &json!("http")));
    assert_eq!(entry["ModifyIndex"], at);
    assert_eq!(world.put("/v1/config?cas=1", defaults("tcp")).await.text(), "false");
    assert_eq!(world.put(&format!("/v1/config?cas={at}"), defaults("grpc")).await.text(), "true");
    assert_eq!(
        world.get_indexed("/v1/config/service-defaults").await.1.as_array().map(Vec::len),
        Some(1)
    );

    // A splitter to a subset that nobody defines would break the chain of web.
    let splitter = json!({ "Kind": "service-splitter", "Name": "web",
        "Splits": [{ "Weight": 100, "ServiceSubset": "v9" }] });
    let answer = world.put("/v1/config", splitter.clone()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text().contains("\"web\""), "{}", answer.text());
    let resolver = json!({ "Kind": "service-resolver", "Name": "web",
        "Subsets": { "v9": { "Filter": "Service.Meta.version == v9" } } });
    assert_eq!(world.put("/v1/config", resolver).await.text(), "true");
    assert_eq!(world.put("/v1/config", splitter).await.text(), "true");
    let (_, chain) = world.get_indexed("/v1/discovery-chain/web").await;
    assert_eq!(chain["Chain"]["StartNode"], "splitter:web", "{chain}");
    assert_eq!(chain["Chain"]["Protocol"], "grpc");
    // What the splitter needs cannot go.
    let answer = world.call(Method::DELETE, "/v1/config/service-resolver/web", "").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    for kind in ["service-splitter", "service-resolver", "service-defaults"] {
        let answer = world.call(Method::DELETE, &format!("/v1/config/{kind}/web"), "").await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "{}"), "{kind}");
    }
    // To delete what is not there is no failure, unless an index was asked for.
    for (query, text) in [("", "{}"), ("?cas=0", "false"), ("?cas=7", "false")] {
        let path = format!("/v1/config/service-defaults/web{query}");
        let answer = world.call(Method::DELETE, &path, "").await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, text), "{query}");
    }
    let answer = world.call(Method::GET, "/v1/config/service-defaults/web", "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(index(&answer) > at, "a wait for it has an index to wait on");
    world.server.stop().await;
}

#[tokio::test]
async fn intentions_are_written_and_judged() {
    let world = Joined::start().await;
    let exact = |source: &str, destination: &str| {
        format!("/v1/connect/intentions/exact?source={source}&destination={destination}")
    };
    let check = "/v1/connect/intentions/check?source=web&destination=db";
    assert_eq!(world.get_indexed(check).await.1["Allowed"], false);
    let answer = world.put(&exact("web", "db"), json!({ "Action": "allow" })).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "true"));
    assert_eq!(world.get_indexed(check).await.1["Allowed"], true);
    world.put(&exact("*", "db"), json!({ "Action": "deny", "SourceType": "consul" })).await;
    // Clients send back whole intentions, with what they were told of them.
    let whole = json!({
        "ID": "", "SourceNS": "default", "SourceName": "web", "DestinationNS": "default",
        "DestinationName": "db", "SourceType": "consul", "Action": "allow", "Precedence": 9,
        "CreatedAt": "0001-01-01T00:00:00Z", "UpdatedAt": "0001-01-01T00:00:00Z",
    });
    assert_eq!(world.put(&exact("web", "db"), whole).await.text(), "true");
    let (_, denied) =
        world.get_indexed("/v1/connect/intentions?filter=Action%20%3D%3D%20deny").await;
    assert_eq!(denied[0]["SourceName"], "*");
    let (_, all) = world.get_indexed("/v1/connect/intentions").await;
    let precedences: Vec<_> =
        all.as_array().expect("a list").iter().map(|it| &it["Precedence"]).collect();
    assert_eq!(precedences, [9, 8]);
    let (_, one) = world.get_indexed(&exact("default/web", "db")).await;
    assert_eq!((&one["SourceName"], &one["Action"]), (&json!("web"), &json!("allow")));
    let (_, matching) =
        world.get_indexed("/v1/connect/intentions/match?by=destination&name=db&name=api").await;
    assert_eq!(matching["db"].as_array().map(Vec::len), Some(2));
    assert_eq!(matching["api"], json!([]));
    let bad = world.put(&exact("web", "db"), json!({ "Action": "maybe", "Sauce": 1 })).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    let answer = world.call(Method::DELETE, &exact("web", "db"), "").await;
    assert_eq!(answer.text(), "true");
    assert_eq!(world.get_indexed(check).await.1["Allowed"], false);
    let answer = world.call(Method::GET, &exact("web", "db"), "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let (_, roots) = world.get_indexed("/v1/connect/ca/roots").await;
    assert_eq!(roots["Roots"][0]["Active"], true);
    assert_eq!(roots["Roots"][0]["ID"], roots["ActiveRootID"]);
    assert!(!roots.to_string().contains("PRIVATE KEY"));
    world.server.stop().await;
}

#[tokio::test]
async fn a_blocking_query_ends_when_its_own_answer_changed() {
    let world = Joined::start().await;
    world.register("passing").await;
    let (at, _) = world.get_indexed("/v1/health/service/web?passing").await;
    let path = format!("/v1/health/service/web?passing&index={at}&wait=30s");
    let mut waiting = Box::pin(world.get_indexed(&path));
    // Neither another service nor a check that does not show ends the wait.
    let others = async {
        for _ in 0..3 {
            let body = json!({ "Kind": "service-defaults", "Name": "api", "Protocol": "http" });
            world.put("/v1/config", body).await;
        }
    };
    tokio::select! {
        answer = &mut waiting => panic!("woke for others: {answer:?}"),
        () = others => {}
    }
    let change = world.register("critical");
    let ((index, answer), _) = tokio::join!(waiting, change);
    assert_eq!(answer, json!([]));
    assert!(index > at);

    // A wait ends by itself with what there is.
    let path = format!("/v1/health/service/web?passing&index={index}&wait=50ms");
    let (again, answer) = tokio::time::timeout(Duration::from_secs(10), world.get_indexed(&path))
        .await
        .expect("in time");
    assert_eq!((again, answer), (index, json!([])));

    // What does not exist yet is waited for until it appears.
    let (at, _) = world.get_indexed("/v1/health/service/later").await;
    let path = format!("/v1/health/service/later?index={at}&wait=30s");
    let later = async {
        world.register("passing").await;
        let registration = json!({
            "node": { "ID": "id-1", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1" },
            "services": [{ "ID": "later", "Service": "later" }],
        });
        world.host.register(registration).await.expect("written")
    };
    let ((_, answer), _) = tokio::join!(world.get_indexed(&path), later);
    assert_eq!(answer[0]["Service"]["ID"], "later");
    world.server.stop().await;
}
