//! Which instance gets the request: another target while one has nobody to answer.

use serde_json::json;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::{Api, Cluster, eventually};

use crate::story::{Shop, called, speaks, who};

/// Waits until an application answers.
fn wait_who(door: Api, name: &str) {
    eventually(SPREAD_LIMIT, &format!("{name} answers"), || {
        let answer = door.get("/")?;
        let found = who(&answer);
        if found == name { Ok(()) } else { Err(format!("{} {}", answer.status, answer.body)) }
    });
}

/// Takes an instance out of service, or back into it.
fn maintain(cluster: &Cluster, id: &str, enable: bool) {
    for id in [id.to_owned(), format!("{id}-sidecar-proxy")] {
        let path = format!("/v1/agent/service/maintenance/{id}?enable={enable}");
        let answer = cluster.agent.api().request("PUT", &path, &[], "").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[test]
fn requests_go_to_the_next_of_the_list_while_nobody_is_healthy_and_back_after() {
    let cluster = Cluster::start();
    for name in ["web", "spare"] {
        speaks(&cluster, name, "http");
        cluster.agent.intend("shop", name, "allow");
    }
    let _v1 = called(&cluster, "web-1", "web", "v1");
    let _v2 = called(&cluster, "web-2", "web", "v2");
    let _spare = called(&cluster, "spare-1", "spare", "v1");
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "web", "DefaultSubset": "v1",
        "Subsets": {
            "v1": { "Filter": "Service.Meta.version == v1" },
            "v2": { "Filter": "Service.Meta.version == v2" },
        },
        "Failover": { "v1": { "Targets": [{ "ServiceSubset": "v2" }, { "Service": "spare" }] } },
    }));
    cluster.agent.wait_passing("web", 2);
    cluster.agent.wait_passing("spare", 1);
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    wait_who(door, "web-1");

    let chain = cluster.agent.api().get("/v1/discovery-chain/web").expect("an answer").json();
    let resolver = &chain["Chain"]["Nodes"]["resolver:v1.web.default.default.dc1"]["Resolver"];
    let others = ["v2.web.default.default.dc1", "spare.default.default.dc1"];
    assert_eq!(resolver["Failover"]["Targets"], json!(others), "{chain}");

    maintain(&cluster, "web-1", true);
    wait_who(door, "web-2");
    maintain(&cluster, "web-2", true);
    // Its proxy has another identity, and its own intentions let the caller in.
    wait_who(door, "spare-1");
    cluster.agent.intend("shop", "spare", "deny");
    shop.wait_status("web", 403);
    cluster.agent.intend("shop", "spare", "allow");
    maintain(&cluster, "web-1", false);
    wait_who(door, "web-1");
    let log = shop.proxy.process.log();
    assert!(log.contains("another target stands in"), "{log}");
    assert!(log.contains("no other target stands in any more"), "{log}");
}
