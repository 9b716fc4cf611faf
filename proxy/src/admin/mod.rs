//! What the proxy tells on loopback: readiness, counts, the configuration in force.
//!
//! Never keys, never anything that changes the proxy. Runs apart from the workers.

use std::convert::Infallible;

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
use crate::observe::{Metrics, WorkloadMetrics};
use crate::outbound::Breaker;
use crate::tenant::{Tenant, TenantState, Tenants};
use crate::workload::Workload;

/// What the answers are made of.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) tenants: Tenants,
    pub(crate) metrics: Metrics,
    pub(crate) standing: Standing,
    pub(crate) workers: Workers,
}

/// Starts serving.
pub(crate) fn start(admin: Admin, listener: TcpListener, tasks: &TaskTree) {
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = match is_local_name(&request) {
            true => admin.answer(request.method(), (request.uri().path(), request.uri().query())),
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
    fn answer(&self, method: &Method, (path, query): (&str, Option<&str>)) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let text = "weft: the admin interface only answers GET\n".to_owned();
            return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", text);
        }
        match path {
            "/metrics" | "/stats/prometheus" => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                reply(StatusCode::OK, kind, self.metrics.encode())
            }
            "/ready" if self.standing.is_ending() => {
                let text = format!("weft: this proxy is {}\n", self.standing.word());
                reply(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text)
            }
            "/ready" if self.tenants.is_serving() => {
                reply(StatusCode::OK, "text/plain", "ready\n".to_owned())
            }
            "/ready" => self.not_yet(),
            "/server_info" => json_reply(&self.server_info()),
            "/config_dump" => self.of_workloads(query, |_, workload| config_dump(workload)),
            "/clusters" => self.of_workloads(query, clusters),
            "/workloads" => json_reply(&self.tenants.all().iter().map(|it| shown(it)).collect()),
            _ => {
                let text = "weft: see /ready, /metrics, /config_dump, /clusters, /workloads, \
                            /server_info\n";
                reply(StatusCode::NOT_FOUND, "text/plain", text.to_owned())
            }
        }
    }

    fn not_yet(&self) -> Response<Body> {
        let reason = self.tenants.waited_for();
        let text = format!("weft: no configuration has come yet: {reason}\n");
        reply(StatusCode::SERVICE_UNAVAILABLE, "text/plain", text)
    }

    /// Shows something of the one workload of a sidecar; of a host proxy's, that of all by proxy, or
    /// of the one that is asked for with `?proxy=ID`.
    fn of_workloads(
        &self,
        query: Option<&str>,
        show: fn(&Tenant, &Workload) -> Value,
    ) -> Response<Body> {
        let asked = query.and_then(|query| query.strip_prefix("proxy="));
        let all = self.tenants.all();
        let mut in_force = all.iter().filter_map(|it| Some((&**it, it.cell.load_full()?)));
        let is_asked = |workload: &Workload, id: &str| workload.snapshot.proxy_id.as_str() == id;
        match (asked, self.tenants.is_host()) {
            (Some(id), _) => match in_force.find(|(_, workload)| is_asked(workload, id)) {
                Some((tenant, workload)) => json_reply(&show(tenant, &workload)),
                None => {
                    let text = "weft: that proxy has no configuration here; see /workloads\n";
                    reply(StatusCode::NOT_FOUND, "text/plain", text.to_owned())
                }
            },
            (None, true) => {
                let shown = in_force
                    .map(|(tenant, it)| (it.snapshot.proxy_id.to_string(), show(tenant, &it)));
                json_reply(&json!({ "workloads": shown.collect::<serde_json::Map<_, _>>() }))
            }
            (None, false) => match in_force.next() {
                Some((tenant, workload)) => json_reply(&show(tenant, &workload)),
                None => self.not_yet(),
            },
        }
    }
}

/// How one workload stands.
fn shown(tenant: &Tenant) -> Value {
    let TenantState { waits_for, refusal, missing } = tenant.state();
    let workload = tenant.cell.load_full();
    let snapshot = workload.as_ref().map(|workload| &workload.snapshot);
    let state = match (&snapshot, &refusal) {
        (Some(_), None) => "in force",
        (Some(_), Some(_)) => "in force, a newer one refused",
        (None, Some(_)) => "refused",
        (None, None) => "waiting",
    };
    json!({
        "proxy": tenant.shown(), "service": snapshot.map(|it| &it.service),
        "spiffe_id": snapshot.map(|it| &it.spiffe_id), "version": snapshot.map(|it| it.version),
        "leaf_valid_before": workload.as_ref().map(|it| it.credentials.valid_before().rfc3339()),
        "inbound": snapshot.map(|it| it.inbound.bind), "state": state, "waits_for": waits_for,
        "refusal": refusal.map(|(version, reason)| json!({ "version": version, "reason": reason })),
        "missing_listeners": missing,
    })
}

impl Admin {
    /// What this process is.
    fn server_info(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(),
            "state": self.standing.word(), "generation": self.standing.generation(),
            "workers": self.workers,
            "shape": if self.tenants.is_host() { "host proxy" } else { "sidecar" },
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
fn clusters(tenant: &Tenant, workload: &Workload) -> Value {
    let upstreams: Vec<Value> = workload
        .upstreams
        .iter()
        .map(|upstream| {
            let targets: Vec<Value> = upstream
                .targets
                .iter()
                .map(|target| {
                    let endpoints = target.endpoints.iter().enumerate();
                    let is_out =
                        |number| target.health.as_ref().is_some_and(|it| it.is_out(number));
                    let endpoints = endpoints.map(|(number, it)| {
                        let mut shown = endpoint(it, &tenant.metrics);
                        if is_out(number) {
                            shown["left_out"] = json!(true);
                        }
                        shown
                    });
                    json!({
                        "target": target.id, "spiffe_id": target.spiffe_id,
                        "mesh_transport": transport_word(target.transport),
                        "endpoints": endpoints.collect::<Vec<_>>(),
                        "limits": target.breaker.as_ref().map(|breaker| limits(breaker)),
                    })
                })
                .collect();
            json!({
                "service": upstream.service, "bind": upstream.bind,
                "virtual_ip": upstream.virtual_ip,
                "protocol": upstream.protocol, "targets": targets,
            })
        })
        .collect();
    json!({ "version": workload.snapshot.version, "upstreams": upstreams })
}

/// What a target is limited to, and how much of it there is.
fn limits(breaker: &Breaker) -> Value {
    let standing = breaker.standing().into_iter();
    let limits = standing
        .map(|(name, count, most)| (name.to_owned(), json!({ "now": count, "most": most })));
    Value::Object(limits.collect())
}

/// An endpoint, with what each worker speaks with it where there is a choice.
fn endpoint(endpoint: &Endpoint, metrics: &WorkloadMetrics) -> Value {
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
