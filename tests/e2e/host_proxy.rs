//! One proxy for all services of a host: each has its own identity and policy, and what happens to
//! one, or to the process, costs the others nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde_json::json;
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::process::run_weft;
use weft_tests::{Api, App, Cluster, TestProxy, eventually, tools};

use crate::callers::{Counts, LIMIT, calls};
use crate::story::{called, speaks};

const RESTARTS_DEFAULT: u32 = 2;

/// A caller on the host: its application, and its door to web.
struct Caller {
    door: Api,
    id: String,
    _app: App,
}

impl Caller {
    fn register(cluster: &Cluster, name: &str) -> Self {
        let (app, port) = (App::start(name), free_port());
        cluster.agent.register(&meshed(name, name, app.port(), &[("web", port)]));
        let door = Api::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Self { door, id: name.to_owned(), _app: app }
    }

    fn wait_status(&self, status: u16) {
        eventually(SPREAD_LIMIT, &format!("{} gets {status} from web", self.id), || {
            let answer = self.door.get("/")?;
            if answer.status == status { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }
}

fn intend(cluster: &Cluster, sources: &[(&str, &str)]) {
    let sources: Vec<_> =
        sources.iter().map(|(name, action)| json!({ "Name": name, "Action": action })).collect();
    cluster.agent.configure(&json!({
        "Kind": "service-intentions", "Name": "web", "Sources": sources,
    }));
}

/// Checks that each service is shown, with counts of its own.
fn each_is_told_apart(host: &TestProxy) {
    let metrics = host.admin().get("/metrics").expect("an answer").body;
    for of in ["shop", "bank"] {
        let start = format!(
            "weft_proxy_requests_total{{direction=\"outbound\",proxy=\"{of}-sidecar-proxy\",\
             service=\"{of}\",upstream=\"web\""
        );
        assert!(metrics.lines().any(|line| line.starts_with(&start)), "{start}: {metrics}");
    }
    let all = host.admin().get("/workloads").expect("an answer").json();
    let identities: Vec<_> =
        all.as_array().expect("a list").iter().map(|it| &it["state"]).collect();
    assert_eq!(identities, ["in force"; 3], "{all}");
}

#[test]
fn services_of_a_host_share_a_process_and_nothing_else() {
    let restarts = std::env::var("WEFT_HOT_RESTARTS").ok().and_then(|text| text.parse().ok());
    let restarts: u32 = restarts.unwrap_or(RESTARTS_DEFAULT);
    let cluster =
        Cluster::start_all_with(&json!({}), &json!({ "host_proxy": { "enabled": true } }));
    speaks(&cluster, "web", "http");
    intend(&cluster, &[("shop", "allow"), ("desk", "allow"), ("bank", "deny")]);
    let web = App::start("web-1");
    cluster.agent.register(&meshed("web-1", "web", web.port(), &[]));
    let (shop, bank) = (Caller::register(&cluster, "shop"), Caller::register(&cluster, "bank"));
    let mut host = cluster.agent.host_proxy(&[]);
    shop.wait_status(200);
    bank.wait_status(403);

    // A service that comes and goes under load costs the others no request.
    let counts = Arc::new(Counts::default());
    let door = shop.door.addr();
    let callers = [true, true, false].map(|keeps| calls(door, keeps, counts.clone()));
    for _ in 0..2 {
        let desk = Caller::register(&cluster, "desk");
        desk.wait_status(200);
        counts.go_on();
        for id in ["desk", "desk-sidecar-proxy"] {
            // The second goes with the first.
            let _ =
                cluster.agent.api().put(&format!("/v1/agent/service/deregister/{id}"), &json!({}));
        }
        eventually(LIMIT, "its door is closed", || match desk.door.get("/") {
            Ok(answer) => Err(format!("{answer:?}")),
            Err(_) => Ok(()),
        });
        counts.go_on();
    }
    // Nor does a new process in the place of the one that runs.
    for _ in 0..restarts {
        let next = cluster.agent.successor(&host);
        let mut before = std::mem::replace(&mut host, next);
        counts.go_on();
        assert_eq!(before.process.wait_exit(), Some(0), "{}", before.process.log());
        assert_eq!(bank.door.get("/").expect("an answer").status, 403);
    }
    let (answered, failed) = counts.end(callers);
    tools::tell(&format!(
        "host proxy: {restarts} hot restarts with 3 services, one more service twice, \
         {answered} requests, {failed} failed"
    ));
    assert_eq!(failed, 0);

    shop.wait_status(200);
    each_is_told_apart(&host);

    // Killed without warning, it begins again from what the agent has; also without servers.
    host.process.kill();
    cluster.server.process.signal("STOP");
    let mut host = cluster.agent.host_proxy(&[]);
    shop.wait_status(200);
    bank.wait_status(403);
    cluster.server.process.signal("CONT");
    host.process.terminate();
}

#[test]
fn a_host_proxy_must_be_allowed_and_leaves_a_service_that_has_a_proxy_of_its_own() {
    let mut cluster = Cluster::start();
    cluster.agent.process.expect_log("a process may not be the host proxy");
    let api = cluster.agent.api().addr().to_string();
    let args = ["proxy", "--host", "--http-addr", &api, "--admin-addr", "127.0.0.1:0"];
    let refused = run_weft(&[&args[..], &["--start-limit", "2s"]].concat(), LIMIT);
    assert_ne!(refused.code, Some(0));
    assert!(refused.output.contains("host_proxy { enabled = true }"), "{}", refused.output);

    let cluster =
        Cluster::start_all_with(&json!({}), &json!({ "host_proxy": { "enabled": true } }));
    speaks(&cluster, "web", "http");
    cluster.agent.intend("shop", "web", "allow");
    let web = called(&cluster, "web-1", "web", "v1");
    let mut own = meshed("web-1", "web", 1, &[]);
    own["Connect"]["SidecarService"]["Proxy"]["Config"] = json!({ "host_proxy": false });
    own["Port"] = json!(web.app.port());
    own["Connect"]["SidecarService"]["Port"] = json!(free_port());
    cluster.agent.register(&own);
    let shop = Caller::register(&cluster, "shop");
    let host = cluster.agent.host_proxy(&[]);
    shop.wait_status(200);
    let all = host.admin().get("/workloads").expect("an answer").body;
    assert!(all.contains("shop-sidecar-proxy") && !all.contains("web-1-sidecar-proxy"), "{all}");
}
