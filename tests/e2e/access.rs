//! A mesh with ACLs, from the first token to a lost one: what a token may do is done, and what it
//! may not is refused in words that say why.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::process::{Outcome, run_weft};
use weft_tests::{Api, Cluster, TestAgent, eventually};

use crate::estate::{call, lacks, text};

const LIMIT: Duration = Duration::from_secs(30);

/// A cluster with ACLs, and the token that may do everything.
struct Guarded {
    cluster: Cluster,
    management: String,
}

impl Guarded {
    fn start() -> Self {
        let cluster = Cluster::start_with(&json!({ "acl": { "enabled": true } }));
        let guarded = Self { cluster, management: String::new() };
        let token = guarded.weft(&["acl", "bootstrap", "--json"], "");
        assert_eq!(token.code, Some(0), "{}", token.output);
        let token: Value = serde_json::from_str(&token.output).expect("JSON");
        Self { management: text(&token, "SecretID"), ..guarded }
    }

    fn api(&self) -> Api {
        self.cluster.agent.api()
    }

    /// Runs a command with a token, or with none.
    fn weft(&self, args: &[&str], token: &str) -> Outcome {
        let addr = self.api().addr().to_string();
        let file = self.folder().join("token");
        fs::write(&file, token).expect("a temporary folder can be written");
        let file = file.to_string_lossy();
        let mut all = [args, &["--http-addr", &addr]].concat();
        if !token.is_empty() {
            all.extend(["--token-file", &file]);
        }
        run_weft(&all, LIMIT)
    }

    fn folder(&self) -> &Path {
        self.cluster.folder.path()
    }

