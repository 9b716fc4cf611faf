//! The HTTP API of this host: `/v1/agent/…` is answered here, the rest of `/v1` by a server.
//!
//! A request is checked for where it comes from, found in the table (`route`) and
//! answered by the file of its page; errors become statuses in `answer` only.

mod answer;
mod check;
mod connect;
mod health;
mod node;
mod query;
mod rights;
mod route;
mod service;
mod token;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use weft_core::limits;
use weft_proto::json::{self, Unknown};
use weft_runtime::clock;
use weft_runtime::http::{
    Body, Found, OwnHosts, Params, ServeOptions, accepts_gzip, check_foreign, collect, full,
    gzipped, serve,
};
use weft_runtime::net;
use weft_runtime::task::TaskTree;

use crate::acl::Acl;
use crate::checks::Checks;
use crate::config::{Config, TokenText};
use crate::leaf::Leaves;
use crate::local::Local;
use crate::metrics::Metrics;
use crate::servers::Servers;
use crate::views::Views;

use answer::ApiError;
use query::Query;
use route::{Route, Routes};

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
    /// The certificates of local services.
    pub leaves: Leaves,
    /// What the agent counts.
    pub metrics: Metrics,
    /// Where DNS is answered; `None` for not at all.
    pub dns_addr: Option<SocketAddr>,
    /// Cancelled when the agent stops, which ends requests that wait.
    pub tasks: TaskTree,
}

/// The API; requests share it.
struct Api {
    parts: Parts,
    routes: Routes,
}

/// One request that is answered here.
struct Call {
    params: Params,
    query: Query,
    /// Who asks: what was shown, or the agent's default.
    token: Option<TokenText>,
    body: Body,
}

/// Opens the API; the answer is the address at which it listens.
///
/// # Errors
/// When the address cannot be bound.
pub async fn start(addr: SocketAddr, parts: Parts) -> io::Result<SocketAddr> {
    let listener = net::bind_tcp(addr).await?;
    let bound = listener.local_addr()?;
    let tasks = parts.tasks.child("http");
    let api = Arc::new(Api { parts, routes: route::table() });
    let service = tower_service(api);
    let tree = tasks.clone();
    tasks.spawn("accept", async move {
        // What is answered here is bounded where it is read, what is passed on by the server.
        let options = ServeOptions { body_bytes_max: usize::MAX, ..ServeOptions::default() };
        serve(listener, None, service, options, &tree).await;
    });
    Ok(bound)
}

fn tower_service(
    api: Arc<Api>,
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
        async move { Ok(api.answer(request).await) }
    })
}

impl Api {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let started = clock::instant();
        let takes_gzip = accepts_gzip(request.headers());
        let answered = tokio::select! {
            // Whatever waits is given up when the agent stops.
            () = self.parts.tasks.cancelled() => Err(ApiError::Stopping),
            answered = Box::pin(self.dispatch(request)) => answered,
        };
        self.parts.metrics.request_served(clock::instant() - started);
        let mut response = answered.unwrap_or_else(ApiError::into_response);
        if let Some(policy) = self.parts.acl.default_policy() {
            response.headers_mut().insert(answer::DEFAULT_POLICY, policy);
        }
        match takes_gzip {
            // What a server has answered in gzip stays as it is.
            true => gzipped(response, &self.parts.tasks).await,
            false => response,
        }
    }

    async fn dispatch(&self, request: Request<Body>) -> Result<Response<Body>, ApiError> {
        check_foreign(&request, OwnHosts::Named(&self.parts.config.http.allowed_hosts))?;
        let path = request.uri().path();
        let route = match self.routes.find(request.method(), path) {
            Found::Handler { handler, params, .. } => (*handler, params),
            Found::WrongMethod { allow } if request.method() == Method::OPTIONS => {
                return Ok(answer::allowed(&allow));
            }
            Found::WrongMethod { allow } => return Err(ApiError::Method { allow }),
            Found::NotFound if path.starts_with("/v1/") && !path.starts_with("/v1/agent/") => {
                return Ok(self.parts.servers.forward(self.with_token(request)).await?);
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

    async fn call(&self, route: Route, call: Call) -> Result<Response<Body>, ApiError> {
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
            Route::HealthById => self.health_by_id(&call),
            Route::HealthByName => self.health_by_name(&call),
            Route::Host => self.host(&call),
            Route::Leave => self.leave().await,
            Route::Maintenance => self.maintenance(call).await,
            Route::Members => self.members(call).await,
            Route::Metrics => self.metrics(&call),
            Route::Reload => {
                Err(ApiError::NotYet("reloading the configuration; restart the agent"))
            }
            Route::SelfPage => self.self_page(&call),
            Route::Service => self.service(call).await,
            Route::ServiceDeregister => self.service_deregister(call).await,
            Route::ServiceMaintenance => self.service_maintenance(call).await,
            Route::ServiceRegister => self.service_register(call).await,
            Route::Services => self.services(call).await,
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

/// An answer without content, as changes have.
fn done() -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::OK;
    answer::mark(response.headers_mut());
    response.headers_mut().insert(header::CONTENT_TYPE, answer::JSON);
    response
}
