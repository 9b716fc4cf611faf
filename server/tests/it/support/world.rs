//! One server with who calls it: a host that has joined, or anybody at its plain door.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use weft_runtime::http::{HttpClient, HttpResponse};
use weft_server::config::{FileConfig, HttpSection, LimitsSection};

use super::{LIMIT, TestHost, TestServer, config};

/// A server and the host `n1`, which calls the API with its certificate.
pub(crate) struct Joined {
    pub(crate) server: TestServer,
    pub(crate) host: TestHost,
    _dir: tempfile::TempDir,
}

impl Joined {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = TestServer::start(dir.path()).await;
        let host = TestHost::join(&server, "n1").await;
        Self { server, host, _dir: dir }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: &str) -> HttpResponse {
        self.host.call(method, &self.server, path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        good(path, self.call(Method::GET, path, "").await).json().expect("JSON")
    }

    pub(crate) async fn get_indexed(&self, path: &str) -> (u64, Value) {
        indexed(&good(path, self.call(Method::GET, path, "").await))
    }

    /// Sends what must be taken; returns the answer, null for one without JSON.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> Value {
        good(path, self.call(method, path, &body.to_string()).await).json().unwrap_or_default()
    }
}

/// A server with a plain door, at which anybody calls the API.
pub(crate) struct Open {
    pub(crate) server: TestServer,
    _dir: tempfile::TempDir,
}

impl Open {
    pub(crate) async fn start(limits: LimitsSection) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let http = HttpSection { addr: Some("127.0.0.1:0".to_owned()), ..Default::default() };
        let file = FileConfig { http, limits, ..config(dir.path(), "s1") };
        Self { server: TestServer::start_with(file).await, _dir: dir }
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.server.handle.http_addr().expect("a door")
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: impl AsRef<[u8]>,
    ) -> HttpResponse {
        let url = format!("http://{}{path}", self.address());
        let (client, body) =
            (HttpClient::new(LIMIT, 1 << 20), Bytes::copy_from_slice(body.as_ref()));
        client.request(method, &url, HeaderMap::new(), body).await.expect("answered")
    }

    pub(crate) async fn get(&self, path: &str) -> (u64, Value) {
        indexed(&good(path, self.call(Method::GET, path, "").await))
    }
}

/// Returns an answer that must have been 200.
pub(crate) fn good(path: &str, answer: HttpResponse) -> HttpResponse {
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    answer
}

pub(crate) fn index(answer: &HttpResponse) -> u64 {
    header(answer, "x-consul-index").parse().expect("a number")
}

fn indexed(answer: &HttpResponse) -> (u64, Value) {
    (index(answer), answer.json().expect("JSON"))
}

/// Returns a header, nothing if it is not there.
pub(crate) fn header<'a>(answer: &'a HttpResponse, name: &str) -> &'a str {
    answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
