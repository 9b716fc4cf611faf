//! What operators write with the command: config entries, intentions, services.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::process::{Outcome, run_weft};
use weft_tests::{Cluster, eventually};

use crate::story::{Shop, called, speaks};

/// An answer comes at once; the limit is for a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs the command against the agent of a cluster.
fn weft(cluster: &Cluster, args: &[&str]) -> Outcome {
    let address = cluster.agent.api().addr().to_string();
    let mut all = args.to_vec();
    all.extend(["--http-addr", &address]);
    run_weft(&all, LIMIT)
}

fn succeeds(cluster: &Cluster, args: &[&str], shows: &[&str]) -> String {
    let outcome = weft(cluster, args);
    assert_eq!(outcome.code, Some(0), "{args:?}: {}", outcome.output);
    for part in shows {
        assert!(outcome.output.contains(part), "{part:?} is not in:\n{}", outcome.output);
    }
    outcome.output
}

fn fails(cluster: &Cluster, args: &[&str], shows: &[&str]) {
    let outcome = weft(cluster, args);
    assert_eq!(outcome.code, Some(1), "{args:?}: {}", outcome.output);
    for part in shows {
        assert!(outcome.output.contains(part), "{part:?} is not in:\n{}", outcome.output);
    }
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file");
    path.to_string_lossy().into_owned()
}

#[test]
fn entries_go_from_files_to_the_servers_and_back() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().expect("a directory");
    let good = file(
        folder.path(),
        "web.hcl",
        "Kind = \"service-resolver\"\nName = \"web\"\nConnectTimeout = \"2s\"\n\
         Failover = { \"*\" = { Datacenters = [\"dc2\"] } }\n",
    );
    let bad = file(
        folder.path(),
        "bad.json",
        r#"{"Kind":"service-defaults","Name":"web","Protocl":"http","MutualTLSMode":"permissive"}"#,
    );
    let warning = "Warning: Failover.*.Datacenters: is kept, and has no effect yet";
    succeeds(&cluster, &["config", "validate", &good], &["service-resolver/web is valid", warning]);
    fails(&cluster, &["config", "validate", &bad], &["Protocl: is not a field here"]);
    fails(&cluster, &["config", "write", &bad], &["did you mean Protocol?"]);
    let written = ["Config entry written: service-resolver/web", warning];
    succeeds(&cluster, &["config", "write", &good], &written);
    let kind = ["--kind", "service-resolver"];
    succeeds(&cluster, &[&["config", "list"], &kind[..]].concat(), &["web\n"]);
    let read = [&["config", "read"], &kind[..], &["--name", "web"]].concat();
    let shown: Value = serde_json::from_str(&succeeds(&cluster, &read, &[])).expect("JSON");
    assert_eq!(shown["ConnectTimeout"], "2s");

    let index = shown["ModifyIndex"].to_string();
    let back = file(folder.path(), "back.json", &shown.to_string());
    let cas = |index: &str| {
        weft(&cluster, &["config", "write", "--cas", "--modify-index", index, &back]).code
    };
    assert_eq!((cas("1"), cas(&index)), (Some(1), Some(0)));
    let delete = [&["config", "delete"], &kind[..], &["--name", "web"]].concat();
    succeeds(&cluster, &delete, &["Config entry deleted: service-resolver/web"]);
    fails(&cluster, &read, &["Config entry not found"]);
}

#[test]
fn intentions_are_said_asked_and_taken_back() {
    let cluster = Cluster::start();
    let intention = |args: &[&str]| weft(&cluster, &[&["intention"], args].concat());
    assert_eq!(intention(&["check", "web", "db"]).code, Some(1));
    succeeds(&cluster, &["intention", "create", "--allow", "web", "db"], &["web → db (allow)"]);
    let again = ["intention", "create", "--deny", "web", "db"];
    fails(&cluster, &again, &["is said already", "--replace"]);
    succeeds(&cluster, &["intention", "check", "web", "db"], &["Allowed"]);
    for args in [&["list"][..], &["get", "web", "db"], &["match", "db"]] {
        let outcome = intention(args);
        assert_eq!(outcome.code, Some(0), "{args:?}: {}", outcome.output);
        assert!(outcome.output.contains("allow"), "{args:?}: {}", outcome.output);
    }
    succeeds(&cluster, &["intention", "delete", "web", "db"], &["Intention deleted."]);
    fails(&cluster, &["intention", "delete", "web", "db"], &["there is no intention web → db"]);
}

