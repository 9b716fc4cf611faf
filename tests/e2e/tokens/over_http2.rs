//! Tokens in requests of HTTP/2 and in calls of gRPC: each stream of a connection is judged by its
//! own token, and who calls by gRPC gets a status of gRPC.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use futures::future::join_all;
use http::HeaderMap;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Response, Status};
use weft_proto::grpc::auth::authorization_client::AuthorizationClient;
use weft_proto::grpc::auth::authorization_server::{Authorization, AuthorizationServer};
use weft_proto::grpc::auth::{CheckRequest, CheckResponse};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::eventually;

use super::{LIMIT, World, claiming, claims};
use crate::issuer::{SigningKey, now, unsigned};

/// How often each kind of request is sent; all of them at once, mixed.
const ROUNDS: usize = 8;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

/// What is taken from headers and cookies, and told to the service.
fn locations() -> Value {
    json!({
        "Locations": [{ "Header": { "Name": "Authorization", "ValuePrefix": "Bearer " } },
            { "Cookie": { "Name": "session" } }],
        "ClaimToHeaders": [{ "ClaimName": "sub", "HeaderName": "X-User" }],
    })
}

/// A request: its header fields, its trailers, and the status that it must get.
struct Kind {
    why: &'static str,
    fields: Vec<(&'static str, String)>,
    trailers: HeaderMap,
    status: u16,
}

fn kind(why: &'static str, fields: Vec<(&'static str, String)>, status: u16) -> Kind {
    Kind { why, fields, trailers: HeaderMap::new(), status }
}

fn kinds(key: &SigningKey) -> Vec<Kind> {
    let good = key.token(&claims());
    let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
    let crumb = |text: &str| ("cookie", text.to_owned());
    let session = || crumb(&format!("session={good}"));
    let header = json!({ "alg": "none", "kid": key.id }).to_string();
    let none = format!("{}.", unsigned(&header, &claims().to_string()));
    let stranger = SigningKey::new(&key.id, key.algorithm).token(&claims());
    let mut kinds = vec![
        kind("a good one", vec![bearer(&good)], 200),
        kind("in one of several cookies", vec![crumb("a=1"), session(), crumb("b=2")], 200),
        kind("none", vec![], 401),
        kind("one without a signature", vec![bearer(&none)], 401),
        kind("a stranger's", vec![bearer(&stranger)], 401),
        kind("an old one", vec![bearer(&key.token(&claiming("exp", json!(now() - 600))))], 401),
        kind("one for others", vec![bearer(&key.token(&claiming("aud", json!("mail"))))], 401),
        kind("two", vec![bearer(&good), bearer(&good)], 401),
        kind("one in a header and one in a cookie", vec![bearer(&good), session()], 401),
        kind("two in two cookies", vec![session(), crumb("a=1"), session()], 401),
    ];
    let mut late = kind("one that comes when all is said", vec![], 401);
    late.trailers.insert("authorization", bearer(&good).1.parse().expect("a value"));
    kinds.push(late);
    kinds
}

impl Kind {
    fn request(&self, door: SocketAddr) -> http::Request<Body> {
        let mut request = http::Request::post(format!("http://{door}/x"));
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        // The service reads no chunks.
        request = request.header("content-length", 5);
        let data = Frame::data(Bytes::from_static(b"hello"));
        let frames = [Ok(data), Ok(Frame::trailers(self.trailers.clone()))];
        request.body(StreamBody::new(futures::stream::iter(frames))).expect("a request")
    }
}

type Frames = [Result<Frame<Bytes>, std::convert::Infallible>; 2];
type Body = StreamBody<futures::stream::Iter<<Frames as IntoIterator>::IntoIter>>;

#[test]
fn each_request_of_an_http2_connection_is_judged_by_its_own_token() {
    let world = World::start();
    let key = SigningKey::new("e1", Algorithm::ES256);
    world.provide_key(&key, &locations());
    world.intend();
    world.wait_let_in(&key.token(&claims()));
    let let_in = world.app.requests_except("/status/200");
    let kinds = kinds(&key);
    let door = world.web().addr();
    runtime().block_on(async {
        let stream = TcpStream::connect(door).await.expect("a connection");
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        let asked = (0..ROUNDS).flat_map(|_| &kinds).map(|kind| {
            let mut sender = sender.clone();
            async move {
                let answer = sender.send_request(kind.request(door)).await.expect(kind.why);
                let (head, body) = answer.into_parts();
                let body = body.collect().await.expect(kind.why).to_bytes();
                let body = String::from_utf8_lossy(&body).into_owned();
                assert_eq!(head.status, kind.status, "{}: {body}", kind.why);
                let challenge = head.headers.get("www-authenticate");
                assert_eq!(challenge.is_some(), kind.status == 401, "{}", kind.why);
                if kind.status == 200 {
                    let seen: Value = serde_json::from_str(&body).expect("what was seen");
                    assert_eq!(seen["headers"]["x-user"], "ada", "{seen}");
                    assert_eq!(seen["headers"]["authorization"], Value::Null, "{seen}");
                    assert!(!body.contains("session="), "{seen}");
                }
            }
        });
        join_all(asked).await;
    });
    let good = kinds.iter().filter(|kind| kind.status == 200).count() * ROUNDS;
    assert_eq!(world.app.requests_except("/status/200"), let_in + good as u64);
}

