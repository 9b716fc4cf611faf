//! What a token may is the same at the agent and at each of three servers: keys, the agent's own
//! pages, and what DNS shows.

use serde_json::json;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::{Answer, eventually, tools};

use crate::dns::{dig, wait_lines};
use crate::estate::{Estate, call, lacks, text};

/// May read, list and write, each in a place of its own.
const KEYS: &str = r#"
key_prefix "app/" { policy = "read" }
key_prefix "app/listed/" { policy = "list" }
key_prefix "app/own/" { policy = "write" }
"#;

/// May ask the agent for itself, and for what it has of one service.
const HOST: &str = r#"
agent "node1" { policy = "read" }
service "web" { policy = "write" }
"#;

#[test]
fn a_role_grants_the_same_at_the_agent_and_at_every_server() {
    let estate = Estate::start_with(&json!({ "enabled": true, "enable_key_list_policy": true }));
    for key in ["app/a", "app/listed/a", "app/own/a", "else"] {
        estate.manage(&format!("/v1/kv/{key}"), &json!(1));
    }
    let policy = estate.manage("/v1/acl/policy", &json!({ "Name": "keys", "Rules": KEYS }));
    let role = json!({ "Name": "application", "Policies": [{ "Name": "keys" }] });
    let role = estate.manage("/v1/acl/role", &role);
    assert_eq!(role["Policies"][0]["ID"], policy["ID"]);
    let (accessor, secret) = estate.token(&json!({ "Roles": [{ "Name": "application" }] }));

    for (number, door) in estate.doors().into_iter().enumerate() {
        let asks = |method: &str, path: &str| call(door, method, path, &secret, "2");
        // The server that was asked first knows of the token; the others hear of it.
        eventually(SPREAD_LIMIT, "the token is known", || asks("GET", "/v1/kv/app/a").ok());
        assert_eq!(asks("GET", "/v1/kv/app/a?raw").body, "1");
        assert_eq!(asks("PUT", &format!("/v1/kv/app/own/{number}")).body.trim(), "true");
        lacks(&asks("PUT", "/v1/kv/app/listed/b"), &accessor, "key:write", "app/listed/b");
        lacks(&asks("GET", "/v1/kv/else"), &accessor, "key:read", "else");
        lacks(&asks("DELETE", "/v1/kv/app/a"), &accessor, "key:write", "app/a");
        assert_eq!(asks("GET", "/v1/kv/app/listed/?keys").json(), json!(["app/listed/a"]));
        lacks(&asks("GET", "/v1/kv/app/?keys"), &accessor, "key:list", "app/");
        lacks(&asks("GET", "/v1/acl/tokens"), &accessor, "acl:read", "");
        let own = asks("GET", "/v1/acl/token/self").json();
        assert_eq!(
            (text(&own, "AccessorID"), &own["Roles"][0]["ID"]),
            (accessor.clone(), &role["ID"])
        );
    }

    // A role that is gone grants nothing.
    let path = format!("/v1/acl/role/{}", text(&role, "ID"));
    let gone = call(estate.agent.api(), "DELETE", &path, &estate.token, "");
    assert_eq!(gone.body.trim(), "true");
    for door in estate.doors() {
        eventually(SPREAD_LIMIT, "it grants nothing", || {
            let answer = call(door, "GET", "/v1/kv/app/a", &secret, "");
            if answer.status == 403 { Ok(()) } else { Err(answer.body) }
        });
    }
}

