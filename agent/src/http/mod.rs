//! The HTTP API of this host: `/v1/agent/…` is answered here, the rest of `/v1` by a server.
//!
//! A request is checked for where it comes from, found in the table (`route`) and
//! answered by the file of its page; errors become statuses in `answer` only.

mod answer;
mod check;
mod cluster;
mod connect;
mod door;
mod flows;
mod health;
mod host;
mod memory;
mod metrics;
mod mtls;
mod node;
mod proxies;
mod query;
mod rights;
mod route;
mod service;
mod stream;
mod tap;
mod token;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use weft_core::limits;
use weft_core::name::Datacenter;
use weft_proto::json::{self, Unknown};
use weft_runtime::clock;
use weft_runtime::http::{
    ApiAudit, Body, Found, Noted, OwnHosts, Params, Remote, accepts_gzip, check_foreign, collect,
    full, gzipped,
};
use weft_runtime::task::TaskTree;

use crate::acl::Acl;
use crate::checks::Checks;
use crate::config::{Config, TokenText};
use crate::contact::Contact;
use crate::dns::Names;
use crate::leaf::Leaves;
use crate::local::Local;
use crate::metrics::Metrics;
use crate::proxycfg::Proxies;
use crate::reload::Reloader;
use crate::servers::Servers;
use crate::views::Views;

use answer::ApiError;
use door::Door;
pub use door::{Addresses, DoorError};
use query::Query;
use route::{Route, Routes};
use stream::MetricsPlaces;

/// What the API answers from.
pub struct Parts {
    /// The agent's configuration.
    pub config: Arc<Config>,
    /// What is registered on this host.
    pub local: Local,
    /// Takes the reports of applications.
    pub checks: Checks,
    /// Answers the rest.
    pub servers: Servers,
    /// Judges callers.
    pub(crate) acl: Acl,
    /// What is watched at servers.
    pub views: Views,
    /// The services that are asked for.
    pub(crate) names: Names,
    /// When servers were last heard of.
    pub(crate) contact: Contact,
    /// The certificates of local services.
    pub leaves: Leaves,
    /// The sidecars of local services.
    pub proxies: Proxies,
    /// What the agent counts.
    pub metrics: Metrics,
    /// Reads the configuration's files again.
    pub reloader: Reloader,
    /// Where DNS is answered; `None` for not at all.
    pub dns_addr: Option<SocketAddr>,
    /// Where writes and refusals are written down; `None` for nowhere.
    pub(crate) audit: Option<ApiAudit>,
    /// Cancelled when the agent stops, which ends requests that wait.
    pub tasks: TaskTree,
}

/// The API; requests share it.
struct Api {
    parts: Parts,
    routes: Routes,
    metrics_places: MetricsPlaces,
    /// What DNS calls this host.
    names: Vec<String>,
}

/// One request that is answered here.
struct Call {
    params: Params,
    query: Query,
    /// Who asks: what was shown, or the agent's default.
    token: Option<TokenText>,
    body: Body,
}

/// Opens the API at its doors; the answer is where it listens.
///
/// # Errors
/// [`DoorError`] with the address or file.
pub async fn start(parts: Parts) -> Result<Addresses, DoorError> {
    let tasks = parts.tasks.child("http");
    let config = parts.config.clone();
    let metrics_places = MetricsPlaces::default();
    let names = names(&config, &parts.servers.membership().datacenter);
    let api = Arc::new(Api { parts, routes: route::table(), metrics_places, names });
    door::open(&config.http, api, &tasks).await
}

/// The names of this host in the zones of the mesh, as SRV records have them too: whoever finds an
/// API of ours by DNS calls it by such a name.
fn names(config: &Config, datacenter: &Datacenter) -> Vec<String> {
    let dns = &config.dns;
    let zones = [Some(&dns.domain), dns.alt_domain.as_ref()];
    let places = |zone: &String| {
        [String::new(), format!("{datacenter}."), format!("{datacenter}.dc.")]
            .map(|place| format!("{}.node.{place}{zone}", config.node_name).to_lowercase())
    };
    zones.into_iter().flatten().flat_map(places).collect()
}

