//! ACLs of a started server: how they begin, how waits end with their token, and that no secret
//! comes out anywhere.

#[path = "it/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use support::{LIMIT, TestServer, config};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use weft_runtime::http::{HttpClient, HttpResponse};
use weft_server::config::{AclSection, FileConfig, HttpSection};

async fn start(dir: &Path, enabled: bool) -> TestServer {
    TestServer::start_with(FileConfig {
        http: HttpSection { addr: Some("127.0.0.1:0".to_owned()), ..HttpSection::default() },
        acl: AclSection { enabled: Some(enabled), ..AclSection::default() },
        ..config(dir, "s1")
    })
    .await
}

async fn call(
    server: &TestServer,
    method: Method,
    path: &str,
    token: &str,
    body: Value,
) -> HttpResponse {
    let mut headers = HeaderMap::new();
    if !token.is_empty() {
        let value = HeaderValue::from_str(token).expect("a header");
        headers.insert(HeaderName::from_static("x-consul-token"), value);
    }
    let url = format!("http://{}{path}", server.handle.http_addr().expect("a door"));
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    HttpClient::new(LIMIT, 1 << 20).request(method, &url, headers, body).await.expect("answered")
}

async fn put(server: &TestServer, path: &str, token: &str, body: Value) -> Value {
    let answer = call(server, Method::PUT, path, token, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    answer.json().expect("JSON")
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}")).to_owned()
}

async fn bootstrap(server: &TestServer) -> String {
    text(&put(server, "/v1/acl/bootstrap", "", Value::Null).await, "SecretID")
}

#[tokio::test]
async fn without_acls_their_pages_say_so_and_everything_else_is_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), false).await;
    for (method, path) in [
        (Method::PUT, "/v1/acl/bootstrap"),
        (Method::GET, "/v1/acl/tokens"),
        (Method::GET, "/v1/acl/token/self"),
        (Method::POST, "/v1/internal/acl/authorize"),
    ] {
        let answer = call(&server, method, path, "", Value::Null).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.text(), "ACL support disabled");
    }
    let answer = call(&server, Method::GET, "/v1/catalog/nodes", "whatever", Value::Null).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["x-consul-default-acl-policy"], "allow");
    server.stop().await;
}

#[tokio::test]
async fn acls_begin_once_and_again_for_who_can_write_to_the_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), true).await;
    let first = bootstrap(&server).await;
    let refused = call(&server, Method::PUT, "/v1/acl/bootstrap", "", Value::Null).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let told = refused.text();
    let start = "Permission denied: ACL bootstrap no longer allowed (reset index: ";
    let number = told.strip_prefix(start).and_then(|rest| rest.strip_suffix(')'));
    let number = number.unwrap_or_else(|| panic!("{told}"));
    let file = dir.path().join("acl-bootstrap-reset");
    std::fs::write(&file, "1\n").expect("a file");
    let refused = call(&server, Method::PUT, "/v1/acl/bootstrap", "", Value::Null).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "another number");
    std::fs::write(&file, format!("{number}\n")).expect("a file");
    let second = bootstrap(&server).await;
    assert!(!file.exists(), "it is worth nothing any more");
    for token in [&first, &second] {
        let own = call(&server, Method::GET, "/v1/acl/token/self", token, Value::Null).await;
        assert_eq!(own.json::<Value>().expect("JSON")["SecretID"], **token);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_written_changed_cloned_and_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), true).await;
    let all = bootstrap(&server).await;
    let rules = "key_prefix \"a/\" { policy = \"write\" }";
    let policy = json!({ "name": "keys", "rules": rules });
    let policy = put(&server, "/v1/acl/policy", &all, policy).await;
    assert_eq!(policy["Rules"], rules);
    let token = json!({ "Policies": [{ "Name": "keys" }], "ExpirationTTL": "1h" });
    let token = put(&server, "/v1/acl/token", &all, token).await;
    assert_eq!(token["Policies"], json!([{ "ID": policy["ID"], "Name": "keys" }]));
    let (accessor, secret) = (text(&token, "AccessorID"), text(&token, "SecretID"));
    let key = "/v1/kv/a/b";
    assert_eq!(put(&server, key, &secret, json!(1)).await, json!(true));
    let denied = call(&server, Method::PUT, "/v1/kv/b", &secret, json!(1)).await;
    assert_eq!(
        denied.text(),
        format!(
            "Permission denied: token with AccessorID '{accessor}' lacks permission 'key:write' \
             on \"b\""
        )
    );
    // A client reads, changes and writes: what was hidden comes back.
    let path = format!("/v1/acl/token/{accessor}");
    let read = call(&server, Method::GET, &path, &all, Value::Null).await;
    let mut read: Value = read.json().expect("JSON");
    assert_eq!(read["SecretID"], "<hidden>");
    read["Description"] = "changed".into();
    let changed = put(&server, &path, &all, read).await;
    assert_eq!(
        (&changed["Description"], changed["SecretID"].as_str()),
        (&json!("changed"), Some("<hidden>"))
    );
    let clone = put(&server, &format!("{path}/clone"), &all, json!({ "Description": "two" })).await;
    assert_ne!(text(&clone, "SecretID"), secret);
    assert_eq!(
        (&clone["Policies"], &clone["ExpirationTime"]),
        (&token["Policies"], &token["ExpirationTime"])
    );
    let listed = call(&server, Method::GET, "/v1/acl/tokens", &all, Value::Null).await.text();
    assert!(!listed.contains(&secret) && !listed.contains(&all), "{listed}");
    let gone = call(&server, Method::DELETE, &path, &all, Value::Null).await;
    assert_eq!(gone.text(), "true");
    let unknown = call(&server, Method::GET, key, &secret, Value::Null).await;
    assert_eq!((unknown.status, unknown.text().as_str()), (StatusCode::FORBIDDEN, "ACL not found"));
    let bad = json!({ "Name": "bad", "Rules": "key \"x\" { policy = \"rite\" }\nfoo = \"read\"" });
    let bad = call(&server, Method::PUT, "/v1/acl/policy", &all, bad).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    assert!(bad.text().contains("rite") && bad.text().contains("foo"), "{}", bad.text());
    server.stop().await;
}

