//! Who changed what and who was turned away stands in the audit logs, as it was carried out and
//! without secrets; where that is demanded, nothing is done that cannot be written down.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::{Api, App, Cluster, TestAgent, eventually};

use crate::estate::{call, text};
use crate::story::{Shop, speaks};

/// The records in a file, once there is one like that.
fn records(path: &Path, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
    eventually(SPREAD_LIMIT, "it is written down", || {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        // The last line may be under way.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines: Vec<Value> = whole
            .lines()
            .map(|line| serde_json::from_str(line).expect("an object a line"))
            .collect();
        if lines.iter().any(&is_last) { Ok(lines) } else { Err(text) }
    })
}

fn of_key<'a>(records: &'a [Value], key: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["params"]["key"] == key).collect()
}

#[test]
fn writes_and_refusals_of_the_api_are_written_down_by_who_carries_them_out() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (of_server, of_agent) = (folder.path().join("server"), folder.path().join("agent.json"));
    fs::create_dir(&of_server).expect("a temporary folder can be written");
    let at_server = of_server.join("audit.json");
    let mut cluster = Cluster::start_with(&json!({
        "acl": { "enabled": true },
        "audit": { "path": at_server, "delivery_guarantee": "enforced" },
    }));
    let join = cluster.server.join_token_file();
    let settings = json!({ "audit": { "path": of_agent } });
    let agent = TestAgent::start_with(cluster.folder.path(), "node2", &join, &settings);
    let api = agent.api();
    let made = call(api, "PUT", "/v1/acl/bootstrap", "", "").json();
    let (accessor, secret) = (text(&made, "AccessorID"), text(&made, "SecretID"));

    let put = call(api, "PUT", "/v1/kv/app%2Flim%69t?cas=0", &secret, "a value");
    assert_eq!((put.status, put.body.trim()), (200, "true"));
    assert_eq!(call(api, "GET", "/v1/kv/app/limit?raw", &secret, "").body, "a value");
    let refused = call(api, "GET", "/v1/kv/app/limit?raw", "", "");
    assert_eq!(refused.status, 403, "{}", refused.body);
    let by_parameter = format!("/v1/kv/other?token={secret}");
    assert_eq!(call(api, "DELETE", &by_parameter, "", "").status, 200);
    let told = records(&at_server, |record| {
        record["params"]["key"] == "other" && record["stage"] == "complete"
    });
    let of_limit = of_key(&told, "app/limit");
    let seen: Vec<_> = of_limit
        .iter()
        .map(|record| (text(record, "stage"), text(record, "method"), record["status"].clone()))
        .collect();
    let expected = [
        ("start", "PUT", json!(null)),
        ("complete", "PUT", json!(200)),
        ("complete", "GET", json!(403)),
    ];
    let expected =
        expected.map(|(stage, method, status)| (stage.to_owned(), method.to_owned(), status));
    assert_eq!(seen, expected, "one read was allowed: {told:#?}");
    assert_eq!(of_limit[1]["endpoint"], "/v1/kv/{*key}");
    assert_eq!(of_limit[1]["query"], json!({ "cas": ["0"] }));
    assert_eq!(of_limit[1]["token"], accessor.as_str());
    let through = text(of_limit[1], "through");
    assert!(through.starts_with("spiffe://") && through.ends_with("/id/node2"), "{through}");
    assert_eq!(of_key(&told, "other")[1]["token"], accessor.as_str());

    // What the agent answers itself, it writes down itself.
    let service = json!({ "Name": "web", "Port": 80 }).to_string();
    let path = "/v1/agent/service/register";
    assert_eq!(call(api, "PUT", path, "", &service).status, 403);
    assert_eq!(call(api, "PUT", path, &secret, &service).status, 200);
    let told = records(&of_agent, |record| record["status"] == 200);
    let statuses: Vec<_> = told.iter().map(|record| record["status"].clone()).collect();
    assert_eq!(statuses, [403, 200], "{told:#?}");
    assert!(text(&told[1], "token").starts_with("sha256:"), "{told:#?}");
    for path in [&at_server, &of_agent] {
        let whole = fs::read_to_string(path).expect("it is there");
        assert!(!whole.contains(&secret) && !whole.contains("a value"), "{whole}");
    }

    // Nowhere to write: nothing is done.
    cluster.server.process.expect_log("the audit log cannot be written");
    fs::rename(&of_server, folder.path().join("moved")).expect("moved");
    let put = call(api, "PUT", "/v1/kv/unwritten", &secret, "1");
    assert_eq!(put.status, 503, "{}", put.body);
    assert!(put.body.contains("audit"), "{}", put.body);
    assert_eq!(call(api, "GET", "/v1/kv/unwritten", &secret, "").status, 404);
    fs::create_dir(&of_server).expect("a temporary folder can be written");
    assert_eq!(call(api, "PUT", "/v1/kv/unwritten", &secret, "1").status, 200);
}

