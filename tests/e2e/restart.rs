//! Kill anything at any moment: what was acknowledged is there, what was running goes on.

use std::time::Duration;

use serde_json::json;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::{Answer, Api, Cluster, consistently, eventually, tools};

use crate::dns::wait_lines;
use crate::story::{Shop, called, speaks, who};

/// Long enough for a proxy that hangs on a dead server to show it.
const OBSERVED: Duration = Duration::from_secs(3);

fn goes_on(door: Api) {
    consistently(OBSERVED, "calls go on", || {
        let answer = door.get("/")?;
        if who(&answer) == "web-1" { Ok(()) } else { Err(format!("{answer:?}")) }
    });
}

#[test]
fn a_killed_server_comes_back_with_everything_and_calls_go_on_meanwhile() {
    let mut cluster = Cluster::start();
    // While the server is away, the agent may complain.
    cluster.agent.process.expect_log("");
    speaks(&cluster, "web", "http");
    let mut web = called(&cluster, "web-1", "web", "v1");
    web.proxy.process.expect_log("");
    cluster.agent.intend("shop", "web", "allow");
    let shop = Shop::open(&cluster, &["web"]);
    shop.wait_status("web", 200);
    let api = cluster.agent.api();
    let before = api.get("/v1/catalog/services").and_then(Answer::ok).expect("a list");

    cluster.server.process.kill();
    goes_on(shop.to("web"));
    let refused = api.put(
        "/v1/config",
        &json!({
            "Kind": "service-defaults", "Name": "late", "Protocol": "http",
        }),
    );
    let refused = refused.expect("an answer");
    assert_eq!(refused.status, 503, "a write without servers: {refused:?}");

    cluster.server.restart();
    let after = eventually(SPREAD_LIMIT, "the catalog answers again", || {
        api.get("/v1/catalog/services")?.ok()
    });
    assert_eq!(after.json(), before.json(), "services are those of before");
    assert!(after.index() >= before.index(), "the index went backwards");
    let entry = api.get("/v1/config/service-intentions/web").and_then(Answer::ok);
    assert!(entry.expect("the entry").body.contains("allow"));
    cluster.agent.intend("shop", "web", "deny");
    shop.wait_status("web", 403);
}

#[test]
fn a_killed_agent_comes_back_without_a_token_and_calls_go_on_meanwhile() {
    let mut cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let mut web = called(&cluster, "web-1", "web", "v1");
    web.proxy.process.expect_log("");
    cluster.agent.intend("shop", "web", "allow");
    let mut shop = Shop::open(&cluster, &["web"]);
    shop.proxy.process.expect_log("");
    shop.wait_status("web", 200);

    cluster.agent.process.kill();
    goes_on(shop.to("web"));
    std::fs::remove_file(cluster.server.join_token_file()).expect("the token's file is there");
    cluster.agent.restart();
    let services = cluster.agent.api().get("/v1/agent/services").and_then(Answer::ok);
    let services = services.expect("a list").json();
    for id in ["web-1", "web-1-sidecar-proxy", "shop", "shop-sidecar-proxy"] {
        assert!(services.get(id).is_some(), "{id} is missing in {services}");
    }
    cluster.agent.wait_passing("web", 1);
    goes_on(shop.to("web"));
    // The sidecars found the new agent: they follow again.
    cluster.agent.intend("shop", "web", "deny");
    shop.wait_status("web", 403);
}

