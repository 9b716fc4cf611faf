//! The endpoint × credential table: every route of the router, called with each kind of token.
//!
//! A route without a row fails the test: say in `rows` which right it needs.

mod rows;

use std::collections::BTreeSet;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};
use weft_core::acl::{Access, Policy, Resource, Rules};
use weft_proto::text::parse_rules;
use weft_runtime::http::{HttpClient, HttpResponse};
use weft_runtime::task::TaskTree;

use crate::Server;
use crate::config::{AclSection, AclTokensSection, Config, FileConfig, HttpSection};
use rows::{Needs, Row, rows};

const LIMIT: Duration = Duration::from_secs(20);
const MANAGEMENT: &str = "6f1c0de0-5a5b-4c3e-8f1e-0123456789ab";

/// A server with ACLs, and its door.
struct Bench {
    url: String,
    client: HttpClient,
    tasks: TaskTree,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("management");
        std::fs::write(&file, format!("{MANAGEMENT}\n")).expect("a file");
        let tasks = TaskTree::root("test");
        let config = Config::resolve(FileConfig {
            data_dir: Some(dir.path().join("data")),
            node_name: Some("s1".to_owned()),
            bind_addr: Some("127.0.0.1:0".to_owned()),
            http: HttpSection { addr: Some("127.0.0.1:0".to_owned()), ..HttpSection::default() },
            acl: AclSection {
                enabled: Some(true),
                tokens: AclTokensSection { initial_management_file: Some(file) },
                ..AclSection::default()
            },
            ..FileConfig::default()
        });
        let handle = Server::start(config.expect("a configuration"), tasks.clone()).await;
        let address = handle.expect("started").http_addr().expect("a door");
        let client = HttpClient::new(LIMIT, 1 << 20);
        let bench = Self { url: format!("http://{address}"), client, tasks, _dir: dir };
        bench.wait_for_management().await;
        bench
    }

    /// The leader makes the token of the configuration in its own time; the page waits for it.
    async fn wait_for_management(&self) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let answer = self.call(Method::GET, "/v1/acl/token/self", Some(MANAGEMENT), "").await;
            if answer.status == StatusCode::OK {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "no token: {}", answer.text());
            tokio::task::yield_now().await;
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> HttpResponse {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let value = HeaderValue::from_str(token).expect("a header");
            headers.insert(HeaderName::from_static("x-consul-token"), value);
        }
        let url = format!("{}{path}", self.url);
        let body = Bytes::from(body.to_owned());
        self.client.request(method, &url, headers, body).await.expect("answered")
    }

    /// Writes with the management token.
    async fn put(&self, path: &str, body: &Value) -> Value {
        let answer = self.call(Method::PUT, path, Some(MANAGEMENT), &body.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json().unwrap_or_default()
    }

    /// Makes a token with rules; returns its accessor and secret.
    async fn token(&self, name: &str, rules: &str) -> (String, String) {
        let policy = json!({ "Name": name, "Rules": rules });
        let policy = self.put("/v1/acl/policy", &policy).await;
        let token = json!({ "Policies": [{ "ID": policy["ID"] }] });
        let token = self.put("/v1/acl/token", &token).await;
        let text = |field: &str| token[field].as_str().expect("a text").to_owned();
        (text("AccessorID"), text("SecretID"))
    }

    /// What the rows look for and change.
    async fn seed(&self) {
        let registration = json!({ "Node": "n1", "Address": "10.0.0.1",
            "Service": { "ID": "web-1", "Service": "web", "Port": 80 },
            "Check": { "CheckID": "alive", "ServiceID": "web-1", "Name": "alive",
                "Status": "passing" } });
        self.put("/v1/catalog/register", &registration).await;
        let entry = json!({ "Kind": "service-defaults", "Name": "web", "Protocol": "http" });
        self.put("/v1/config", &entry).await;
        let intention = "/v1/connect/intentions/exact?source=api&destination=web";
        self.put(intention, &json!({ "Action": "allow" })).await;
        self.put("/v1/kv/seed", &json!("value")).await;
        // The second time the name is taken, which is as good.
        let query = json!({ "Name": "seed", "Service": { "Service": "web" } }).to_string();
        self.call(Method::POST, "/v1/query", Some(MANAGEMENT), &query).await;
        let token = json!({ "AccessorID": rows::ACCESSOR, "Description": "seed" });
        let present = format!("/v1/acl/token/{}", rows::ACCESSOR);
        let there = self.call(Method::GET, &present, Some(MANAGEMENT), "").await;
        if there.status == StatusCode::NOT_FOUND {
            self.put("/v1/acl/token", &token).await;
        }
    }
}

