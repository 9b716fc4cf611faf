//! External authorisers, over gRPC and over HTTP: what they say happens, and without their word
//! nothing does.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, async_trait};
use weft_proto::grpc::auth::authorization_server::{Authorization, AuthorizationServer};
use weft_proto::grpc::auth::check_response::HttpResponse;
use weft_proto::grpc::auth::{
    self, BoolValue, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue,
    HeaderValueOption, HttpStatus, OkHttpResponse,
};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Answer, App, Cluster, TestProxy, eventually};

use crate::story::Shop;

const LIMIT: Duration = Duration::from_secs(20);

/// What the authoriser was last told.
#[derive(Default)]
struct Told {
    method: String,
    path: String,
    principal: String,
    service: String,
    headers: BTreeMap<String, String>,
    metadata: Option<String>,
    /// As text and as bytes.
    body: (String, Vec<u8>),
    size: i64,
}

/// Decides by the path.
#[derive(Default)]
struct Decider {
    told: Mutex<Told>,
    is_slow: AtomicBool,
}

struct Grpc(Arc<Decider>);

fn header(name: &str, value: &str, append: Option<bool>, append_action: i32) -> HeaderValueOption {
    let header =
        HeaderValue { key: name.to_owned(), value: value.to_owned(), ..HeaderValue::default() };
    let append = append.map(|value| BoolValue { value });
    HeaderValueOption { header: Some(header), append, append_action }
}

#[async_trait]
impl Authorization for Grpc {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let metadata = request.metadata().get("x-tenant").and_then(|value| value.to_str().ok());
        let metadata = metadata.map(str::to_owned);
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let source = attributes.source.unwrap_or_default();
        let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
        let path = http.path.clone();
        *self.0.told.lock().expect("no holder panics") = Told {
            method: http.method,
            path: http.path,
            principal: source.principal,
            service: source.service,
            headers: http.headers.into_iter().collect(),
            metadata,
            body: (http.body, http.raw_body.to_vec()),
            size: http.size,
        };
        if self.0.is_slow.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let status = |code| Some(auth::Status { code, message: String::new() });
        let answer =
            |code, response| CheckResponse { status: status(code), http_response: response };
        Ok(Response::new(match path.split('?').next().unwrap_or_default() {
            "/no" => answer(
                7,
                Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
                    status: Some(HttpStatus { code: 429 }),
                    headers: vec![
                        header("x-why", "too many", None, 0),
                        header("content-length", "999", None, 0),
                        header("transfer-encoding", "chunked", None, 0),
                    ],
                    body: "come back later".to_owned(),
                })),
            ),
            "/plain-no" => answer(16, None),
            "/odd" => answer(0, Some(HttpResponse::DeniedResponse(DeniedHttpResponse::default()))),
            "/error" => return Err(Status::internal("broken")),
            "/query" => answer(
                0,
                Some(HttpResponse::OkResponse(OkHttpResponse {
                    query_parameters_to_remove: vec!["x".to_owned()],
                    ..OkHttpResponse::default()
                })),
            ),
            _ => answer(
                0,
                Some(HttpResponse::OkResponse(OkHttpResponse {
                    headers: vec![
                        header("x-user", "ada", None, 0),
                        header("x-list", "b", Some(true), 0),
                        header("x-absent", "new", None, 1),
                        header("x-there", "new", None, 1),
                        header("host", "other", None, 0),
                        header("x-forwarded-client-cert", "URI=spiffe://root", None, 0),
                        header("content-length", "3", None, 0),
                    ],
                    headers_to_remove: vec!["x-secret".to_owned(), "host".to_owned()],
                    ..OkHttpResponse::default()
                })),
            ),
        }))
    }
}

/// A gRPC server in a thread of its own, until the test's process ends.
fn start_grpc(port: u16) -> Arc<Decider> {
    let decider = Arc::new(Decider::default());
    let service = AuthorizationServer::new(Grpc(decider.clone()));
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let listener = TcpListener::bind(address).await.expect("the port is free");
            let incoming = TcpListenerStream::new(listener);
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(incoming).await.expect("it serves");
        });
    });
    decider
}