#[test]
fn a_host_serves_after_a_restart_of_everything_on_it_with_no_server_at_all() {
    let mut cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let mut web = called(&cluster, "web-1", "web", "v1");
    cluster.agent.intend("shop", "web", "allow");
    let mut shop = Shop::open(&cluster, &["web"]);
    shop.wait_status("web", 200);
    let has_dig = tools::have("a_host_serves_after_a_restart_of_everything_on_it", &["dig"]);
    let srv = format!("1 1 {} node1.node.dc1.mesh.", web.app.port());
    let finds_web = |cluster: &Cluster| {
        if has_dig {
            let dns = cluster.agent.dns();
            wait_lines(dns, &["web.service.mesh"], &["127.0.0.1"]);
            wait_lines(dns, &["SRV", "web.service.mesh"], &[&srv]);
        }
    };
    finds_web(&cluster);

    for process in [&mut cluster.agent.process, &mut web.proxy.process, &mut shop.proxy.process] {
        process.expect_log("");
    }
    cluster.server.process.kill();
    goes_on(shop.to("web"));
    cluster.agent.process.kill();
    cluster.agent.restart();
    cluster.agent.process.expect_log("");
    let services = cluster.agent.api().get("/v1/agent/services").and_then(Answer::ok);
    assert!(services.expect("a list").body.contains("web-1"));
    finds_web(&cluster);
    goes_on(shop.to("web"));

    is_marked_stale(&cluster.agent.api());

    // Proxies that know nothing yet get all they need, on both sides of a call.
    web.proxy.process.kill();
    web.proxy = cluster.agent.sidecar("web-1");
    shop.proxy.process.kill();
    shop.proxy = cluster.agent.sidecar("shop");
    shop.wait_status("web", 200);

    // The server that comes back is followed again.
    cluster.server.restart();
    eventually(SPREAD_LIMIT, "the server answers", || {
        cluster.agent.api().get("/v1/catalog/services")?.ok()
    });
    cluster.agent.intend("shop", "web", "deny");
    shop.wait_status("web", 403);
    let api = cluster.agent.api();
    eventually(SPREAD_LIMIT, "answers are current again", || {
        let roots = api.get("/v1/agent/connect/ca/roots")?.ok()?;
        match (roots.header("x-consul-knownleader"), away_seconds(&api)?) {
            (Some("true"), 0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// What an agent serves without any server says how old it may be, and no more than is so.
fn is_marked_stale(api: &Api) {
    let mut ages = Vec::new();
    let pages = [
        ("/v1/health/service/web?passing", "web-1"),
        ("/v1/catalog/service/web?tag=v1", "web-1"),
        ("/v1/agent/connect/ca/roots", "ActiveRootID"),
        ("/v1/agent/connect/ca/leaf/web", "PrivateKeyPEM"),
    ];
    for (path, content) in pages {
        let answer = api.get(path).and_then(Answer::ok).expect("an answer");
        assert!(answer.body.contains(content), "{path}: {}", answer.body);
        assert_eq!(answer.header("x-consul-knownleader"), Some("false"), "{path}");
        assert_eq!(answer.header("x-cache"), Some("HIT"), "{path}");
        let number = |name: &str| answer.header(name).and_then(|text| text.parse::<u64>().ok());
        let contact = number("x-consul-lastcontact").expect("a number");
        assert_eq!(number("age"), Some(contact / 1_000), "{path}");
        ages.push(contact);
    }
    assert!(ages.is_sorted() && ages[0] > 0, "it grows: {ages:?}");
    // The file of an earlier run says when that was: the restart took time, and counts.
    assert!(Duration::from_millis(ages[0]) < SPREAD_LIMIT * 6, "{ages:?}");
    eventually(SPREAD_LIMIT, "the metric tells the age", || match away_seconds(api)? {
        0 => Err("no age".to_owned()),
        _ => Ok(()),
    });

    // Nobody is led to ask again at once: what is waited for does not come.
    let known = api.get("/v1/health/service/web").and_then(Answer::ok).expect("an answer").index();
    let began = std::time::Instant::now();
    let path = format!("/v1/health/service/web?index={known}&wait=2s");
    let waited = api.get(&path).and_then(Answer::ok).expect("an answer");
    assert_eq!(waited.index(), known);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    // Who wants more than memory has is told so.
    for path in [
        "/v1/health/service/web?consistent",
        "/v1/health/service/web?max_stale=1ms",
        "/v1/health/service/never-asked-for",
        "/v1/catalog/services",
    ] {
        let refused = api.get(path).expect("an answer");
        assert_eq!(refused.status, 503, "{path}: {refused:?}");
    }
    let filtered = api.get("/v1/health/service/web?filter=Service.ID==nobody");
    assert_eq!(filtered.and_then(Answer::ok).expect("an answer").json(), json!([]));
}

/// How long no server was heard of, by the agent's own metric.
fn away_seconds(api: &Api) -> Result<u64, String> {
    let text = api.get("/v1/agent/metrics?format=prometheus")?.ok()?.body;
    let name = "weft_agent_servers_away_seconds ";
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok()).ok_or_else(|| "no such metric".to_owned())
}

#[test]
fn a_killed_proxy_comes_back_at_the_same_doors() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let mut web = called(&cluster, "web-1", "web", "v1");
    cluster.agent.intend("shop", "web", "allow");
    let shop = Shop::open(&cluster, &["web"]);
    shop.wait_status("web", 200);
    web.proxy.process.kill();
    web.proxy = cluster.agent.sidecar("web-1");
    shop.wait_status("web", 200);
}

#[test]
fn sigterm_ends_each_process_with_success() {
    let mut cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let mut web = called(&cluster, "web-1", "web", "v1");
    web.proxy.process.terminate();
    cluster.agent.process.terminate();
    cluster.server.process.terminate();
}