    /// Writes something as the management does.
    fn manage(&self, path: &str, body: &Value) -> Value {
        let answer = call(self.api(), "PUT", path, &self.management, &body.to_string());
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// Makes a token and returns its accessor and its secret.
    fn token(&self, grants: &Value) -> (String, String) {
        let made = self.manage("/v1/acl/token", grants);
        (text(&made, "AccessorID"), text(&made, "SecretID"))
    }
}

#[test]
fn what_a_token_may_is_done_and_the_rest_is_refused_by_name() {
    let guarded = Guarded::start();
    let api = guarded.api();
    let again = call(api, "PUT", "/v1/acl/bootstrap", "", "");
    assert_eq!(again.status, 403, "{}", again.body);
    assert!(again.body.contains("ACL bootstrap no longer allowed (reset index:"), "{}", again.body);
    let nobody = call(api, "GET", "/v1/kv/a", "", "");
    let said = r#"Permission denied: anonymous token lacks permission 'key:read' on "a"."#;
    assert_eq!((nobody.status, nobody.body.starts_with(said)), (403, true), "{}", nobody.body);

    // Keys with rules on prefixes.
    let rules = r#"key_prefix "app/" { policy = "read" }
        key_prefix "app/own/" { policy = "write" }
        key "app/own/secret" { policy = "deny" }"#;
    guarded.manage("/v1/acl/policy", &json!({ "Name": "app", "Rules": rules }));
    let (accessor, app) = guarded.token(&json!({ "Policies": [{ "Name": "app" }] }));
    for key in ["app/a", "app/own/secret", "else"] {
        guarded.manage(&format!("/v1/kv/{key}"), &json!(1));
    }
    let asks = |method: &str, path: &str| call(api, method, path, &app, "2");
    assert_eq!(asks("PUT", "/v1/kv/app/own/a").body.trim(), "true");
    assert_eq!(asks("GET", "/v1/kv/app/a?raw").body, "1");
    lacks(&asks("PUT", "/v1/kv/app/a"), &accessor, "key:write", "app/a");
    lacks(&asks("GET", "/v1/kv/else"), &accessor, "key:read", "else");
    lacks(&asks("GET", "/v1/kv/app/own/secret"), &accessor, "key:read", "app/own/secret");
    assert_eq!(asks("DELETE", "/v1/kv/app/own/?recurse").status, 403, "it holds what is denied");
    let listed = asks("GET", "/v1/kv/?keys");
    assert_eq!(listed.json(), json!(["app/a", "app/own/a"]));
    assert_eq!(listed.header("x-consul-results-filtered-by-acls"), Some("true"));
    let may = guarded.weft(&["can-i", "key:write", "app/own/b"], &app);
    assert_eq!((may.code, may.output.trim()), (Some(0), "yes"));
    let may_not = guarded.weft(&["can-i", "key:write", "app/a"], &app);
    assert_eq!(may_not.code, Some(1), "{}", may_not.output);
    assert!(may_not.output.contains(&accessor), "{}", may_not.output);
    let shown = guarded.weft(&["acl", "token", "read", "--self", "--expanded"], &app);
    assert!(shown.output.contains(r#"key_prefix "app/own/""#), "{}", shown.output);
    assert!(shown.output.contains("Whatever no rule names: deny"), "{}", shown.output);

    // A token that is none is refused, also where everyone may.
    let stranger =
        call(api, "GET", "/v1/status/leader", "11111111-2222-3333-4444-555555555555", "");
    assert_eq!((stranger.status, stranger.body.trim()), (403, "ACL not found"));
}

#[test]
fn a_service_identity_registers_its_service_and_is_found_by_who_may_read_it() {
    let guarded = Guarded::start();
    let node = json!({ "NodeIdentities": [{ "NodeName": "node2", "Datacenter": "dc1" }] });
    let (_, of_agent) = guarded.token(&node);
    let file = guarded.folder().join("agent-token");
    fs::write(&file, &of_agent).expect("a temporary folder can be written");
    let settings = json!({ "acl": { "enabled": true, "tokens": { "default_file": file } } });
    let join = guarded.cluster.server.join_token_file();
    let agent = TestAgent::start_with(guarded.folder(), "node2", &join, &settings);
    let (accessor, web) =
        guarded.token(&json!({ "ServiceIdentities": [{ "ServiceName": "web" }] }));

    let register = |name: &str| {
        let body =
            json!({ "Name": name, "Port": 80, "Check": { "TTL": "1m", "Status": "passing" } });
        let path = "/v1/agent/service/register";
        call(agent.api(), "PUT", path, &web, &body.to_string())
    };
    assert_eq!(register("web").status, 200);
    lacks(&register("db"), &accessor, "service:write", "db");
    let path = "/v1/agent/service/deregister/web";
    assert_eq!(call(agent.api(), "PUT", path, "", "").status, 403, "the agent's token may not");

    // Found by who may read it; for all others it is not there.
    let found = |api: Api, token: &str| call(api, "GET", "/v1/health/service/web", token, "");
    eventually(SPREAD_LIMIT, "the owner finds it", || {
        let answer = found(guarded.api(), &web).ok()?;
        let count = answer.json().as_array().map_or(0, Vec::len);
        if count == 1 { Ok(()) } else { Err(answer.body) }
    });
    let through_agent = found(agent.api(), "");
    let count = through_agent.json().as_array().map_or(0, Vec::len);
    assert_eq!(count, 1, "the agent's own token reads services: {}", through_agent.body);
    let anonymous = found(guarded.api(), "");
    assert_eq!(
        (anonymous.json(), anonymous.header("x-consul-results-filtered-by-acls")),
        (json!([]), None)
    );
    let (_, nothing) = guarded.token(&json!({}));
    let filtered = found(guarded.api(), &nothing);
    assert_eq!(filtered.json(), json!([]));
    assert_eq!(filtered.header("x-consul-results-filtered-by-acls"), Some("true"));

    // Who may call whom is told and written by who may.
    let entry = json!({ "Kind": "service-intentions", "Name": "web",
        "Sources": [{ "Name": "shop", "Action": "allow" }] });
    let refused = call(guarded.api(), "PUT", "/v1/config", &web, &entry.to_string());
    lacks(&refused, &accessor, "intention:write", "web");
    guarded.manage("/v1/config", &entry);
    let path = "/v1/connect/intentions/check?source=shop&destination=web";
    let check = call(guarded.api(), "GET", path, &web, "");
    assert_eq!(check.json()["Allowed"], json!(true), "{}", check.body);
    let (other, db) = guarded.token(&json!({ "ServiceIdentities": [{ "ServiceName": "db" }] }));
    lacks(
        &call(guarded.api(), "PUT", "/v1/config", &db, &entry.to_string()),
        &other,
        "intention:write",
        "web",
    );
    let taken_away = call(agent.api(), "PUT", "/v1/agent/service/deregister/web", &web, "");
    assert_eq!(taken_away.status, 200, "{}", taken_away.body);
}

/// Signs claims as an issuer does.
fn signed(key: &KeyPair, claims: &Value) -> String {
    let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
    let head = encode(json!({ "alg": "EdDSA", "typ": "JWT" }).to_string());
    let body = format!("{head}.{}", encode(claims.to_string()));
    let signature = key.sign(body.as_bytes()).expect("it signs");
    format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn who_shows_an_issuers_token_logs_in_and_out() {
    let guarded = Guarded::start();
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let public = URL_SAFE_NO_PAD.encode(key.subject_public_key_info());
    let standard: String = public
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    let pad = "=".repeat((4 - standard.len() % 4) % 4);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{standard}{pad}\n-----END PUBLIC KEY-----\n");
    guarded.manage(
        "/v1/acl/auth-method",
        &json!({
            "Name": "issuer", "Type": "jwt", "MaxTokenTTL": "5m",
            "Config": { "JWTValidationPubKeys": [pem], "BoundIssuer": "https://issuer",
                "JWTSupportedAlgs": ["EdDSA"], "ClaimMappings": { "service": "service" } },
        }),
    );
    guarded.manage(
        "/v1/acl/binding-rule",
        &json!({ "AuthMethod": "issuer", "BindType": "service",
        "BindName": "${value.service}", "Selector": "value.service != admin" }),
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("the clock is right").as_secs();
    let claims = |issuer: &str, service: &str| json!({ "iss": issuer, "iat": now, "exp": now + 300, "service": service });
    let path = |name: &str| -> PathBuf { guarded.folder().join(name) };
    let login = |claims: &Value| {
        fs::write(path("jwt"), signed(&key, claims)).expect("a temporary folder can be written");
        let (from, to) = (path("jwt"), path("sink"));
        let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
        let args =
            ["login", "--method", "issuer", "--bearer-token-file", &from, "--token-sink-file", &to];
        guarded.weft(&args, "")
    };
    let done = login(&claims("https://issuer", "shop"));
    assert_eq!(done.code, Some(0), "{}", done.output);
    let token = fs::read_to_string(path("sink")).expect("the secret").trim().to_owned();
    let may = guarded.weft(&["can-i", "service:write", "shop"], &token);
    assert_eq!(may.code, Some(0), "{}", may.output);
    let may_not = guarded.weft(&["can-i", "service:write", "bank"], &token);
    assert_eq!(may_not.code, Some(1), "{}", may_not.output);

    let refused = login(&claims("https://issuer", "admin"));
    assert_ne!(refused.code, Some(0));
    assert!(refused.output.contains("no binding rule"), "{}", refused.output);
    let forged = login(&claims("https://other", "shop"));
    assert_ne!(forged.code, Some(0), "{}", forged.output);

    let out = guarded.weft(&["logout"], &token);
    assert_eq!(out.code, Some(0), "{}", out.output);
    let gone = call(guarded.api(), "GET", "/v1/acl/token/self", &token, "");
    assert_eq!((gone.status, gone.body.trim()), (403, "ACL not found"));
}

#[test]
fn a_lost_management_token_is_made_anew_by_who_holds_the_servers_disk() {
    let guarded = Guarded::start();
    let refused = guarded.weft(&["acl", "bootstrap"], "");
    assert_ne!(refused.code, Some(0));
    let (_, index) = refused.output.split_once("(reset index: ").expect("it says how");
    let index: String = index.chars().take_while(char::is_ascii_digit).collect();
    let file = guarded.folder().join("server").join("acl-bootstrap-reset");
    fs::write(&file, "1").expect("a temporary folder can be written");
    assert_ne!(guarded.weft(&["acl", "bootstrap"], "").code, Some(0), "another number");
    fs::write(&file, &index).expect("a temporary folder can be written");
    let made = guarded.weft(&["acl", "bootstrap", "--json"], "");
    assert_eq!(made.code, Some(0), "{}", made.output);
    let made: Value = serde_json::from_str(&made.output).expect("JSON");
    let listed = call(guarded.api(), "GET", "/v1/acl/tokens", &text(&made, "SecretID"), "");
    assert_eq!(listed.status, 200, "{}", listed.body);
    assert_ne!(guarded.weft(&["acl", "bootstrap"], "").code, Some(0), "once for each number");
}