/// `shop` calls `web`, which asks an authoriser.
struct World {
    cluster: Cluster,
    app: App,
    shop: Shop,
    proxy: TestProxy,
}

impl World {
    fn start() -> Self {
        let mut cluster = Cluster::start();
        cluster.agent.process.expect_log("the authoriser is no upstream");
        let app = App::start("web");
        cluster.agent.register(&meshed("web", "web", app.port(), &[]));
        cluster.agent.configure(&json!({
            "Kind": "service-defaults", "Name": "web", "Protocol": "http",
        }));
        cluster.agent.configure(&json!({
            "Kind": "service-intentions", "Name": "web",
            "Sources": [{ "Name": "shop", "Permissions": [
                { "Action": "deny", "HTTP": { "PathPrefix": "/never" } },
                { "Action": "allow", "HTTP": { "PathPrefix": "/" } } ] }],
        }));
        let mut proxy = cluster.agent.sidecar("web");
        proxy.process.expect_log("the authoriser gives no answer");
        let shop = Shop::open(&cluster, &["web"]);
        shop.wait_status("web", 200);
        Self { cluster, app, shop, proxy }
    }

    fn ask(&self, config: &Value) {
        self.cluster.agent.configure(&json!({
            "Kind": "service-defaults", "Name": "web", "Protocol": "http",
            "EnvoyExtensions": [{ "Name": "builtin/ext-authz", "Required": true,
                "Arguments": { "ProxyType": "connect-proxy", "Config": config } }],
        }));
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.shop.to("web").request("GET", path, headers, "").expect("an answer")
    }

    fn wait(&self, path: &str, what: &str, holds: impl Fn(&Answer) -> bool) -> Answer {
        eventually(SPREAD_LIMIT + LIMIT, what, || {
            let answer = self.shop.to("web").get(path)?;
            if holds(&answer) {
                Ok(answer)
            } else {
                Err(format!("{} {}", answer.status, answer.body))
            }
        })
    }

    fn metric(&self, name: &str) -> String {
        let admin = self.proxy.process.ready_field("admin");
        let admin = admin.parse().expect("an address");
        weft_tests::Api::new(admin).get("/metrics").map_or_else(
            |error| error,
            |answer| answer.body.lines().filter(|line| line.starts_with(name)).collect::<String>(),
        )
    }
}

fn failed(answer: &Answer) -> bool {
    answer.header("x-weft-cause") == Some("authoriser-failed")
}

/// What the authoriser sets, appends and removes arrives; what it was told is right.
fn changes_headers(world: &World, decider: &Decider) {
    let headers = [
        ("X-User", "root"),
        ("X-List", "a"),
        ("X-There", "old"),
        ("X-Secret", "s"),
        ("x_user", "root"),
    ];
    let answer = world.get("/x/../b?c=1", &headers);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let seen: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(seen["path"], "/b?c=1");
    assert_eq!(seen["headers"]["x-user"], "ada", "{seen}");
    assert_eq!(seen["headers"]["x_user"], Value::Null, "{seen}");
    assert_eq!(seen["headers"]["x-list"], "b", "the last line is shown: {seen}");
    assert_eq!(seen["headers"]["x-absent"], "new");
    assert_eq!(seen["headers"]["x-there"], "old");
    assert_eq!(seen["headers"]["x-secret"], Value::Null);
    assert_ne!(seen["headers"]["host"], "other");
    let certificate = seen["headers"]["x-forwarded-client-cert"].as_str().unwrap_or_default();
    assert!(certificate.ends_with("/svc/shop"), "{seen}");
    {
        let told = decider.told.lock().expect("no holder panics");
        assert_eq!((&*told.method, &*told.path), ("GET", "/b?c=1"));
        assert!(told.principal.starts_with("spiffe://") && told.principal.ends_with("/svc/shop"));
        assert_eq!((&*told.service, told.headers["x-list"].as_str()), ("shop", "a"));
        assert_eq!(told.metadata.as_deref(), Some("blue"));
    }
}

