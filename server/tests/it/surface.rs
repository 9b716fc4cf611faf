//! What catalog and health pages take beside a name, and the pages that the web page reads.

use crate::support::world::Joined;
use http::{Method, StatusCode};
use serde_json::{Value, json};

impl Joined {
    /// host `n2` with a third.
    async fn start_listed() -> Self {
        let world = Self::start().await;
        let registration = json!({
            "node": { "ID": "id-1", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1",
                "Meta": { "rack": "r1" } },
            "services": [
                { "ID": "web-1", "Service": "web", "Port": 80, "Tags": ["v1"] },
                { "ID": "web-2", "Service": "web", "Port": 81, "Tags": ["v2"] },
                { "ID": "web-1-sidecar-proxy", "Service": "web-sidecar-proxy", "Port": 21000,
                  "Kind": "connect-proxy", "Proxy": { "DestinationServiceName": "web",
                  "DestinationServiceID": "web-1", "Config": { "own": 1 },
                  "Upstreams": [{ "DestinationName": "db", "LocalBindPort": 9000 }] } },
            ],
            "checks": [{ "Node": "n1", "CheckID": "c1", "Name": "alive", "Status": "passing",
                "ServiceID": "web-1" }],
        });
        world.host.register(registration).await.expect("written");
        let external = json!({ "Node": "n2", "Address": "10.0.0.2",
            "Service": { "Service": "web", "ID": "web-3", "Port": 80 } });
        world.send(Method::PUT, "/v1/catalog/register", external).await;
        world
    }

    async fn refused_page(&self, path: &str) -> (u16, String) {
        let answer = self.call(Method::GET, path, "").await;
        (answer.status.as_u16(), answer.text())
    }
}