/// A gRPC service that remembers what callers told it about themselves.
#[derive(Clone, Default)]
struct Remembers(Arc<Mutex<Vec<MetadataMap>>>);

#[tonic::async_trait]
impl Authorization for Remembers {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        self.0.lock().expect("no holder panics").push(request.metadata().clone());
        Ok(Response::new(CheckResponse::default()))
    }
}

impl Remembers {
    /// Starts it in a thread of its own, until the test's process ends. Returns its port.
    fn start(&self) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let service = AuthorizationServer::new(self.clone());
        thread::spawn(move || {
            runtime().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let server = tonic::transport::Server::builder().add_service(service);
                let _ = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
            });
        });
        port
    }

    fn calls(&self) -> usize {
        self.0.lock().expect("no holder panics").len()
    }
}

type Client = AuthorizationClient<tonic::transport::Channel>;

/// Calls with a token, if one is given. Returns the status.
async fn call(mut client: Client, token: Option<&str>) -> Status {
    let mut request = Request::new(CheckRequest::default());
    request.set_timeout(LIMIT);
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse().expect("a value");
        request.metadata_mut().insert("authorization", bearer);
    }
    client.check(request).await.err().unwrap_or_else(|| Status::ok(""))
}

#[test]
fn callers_by_grpc_are_told_in_its_terms_what_their_token_lacks() {
    let service = Remembers::default();
    let world = World::behind(service.clone(), "grpc", service.start());
    let key = SigningKey::new("e1", Algorithm::ES256);
    world.provide_key(&key, &locations());
    let role = json!([{ "Name": "accounts", "VerifyClaims": [
        { "Path": ["perms", "role"], "Value": "admin" }] }]);
    world.cluster.agent.configure(&json!({
        "Kind": "service-intentions", "Name": "web",
        "JWT": { "Providers": [{ "Name": "accounts" }] },
        "Sources": [{ "Name": "shop", "Permissions": [
            { "Action": "allow", "JWT": { "Providers": role },
              "HTTP": { "PathExact": "/envoy.service.auth.v3.Authorization/Check" } },
        ] }],
    }));
    let admin = || claiming("perms", json!({ "role": ["admin"] }));
    let changed = |field: &str, value: Value| {
        let mut claims = admin();
        claims[field] = value;
        key.token(&claims)
    };
    let good = key.token(&admin());
    let stranger = SigningKey::new("e1", Algorithm::ES256).token(&admin());
    let cases = BTreeMap::from([
        ("a good one", (Some(good.clone()), Code::Ok, "")),
        ("none", (None, Code::Unauthenticated, "carries no token")),
        ("no token at all", (Some("x".to_owned()), Code::Unauthenticated, "not a JSON web token")),
        ("a stranger's", (Some(stranger), Code::Unauthenticated, "has signed it")),
        ("an old one", (Some(changed("exp", json!(now() - 600))), Code::Unauthenticated, "(exp)")),
        ("for others", (Some(changed("aud", json!("x"))), Code::Unauthenticated, "(aud)")),
        (
            "one without the role",
            (Some(key.token(&claims())), Code::PermissionDenied, "does not have the claims"),
        ),
    ]);
    let runtime = runtime();
    let endpoint = Endpoint::from_shared(format!("http://{}", world.web().addr()));
    let endpoint = endpoint.expect("an address");
    let client = runtime.block_on(async { AuthorizationClient::new(endpoint.connect_lazy()) });
    eventually(SPREAD_LIMIT + LIMIT, "the token is good", || {
        let status = runtime.block_on(call(client.clone(), Some(&good)));
        if status.code() == Code::Ok { Ok(()) } else { Err(status.to_string()) }
    });
    let before = service.calls();
    runtime.block_on(async {
        let asked = (0..ROUNDS).flat_map(|_| &cases).map(|(why, (token, code, words))| {
            let client = client.clone();
            async move {
                let status = call(client, token.as_deref()).await;
                assert_eq!(status.code(), *code, "{why}: {status}");
                assert!(status.message().contains(words), "{why}: {status}");
            }
        });
        join_all(asked).await;
    });
    assert_eq!(service.calls(), before + ROUNDS, "only those with a good token came");
    let told = service.0.lock().expect("no holder panics");
    for metadata in told.iter() {
        let user = metadata.get("x-user").and_then(|user| user.to_str().ok());
        assert_eq!((user, metadata.get("authorization")), (Some("ada"), None));
    }
}