#[test]
fn an_authoriser_over_grpc_lets_through_refuses_and_changes_headers() {
    let world = World::start();
    let port = free_port();
    let uri = format!("127.0.0.1:{port}");
    let config = |more: Value| {
        let mut config = json!({ "GrpcService": {
            "Target": { "URI": uri, "Timeout": "2s" },
            "InitialMetadata": [{ "Key": "X-Tenant", "Value": "blue" }] } });
        for (field, value) in more.as_object().into_iter().flatten() {
            config[field] = value.clone();
        }
        config
    };
    // It is down: nobody gets in.
    world.ask(&config(json!({ "StatusOnError": 503 })));
    let refused = world.wait("/a", "nobody gets in", failed);
    assert_eq!(refused.status, 503, "{}", refused.body);
    let decider = start_grpc(port);
    world.wait("/a", "it is asked", |answer| answer.status == 200);

    changes_headers(&world, &decider);
    let before = world.app.requests_except("/");
    let refused = world.get("/no", &[]);
    assert_eq!((refused.status, refused.body.as_str()), (429, "come back later"));
    assert_eq!(refused.header("x-why"), Some("too many"));
    assert_eq!(refused.header("x-weft-cause"), Some("authoriser-denied"));
    for (path, status) in [("/plain-no", 403), ("/odd", 403), ("/error", 503), ("/query", 503)] {
        let refused = world.get(path, &[]);
        assert_eq!(refused.status, status, "{path}: {}", refused.body);
    }
    // What intentions refuse is not asked about.
    let refused = world.get("/never", &[]);
    assert_eq!(refused.header("x-weft-cause"), Some("intention-denied"), "{}", refused.body);
    assert_eq!(decider.told.lock().expect("no holder panics").path, "/query");
    assert_eq!(world.app.requests_except("/"), before, "something got through");
    let denied = world.metric("weft_proxy_ext_authz_denied_total");
    assert!(denied.contains("} ") && !denied.ends_with(" 0"), "{denied}");

    // It is slow: nobody gets in, unless that is said.
    decider.is_slow.store(true, Ordering::SeqCst);
    let uri = format!("127.0.0.1:{port}");
    let quick = json!({ "GrpcService": { "Target": { "URI": uri, "Timeout": "100ms" } } });
    world.ask(&quick);
    // Until then it is asked as before, where 503 says that it is slow.
    let is_quick = |it: &Answer| it.status == 403 && it.body.contains("in time");
    world.wait("/a", "nobody gets in", is_quick);
    let mut open = quick;
    open["FailureModeAllow"] = true.into();
    world.ask(&open);
    world.wait("/a", "everybody gets in", |answer| answer.status == 200);
}