#[test]
fn a_request_is_explained_from_its_routes_to_the_instances() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let _web = called(&cluster, "web-1", "web", "v1");
    cluster.agent.wait_passing("web", 1);
    cluster.agent.intend("shop", "web", "allow");
    let subset = |version: &str| json!({ "Filter": format!("Service.Meta.version == {version}") });
    cluster.agent.configure(&json!({
        "Kind": "service-resolver", "Name": "web", "DefaultSubset": "v1",
        "Subsets": { "v1": subset("v1"), "v2": subset("v2") },
    }));
    cluster.agent.configure(&json!({
        "Kind": "service-splitter", "Name": "web", "Splits": [
            { "Weight": 99.5, "ServiceSubset": "v1" }, { "Weight": 0.5, "ServiceSubset": "v2" },
        ],
    }));
    cluster.agent.configure(&json!({
        "Kind": "service-router", "Name": "web", "Routes": [{
            "Match": { "HTTP": { "PathPrefix": "/new/",
                "Header": [{ "Name": "end-user", "Exact": "jason" }] } },
            "Destination": { "ServiceSubset": "v2", "PrefixRewrite": "/" },
        }],
    }));
    // The sidecar has checks of its own, of which the first may come before it listens.
    eventually(SPREAD_LIMIT, "the sidecar passes", || {
        let path = "/v1/health/connect/web?passing";
        let passing = cluster.agent.api().get(path)?.ok()?.json();
        let count = passing.as_array().map_or(0, Vec::len);
        if count == 1 { Ok(()) } else { Err(format!("{count} pass")) }
    });
    let drawn = ["web (http)", "1. ", "PathPrefix \"/new/\"", "99.5 %", "0.5 %", "== v2)"];
    succeeds(&cluster, &["chain", "web"], &drawn);
    let ask = |from: &'static str, rest: &[&'static str]| {
        let asked = ["route", "explain", "--from", from, "--to", "web", "--path", "/new/x"];
        [&asked[..], rest].concat()
    };
    let shows = [
        "shop → web (http) GET /new/x",
        "route 1 passes it over",
        "does not hold: Header {\"Exact\":\"jason\",\"Name\":\"end-user\"}",
        "99.5 % → v1.web.default.default.dc1 as /new/x",
        "allowed: ",
        "web-1-sidecar-proxy at ",
        "0.5 % → v2.web.default.default.dc1",
        "nobody is there: none of 1 instances",
    ];
    succeeds(&cluster, &ask("shop", &[]), &shows);
    let taken =
        ["route 1 takes it", "100.0 % → v2.web.default.default.dc1 as /x", "nobody is there"];
    fails(&cluster, &ask("shop", &["--header", "end-user:jason"]), &taken);
    fails(&cluster, &ask("nobody", &[]), &["refused: "]);
    let told = succeeds(&cluster, &ask("shop", &["--json"]), &[]);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["Decision"]["Routes"][0]["IsTaken"], false);
    let web = &told["Targets"]["v1.web.default.default.dc1"];
    assert_eq!(web["Intention"]["Allowed"], true, "{told}");
    assert_eq!(web["Endpoints"].as_array().map(Vec::len), Some(1), "{told}");
    let pathless = ["route", "explain", "--from", "shop", "--to", "web"];
    fails(&cluster, &pathless, &["'path'"]);
}

#[test]
fn denials_override_while_the_mesh_entry_says_so() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let _web = called(&cluster, "web-1", "web", "v1");
    let shop = Shop::open(&cluster, &["web"]);
    cluster.agent.wait_passing("web", 1);
    cluster.agent.intend("shop", "web", "allow");
    cluster.agent.intend("*", "*", "deny");
    shop.wait_status("web", 200);
    let says = |precedence: &str| {
        let mesh = json!({ "Kind": "mesh", "IntentionPrecedence": precedence });
        cluster.agent.configure(&mesh);
    };
    let weft = |args: &[&str]| weft(&cluster, &[&["intention"], args].concat());

    says("deny-overrides");
    shop.wait_status("web", 403);
    let refused = shop.to("web").get("/").expect("an answer");
    assert_eq!(refused.header("x-weft-cause"), Some("intention-denied"));
    assert!(refused.body.contains("it overrides shop → web"), "{}", refused.body);
    assert!(refused.body.contains("change that denial"), "{}", refused.body);
    for question in ["check", "explain"] {
        let told = weft(&[question, "shop", "web"]);
        assert_eq!(told.code, Some(1), "{question}: {}", told.output);
        assert!(told.output.contains("intention * → * denies it"), "{question}: {}", told.output);
    }
    let lint = weft(&["list", "--lint"]);
    assert!(lint.output.contains("never allows: * → * denies it"), "{}", lint.output);

    says("first-match");
    shop.wait_status("web", 200);
    assert_eq!(weft(&["check", "shop", "web"]).code, Some(0));
}

#[test]
fn services_are_registered_from_files_and_flags() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().expect("a directory");
    let two = file(
        folder.path(),
        "two.hcl",
        "services = [{ name = \"api\", port = 81 }, { id = \"db-1\", name = \"db\", port = 82 }]\n",
    );
    succeeds(&cluster, &["services", "register", &two], &["Registered service: api"]);
    let flags = ["services", "register", "--name", "web", "--port", "80", "--tag", "v1"];
    succeeds(&cluster, &flags, &["Registered service: web"]);
    let listed = |wanted: Value| {
        eventually(LIMIT, "the catalog follows", || {
            let listed = cluster.agent.api().get("/v1/catalog/services")?.ok()?.json();
            if listed == wanted { Ok(()) } else { Err(listed.to_string()) }
        });
    };
    listed(json!({ "api": [], "db": [], "web": ["v1"] }));
    succeeds(&cluster, &["services", "deregister", &two], &["Deregistered service: db-1"]);
    succeeds(&cluster, &["services", "deregister", "--id", "web"], &["service: web"]);
    listed(json!({}));
    let export = ["services", "export", "--name", "web", "--consumer-peers", "east,west"];
    succeeds(&cluster, &export, &["Exported service: web to east, west", "Warning:"]);
    let entry = cluster.agent.api().get("/v1/config/exported-services/default").expect("an answer");
    let peers = json!([{ "Peer": "east" }, { "Peer": "west" }]);
    assert_eq!(entry.json()["Services"][0]["Consumers"], peers);
}