#[test]
fn the_agents_own_pages_ask_for_rights_by_name() {
    let estate = Estate::start();
    estate.manage("/v1/acl/policy", &json!({ "Name": "host", "Rules": HOST }));
    let (accessor, host) = estate.token(&json!({ "Policies": [{ "Name": "host" }] }));
    let (other, nothing) = estate.token(&json!({}));
    let ask = |method: &str, path: &str, token: &str, body: &str| -> Answer {
        call(estate.agent.api(), method, &format!("/v1/agent/{path}"), token, body)
    };
    for name in ["web", "db"] {
        estate.manage("/v1/agent/service/register", &json!({ "Name": name, "Port": 80 }));
    }

    assert_eq!(ask("GET", "self", &host, "").json()["Config"]["NodeName"], "node1");
    for page in ["self", "metrics", "version"] {
        lacks(&ask("GET", page, &nothing, ""), &other, "agent:read", "node1");
        assert_eq!(ask("GET", page, &host, "").status, 200, "{page}");
    }
    for (path, needed, on) in [
        ("reload", "agent:write", "node1"),
        ("leave", "agent:write", "node1"),
        ("token/default", "agent:write", "node1"),
        ("maintenance?enable=true", "node:write", "node1"),
        ("force-leave/node2", "operator:write", ""),
        ("service/maintenance/db?enable=true", "service:write", "db"),
        ("service/deregister/db", "service:write", "db"),
    ] {
        lacks(&ask("PUT", path, &host, r#"{"Token":""}"#), &accessor, needed, on);
    }
    lacks(&ask("GET", "host", &host, ""), &accessor, "operator:read", "");
    lacks(&ask("GET", "tap?service=web", &nothing, ""), &other, "agent:read", "node1");
    lacks(&ask("GET", "tap?service=db", &host, ""), &accessor, "service:write", "db");
    lacks(&ask("GET", "connect/ca/leaf/db", &host, ""), &accessor, "service:write", "db");
    assert_eq!(ask("GET", "connect/ca/leaf/web", &host, "").status, 200);
    let check = json!({ "Name": "alive", "TTL": "10s" }).to_string();
    lacks(&ask("PUT", "check/register", &host, &check), &accessor, "node:write", "node1");
    let check = json!({ "Name": "alive", "TTL": "10s", "ServiceID": "web" }).to_string();
    assert_eq!(ask("PUT", "check/register", &host, &check).status, 200);

    let seen = ask("GET", "services", &host, "");
    assert_eq!(
        seen.json().as_object().map(|all| all.keys().cloned().collect()),
        Some(vec!["web".to_owned()])
    );
    assert_eq!(seen.header("x-consul-results-filtered-by-acls"), Some("true"));
    assert_eq!(ask("GET", "checks", &nothing, "").json(), json!({}));
}

#[test]
fn dns_shows_what_its_token_may_read() {
    if !tools::have("dns_shows_what_its_token_may_read", &["dig"]) {
        return;
    }
    let estate = Estate::start();
    let rules = r#"service "web" { policy = "read" } node_prefix "" { policy = "read" }"#;
    estate.manage("/v1/acl/policy", &json!({ "Name": "names", "Rules": rules }));
    let (_, names) = estate.token(&json!({ "Policies": [{ "Name": "names" }] }));
    for (name, address) in [("web", "127.0.9.1"), ("db", "127.0.9.2")] {
        let service = json!({ "Name": name, "Address": address, "Port": 80 });
        estate.manage("/v1/agent/service/register", &service);
    }
    let dns = estate.agent.dns();
    let unknown = |name: &str| {
        let said = dig(dns, &["+noall", "+comments", name])?;
        if said.contains("status: NXDOMAIN,") { Ok(()) } else { Err(said) }
    };
    let path = "/v1/health/service/db";
    eventually(SPREAD_LIMIT, "both are in the catalog", || {
        let found = call(estate.agent.api(), "GET", path, &estate.token, "").ok()?;
        if found.json()[0].is_object() { Ok(()) } else { Err(found.body) }
    });
    eventually(SPREAD_LIMIT, "nobody sees it", || unknown("web.service.mesh"));
    estate.manage("/v1/agent/token/dns", &json!({ "Token": names }));
    wait_lines(dns, &["web.service.mesh"], &["127.0.9.1"]);
    wait_lines(dns, &["node1.node.mesh"], &["127.0.0.1"]);
    unknown("db.service.mesh").expect("it may not be read");
    estate.manage("/v1/agent/token/dns", &json!({ "Token": "" }));
    eventually(SPREAD_LIMIT, "nobody sees it again", || unknown("web.service.mesh"));
}