/// Waits at a page until its answer changes.
fn wait(server: &TestServer, path: &str, token: &str) -> tokio::task::JoinHandle<HttpResponse> {
    let url = format!("http://{}{path}", server.handle.http_addr().expect("a door"));
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(token).expect("a header");
    headers.insert(HeaderName::from_static("x-consul-token"), value);
    tokio::spawn(async move {
        let client = HttpClient::new(LIMIT, 1 << 20);
        client.request(Method::GET, &url, headers, Bytes::new()).await.expect("answered")
    })
}

#[tokio::test]
async fn a_wait_ends_with_the_right_to_what_it_waits_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), true).await;
    let all = bootstrap(&server).await;
    put(&server, "/v1/kv/a", &all, json!(1)).await;
    let policy = json!({ "Name": "p", "Rules": "key \"a\" { policy = \"read\" }" });
    let policy = put(&server, "/v1/acl/policy", &all, policy).await;
    for (name, what) in [("its policy changes", "policy"), ("it is removed", "token")] {
        let rules = json!({ "Name": "p", "Rules": "key \"a\" { policy = \"read\" }" });
        let of_policy = format!("/v1/acl/policy/{}", text(&policy, "ID"));
        put(&server, &of_policy, &all, rules).await;
        let token = json!({ "Policies": [{ "Name": "p" }] });
        let token = put(&server, "/v1/acl/token", &all, token).await;
        let secret = text(&token, "SecretID");
        let now = call(&server, Method::GET, "/v1/kv/a", &secret, Value::Null).await;
        let index = now.headers["x-consul-index"].to_str().expect("a number").to_owned();
        let waiting = wait(&server, &format!("/v1/kv/a?index={index}&wait=5m"), &secret);
        // Whether it waits already or comes later makes no difference to the answer.
        tokio::task::yield_now().await;
        match what {
            "policy" => {
                let none = json!({ "Name": "p", "Rules": "key \"a\" { policy = \"deny\" }" });
                put(&server, &of_policy, &all, none).await;
            }
            _ => {
                let path = format!("/v1/acl/token/{}", text(&token, "AccessorID"));
                call(&server, Method::DELETE, &path, &all, Value::Null).await;
            }
        }
        let ended = tokio::time::timeout(LIMIT, waiting).await.expect(name).expect("no panic");
        assert_eq!(ended.status, StatusCode::FORBIDDEN, "{name}: {}", ended.text());
    }
    server.stop().await;
}

/// Keeps everything that is logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut text = self.0.lock().expect("no panic while writing");
        writeln!(text, "{field}={value:?}").expect("a string");
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn no_secret_is_logged_or_kept() {
    let log = Log::default();
    let _ = tracing::subscriber::set_global_default(log.clone());
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), true).await;
    let all = bootstrap(&server).await;
    let token = put(&server, "/v1/acl/token", &all, json!({ "Description": "x" })).await;
    let secret = text(&token, "SecretID");
    for path in ["/v1/kv/a", "/v1/catalog/nodes", "/v1/acl/token/self", "/v1/acl/tokens"] {
        for method in [Method::GET, Method::PUT] {
            call(&server, method.clone(), path, &secret, Value::Null).await;
            call(&server, method, &format!("{path}?token={secret}"), "", Value::Null).await;
        }
    }
    server.stop().await;
    let text = log.0.lock().expect("no panic while writing").clone();
    assert!(text.contains("server started"), "the log is seen");
    for secret in [&all, &secret] {
        if let Some(at) = text.find(secret.as_str()) {
            panic!("a secret is in the log: …{}", &text[at.saturating_sub(200)..at]);
        }
        assert!(!kept(dir.path(), secret.as_bytes()), "a secret is on the disk");
    }
}

