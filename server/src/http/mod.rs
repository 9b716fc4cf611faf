//! The JSON API, for what agents pass on and for callers at its own doors. One file per page; status codes are mapped in
//! `error` alone.

mod acl;
mod ca_config;
mod catalog;
mod chain;
mod config_entry;
mod connect;
mod coordinate;
pub(crate) mod door;
mod error;
mod event;
mod gateway;
mod health;
mod instances;
mod intention;
mod intention_id;
mod kv;
mod near;
mod operator;
mod page;
mod prepared_query;
mod register;
mod request;
mod routes;
mod session;
mod snapshot;
mod status;
#[cfg(test)]
mod table;
mod topology;
mod txn;
mod ui;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use futures::future::BoxFuture;
use tower::Service;
use weft_core::config_entry::IntentionAction;
use weft_core::identity::SpiffeId;
use weft_runtime::http::{Body, Found, PeerIdentity, accepts_gzip, collect, empty, gzipped};
use weft_runtime::task::TaskTree;

use crate::acl::{Gate, Logins};
use crate::ca::SealKey;
use crate::config::{Config, Limits};
use crate::propose::{Caller, Proposer};
use crate::raft::Archive;
use crate::read::Reader;
use acl::ResetFile;
use error::ApiError;
use request::{ApiRequest, Query};
use routes::Routes;

/// What the pages work with.
struct Context {
    proposer: Proposer,
    reader: Reader,
    archive: Archive,
    gate: Gate,
    logins: Logins,
    reset: ResetFile,
    default_intention: IntentionAction,
    /// How long leaf certificates are valid, unless the CA's settings say so.
    leaf_lifetime: Duration,
    /// Bounds on what clients may ask for.
    limits: Limits,
    /// Seals the secrets of records: keys of certificates, tokens of prepared queries.
    seal: SealKey,
}

/// Every page; each file adds its own.
fn routes() -> Routes {
    let pages = [
        acl::routes,
        ca_config::routes,
        catalog::routes,
        chain::routes,
        config_entry::routes,
        connect::routes,
        coordinate::routes,
        event::routes,
        gateway::routes,
        health::routes,
        intention::routes,
        intention_id::routes,
        kv::routes,
        prepared_query::routes,
        operator::routes,
        register::routes,
        session::routes,
        snapshot::routes,
        status::routes,
        topology::routes,
        txn::routes,
        ui::routes,
    ];
    pages.into_iter().fold(Routes::default(), |table, page| page(table))
}

/// The API as a service.
#[derive(Clone)]
pub(crate) struct Api {
    context: Arc<Context>,
    routes: Arc<Routes>,
}

impl Api {
    pub(crate) fn new(
        proposer: Proposer,
        reader: Reader,
        seal: SealKey,
        config: &Config,
        tasks: &TaskTree,
    ) -> Self {
        let context = Context {
            proposer,
            archive: reader.archive(),
            reader,
            gate: Gate::new(config.acl.clone()),
            logins: Logins::default(),
            reset: ResetFile::new(&config.data_dir, tasks),
            default_intention: config.default_intention,
            leaf_lifetime: config.leaf_lifetime,
            limits: config.limits.clone(),
            seal: seal.clone(),
        };
        Self { context: Arc::new(context), routes: Arc::new(routes()) }
    }

    /// Answers a request that a member passes on, or that came to a door of the API.
    async fn answer(self, request: Request<Body>, through: Option<SpiffeId>) -> Response<Body> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let pretty = query.as_ref().is_ok_and(|query| query.has("pretty"));
        let is_head = request.method() == Method::HEAD;
        let takes_gzip = accepts_gzip(request.headers());
        let mut response = match self.find_and_answer(request, query, through).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(
            HeaderName::from_static("x-consul-default-acl-policy"),
            HeaderValue::from_static(self.context.gate.default_policy().as_str()),
        );
        let response = match (is_head, pretty) {
            (true, _) => response.map(|_| empty()),
            (false, true) => prettify(response).await,
            (false, false) => response,
        };
        match takes_gzip {
            true => gzipped(response, self.context.reader.tasks()).await,
            false => response,
        }
    }

    async fn find_and_answer(
        &self,
        request: Request<Body>,
        query: Result<Query, ApiError>,
        through: Option<SpiffeId>,
    ) -> Result<Response<Body>, ApiError> {
        let (parts, body) = request.into_parts();
        let asked = parts.method;
        let method = if asked == Method::HEAD { Method::GET } else { asked.clone() };
        let (route, params) = match self.routes.find(&method, parts.uri.path()) {
            Found::Handler { handler, params, .. } => (*handler, params),
            Found::NotFound => {
                let text = "Invalid URL path: not a recognized HTTP API endpoint";
                return Err(ApiError::not_found(text));
            }
            Found::WrongMethod { allow } => return wrong_method(&asked, allow),
        };
        let query = query?;
        query.check_tenancy()?;
        let credential = request::credential(&query, &parts.headers);
        let rights = {
            // Who waits holds no old state.
            let state = self.context.reader.newest();
            query.check_datacenter(state.cluster().map(|cluster| &cluster.datacenter))?;
            self.context.gate.rights(&state, &credential)?
        };
        let body = collect(body, route.body_bytes_max).await?;
        let caller = Caller::Client { rights: rights.clone(), through };
        let request = ApiRequest {
            method: asked,
            path: parts.uri.path().into(),
            params,
            query,
            headers: parts.headers,
            body,
            caller,
            credential,
            rights,
        };
        (route.handler)(&self.context, &request).await
    }
}

/// **Source**: Consul answers OPTIONS with the methods, and refuses others by name.
fn wrong_method(method: &Method, allow: String) -> Result<Response<Body>, ApiError> {
    let is_options = *method == Method::OPTIONS;
    let status = if is_options { StatusCode::OK } else { StatusCode::METHOD_NOT_ALLOWED };
    let text = if is_options { String::new() } else { format!("method {method} not allowed") };
    let mut error = ApiError::new(status, text);
    error.allow = Some(format!("OPTIONS, {allow}"));
    Err(error)
}

/// Indents a JSON answer.
async fn prettify(response: Response<Body>) -> Response<Body> {
    let is_json =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !is_json {
        return response;
    }
    let (parts, body) = response.into_parts();
    // Our own answer: of known content, and so never broken.
    let body = collect(body, usize::MAX).await.unwrap_or_default();
    let pretty = serde_json::from_slice::<serde_json::Value>(&body)
        .and_then(|value| serde_json::to_vec_pretty(&value));
    let body = pretty.map_or(body, bytes::Bytes::from);
    Response::from_parts(parts, weft_runtime::http::full(body))
}

impl Service<Request<Body>> for Api {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = self.clone();
        let peer = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.0.clone());
        Box::pin(async move {
            // The door of this port has let members in only.
            let Some(peer) = peer else {
                let text = "Permission denied: no certificate";
                return Ok(ApiError::new(StatusCode::FORBIDDEN, text).into_response());
            };
            Ok(api.answer(request, Some(peer)).await)
        })
    }
}