fn tower_service(
    api: Arc<Api>,
    door: Door,
) -> impl tower::Service<
    Request<Body>,
    Response = Response<Body>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send,
> + Clone
+ Send
+ 'static {
    tower::service_fn(move |request| {
        let api = api.clone();
        async move { Ok(api.answer(request, door).await) }
    })
}

impl Api {
    async fn answer(self: &Arc<Self>, request: Request<Body>, door: Door) -> Response<Body> {
        let started = clock::instant();
        let takes_gzip = accepts_gzip(request.headers());
        let noted = self.noted(&request);
        let answered = tokio::select! {
            // Whatever waits is given up when the agent stops.
            () = self.parts.tasks.cancelled() => Err(ApiError::Stopping),
            answered = Box::pin(self.carry_out(request, door, noted.as_ref())) => answered,
        };
        self.parts.metrics.request_served(clock::instant() - started);
        let mut response = answered.unwrap_or_else(ApiError::into_response);
        if let (Some(audit), Some(noted)) = (&self.parts.audit, &noted) {
            audit.complete(&self.routes, noted, response.status());
        }
        if let Some(policy) = self.parts.acl.default_policy() {
            response.headers_mut().insert(answer::DEFAULT_POLICY, policy);
        }
        match takes_gzip {
            // What a server has answered in gzip stays as it is.
            true => gzipped(response, &self.parts.tasks).await,
            false => response,
        }
    }

    /// Keeps what the audit log would tell of a request that is answered here; what is passed on
    /// is written down by the server.
    fn noted(&self, request: &Request<Body>) -> Option<Noted> {
        self.parts.audit.as_ref()?;
        let found = self.routes.find(request.method(), request.uri().path());
        if let Found::NotFound = found {
            return None;
        }
        let mut noted = Noted::of(request);
        // Who looks at the requests of others is written down as who changes something.
        noted.is_told = matches!(found, Found::Handler { handler: Route::Tap, .. });
        let shown = rights::token(&Query::of(request.uri()), request.headers());
        // The agent knows tokens by what they are, not by their names.
        noted.token = self.parts.acl.token_of(shown).map(|token| token.fingerprint());
        Some(noted)
    }

    /// Answers a request, once it is written down, where that is demanded.
    async fn carry_out(
        self: &Arc<Self>,
        request: Request<Body>,
        door: Door,
        noted: Option<&Noted>,
    ) -> Result<Response<Body>, ApiError> {
        if let (Some(audit), Some(noted)) = (&self.parts.audit, noted) {
            audit.begin(&self.routes, noted).await.map_err(|error| {
                let why = "audit.delivery_guarantee is enforced, and";
                ApiError::Unavailable(format!("{why} {error}"))
            })?;
        }
        self.dispatch(request, door).await
    }

    async fn dispatch(
        self: &Arc<Self>,
        request: Request<Body>,
        door: Door,
    ) -> Result<Response<Body>, ApiError> {
        let own = match door {
            Door::Open => OwnHosts::Named {
                allowed: &self.parts.config.http.allowed_hosts,
                of_host: &self.names,
            },
            Door::Sure => OwnHosts::Certified,
        };
        check_foreign(&request, own)?;
        let path = request.uri().path();
        let route = match self.routes.find(request.method(), path) {
            Found::Handler { handler, params, .. } => (*handler, params),
            Found::WrongMethod { allow } if request.method() == Method::OPTIONS => {
                return Ok(answer::allowed(&allow));
            }
            Found::WrongMethod { allow } => return Err(ApiError::Method { allow }),
            Found::NotFound if path.starts_with("/v1/") && !path.starts_with("/v1/agent/") => {
                let request = with_asker(self.with_token(request));
                return self.forward(request).await;
            }
            Found::NotFound => return Err(ApiError::NoPage(path.to_owned())),
        };
        let (route, params) = route;
        let (head, body) = request.into_parts();
        let query = Query::of(&head.uri);
        let token = self.parts.acl.token_of(rights::token(&query, &head.headers));
        let call = Call { params, query, token, body };
        let (needed, token) = (self.needed(route, &call), call.token.clone());
        if !needed.is_empty() {
            self.require(token.as_ref(), needed).await?;
        }
        self.call(route, call).await
    }

