//! What the proxy tells on loopback: readiness, counts, the configuration in force.
//!
//! Never keys, never anything that changes the proxy. Runs apart from the workers.

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use weft_core::config_entry::MeshTransport;
use weft_core::proxycfg::Endpoint;
use weft_runtime::http::{Body, ServeOptions, full, serve};
use weft_runtime::net::TcpListener;
use weft_runtime::task::TaskTree;

use crate::config::{Sharing, Workers};
use crate::handover::Standing;
use crate::observe::Metrics;
use crate::workload::Workload;

/// What the answers are made of.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) cell: Arc<ArcSwapOption<Workload>>,
    pub(crate) metrics: Metrics,
    pub(crate) standing: Standing,
    pub(crate) workers: Workers,
}

/// Starts serving.
pub(crate) fn start(admin: Admin, listener: TcpListener, tasks: &TaskTree) {
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = match is_local_name(&request) {
            true => admin.answer(request.method(), request.uri().path()),
            false => {
                let text = "weft: call the admin interface by its address or localhost\n";
                reply(StatusCode::FORBIDDEN, "text/plain", text.to_owned())
            }
        };
        async move { Ok::<_, Infallible>(answer) }
    });
    let tasks = tasks.clone();
    tasks.clone().spawn("serve", async move {
        serve(listener, None, service, ServeOptions::default(), &tasks).await;
    });
}

/// Whether the caller knows this host by an address or as localhost. A web page could have its
/// own name resolved to loopback and read what is shown here.
fn is_local_name(request: &Request<Body>) -> bool {
    let field = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
    let authority = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => field.and_then(|host| host.parse::<Authority>().ok()),
    };
    authority.is_some_and(|authority| {
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok()
    })
}

impl Admin {
    fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let text = "weft: the admin interface only answers GET\n".to_owned();
            return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", text);
        }
        let workload = self.cell.load_full();
        match (path, workload) {
            ("/metrics" | "/stats/prometheus", _) => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                reply(StatusCode::OK, kind, self.metrics.encode())
            }
            ("/ready", _) if self.standing.is_ending() => {
                let text = format!("weft: this proxy is {}\n", self.standing.word());
                reply(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text)
            }
            ("/server_info", _) => json_reply(&self.server_info()),
            ("/ready", Some(_)) => reply(StatusCode::OK, "text/plain", "ready\n".to_owned()),
            ("/ready" | "/config_dump" | "/clusters", None) => {
                let reason = self.standing.waited_for();
                let text = format!("weft: no configuration has come yet: {reason}\n");
                reply(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text)
            }
            ("/config_dump", Some(workload)) => json_reply(&config_dump(&workload)),
            ("/clusters", Some(workload)) => json_reply(&clusters(&workload, &self.metrics)),
            _ => {
                let text = "weft: see /ready, /metrics, /config_dump, /clusters, /server_info\n"
                    .to_owned();
                reply(StatusCode::NOT_FOUND, "text/plain", text)
            }
        }
    }
}

impl Admin {
    /// What this process is.
    fn server_info(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(),
            "state": self.standing.word(), "generation": self.standing.generation(),
            "workers": self.workers,
        })
    }
}

/// The snapshot in force, without the private key.
fn config_dump(workload: &Workload) -> Value {
    let mut dump = serde_json::to_value(&workload.snapshot)
        .expect("snapshots serialise: their maps have text keys");
    if let Some(key) = dump.pointer_mut("/leaf/private_key_pem") {
        *key = json!("(not shown)");
    }
    let word = |sharing| match sharing {
        Sharing::Auto => "auto",
        Sharing::Off => "off",
    };
    if let Some(dump) = dump.as_object_mut() {
        dump.insert("mux".to_owned(), json!(word(workload.mux)));
        dump.insert("quic".to_owned(), json!(word(workload.quic)));
    }
    dump
}

/// Each upstream with its targets and the endpoints behind them.
fn clusters(workload: &Workload, metrics: &Metrics) -> Value {
    let upstreams: Vec<Value> = workload
        .upstreams
        .iter()
        .map(|upstream| {
            let targets: Vec<Value> = upstream
                .targets
                .iter()
                .map(|target| {
                    let endpoints = target.endpoints.iter().map(|it| endpoint(it, metrics));
                    json!({
                        "target": target.id, "spiffe_id": target.spiffe_id,
                        "mesh_transport": transport_word(target.transport),
                        "endpoints": endpoints.collect::<Vec<_>>(),
                    })
                })
                .collect();
            json!({
                "service": upstream.service, "bind": upstream.bind,
                "protocol": upstream.protocol, "targets": targets,
            })
        })
        .collect();
    json!({ "version": workload.snapshot.version, "upstreams": upstreams })
}

/// An endpoint, with what each worker speaks with it where there is a choice.
fn endpoint(endpoint: &Endpoint, metrics: &Metrics) -> Value {
    let mut value = json!(endpoint);
    let spoken = metrics.spoken(endpoint.address);
    if let (Some(fields), false) = (value.as_object_mut(), spoken.is_empty()) {
        fields.insert("transport".to_owned(), json!(spoken));
    }
    value
}

fn transport_word(policy: MeshTransport) -> &'static str {
    match policy {
        MeshTransport::Auto | MeshTransport::Unset => "auto",
        MeshTransport::Quic => "quic",
        MeshTransport::Tcp => "tcp",
    }
}

fn json_reply(value: &Value) -> Response<Body> {
    reply(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

fn reply(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static(kind);
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
