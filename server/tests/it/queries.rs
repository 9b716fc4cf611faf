//! Prepared queries, intentions by id, chains with overrides, what is linked to gateways, and how
//! the CA signs: over the JSON API.

use crate::support::world::Joined;
use http::Method;
use serde_json::{Value, json};

impl Joined {
    async fn refused(&self, method: Method, path: &str, body: Value) -> (u16, String) {
        let answer = self.call(method, path, &body.to_string()).await;
        (answer.status.as_u16(), answer.text())
    }

    async fn register_two(&self, status: &str) {
        let check = |id: &str| {
            json!({ "Node": "n1", "CheckID": format!("c-{id}"), "Name": "c", "Status": status,
                "ServiceID": id })
        };
        let registration = json!({
            "node": { "ID": "id-1", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1" },
            "services": [
                { "ID": "web-1", "Service": "web", "Port": 80, "Tags": ["v1"] },
                { "ID": "web-2", "Service": "web", "Port": 81, "Tags": ["v2"] },
            ],
            "checks": [check("web-1"), check("web-2")],
        });
        self.host.register(registration).await.expect("written");
    }
}

fn ids(answer: &Value) -> Vec<&str> {
    let nodes = answer["Nodes"].as_array().expect("a list");
    let mut ids: Vec<&str> =
        nodes.iter().map(|node| node["Service"]["ID"].as_str().expect("an id")).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_query_is_kept_found_by_name_and_carried_out() {
    let world = Joined::start().await;
    world.register_two("passing").await;
    assert_eq!(world.get("/v1/query").await, json!([]));
    let query = json!({ "Name": "my-web", "Token": "s3cret", "Service": { "Service": "web",
        "Failover": { "Datacenters": ["dc2", "dc3"] }, "Tags": ["!v2"] }, "DNS": { "TTL": "10s" } });
    let made = world.send(Method::POST, "/v1/query", query.clone()).await;
    let id = made["ID"].as_str().expect("an id").to_owned();
    let shown = world.get(&format!("/v1/query/{id}")).await;
    assert_eq!(shown[0]["Name"], "my-web");
    assert_eq!(shown[0]["Token"], "<hidden>");
    assert!(!world.get("/v1/query").await.to_string().contains("s3cret"));

    for asked in ["my-web", &id] {
        let answer = world.get(&format!("/v1/query/{asked}/execute")).await;
        assert_eq!(ids(&answer), ["web-1"], "{asked}");
        assert_eq!(answer["Service"], "web");
        assert_eq!(answer["DNS"], json!({ "TTL": "10s" }));
        assert_eq!((&answer["Datacenter"], &answer["Failovers"]), (&json!("dc1"), &json!(0)));
    }
    world.register_two("critical").await;
    let answer = world.get("/v1/query/my-web/execute").await;
    assert_eq!((ids(&answer), &answer["Failovers"]), (vec![], &json!(2)));

    let taken = world.refused(Method::POST, "/v1/query", query).await;
    assert_eq!(taken, (400, "name \"my-web\" aliases an existing query name or ID".to_owned()));
    let mut changed = shown[0].clone();
    changed["Service"]["OnlyPassing"] = json!(true);
    world.send(Method::PUT, &format!("/v1/query/{id}"), changed).await;
    let shown = world.get(&format!("/v1/query/{id}")).await;
    assert_eq!(shown[0]["Service"]["OnlyPassing"], true);
    assert_eq!(shown[0]["Token"], "<hidden>", "a hidden token that is written back is kept");
    world.send(Method::DELETE, &format!("/v1/query/{id}"), json!({})).await;
    for path in [format!("/v1/query/{id}"), "/v1/query/my-web/execute".to_owned()] {
        let gone = world.refused(Method::GET, &path, json!({})).await;
        assert_eq!(gone, (404, "Query not found".to_owned()));
    }
    world.server.stop().await;
}

#[tokio::test]
async fn a_template_answers_for_every_name_that_begins_so() {
    let world = Joined::start().await;
    world.register_two("passing").await;
    for (name, service) in [("", "${name.full}"), ("geo-", "${name.suffix}")] {
        let template = json!({ "Name": name, "Template": { "Type": "name_prefix_match" },
            "Service": { "Service": service } });
        world.send(Method::POST, "/v1/query", template).await;
    }
    for name in ["web", "geo-web"] {
        let answer = world.get(&format!("/v1/query/{name}/execute?limit=1")).await;
        assert_eq!((ids(&answer).len(), &answer["Service"]), (1, &json!("web")), "{name}");
    }
    let explained = world.get("/v1/query/geo-db/explain").await;
    assert_eq!(explained["Query"]["Service"]["Service"], "db");
    let broken = json!({ "Name": "x-", "Template": { "Type": "name_prefix_match", "Regexp": "(" },
        "Service": { "Service": "web" } });
    let (status, text) = world.refused(Method::POST, "/v1/query", broken).await;
    assert_eq!(status, 400);
    assert!(text.contains("Template.Regexp: is not usable: unclosed group"), "{text}");
    world.server.stop().await;
}

#[tokio::test]
async fn older_clients_write_intentions_by_id() {
    const ALL: &str = "/v1/connect/intentions";
    let world = Joined::start().await;
    let body = |action: &str| {
        json!({ "SourceName": "web", "DestinationName": "db", "SourceType": "consul",
            "Action": action, "Meta": { "ticket": "7" } })
    };
    let made = world.send(Method::POST, ALL, body("allow")).await;
    let path = format!("{ALL}/{}", made["ID"].as_str().expect("an id"));
    let shown = world.get(&path).await;
    assert_eq!((&shown["ID"], &shown["Action"]), (&made["ID"], &json!("allow")));
    assert_eq!(shown["Meta"], json!({ "ticket": "7" }));
    assert!(shown["CreatedAt"].as_str().is_some_and(|at| at.ends_with('Z')));
    let entry = world.get("/v1/config/service-intentions/db").await;
    assert_eq!(entry["Sources"][0]["LegacyID"], made["ID"]);

    let (status, text) = world.refused(Method::POST, ALL, body("deny")).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("duplicate intention found: web → db has the id"), "{text}");
    world.send(Method::PUT, &path, body("deny")).await;
    assert_eq!(world.get(&path).await["Action"], "deny");
    let other = json!({ "SourceName": "api", "DestinationName": "db", "Action": "deny" });
    let (status, text) = world.refused(Method::PUT, &path, other).await;
    assert_eq!((status, text.starts_with("cannot change SourceName")), (400, true), "{text}");
    assert_eq!(world.send(Method::DELETE, &path, json!({})).await, json!(true));
    let (status, _) = world.refused(Method::GET, &path, json!({})).await;
    assert_eq!(status, 404);
    let (status, _) = world.refused(Method::PUT, &path, body("deny")).await;
    assert_eq!(status, 404);
    world.server.stop().await;
}

#[tokio::test]
async fn a_chain_is_compiled_with_what_one_caller_wants() {
    let world = Joined::start().await;
    for entry in [
        json!({ "Kind": "service-defaults", "Name": "web", "Protocol": "http" }),
        json!({ "Kind": "service-router", "Name": "web", "Routes": [] }),
        json!({ "Kind": "service-resolver", "Name": "web",
            "Failover": { "*": { "Datacenters": ["dc2"] } } }),
    ] {
        world.send(Method::PUT, "/v1/config", entry).await;
    }
    let chain = world.get("/v1/discovery-chain/web").await["Chain"].clone();
    assert_eq!(chain["StartNode"], "router:web");
    let resolver = &chain["Nodes"]["resolver:web.default.default.dc1"]["Resolver"];
    assert_eq!(resolver["Default"], false);
    assert_eq!(resolver["Failover"], json!({ "Targets": ["web.default.default.dc2"] }));
    assert_eq!(chain["Targets"]["web.default.default.dc2"]["Datacenter"], "dc2");

    let wanted = json!({ "OverrideProtocol": "tcp", "OverrideConnectTimeout": "9s" });
    let chain = world.send(Method::POST, "/v1/discovery-chain/web", wanted).await["Chain"].clone();
    assert_eq!(chain["StartNode"], "resolver:web.default.default.dc1");
    assert_eq!(chain["Protocol"], "tcp");
    let resolver = &chain["Nodes"]["resolver:web.default.default.dc1"]["Resolver"];
    assert_eq!(resolver["ConnectTimeout"], "9s");
    let wrong = json!({ "OverrideProtocol": "htp" });
    let (status, text) = world.refused(Method::POST, "/v1/discovery-chain/web", wrong).await;
    assert_eq!((status, text.starts_with("OverrideProtocol: \"htp\"")), (400, true), "{text}");
    world.server.stop().await;
}

#[tokio::test]
async fn what_is_linked_to_a_gateway_and_exported_is_listed() {
    let world = Joined::start().await;
    world.register_two("passing").await;
    for entry in [
        json!({ "Kind": "proxy-defaults", "Name": "global", "Config": { "protocol": "http" } }),
        json!({ "Kind": "ingress-gateway", "Name": "door", "Listeners": [{ "Port": 80,
            "Protocol": "http", "Services": [{ "Name": "*" }] }] }),
        json!({ "Kind": "terminating-gateway", "Name": "exit", "Services": [
            { "Name": "billing", "SNI": "billing.example.com" }, { "Name": "*" }] }),
        json!({ "Kind": "exported-services", "Name": "default", "Services": [
            { "Name": "*", "Consumers": [{ "Peer": "east" }] }] }),
    ] {
        world.send(Method::PUT, "/v1/config", entry).await;
    }
    let linked = world.get("/v1/catalog/gateway-services/door").await;
    assert_eq!(linked.as_array().map(Vec::len), Some(1));
    assert_eq!(linked[0]["Service"]["Name"], "web");
    assert_eq!((&linked[0]["Port"], &linked[0]["FromWildcard"]), (&json!(80), &json!(true)));
    let linked = world.get("/v1/catalog/gateway-services/exit").await;
    assert_eq!(linked[0]["Service"]["Name"], "billing");
    assert_eq!(linked[0]["SNI"], "billing.example.com");
    assert_eq!(linked[1]["Service"]["Name"], "web");
    assert_eq!(world.get("/v1/catalog/gateway-services/none").await, json!([]));
    assert_eq!(
        world.get("/v1/exported-services").await,
        json!([{ "Service": "web", "Consumers": { "Peers": ["east"] } }])
    );
    world.server.stop().await;
}

#[tokio::test]
async fn how_the_ca_signs_is_shown_and_changed() {
    const PATH: &str = "/v1/connect/ca/configuration";
    let world = Joined::start().await;
    let mut shown = world.get(PATH).await;
    assert_eq!(
        (&shown["Provider"], &shown["Config"]["LeafCertTTL"]),
        (&json!("consul"), &json!("1h0m0s"))
    );
    shown["Config"]["LeafCertTTL"] = json!("2h");
    world.send(Method::PUT, PATH, shown.clone()).await;
    assert_eq!(world.get(PATH).await["Config"]["LeafCertTTL"], "2h0m0s");
    shown["Config"]["RootCertTTL"] = json!("1h");
    let (status, text) = world.refused(Method::PUT, PATH, shown).await;
    assert_eq!(status, 400);
    assert!(
        text.contains("Config.RootCertTTL: 1h0m0s must be at least IntermediateCertTTL"),
        "{text}"
    );
    world.server.stop().await;
}