/// Everything but what a row needs: the resource is denied, all others may be written.
fn all_but(rules: &str) -> String {
    let needed = parse_rules(rules).expect("rules of the row");
    let is_about_intentions = needed.0.iter().any(|rule| rule.intentions.is_some());
    let denied: BTreeSet<Resource> = needed.0.iter().map(|rule| rule.resource).collect();
    let mut all: Rules = Policy::global_management().rules;
    for rule in &mut all.0 {
        if !denied.contains(&rule.resource) {
            continue;
        }
        match is_about_intentions {
            true => rule.intentions = Some(Access::Deny),
            false => {
                rule.access = Access::Deny;
                rule.intentions = rule.intentions.map(|_| Access::Deny);
            }
        }
    }
    all.to_string()
}

#[test]
fn every_route_has_a_row() {
    let known: BTreeSet<(String, String)> =
        rows().into_iter().map(|row| (row.method.to_string(), row.pattern.to_owned())).collect();
    let routes: BTreeSet<(String, String)> = super::routes()
        .all()
        .into_iter()
        .map(|(method, pattern)| (method.to_string(), pattern))
        .collect();
    let without: Vec<_> = routes.difference(&known).collect();
    assert!(without.is_empty(), "give them rows in server/src/http/table/rows.rs: {without:?}");
    let stale: Vec<_> = known.difference(&routes).collect();
    assert!(stale.is_empty(), "rows without a route: {stale:?}");
}

#[tokio::test]
async fn every_route_answers_each_kind_of_token_as_its_row_says() {
    let bench = Bench::start().await;
    let unknown = "00000000-1111-2222-3333-444444444444";
    for (at, row) in rows().into_iter().enumerate() {
        let shown = format!("{} {}", row.method, row.path);
        let rules = row.needs.rules();
        let exact = bench.token(&format!("exact-{at}"), rules).await;
        let lacking = bench.token(&format!("lacking-{at}"), &all_but(rules)).await;
        for (kind, token) in [
            ("no token", None),
            ("an unknown token", Some(unknown)),
            ("a token without the right", Some(lacking.1.as_str())),
            ("a token with exactly the right", Some(exact.1.as_str())),
            ("the management token", Some(MANAGEMENT)),
        ] {
            bench.seed().await;
            let answer = bench.call(row.method.clone(), row.path, token, row.body).await;
            let why = format!("{shown} with {kind}: {} {}", answer.status, answer.text());
            assert_eq!(answer.headers["x-consul-default-acl-policy"], "deny", "{why}");
            match kind {
                "an unknown token" => {
                    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{why}");
                    assert_eq!(answer.text(), "ACL not found", "{why}");
                }
                "no token" => check_without(&row, &answer, None, &why),
                "a token without the right" => {
                    check_without(&row, &answer, Some(&lacking.0), &why);
                }
                _ => check_with(&row, &answer, &why),
            }
            assert!(!answer.text().contains(MANAGEMENT) || kind == "the management token", "{why}");
        }
    }
    bench.tasks.cancel();
    bench.tasks.join(LIMIT).await.expect("every task ends");
}

fn check_with(row: &Row, answer: &HttpResponse, why: &str) {
    check_status(row, answer, why);
    if let Needs::Shows { needle, .. } = row.needs {
        assert!(answer.text().contains(needle), "{needle} is not shown: {why}");
        assert!(!answer.headers.contains_key("x-consul-results-filtered-by-acls"), "{why}");
    }
}

fn check_status(row: &Row, answer: &HttpResponse, why: &str) {
    match row.status {
        Some(status) => assert_eq!(answer.status, status, "{why}"),
        None => assert_ne!(answer.status, StatusCode::FORBIDDEN, "{why}"),
    }
}

fn check_without(row: &Row, answer: &HttpResponse, accessor: Option<&str>, why: &str) {
    match row.needs {
        Needs::Nothing => check_status(row, answer, why),
        Needs::Right(_) => {
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{why}");
            let who = match accessor {
                Some(accessor) => format!("token with AccessorID '{accessor}'"),
                None => "anonymous token".to_owned(),
            };
            let start = format!("Permission denied: {who} lacks permission '");
            assert!(answer.text().starts_with(&start), "{why}");
        }
        Needs::Shows { needle, .. } => {
            // Of keys, a list that shows nothing is not there.
            let is_empty = answer.status == StatusCode::NOT_FOUND;
            assert!(is_empty || row.status.is_some_and(|status| answer.status == status), "{why}");
            assert!(!answer.text().contains(needle), "{needle} is shown: {why}");
            let told = answer.headers.contains_key("x-consul-results-filtered-by-acls");
            assert_eq!(told, accessor.is_some(), "{why}");
        }
    }
}
