//! Logging in by auth methods: JSON web tokens with real signatures, and a Kubernetes API server
//! that is played.

use std::convert::Infallible;
use std::sync::Arc;

use crate::support::{LIMIT, TestHost, TestServer, config, new_key};
use http::{Method, Request, Response, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::{Value, json};
use weft_core::time::Timestamp;
use weft_runtime::http::{Body, HttpResponse, ServeOptions, collect, full, serve};
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, net};
use weft_server::config::{AclSection, FileConfig};

/// A server with ACLs and its management token.
struct World {
    server: TestServer,
    host: TestHost,
    management: String,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let acl = AclSection { enabled: Some(true), ..AclSection::default() };
        let server = TestServer::start_with(FileConfig { acl, ..config(dir.path(), "s1") }).await;
        let host = TestHost::join(&server, "n1").await;
        let mut world = Self { server, host, management: String::new(), _dir: dir };
        let token = world.put("/v1/acl/bootstrap", &json!({})).await;
        world.management = token["SecretID"].as_str().expect("a secret").to_owned();
        world
    }

    async fn call(&self, method: Method, path: &str, token: &str, body: &str) -> HttpResponse {
        let mark = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{mark}token={token}");
        self.host.call(method, &self.server, &path, body).await
    }

    async fn put(&self, path: &str, body: &Value) -> Value {
        let answer = self.call(Method::PUT, path, &self.management, &body.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json().expect("JSON")
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, &self.management, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json().expect("JSON")
    }

    async fn login(&self, method: &str, bearer: &str) -> HttpResponse {
        let body = json!({ "AuthMethod": method, "BearerToken": bearer, "Meta": { "pod": "a" } });
        self.call(Method::POST, "/v1/acl/login", "", &body.to_string()).await
    }

    async fn let_in(&self, method: &str, bearer: &str) -> Value {
        let answer = self.login(method, bearer).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json().expect("JSON")
    }

    async fn keep_out(&self, method: &str, bearer: &str, reason: &str) {
        let answer = self.login(method, bearer).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());
        assert!(answer.text().contains(reason), "{:?} does not say {reason:?}", answer.text());
        assert!(!answer.text().contains(bearer), "the credential is repeated");
    }

    async fn status_of_self(&self, token: &str) -> StatusCode {
        self.call(Method::GET, "/v1/acl/token/self", token, "").await.status
    }
}

fn now() -> u64 {
    let Timestamp(millis) = clock::wall();
    millis / 1000
}

fn signed(key: &KeyPair, id: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(Algorithm::ES256) };
    let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a key");
    encode(&header, claims, &key).expect("signed")
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer", "aud": ["weft"], "exp": now() + 600, "iat": now(),
        "team": { "name": "shop" }, "groups": ["ops", "dev"],
    })
}

fn with(mut claims: Value, field: &str, value: Value) -> Value {
    claims[field] = value;
    claims
}

fn jwt_method(keys: Value) -> Value {
    let mut config = json!({
        "BoundIssuer": "https://issuer",
        "BoundAudiences": ["weft"],
        "JWTSupportedAlgs": ["ES256"],
        "ClaimMappings": { "/team/name": "team" },
        "ListClaimMappings": { "groups": "groups" },
    });
    for (field, value) in keys.as_object().expect("fields") {
        config[field] = value.clone();
    }
    json!({ "Name": "issuer", "Type": "jwt", "MaxTokenTTL": "10m", "Config": config })
}