#[test]
fn a_proxy_writes_down_whom_it_refuses_lets_in_and_cuts_off() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "tcp");
    let app = App::start("web-1");
    cluster.agent.register(&meshed("web-1", "web", app.port(), &[]));
    let path = cluster.folder.path().join("audit.json");
    let settings = json!({ "audit": { "path": path }, "audit_allowed_share": 1.0 });
    let config = cluster.folder.path().join("web.json");
    fs::write(&config, settings.to_string()).expect("a temporary folder can be written");
    let proxy = cluster.agent.sidecar_with("web-1", &["--config", &config.to_string_lossy()]);
    cluster.agent.intend("shop", "web", "deny");
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    let told = eventually(SPREAD_LIMIT, "the refusal is written down", || {
        door.get("/").expect_err("it is denied");
        let told = fs::read_to_string(&path).map_err(|error| error.to_string())?;
        if told.is_empty() { Err("nothing yet".to_owned()) } else { Ok(told) }
    });
    let first: Value =
        serde_json::from_str(told.lines().next().unwrap_or_default()).expect("an object a line");
    assert_eq!((&first["type"], &first["decision"]), (&json!("decision"), &json!("deny")));
    assert_eq!((&first["source"], &first["destination"]), (&json!("shop"), &json!("web")));
    assert!(text(&first, "caller").ends_with("/svc/shop"), "{first}");
    assert!(text(&first, "sni").starts_with("web.default.dc1.internal."), "{first}");
    assert!(text(&first, "why").contains("shop"), "{first}");

    cluster.agent.intend("shop", "web", "allow");
    let mut held = eventually(SPREAD_LIMIT, "it is let in", || {
        let mut held = TcpStream::connect(door.addr()).map_err(|error| error.to_string())?;
        held.write_all(b"GET /status/200 HTTP/1.1\r\nHost: web\r\n\r\n")
            .map_err(|error| error.to_string())?;
        match held.read(&mut [0; 4096]) {
            Ok(1..) => Ok(held),
            other => Err(format!("{other:?}")),
        }
    });
    records(&path, |record| record["decision"] == "allow");
    cluster.agent.intend("shop", "web", "deny");
    let mut rest = Vec::new();
    // Cut: at its end or reset, and either way over.
    let _ = held.read_to_end(&mut rest);
    let told = records(&path, |record| record["decision"] == "cut");
    let cut = told.iter().find(|record| record["decision"] == "cut").expect("there is one");
    assert_eq!((&cut["source"], &cut["destination"]), (&json!("shop"), &json!("web")));
    assert!(text(cut, "caller").ends_with("/svc/shop"), "{cut}");
    let admin = proxy.process.ready_field("admin").parse().expect("an address");
    let metrics = Api::new(admin).get("/metrics").and_then(|answer| answer.ok());
    let metrics = metrics.expect("metrics").body;
    let written = r#"weft_proxy_audit_records_total{outcome="written"}"#;
    assert!(metrics.contains(written) && metrics.contains(r#"outcome="lost"} 0"#), "{metrics}");
}