#[test]
fn an_authoriser_over_http_is_a_service_of_the_mesh_or_of_the_host() {
    let world = World::start();
    let authoriser = App::start("authoriser");
    let uri = format!("localhost:{}", authoriser.port());
    world.ask(&json!({ "HttpService": { "Target": { "URI": uri, "Timeout": "2s" } } }));
    eventually(SPREAD_LIMIT, "it is asked", || {
        match (world.get("/a", &[]).status, authoriser.requests_except("/")) {
            (200, 1..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    for status in [401, 403, 302, 404] {
        let refused = world.get(&format!("/status/{status}"), &[]);
        assert_eq!(refused.status, status, "{}", refused.body);
        assert_eq!(refused.header("x-weft-cause"), Some("authoriser-denied"));
        assert!(refused.body.contains("\"app\":\"authoriser\""), "{}", refused.body);
    }
    let broken = world.get("/status/500", &[]);
    assert!(failed(&broken) && broken.status == 403, "{} {}", broken.status, broken.body);
    drop(authoriser);
    let refused = world.wait("/a", "nobody gets in", failed);
    assert_eq!(refused.status, 403);
    // A service that is no upstream of this one is nobody.
    world.ask(&json!({ "HttpService": { "Target": { "Service": { "Name": "authz" } } } }));
    world.wait("/a", "it is told", |answer| answer.body.contains("no upstream of this service"));
    let api = world.cluster.agent.api();
    for (config, wanted) in [
        (json!({ "GrpcService": { "Target": { "URI": "10.0.0.1:9" } } }), "loopback"),
        (json!({}), "exactly one of GrpcService and HttpService"),
        (json!({ "HttpService": { "Target": {} } }), "exactly one of Service and URI"),
        (
            json!({ "GrpcService": { "Target": { "URI": "localhost:1" } },
            "WithRequestBody": { "MaxRequestBytes": 0 } }),
            "WithRequestBody.MaxRequestBytes",
        ),
    ] {
        let entry = json!({ "Kind": "service-defaults", "Name": "web", "Protocol": "http",
            "EnvoyExtensions": [{ "Name": "builtin/ext-authz", "Arguments": { "Config": config } }] });
        let answer = api.put("/v1/config", &entry).expect("an answer");
        assert!(answer.status == 400 && answer.body.contains(wanted), "{wanted}: {}", answer.body);
    }
}

#[test]
fn an_authoriser_is_told_bodies_that_go_on_as_they_came() {
    let world = World::start();
    let port = free_port();
    let decider = start_grpc(port);
    let ask = |body: Value| {
        world.ask(&json!({ "WithRequestBody": body, "GrpcService": {
            "Target": { "URI": format!("127.0.0.1:{port}"), "Timeout": "2s" } } }));
    };
    let post = |body: &str| {
        let door = world.shop.to("web");
        door.request("POST", "/a", &[("X-Type", "text")], body).expect("an answer")
    };
    // What was told last, and the service's own reading of what arrived.
    let told_of = |body: &str| {
        let answer = post(body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let seen: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(seen["body"], body, "{seen}");
        let told = decider.told.lock().expect("no holder panics");
        (told.body.clone(), told.size, told.headers.get("x-envoy-auth-partial-body").cloned())
    };
    let is = |text: &str| Some(text.to_owned());
    let long = "é".repeat(200_000);

    ask(json!({ "MaxRequestBytes": 4 }));
    let refused = |answer: &Answer| answer.header("x-weft-cause") == Some("body-too-large");
    eventually(SPREAD_LIMIT + LIMIT, "a long body is refused", || {
        let answer = post("12345");
        if answer.status == 413 && refused(&answer) { Ok(()) } else { Err(answer.body) }
    });
    assert_eq!(told_of("1234"), (("1234".to_owned(), Vec::new()), 4, is("false")));
    assert_eq!(told_of(""), ((String::new(), Vec::new()), 0, is("false")));
    assert!(refused(&post(&long)));
    // Who is denied anyway is told that.
    let denied = world.shop.to("web").request("POST", "/never", &[], "12345").expect("an answer");
    assert_eq!(denied.header("x-weft-cause"), Some("intention-denied"), "{}", denied.body);

    ask(json!({ "MaxRequestBytes": 5, "AllowPartialMessage": true }));
    eventually(SPREAD_LIMIT + LIMIT, "a long body passes", || {
        let answer = post("123456");
        if answer.status == 200 { Ok(()) } else { Err(answer.body) }
    });
    let whole = |text: &str| (text.to_owned(), Vec::new());
    assert_eq!(told_of("12345"), (whole("12345"), 5, is("false")));
    assert_eq!(told_of("1234567"), (whole("12345"), -1, is("true")));
    assert_eq!(told_of(&long), (whole("éé"), -1, is("true")), "no half letter is told");

    ask(json!({ "MaxRequestBytes": 1_048_576, "PackAsBytes": true }));
    eventually(SPREAD_LIMIT + LIMIT, "bytes are told", || {
        let (body, ..) = told_of(&long);
        if body == (String::new(), long.clone().into_bytes()) {
            Ok(())
        } else {
            Err("text".to_owned())
        }
    });
}