/// The texts of one field, in the order of the list.
fn each<'a>(list: &'a Value, path: &[&str]) -> Vec<&'a str> {
    let items = list.as_array().expect("a list").iter();
    let field = |item: &'a Value| path.iter().fold(item, |value, step| &value[*step]);
    items.map(|item| field(item).as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn catalog_and_health_list_the_same_instances_in_the_same_order() {
    let world = Joined::start_listed().await;
    for query in ["", "?near=n2", "?near=_agent", "?tag=v2", "?node-meta=rack:r1"] {
        let flat = world.get(&format!("/v1/catalog/service/web{query}")).await;
        let health = world.get(&format!("/v1/health/service/web{query}")).await;
        assert_eq!(each(&flat, &["ServiceID"]), each(&health, &["Service", "ID"]), "{query}");
    }
    let nearest = |list: &Value| each(list, &["Node"])[0].to_owned();
    assert_eq!(nearest(&world.get("/v1/catalog/service/web?near=n2").await), "n2");
    assert_eq!(nearest(&world.get("/v1/catalog/service/web?near=_agent").await), "n1");
    assert_eq!(nearest(&world.get("/v1/catalog/nodes?near=n2").await), "n2");
    assert_eq!(world.get("/v1/health/state/any?node-meta=rack:r2").await, json!([]));
    let checks = world.get("/v1/health/checks/web?node-meta=rack:r1").await;
    assert_eq!(each(&checks, &["CheckID"]), ["c1"]);
    world.server.stop().await;
}

#[tokio::test]
async fn near_is_measured_by_coordinates() {
    let world = Joined::start_listed().await;
    for (node, last) in [("n3", 3), ("n4", 4), ("n5", 5)] {
        let external = json!({ "Node": node, "Address": format!("10.0.0.{last}"),
            "Service": { "Service": "web", "ID": format!("web-{node}"), "Port": 80 },
            "Check": { "CheckID": "c1", "Name": "alive", "Status": "passing",
                "ServiceID": format!("web-{node}") } });
        world.send(Method::PUT, "/v1/catalog/register", external).await;
    }
    // n4 is 25 ms from n2, n1 60 ms, n3 90 ms by its height; n5 does not say.
    for (node, x, height) in [("n1", 0.07, 0.0), ("n2", 0.01, 0.0), ("n3", 0.02, 0.08)]
        .into_iter()
        .chain([("n4", 0.035, 0.0)])
    {
        let coord = json!({ "Vec": [x, 0, 0, 0, 0, 0, 0, 0], "Error": 0.1, "Adjustment": 0,
            "Height": height });
        world
            .send(Method::PUT, "/v1/coordinate/update", json!({ "Node": node, "Coord": coord }))
            .await;
    }
    for path in ["/v1/catalog/service/web", "/v1/catalog/nodes"] {
        let sorted = world.get(&format!("{path}?near=n2")).await;
        let mut nodes = each(&sorted, &["Node"]);
        nodes.retain(|node| node.starts_with('n'));
        nodes.dedup();
        assert_eq!(nodes, ["n2", "n4", "n1", "n3", "n5"], "{path}");
    }
    let sorted = world.get("/v1/health/service/web?near=n2").await;
    let mut nodes = each(&sorted, &["Node", "Node"]);
    nodes.dedup();
    assert_eq!(nodes, ["n2", "n4", "n1", "n3", "n5"]);
    let sorted = world.get("/v1/health/connect/web?near=n2").await;
    assert_eq!(each(&sorted, &["Node", "Node"]), ["n1"]);
    for path in ["/v1/health/checks/web", "/v1/health/state/any"] {
        let sorted = world.get(&format!("{path}?near=n2")).await;
        let mut nodes = each(&sorted, &["Node"]);
        nodes.retain(|node| node.starts_with('n'));
        assert_eq!(nodes, ["n4", "n1", "n3", "n5"], "{path}");
    }
    // A node without a coordinate is first among its own; the others stay in their order.
    let sorted = world.get("/v1/catalog/service/web?near=n5").await;
    assert_eq!(each(&sorted, &["Node"]), ["n5", "n1", "n1", "n2", "n3", "n4"]);
    let query = json!({ "Name": "near", "Service": { "Service": "web", "Near": "n3" } });
    let query = query.to_string();
    let answer = world.call(Method::POST, "/v1/query", &query).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    for (query, expected) in [
        ("/v1/query/near/execute", ["n3", "n2", "n4", "n1", "n5"]),
        // What the asker says counts more.
        ("/v1/query/near/execute?near=n4", ["n4", "n2", "n1", "n3", "n5"]),
        ("/v1/query/near/execute?near=_agent", ["n1", "n4", "n2", "n3", "n5"]),
    ] {
        let answer = world.get(query).await;
        let mut nodes = each(&answer["Nodes"], &["Node", "Node"]);
        nodes.dedup();
        assert_eq!(nodes, expected, "{query}");
    }
    world.server.stop().await;
}

#[tokio::test]
async fn lists_of_services_are_filtered_by_their_instances() {
    let world = Joined::start_listed().await;
    let filtered = "/v1/catalog/services?filter=ServicePort%20%3D%3D%2081";
    assert_eq!(world.get(filtered).await, json!({ "web": ["v2"] }));
    let filtered = "/v1/catalog/services?filter=%22%2FNodeMeta%2Frack%22%20%3D%3D%20r1";
    assert_eq!(world.get(filtered).await["web"], json!(["v1", "v2"]));
    let on_node = world.get("/v1/catalog/node-services/n2").await;
    assert_eq!(on_node["Node"]["Node"], "n2");
    assert_eq!(each(&on_node["Services"], &["ID"]), ["web-3"]);
    let none = world.get("/v1/catalog/node-services/none").await;
    assert_eq!(none, json!({ "Node": null, "Services": [] }));
    for (query, wanted) in [
        ("ns=team", "\"ns\" - there is one namespace"),
        ("partition=x", "\"partition\" - there is one partition"),
        ("peer=east", "\"peer\" - there is no peering \"east\""),
    ] {
        let (status, text) = world.refused_page(&format!("/v1/catalog/nodes?{query}")).await;
        assert_eq!((status, text.contains(wanted)), (400, true), "{text}");
    }
    world.get("/v1/catalog/nodes?ns=default&partition=default&peer=&cached").await;
    world.server.stop().await;
}

#[tokio::test]
async fn sidecars_are_shown_with_what_entries_say_for_all() {
    let world = Joined::start_listed().await;
    world
        .send(
            Method::PUT,
            "/v1/config",
            json!({ "Kind": "proxy-defaults", "Name": "global",
            "Config": { "protocol": "http", "own": 2, "other": 3 } }),
        )
        .await;
    let plain = world.get("/v1/health/connect/web").await;
    assert_eq!(plain[0]["Service"]["Proxy"]["Config"], json!({ "own": 1 }));
    let merged = world.get("/v1/health/connect/web?merge-central-config").await;
    let wanted = json!({ "own": 1, "other": 3, "protocol": "http" });
    assert_eq!(merged[0]["Service"]["Proxy"]["Config"], wanted);
    world
        .send(
            Method::PUT,
            "/v1/config",
            json!({ "Kind": "ingress-gateway", "Name": "web", "Listeners": [
            { "Port": 80, "Protocol": "http", "Services": [{ "Name": "shop" }] }] }),
        )
        .await;
    let doors = world.get("/v1/health/ingress/shop").await;
    assert_eq!(each(&doors, &["Service", "ID"]), ["web-1", "web-2", "web-3"]);
    assert_eq!(world.get("/v1/health/ingress/other").await, json!([]));
    world.server.stop().await;
}

#[tokio::test]
async fn the_web_page_finds_what_it_shows() {
    const UI: &str = "/v1/internal/ui";
    let world = Joined::start_listed().await;
    let nodes = world.get(&format!("{UI}/nodes?filter=Meta.rack%20%3D%3D%20r1")).await;
    assert_eq!(each(&nodes, &["Node"]), ["n1"]);
    assert_eq!(each(&nodes[0]["Services"], &["ID"]).len(), 3);
    assert_eq!(each(&nodes[0]["Checks"], &["CheckID"]), ["c1"]);
    let node = world.get(&format!("{UI}/node/n2")).await;
    assert_eq!((&node["Node"], &node["Checks"]), (&json!("n2"), &json!([])));
    assert_eq!(world.refused_page(&format!("{UI}/node/none")).await.0, 404);

    let services = world.get(&format!("{UI}/services")).await;
    assert_eq!(each(&services, &["Name"]), ["web", "web-sidecar-proxy"]);
    let web = &services[0];
    assert_eq!((&web["InstanceCount"], &web["ChecksPassing"]), (&json!(3), &json!(1)));
    assert_eq!(web["ConnectedWithProxy"], true);
    assert_eq!(services[1]["Kind"], "connect-proxy");
    let overview = world.get(&format!("{UI}/catalog-overview")).await;
    assert_eq!(overview["Nodes"][0]["Total"], 2);
    assert_eq!(each(&overview["Checks"], &["Name"]), ["alive"]);

    let intentions = json!({ "Kind": "service-intentions", "Name": "db",
        "Sources": [{ "Name": "web", "Action": "allow" }, { "Name": "api", "Action": "deny" }] });
    world.send(Method::PUT, "/v1/config", intentions).await;
    let topology = world.get(&format!("{UI}/service-topology/web")).await;
    assert_eq!(each(&topology["Upstreams"], &["Name"]), ["db"]);
    assert_eq!(topology["Upstreams"][0]["Source"], "registration");
    assert_eq!(topology["Upstreams"][0]["Intention"]["Allowed"], true);
    let topology = world.get(&format!("{UI}/service-topology/db")).await;
    assert_eq!(each(&topology["Downstreams"], &["Name"]), ["api", "web"]);
    assert_eq!(topology["Downstreams"][0]["Intention"]["Allowed"], false);
    assert_eq!(topology["Downstreams"][0]["Source"], "specific-intention");

    let gateway = json!({ "Kind": "ingress-gateway", "Name": "door", "Listeners": [
        { "Port": 80, "Protocol": "http", "Services": [{ "Name": "db" }] }] });
    world.send(Method::PUT, "/v1/config", gateway).await;
    let linked = world.get(&format!("{UI}/gateway-services-nodes/door")).await;
    assert_eq!(each(&linked, &["Name"]), ["db"]);
    let intentions = world.get(&format!("{UI}/gateway-intentions/door")).await;
    assert_eq!(each(&intentions, &["SourceName"]), ["api", "web"]);
    world.server.stop().await;
}
