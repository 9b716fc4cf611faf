//! Which instance gets the request: another target while one has nobody to answer.

use serde_json::json;
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Api, App, Cluster, eventually};

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

#[test]
fn requests_with_the_same_header_go_to_one_instance_until_it_is_gone() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    cluster.agent.intend("shop", "web", "allow");
    let ids = ["web-1", "web-2", "web-3"];
    let _all = ids.map(|id| called(&cluster, id, "web", "v1"));
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "web",
        "LoadBalancer": {
            "Policy": "maglev",
            "HashPolicies": [{ "Field": "header", "FieldValue": "x-user" }],
        },
    }));
    cluster.agent.wait_passing("web", 3);
    let chain = cluster.agent.api().get("/v1/discovery-chain/web").expect("an answer").json();
    let node = &chain["Chain"]["Nodes"]["resolver:web.default.default.dc1"];
    assert_eq!(node["LoadBalancer"]["Policy"], "maglev", "{chain}");
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    let of_users = || -> Result<Vec<String>, String> {
        let ask = |user: usize| {
            let answer = door.request("GET", "/", &[("x-user", &format!("user{user}"))], "")?;
            Ok(who(&answer))
        };
        (0..24).map(ask).collect()
    };
    let before =
        eventually(SPREAD_LIMIT, "each instance has users, and the same each time", || {
            let (first, second) = (of_users()?, of_users()?);
            let is_spread = ids.iter().all(|id| first.iter().any(|found| found == id));
            if is_spread && first == second {
                Ok(first)
            } else {
                Err(format!("{first:?} {second:?}"))
            }
        });
    maintain(&cluster, "web-2", true);
    eventually(SPREAD_LIMIT, "users of the one that is gone go elsewhere, and only they", || {
        let after = of_users()?;
        let pairs = || before.iter().zip(&after);
        let is_left = after.iter().all(|id| id == "web-1" || id == "web-3");
        // Maglev moves some few others as its table is made anew.
        let moved = pairs().filter(|(a, b)| *a != "web-2" && a != b).count();
        if is_left && moved <= 4 { Ok(()) } else { Err(format!("{after:?}")) }
    });
}

#[test]
fn requests_go_in_turn_where_the_resolver_says_so() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    cluster.agent.intend("shop", "web", "allow");
    let _all = ["web-1", "web-2"].map(|id| called(&cluster, id, "web", "v1"));
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "web", "LoadBalancer": { "Policy": "round_robin" },
    }));
    cluster.agent.wait_passing("web", 2);
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    // Each worker has its own turn, so the share of many is even, whoever takes the connections.
    eventually(SPREAD_LIMIT, "both get about half", || {
        let mut first = 0;
        for _ in 0..40 {
            first += usize::from(who(&door.get("/")?) == "web-1");
        }
        if (16..=24).contains(&first) { Ok(()) } else { Err(format!("{first} of 40")) }
    });
}

/// The instances that the shop's proxy knows of its only upstream.
fn known(shop: &Shop) -> Vec<String> {
    let clusters = shop.proxy.admin().get("/clusters").expect("an answer").json();
    let endpoints = clusters["upstreams"][0]["targets"][0]["endpoints"].as_array().cloned();
    let ids = endpoints.into_iter().flatten().map(|it| it["instance"].to_string());
    ids.map(|id| id.trim_matches('"').replace("-sidecar-proxy", "")).collect()
}

#[test]
fn near_instances_are_called_while_they_are_there() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    cluster.agent.intend("shop", "web", "allow");
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "web", "LoadBalancer": { "Policy": "round_robin" },
        "PrioritizeByLocality": { "Mode": "failover" },
    }));
    let place = |region: &str, zone: &str| json!({ "Region": region, "Zone": zone });
    let start = |id: &str, locality: serde_json::Value| {
        let app = App::start(id);
        let mut registration = meshed(id, "web", app.port(), &[]);
        registration["Locality"] = locality;
        cluster.agent.register(&registration);
        (app, cluster.agent.sidecar(id))
    };
    let _all = [
        start("web-near", place("eu", "eu-a")),
        start("web-next", place("eu", "eu-b")),
        start("web-far", place("us", "us-a")),
    ];
    cluster.agent.wait_passing("web", 3);
    let (app, port) = (App::start("shop"), free_port());
    let mut registration = meshed("shop", "shop", app.port(), &[("web", port)]);
    registration["Locality"] = place("eu", "eu-a");
    cluster.agent.register(&registration);
    let proxy = cluster.agent.sidecar("shop");
    let door = Api::new(([127, 0, 0, 1], port).into());
    let shown = || proxy.admin().get("/clusters").expect("an answer").body;
    let only = |name: &str| {
        eventually(SPREAD_LIMIT, &format!("{name} is called"), || {
            let found: Result<Vec<String>, String> =
                (0..12).map(|_| door.get("/")?.ok().map(|answer| who(&answer))).collect();
            let found = found?;
            let is_only = found.iter().all(|it| it == name);
            if is_only { Ok(()) } else { Err(format!("{found:?} of {}", shown())) }
        });
    };
    only("web-near");
    maintain(&cluster, "web-near", true);
    only("web-next");
    maintain(&cluster, "web-next", true);
    only("web-far");
    maintain(&cluster, "web-near", false);
    only("web-near");
}

#[test]
fn a_caller_has_as_many_instances_as_its_subset() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    cluster.agent.intend("shop", "web", "allow");
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "web",
        "LoadBalancer": { "Subset": { "Size": 2 }, "SlowStart": { "Window": "1s" } },
    }));
    let _all = ["web-1", "web-2", "web-3"].map(|id| called(&cluster, id, "web", "v1"));
    cluster.agent.wait_passing("web", 3);
    let shop = Shop::open(&cluster, &["web"]);
    let two = || {
        eventually(SPREAD_LIMIT, "two are known", || match known(&shop) {
            two if two.len() == 2 => Ok(two),
            other => Err(format!("{other:?}")),
        })
    };
    let before = two();
    maintain(&cluster, &before[0], true);
    eventually(SPREAD_LIMIT, "another one takes its place", || {
        let after = known(&shop);
        let is_next = after.len() == 2 && !after.contains(&before[0]) && after.contains(&before[1]);
        if is_next { Ok(()) } else { Err(format!("{before:?} {after:?}")) }
    });
    assert_eq!(shop.to("web").get("/").expect("an answer").status, 200);
}