    /// Puts the agent's default token on a request that shows none.
    fn with_token(&self, mut request: Request<Body>) -> Request<Body> {
        let query = Query::of(request.uri());
        let shown = rights::token(&query, request.headers());
        let default = || self.parts.acl.token_of(None)?.header();
        if shown.is_none()
            && let Some(value) = default()
        {
            request.headers_mut().insert(TokenText::HEADER, value);
        }
        request
    }

    async fn call(self: &Arc<Self>, route: Route, call: Call) -> Result<Response<Body>, ApiError> {
        match route {
            Route::CheckDeregister => self.check_deregister(call).await,
            Route::CheckFail => self.check_report(call, check::FAIL).await,
            Route::CheckPass => self.check_report(call, check::PASS).await,
            Route::CheckRegister => self.check_register(call).await,
            Route::CheckUpdate => self.check_update(call).await,
            Route::CheckWarn => self.check_report(call, check::WARN).await,
            Route::Checks => self.checks(call).await,
            Route::ConnectAuthorize => self.connect_authorize(call).await,
            Route::ConnectLeaf => self.connect_leaf(call).await,
            Route::ConnectRoots => self.connect_roots(call).await,
            Route::ForceLeave => self.force_leave(call).await,
            Route::HealthById => self.health_by_id(&call),
            Route::Flows => self.flows(call),
            Route::HealthByName => self.health_by_name(&call),
            Route::Host => self.host(&call),
            Route::Join => self.join(call).await,
            Route::Leave => self.leave().await,
            Route::Maintenance => self.maintenance(call).await,
            Route::Members => self.members(call).await,
            Route::Metrics => self.metrics(&call),
            Route::MetricsStream => self.metrics_stream(),
            Route::Monitor => self.monitor(&call),
            Route::Mtls => self.mtls(call).await,
            Route::Proxies => self.proxies(call).await,
            Route::Reload => self.reload().await,
            Route::SelfPage => self.self_page(&call),
            Route::Service => self.service(call).await,
            Route::ServiceDeregister => self.service_deregister(call).await,
            Route::ServiceMaintenance => self.service_maintenance(call).await,
            Route::ServiceRegister => self.service_register(call).await,
            Route::Services => self.services(call).await,
            Route::Tap => self.tap(&call),
            Route::Token => self.set_token(call).await,
            Route::Version => self.version(&call),
        }
    }
}

impl Call {
    /// Reads the body to its end and decodes it; fields that we do not know are passed over, as
    /// Consul does.
    async fn decode<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        let body = self.read().await?;
        json::from_slice(&body, Unknown::Ignore).map_err(ApiError::Malformed)
    }

    async fn read(self) -> Result<Bytes, ApiError> {
        Ok(collect(self.body, limits::API_BODY_BYTES_MAX).await?)
    }
}

/// Says on a request that is passed on from which host it came, if from another.
fn with_asker(mut request: Request<Body>) -> Request<Body> {
    let remote = request.extensions().get::<Remote>().copied();
    let other = match remote {
        Some(Remote::Tcp(remote)) if !remote.ip().is_loopback() => remote.ip().to_string(),
        Some(Remote::Tcp(_) | Remote::Unix) | None => return request,
    };
    if let Ok(value) = other.parse() {
        request.headers_mut().entry("x-forwarded-for").or_insert(value);
    }
    request
}

/// An answer without content, as changes have.
fn done() -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::OK;
    answer::mark(response.headers_mut());
    response.headers_mut().insert(header::CONTENT_TYPE, answer::JSON);
    response
}