fn rule(method: &str, kind: &str, name: &str, selector: &str) -> Value {
    json!({ "AuthMethod": method, "BindType": kind, "BindName": name, "Selector": selector })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_token_is_exchanged_for_one_of_ours_until_it_logs_out() {
    let world = World::start().await;
    let key = new_key();
    let pem = json!({ "JWTValidationPubKeys": [key.public_key_pem()] });
    let shown = world.put("/v1/acl/auth-method", &jwt_method(pem)).await;
    assert_eq!(shown["Config"]["BoundAudiences"], json!(["weft"]));
    let bearer = signed(&key, None, &claims());
    world.keep_out("issuer", &bearer, "no binding rule").await;
    let bind = rule("issuer", "service", "${value.team}-web", "ops in list.groups");
    world.put("/v1/acl/binding-rule", &bind).await;

    let token = world.let_in("issuer", &bearer).await;
    assert_eq!(token["ServiceIdentities"], json!([{ "ServiceName": "shop-web" }]));
    assert_eq!(token["AuthMethod"], "issuer");
    assert_eq!(token["Description"], r#"token created via login: {"pod":"a"}"#);
    assert!(token["ExpirationTime"].is_string());
    let secret = token["SecretID"].as_str().expect("a secret").to_owned();
    let path = "/v1/internal/acl/authorize";
    let question = json!([
        { "Resource": "service", "Access": "write", "Segment": "shop-web" },
        { "Resource": "service", "Access": "write", "Segment": "other" },
    ]);
    let answer = world.call(Method::POST, path, &secret, &question.to_string()).await;
    let verdicts: Value = answer.json().expect("JSON");
    assert_eq!((&verdicts[0]["Allow"], &verdicts[1]["Allow"]), (&json!(true), &json!(false)));

    let logout = world.call(Method::POST, "/v1/acl/logout", &secret, "").await;
    assert_eq!(logout.status, StatusCode::OK, "{}", logout.text());
    assert_eq!(world.status_of_self(&secret).await, StatusCode::FORBIDDEN);
    let management = world.management.clone();
    let logout = world.call(Method::POST, "/v1/acl/logout", &management, "").await;
    assert_eq!(logout.status, StatusCode::FORBIDDEN, "it was not made by a login");

    let token = world.let_in("issuer", &bearer).await;
    let secret = token["SecretID"].as_str().expect("a secret").to_owned();
    let gone = world.call(Method::DELETE, "/v1/acl/auth-method/issuer", &management, "").await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.text());
    assert_eq!(world.status_of_self(&secret).await, StatusCode::FORBIDDEN);
    world.keep_out("issuer", &bearer, "no such auth method").await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_not_right_keep_their_holders_out() {
    let world = World::start().await;
    let (key, stranger) = (new_key(), new_key());
    let pem = json!({ "JWTValidationPubKeys": [key.public_key_pem()] });
    world.put("/v1/acl/auth-method", &jwt_method(pem)).await;
    world.put("/v1/acl/binding-rule", &rule("issuer", "service", "web", "")).await;
    let signed = |claims: &Value| signed(&key, None, claims);
    world.let_in("issuer", &signed(&claims())).await;
    let without = |field: &str| {
        let mut claims = claims();
        claims.as_object_mut().expect("claims").remove(field);
        claims
    };
    let mut dateless = without("exp");
    dateless.as_object_mut().expect("claims").remove("iat");
    for (bearer, reason) in [
        (super_signed(&stranger), "not signed by a key"),
        (signed(&with(claims(), "iss", json!("https://other"))), "(iss)"),
        (signed(&without("iss")), "(iss)"),
        (signed(&with(claims(), "aud", json!("other"))), "(aud)"),
        (signed(&without("aud")), "(aud)"),
        (signed(&with(claims(), "exp", json!(now() - 120))), "expired"),
        (signed(&with(claims(), "nbf", json!(now() + 120))), "not valid yet"),
        (signed(&with(claims(), "exp", json!("soon"))), "exp is not a date"),
        (signed(&with(claims(), "exp", json!(1e300))), "exp is not a date"),
        (signed(&dateless), "none of the dates"),
        (signed(&with(claims(), "groups", json!([{ "a": 1 }]))), "not a list of texts"),
        (signed(&with(claims(), "team", json!({ "name": ["a"] }))), "neither text"),
        (unsigned(), "not a JSON web token"),
        (with_shared_secret(&key), "HS256, which is not accepted"),
        ("a.b.c".to_owned(), "not a JSON web token"),
        ("x".repeat(70_000), "more than"),
    ] {
        world.keep_out("issuer", &bearer, reason).await;
    }
    let empty = world.login("issuer", "").await;
    assert_eq!(empty.status, StatusCode::BAD_REQUEST);
    world.server.stop().await;
}

fn super_signed(stranger: &KeyPair) -> String {
    signed(stranger, None, &claims())
}

/// A token with the algorithm `none`.
fn unsigned() -> String {
    use base64::Engine as _;
    let part =
        |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&json!({ "alg": "none", "typ": "JWT" })), part(&claims()))
}

