//! Rollouts: a version that does well gets everything step by step, one that does not gets nothing, and
//! operators have the last word.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::process::{run_weft, weft};
use weft_tests::servers::CLUSTER_LIMIT;
use weft_tests::{App, Cluster, Servers, TestAgent, eventually};

use crate::retries::failing;
use crate::story::{Called, Shop, called, speaks, who};

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Says which instances the versions of `web` are.
fn versions(host: &impl AsRef<TestAgent>) {
    speaks(host, "web", "http");
    let host = host.as_ref();
    host.configure(&json!({
        "Kind": "service-resolver", "Name": "web", "DefaultSubset": "v1", "Subsets": {
            "v1": { "Filter": "Service.Meta.version == v1" },
            "v2": { "Filter": "Service.Meta.version == v2" },
        },
    }));
    host.intend("shop", "web", "allow");
}

fn rolls_out(agent: &TestAgent, steps: Value, more: Value) {
    let mut entry = json!({
        "Kind": "rollout", "Name": "web", "Stable": "v1", "Canary": "v2", "Interval": "2s",
        "Steps": steps, "Gates": { "MinRequests": 5, "SuccessRate": 99, "LatencyP99": "5s" },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        entry[key] = value.clone();
    }
    agent.configure(&entry);
}

fn status(agent: &TestAgent) -> Result<Value, String> {
    Ok(agent.api().get("/v1/rollout/web")?.ok()?.json())
}

/// Calls `web` until its rollout stands as it should.
fn call_until(agent: &TestAgent, shop: &Shop, phase: &str, step: u32) -> Value {
    let door = shop.to("web");
    eventually(CLUSTER_LIMIT, &format!("step {step} is {phase}"), || {
        for _ in 0..10 {
            door.get("/")?;
        }
        let status = status(agent)?;
        match status["Phase"] == phase && status["Step"] == step {
            true => Ok(status),
            false => Err(status.to_string()),
        }
    })
}

/// Who answers twenty calls with these headers.
fn answers(shop: &Shop, headers: &[(&str, &str)]) -> Vec<String> {
    let ask = |_| shop.to("web").request("GET", "/", headers, "").expect("an answer");
    (0..20).map(ask).map(|answer| who(&answer)).collect()
}

fn weft_says(agent: &TestAgent, args: &[&str]) -> (Option<i32>, String) {
    let address = agent.api().addr().to_string();
    let outcome = run_weft(&[args, &["--http-addr", &address]].concat(), LIMIT);
    (outcome.code, outcome.output)
}

#[test]
fn a_version_that_does_well_gets_everything_step_by_step() {
    let cluster = Cluster::start();
    versions(&cluster);
    let hook = App::start("hook");
    let _old: Called = called(&cluster, "web-old", "web", "v1");
    let _new: Called = called(&cluster, "web-new", "web", "v2");
    cluster.agent.wait_passing("web", 2);
    let shop = Shop::open(&cluster, &["web"]);
    shop.wait_status("web", 200);
    let hooks = |start: &str| {
        let url = |path: &str| format!("http://{}{path}", hook.addr());
        json!({ "Webhooks": [
            { "Name": "go", "When": "start", "URL": url(start) },
            { "Name": "told", "When": "finish", "URL": url("/told") },
        ] })
    };
    let header = json!({ "Name": "x-canary", "Exact": "yes" });
    let steps = json!([{ "Header": header, "Manual": true }, { "Weight": 50 }]);
    rolls_out(&cluster.agent, steps.clone(), hooks("/status/500"));
    let held = call_until(&cluster.agent, &shop, "pending", 1);
    assert_eq!(answers(&shop, &[("x-canary", "yes")]), ["web-old"; 20], "{held}");
    eventually(SPREAD_LIMIT, "who holds it up is told", || {
        let told = status(&cluster.agent)?["Reason"].to_string();
        if told.contains("go") && told.contains("it answered 500") { Ok(()) } else { Err(told) }
    });

    // The same rollout, whose start nobody refuses any more.
    rolls_out(&cluster.agent, steps, hooks("/go"));
    eventually(CLUSTER_LIMIT, "requests with the header come first", || {
        let first = answers(&shop, &[("x-canary", "yes")]);
        if first == ["web-new"; 20] { Ok(()) } else { Err(format!("{first:?}")) }
    });
    assert_eq!(answers(&shop, &[]), ["web-old"; 20], "and no others");
    eventually(CLUSTER_LIMIT, "the first step waits for somebody", || {
        answers(&shop, &[("x-canary", "yes")]);
        let status = status(&cluster.agent)?;
        if status["Phase"] == "waiting" { Ok(()) } else { Err(status.to_string()) }
    });
    let (code, told) = weft_says(&cluster.agent, &["rollout", "promote", "web"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("web: progressing, v2 gets 50 %"), "{told}");
    let end = call_until(&cluster.agent, &shop, "promoted", 2);
    assert_eq!((&end["Weight"], &end["Reason"]), (&json!(100), &json!("every step has passed")));
    assert!(end["Measured"]["Canary"]["Requests"].as_u64() >= Some(5), "{end}");
    eventually(SPREAD_LIMIT, "the new version has everything", || {
        let all = answers(&shop, &[]);
        if all == ["web-new"; 20] { Ok(()) } else { Err(format!("{all:?}")) }
    });
    eventually(SPREAD_LIMIT, "the webhook is told", || {
        let told = hook.last_posted("/told").ok_or("nothing yet")?["body"].to_string();
        if told.contains("promoted") { Ok(()) } else { Err(told) }
    });
    let (code, told) = weft_says(&cluster.agent, &["rollout", "status"]);
    assert!(code == Some(0) && told.contains("promoted"), "{told}");
    let (code, told) = weft_says(&cluster.agent, &["rollout", "resume", "web"]);
    assert!(code != Some(0) && told.contains("it is promoted, and so cannot be resumed"), "{told}");
}

#[test]
fn a_version_that_fails_is_taken_back_and_the_command_says_so() {
    let mut cluster = Cluster::start();
    cluster.server.process.expect_log("a rollout is taken back");
    versions(&cluster);
    let _old: Called = called(&cluster, "web-old", "web", "v1");
    let (port, _) = failing();
    let mut bad = meshed("web-bad", "web", port, &[]);
    bad["Meta"] = json!({ "version": "v2" });
    cluster.agent.register(&bad);
    let _bad = cluster.agent.sidecar("web-bad");
    let shop = Shop::open(&cluster, &["web"]);
    shop.wait_status("web", 200);
    rolls_out(&cluster.agent, json!([{ "Weight": 50 }]), json!({}));
    let address = cluster.agent.api().addr().to_string();
    let mut follow = std::process::Command::new(weft());
    follow.args(["rollout", "status", "web", "--watch", "--json", "--http-addr", &address]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().expect("the command starts");
    let end = call_until(&cluster.agent, &shop, "rolled-back", 1);
    let reason = end["Reason"].as_str().unwrap_or_default();
    assert!(reason.ends_with("% of requests went well, and 99 % must"), "{end}");
    assert_eq!(end["Weight"], 0);
    assert_eq!(end["Measured"]["Stable"]["SuccessRate"], 100, "{end}");
    assert_eq!(follow.wait().expect("it ends").code(), Some(1), "scripts go by it");
    eventually(SPREAD_LIMIT, "nobody is sent there any more", || {
        let all = answers(&shop, &[]);
        if all == ["web-old"; 20] { Ok(()) } else { Err(format!("{all:?}")) }
    });
    let (code, told) = weft_says(&cluster.agent, &["rollout", "restart", "web"]);
    assert!(code == Some(0) && told.contains("web: pending"), "{told}");
    let (code, told) = weft_says(&cluster.agent, &["rollout", "abort", "web"]);
    assert!(code == Some(0) && told.contains("web: aborted, v2 gets 0 %"), "{told}");
}

#[test]
fn a_rollout_goes_on_under_the_next_leader() {
    let mut servers = Servers::start(3);
    servers.wait_members(0, 3, 0);
    let token = servers.all[0].data().join("join-token");
    let mut agent = TestAgent::start(servers.folder.path(), "host", &token);
    // Its server ends.
    agent.process.expect_log("");
    versions(&agent);
    let app = |id: &str, version: &str| {
        let app = App::start(id);
        let mut service = meshed(id, "web", app.port(), &[]);
        service["Meta"] = json!({ "version": version });
        agent.register(&service);
        (app, agent.sidecar(id))
    };
    let (_old, _new) = (app("web-old", "v1"), app("web-new", "v2"));
    let shop = Shop::open(&agent, &["web"]);
    shop.wait_status("web", 200);
    let manual = json!({ "Weight": 30, "Manual": true });
    rolls_out(&agent, json!([manual, { "Weight": 60 }]), json!({}));
    call_until(&agent, &shop, "waiting", 1);
    let leader = servers.leader(0);
    servers.all[leader].process.kill();
    eventually(CLUSTER_LIMIT, "the next leader takes the word", || {
        agent.api().put("/v1/rollout/web/promote", &Value::Null)?.ok()
    });
    let end = call_until(&agent, &shop, "promoted", 2);
    assert_eq!(end["Weight"], 100);
}