/// Whether any file below a directory has the bytes.
fn kept(dir: &Path, wanted: &[u8]) -> bool {
    std::fs::read_dir(dir).expect("a directory").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return kept(&path, wanted);
        }
        let bytes = std::fs::read(&path).expect("a file");
        bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}

#[tokio::test]
async fn a_token_that_ends_lives_between_a_minute_and_a_day() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), true).await;
    let all = bootstrap(&server).await;
    for (ttl, wanted) in [
        ("59s", StatusCode::BAD_REQUEST),
        ("1m", StatusCode::OK),
        ("24h", StatusCode::OK),
        ("24h1s", StatusCode::BAD_REQUEST),
    ] {
        let token = json!({ "ExpirationTTL": ttl });
        let answer = call(&server, Method::PUT, "/v1/acl/token", &all, token).await;
        assert_eq!(answer.status, wanted, "{ttl}: {}", answer.text());
    }
    server.stop().await;
}

#[tokio::test]
async fn an_expanded_token_shows_all_that_it_comes_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(dir.path(), true).await;
    let management = bootstrap(&server).await;
    let policy = |name: &str, rules: &str| json!({ "Name": name, "Rules": rules });
    let keys = r#"key_prefix "web/" { policy = "read" }"#;
    put(&server, "/v1/acl/policy", &management, policy("keys", keys)).await;
    let events = r#"event "deploy" { policy = "write" }"#;
    put(&server, "/v1/acl/policy", &management, policy("events", events)).await;
    let role = json!({ "Name": "web", "Policies": [{ "Name": "keys" }, { "Name": "events" }],
        "ServiceIdentities": [{ "ServiceName": "web" }] });
    put(&server, "/v1/acl/role", &management, role).await;
    let token = json!({ "Policies": [{ "Name": "keys" }], "Roles": [{ "Name": "web" }],
        "ServiceIdentities": [{ "ServiceName": "web" }],
        "NodeIdentities": [{ "NodeName": "n1", "Datacenter": "dc1" }],
        "TemplatedPolicies": [{ "TemplateName": "builtin/dns" }] });
    let made = put(&server, "/v1/acl/token", &management, token).await;
    let (secret, accessor) = (text(&made, "SecretID"), text(&made, "AccessorID"));

    let get = async |path: &str, token: &str| {
        let answer = call(&server, Method::GET, path, token, Value::Null).await;
        (answer.status, answer.json::<Value>().unwrap_or_default())
    };
    let (status, own) = get("/v1/acl/token/self?expanded", &secret).await;
    assert_eq!((status, text(&own, "SecretID")), (StatusCode::OK, secret.clone()));
    let policies = own["ExpandedPolicies"].as_array().expect("a list");
    let rules: Vec<&str> = policies.iter().filter_map(|it| it["Rules"].as_str()).collect();
    assert_eq!(policies.len(), 5, "{own}");
    assert_eq!(rules[..2].iter().filter(|it| **it == keys || **it == events).count(), 2);
    let described = |at: usize| policies[at]["Description"].as_str().unwrap_or_default();
    assert!(described(2).ends_with("service identity: web"), "{own}");
    assert!(rules[2].contains("web-sidecar-proxy"), "{own}");
    assert!(described(3).ends_with("node identity: n1"), "{own}");
    assert_eq!(policies[3]["Datacenters"], json!(["dc1"]));
    assert!(described(4).ends_with("templated policy: builtin/dns"), "{own}");
    assert_eq!(own["ExpandedRoles"][0]["Name"], "web");
    assert_eq!(own["AgentACLDefaultPolicy"], "deny");
    assert_eq!(own["AgentACLDownPolicy"], "extend-cache");
    assert_eq!(own["ResolvedByAgent"], "s1");

    let path = format!("/v1/acl/token/{accessor}?expanded");
    let (status, read) = get(&path, &management).await;
    assert_eq!((status, text(&read, "SecretID")), (StatusCode::OK, "<hidden>".to_owned()));
    assert_eq!(read["ExpandedPolicies"], own["ExpandedPolicies"]);
    assert_eq!(get(&path, &secret).await.0, StatusCode::FORBIDDEN);
    let (_, plain) = get("/v1/acl/token/self", &secret).await;
    assert!(plain.get("ExpandedPolicies").is_none(), "{plain}");
    server.stop().await;
}