/// The public key taken for a shared secret.
fn with_shared_secret(key: &KeyPair) -> String {
    let secret = EncodingKey::from_secret(key.public_key_pem().as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims(), &secret).expect("signed")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_method_or_rule_is_told_by_field() {
    let world = World::start().await;
    let key = new_key();
    let pem = json!({ "JWTValidationPubKeys": [key.public_key_pem()] });
    let good = jwt_method(pem);
    for (body, expected) in [
        (with(good.clone(), "Name", json!("a b")), "Name: "),
        (with(good.clone(), "Type", json!("oidc")), "Type: "),
        (with(good.clone(), "MaxTokenTTL", json!("1s")), "MaxTokenTTL: must be between"),
        (with(good.clone(), "Config", json!({})), "Config: set one of"),
        (jwt_method(json!({ "JWKSURL": "http://issuer/keys" })), "Config.JWKSURL: "),
        (jwt_method(json!({ "JWTValidationPubKeys": ["x"] })), "JWTValidationPubKeys[0]"),
        (json!({ "Name": "k", "Type": "kubernetes" }), "Config.ServiceAccountJWT: "),
    ] {
        let path = "/v1/acl/auth-method";
        let answer = world.call(Method::PUT, path, &world.management, &body.to_string()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.text().contains(expected), "{:?} lacks {expected:?}", answer.text());
    }
    world.put("/v1/acl/auth-method", &good).await;
    for (body, expected) in [
        (rule("issuer", "thing", "a", ""), "BindType: "),
        (rule("none", "role", "a", ""), "AuthMethod"),
        (rule("issuer", "role", "${value.x}", ""), "BindName names ${value.x}"),
        (rule("issuer", "role", "a", "value.x == 1"), "Selector: "),
    ] {
        let path = "/v1/acl/binding-rule";
        let answer = world.call(Method::PUT, path, &world.management, &body.to_string()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {}", answer.text());
        assert!(answer.text().contains(expected), "{:?} lacks {expected:?}", answer.text());
    }
    // Who may not write ACLs learns nothing.
    let path = "/v1/acl/auth-method";
    let answer = world.call(Method::PUT, path, "", &good.to_string()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(world.get("/v1/acl/binding-rules").await, json!([]));
    assert_eq!(world.get("/v1/acl/auth-methods").await[0]["Type"], "jwt");
    let preview = world
        .call(
            Method::POST,
            "/v1/acl/templated-policy/preview/builtin/service",
            &world.management,
            r#"{"Name":"web"}"#,
        )
        .await;
    let preview: Value = preview.json().expect("JSON");
    assert!(preview["Rules"].as_str().is_some_and(|rules| rules.contains("web-sidecar-proxy")));
    world.server.stop().await;
}

/// Serves answers over plain HTTP on loopback; returns its URL.
async fn play(
    tasks: &TaskTree,
    answer: impl Fn(Method, String, Option<String>, String) -> (StatusCode, Value)
    + Send
    + Sync
    + 'static,
) -> String {
    let answer = Arc::new(answer);
    let listener = net::bind_tcp(([127, 0, 0, 1], 0).into()).await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let tree = tasks.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let bearer = head.headers.get("authorization").and_then(|it| it.to_str().ok());
            let bearer = bearer.map(str::to_owned);
            let body = collect(body, 1 << 20).await.expect("a body");
            let body = String::from_utf8_lossy(&body).into_owned();
            let (status, value) = answer(head.method, head.uri.path().to_owned(), bearer, body);
            let mut response = Response::new(full(value.to_string()));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    tasks.spawn("played", async move {
        serve(listener, None, service, ServeOptions::default(), &tree).await;
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_is_asked_whose_token_it_is() {
    let world = World::start().await;
    let tasks = TaskTree::root("kubernetes");
    let host = play(&tasks, |method, path, bearer, body| {
        assert_eq!(bearer.as_deref(), Some("Bearer reviewer-secret"));
        match (method, path.as_str()) {
            (Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews") => {
                let body: Value = serde_json::from_str(&body).expect("JSON");
                let user = match body["spec"]["token"].as_str().expect("a token") {
                    "of-web" => "system:serviceaccount:shop:web",
                    "of-renamed" => "system:serviceaccount:shop:renamed",
                    "of-node" => "system:node:a",
                    _ => {
                        return (
                            StatusCode::CREATED,
                            json!({ "status": { "authenticated": false } }),
                        );
                    }
                };
                let user = json!({ "username": user, "uid": "u-1" });
                let status = json!({ "authenticated": true, "user": user });
                (StatusCode::CREATED, json!({ "status": status }))
            }
            (Method::GET, "/api/v1/namespaces/shop/serviceaccounts/renamed") => {
                let name = json!({ "consul.hashicorp.com/service-name": "api" });
                (StatusCode::OK, json!({ "metadata": { "annotations": name } }))
            }
            (Method::GET, "/api/v1/namespaces/shop/serviceaccounts/web") => {
                (StatusCode::OK, json!({ "metadata": {} }))
            }
            _ => (StatusCode::NOT_FOUND, json!({})),
        }
    })
    .await;
    let method = json!({
        "Name": "k8s", "Type": "kubernetes",
        "Config": { "Host": host, "ServiceAccountJWT": "reviewer-secret" },
    });
    let shown = world.put("/v1/acl/auth-method", &method).await;
    assert_eq!(shown["Config"]["ServiceAccountJWT"], "<hidden>");
    // Sent back as it was shown, it stays.
    world.put("/v1/acl/auth-method/k8s", &shown).await;
    let bind = rule("k8s", "service", "${serviceaccount.name}", "serviceaccount.namespace==shop");
    world.put("/v1/acl/binding-rule", &bind).await;
    for (bearer, service) in [("of-web", "web"), ("of-renamed", "api")] {
        let token = world.let_in("k8s", bearer).await;
        assert_eq!(token["ServiceIdentities"], json!([{ "ServiceName": service }]));
        assert_eq!(token["Local"], true);
    }
    world.keep_out("k8s", "of-nobody", "does not know").await;
    world.keep_out("k8s", "of-node", "not one of a Kubernetes service account").await;
    tasks.cancel();
    tasks.join(LIMIT).await.expect("the played server ends");
    let answer = world.login("k8s", "of-web").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_where_they_are_published_and_again_when_they_change() {
    use base64::Engine as _;
    let world = World::start().await;
    let keys = Arc::new([new_key(), new_key()]);
    let published = Arc::new(std::sync::atomic::AtomicUsize::new(1));
    let tasks = TaskTree::root("issuer");
    let (of_play, count) = (keys.clone(), published.clone());
    let url = play(&tasks, move |_, path, _, _| {
        assert_eq!(path, "/keys");
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let shown =
            of_play.iter().enumerate().take(count.load(std::sync::atomic::Ordering::SeqCst));
        let shown = shown.map(|(at, key)| {
            // An uncompressed point: 4, then both coordinates.
            let point = key.public_key_raw();
            json!({
                "kty": "EC", "crv": "P-256", "kid": format!("k{at}"),
                "x": encode(&point[1..33]), "y": encode(&point[33..]),
            })
        });
        (StatusCode::OK, json!({ "keys": shown.collect::<Vec<_>>() }))
    })
    .await;
    world
        .put("/v1/acl/auth-method", &jwt_method(json!({ "JWKSURL": format!("{url}/keys") })))
        .await;
    world.put("/v1/acl/binding-rule", &rule("issuer", "service", "web", "")).await;
    world.let_in("issuer", &signed(&keys[0], Some("k0"), &claims())).await;
    let newer = signed(&keys[1], Some("k1"), &claims());
    world.keep_out("issuer", &newer, "not signed by a key").await;
    published.store(2, std::sync::atomic::Ordering::SeqCst);
    // Another version of the method forgets what was fetched for the one before; waiting for the
    // pause between two fetches would take as long as it lasts.
    let path = "/v1/acl/auth-method/issuer";
    let described = with(
        jwt_method(json!({ "JWKSURL": format!("{url}/keys") })),
        "Description",
        json!("changed"),
    );
    world.put(path, &described).await;
    world.let_in("issuer", &newer).await;
    tasks.cancel();
    tasks.join(LIMIT).await.expect("the played server ends");
    world.server.stop().await;
}
