//! The JSON API, for what agents pass on and for callers at its own doors. One file per page; status codes are mapped in
//! `error` alone.

mod acl;
mod agent;
mod asked_line;
mod bodies;
mod ca_config;
mod ca_revocation;
mod catalog;
mod chain;
mod chain_explain;
mod config_entry;
mod connect;
mod coordinate;
mod discovery;
pub(crate) mod door;
mod error;
mod event;
mod gateway;
mod health;
mod instances;
mod intention;
mod intention_explain;
mod intention_id;
mod kv;
mod meter;
mod near;
mod operator;
mod page;
mod prepared_query;
mod register;
mod request;
mod rollout;
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
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tower::Service;
use weft_core::config_entry::IntentionAction;
use weft_core::identity::SpiffeId;
use weft_core::name::NodeName;
use weft_runtime::clock;
use weft_runtime::http::{
    ApiAudit, Body, Found, Noted, PeerIdentity, accepts_gzip, collect, empty, gzipped, is_empty,
    told_bytes,
};
use weft_runtime::task::TaskTree;

use crate::acl::{Gate, Logins};
use crate::ca::SealKey;
use crate::config::{Config, Limits};
use crate::join::Admission;
use crate::metrics::Metrics;
use crate::propose::{Caller, Proposer};
use crate::raft::Archive;
use crate::read::Reader;
use acl::ResetFile;
use bodies::Bodies;
use error::ApiError;
use meter::Meter;
use request::{ApiRequest, Query};
use routes::{Route, Routes};

/// What the pages work with.
struct Context {
    proposer: Proposer,
    reader: Reader,
    archive: Archive,
    gate: Gate,
    logins: Logins,
    reset: ResetFile,
    /// This server's own.
    node_name: NodeName,
    default_intention: IntentionAction,
    /// How long leaf certificates are valid, unless the CA's settings say so.
    leaf_lifetime: Duration,
    /// Bounds on what clients may ask for.
    limits: Limits,
    /// Makes join tokens.
    admission: Admission,
    /// What this server counts.
    metrics: Metrics,
    /// What is counted of requests.
    meter: Meter,
    /// Seals the secrets of records: keys of certificates, tokens of prepared queries.
    seal: SealKey,
    /// What of requests lies in memory.
    bodies: Bodies,
    /// Where writes and refusals are written down.
    audit: Option<ApiAudit>,
}

/// By which door a request came.
enum Entrance {
    /// The door on loopback: somebody on a server's own host.
    Host,
    /// The door of the mesh, through a member.
    Mesh(SpiffeId),
    /// The door with TLS, for anybody.
    Outside,
}

impl Entrance {
    /// Returns the member that passes the request on.
    fn member(self) -> Option<SpiffeId> {
        match self {
            Self::Host | Self::Outside => None,
            Self::Mesh(id) => Some(id),
        }
    }
}

/// Every page; each file adds its own.
fn routes() -> Routes {
    let pages = [
        acl::routes,
        agent::routes,
        ca_config::routes,
        ca_revocation::routes,
        catalog::routes,
        chain::routes,
        chain_explain::routes,
        config_entry::routes,
        connect::routes,
        coordinate::routes,
        discovery::routes,
        event::routes,
        gateway::routes,
        health::routes,
        intention::routes,
        intention_explain::routes,
        intention_id::routes,
        kv::routes,
        prepared_query::routes,
        operator::routes,
        register::routes,
        rollout::routes,
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
        admission: Admission,
        (proposer, reader): (Proposer, Reader),
        (seal, metrics, audit): (SealKey, Metrics, Option<ApiAudit>),
        config: &Config,
        tasks: &TaskTree,
    ) -> Self {
        let routes = routes();
        let (meter, gate) = (Meter::new(routes.all()), Gate::new(config.acl.clone()));
        meter.register(metrics.registry());
        gate.register(metrics.registry());
        if let Some(audit) = &audit {
            audit.log.register(metrics.registry());
        }
        let context = Context {
            proposer,
            archive: reader.archive(),
            reader,
            gate,
            logins: Logins::default(),
            reset: ResetFile::new(&config.data_dir, tasks),
            node_name: config.node_name.clone(),
            default_intention: config.default_intention,
            leaf_lifetime: config.leaf_lifetime,
            limits: config.limits.clone(),
            admission,
            metrics,
            meter,
            seal: seal.clone(),
            bodies: Bodies::default(),
            audit,
        };
        Self { context: Arc::new(context), routes: Arc::new(routes) }
    }

    /// Answers a request, and counts it.
    fn count_and_answer(
        self,
        request: Request<Body>,
        entrance: Entrance,
    ) -> impl Future<Output = Response<Body>> + Send + 'static {
        let (started, context) = (clock::instant(), self.context.clone());
        let waits = request.uri().query().is_some_and(|query| query.contains("index="));
        let at = self.routes.place(request.method(), request.uri().path());
        let in_flight = context.meter.came();
        self.answer(request, entrance).map(move |response| {
            let took = (!waits).then(|| clock::instant().duration_since(started));
            context.meter.answered(at, response.status(), took);
            drop(in_flight);
            response
        })
    }

    /// Answers a request that a member passes on, or that came to a door of the API.
    ///
    /// What has come is read before the future begins: whoever waits for an answer, by the ten
    /// thousand, holds no more than the question.
    fn answer(
        self,
        request: Request<Body>,
        entrance: Entrance,
    ) -> impl Future<Output = Response<Body>> + Send + 'static {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let pretty = query.as_ref().is_ok_and(|query| query.has("pretty"));
        let is_head = request.method() == Method::HEAD;
        let takes_gzip = accepts_gzip(request.headers());
        // Boxed, as nobody who asks a question needs the room.
        let mut noted = self.context.audit.as_ref().map(|_| Box::new(noted(&request, &entrance)));
        let asked = self.read(request, query, entrance, noted.as_deref_mut());
        async move {
            let answered = match (asked, noted.as_deref()) {
                (Ok(asked), None) => asked.answer(&self.context).await,
                (Ok(asked), Some(noted)) => Box::pin(self.carry_out(asked, noted)).await,
                (Err(error), _) => Err(error),
            };
            let mut response = answered.unwrap_or_else(ApiError::into_response);
            if let (Some(audit), Some(noted)) = (&self.context.audit, &noted) {
                audit.complete(self.routes.router(), noted, response.status());
            }
            let headers = response.headers_mut();
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.insert(
                HeaderName::from_static("x-consul-default-acl-policy"),
                HeaderValue::from_static(self.context.gate.default_policy().as_str()),
            );
            // Boxed, as nobody who still waits needs the room.
            let response = match (is_head, pretty) {
                (true, _) => response.map(|_| empty()),
                (false, true) => Box::pin(prettify(response)).await,
                (false, false) => response,
            };
            match takes_gzip {
                true => Box::pin(gzipped(response, self.context.reader.tasks())).await,
                false => response,
            }
        }
    }

    /// Answers what was asked, once it is written down, where that is demanded.
    async fn carry_out(&self, asked: Asked, noted: &Noted) -> Result<Response<Body>, ApiError> {
        if let Some(audit) = &self.context.audit {
            audit.begin(self.routes.router(), noted).await?;
        }
        asked.answer(&self.context).await
    }

    /// Finds the page, and reads all but the body.
    fn read(
        &self,
        request: Request<Body>,
        query: Result<Query, ApiError>,
        entrance: Entrance,
        noted: Option<&mut Noted>,
    ) -> Result<Asked, ApiError> {
        let (parts, body) = request.into_parts();
        let asked = parts.method;
        let method = if asked == Method::HEAD { Method::GET } else { asked.clone() };
        let (route, params) = match self.routes.find(&method, parts.uri.path()) {
            Found::Handler { handler, params, .. } => (*handler, params),
            Found::NotFound => {
                let text = "Invalid URL path: not a recognized HTTP API endpoint";
                return Err(ApiError::not_found(text));
            }
            Found::WrongMethod { allow } => return Err(wrong_method(&asked, allow)),
        };
        let query = query?;
        query.check_tenancy()?;
        let credential = request::credential(&query, &parts.headers);
        let state = self.context.reader.newest();
        query.check_datacenter(state.cluster().map(|cluster| &cluster.datacenter))?;
        let rights = self.context.gate.rights(&state, &credential)?;
        if let Some(noted) = noted {
            noted.token = rights.accessor().map(ToString::to_string);
        }
        (route.admits)(&rights)?;
        let is_on_host = matches!(entrance, Entrance::Host);
        let through = entrance.member();
        let bytes = (told_bytes(&body), route.body.bytes(&self.context.limits));
        let place = self.context.bodies.place(&parts.extensions, through.as_ref(), bytes)?;
        let caller = Caller::Client { rights: rights.clone(), through };
        let request = ApiRequest {
            method: asked,
            path: parts.uri.path().into(),
            params,
            query,
            tokens: request::tokens(&parts.headers),
            asker: near::asker(&parts.headers),
            body: Bytes::new(),
            _place: place,
            caller,
            credential,
            rights,
            is_on_host,
        };
        Ok(Asked { route, request: Box::new(request), body })
    }
}

/// Keeps what the audit log would tell of a request.
fn noted(request: &Request<Body>, entrance: &Entrance) -> Noted {
    let mut noted = Noted::of(request);
    noted.remote = near::asker(request.headers()).or(noted.remote);
    noted.through = match entrance {
        Entrance::Mesh(member) => Some(member.to_string()),
        Entrance::Host | Entrance::Outside => None,
    };
    noted
}

/// A request whose body is still to come.
struct Asked {
    route: Route,
    request: Box<ApiRequest>,
    body: Body,
}

impl Asked {
    async fn answer(mut self, context: &Context) -> Result<Response<Body>, ApiError> {
        if !is_empty(&self.body) {
            // Boxed, as nobody who has asked needs the room.
            let bytes_max = self.route.body.bytes(&context.limits);
            self.request.body = Box::pin(collect(self.body, bytes_max)).await?;
        }
        (self.route.handler)(context, &self.request).await
    }
}

/// **Source**: Consul answers OPTIONS with the methods, and refuses others by name.
fn wrong_method(method: &Method, allow: String) -> ApiError {
    let is_options = *method == Method::OPTIONS;
    let status = if is_options { StatusCode::OK } else { StatusCode::METHOD_NOT_ALLOWED };
    let text = if is_options { String::new() } else { format!("method {method} not allowed") };
    let mut error = ApiError::new(status, text);
    error.allow = Some(format!("OPTIONS, {allow}"));
    error
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
    let body = pretty.map_or(body, Bytes::from);
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
        let peer = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.0.clone());
        // The door of this port has let members in only.
        let Some(peer) = peer else {
            let text = "Permission denied: no certificate";
            let refused = ApiError::new(StatusCode::FORBIDDEN, text).into_response();
            return Box::pin(std::future::ready(Ok(refused)));
        };
        Box::pin(self.clone().count_and_answer(request, Entrance::Mesh(peer)).map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_request<F>(_: impl FnOnce(Api, Request<Body>, Entrance) -> F) -> usize {
        size_of::<F>()
    }

    fn of_page<'a, F>(_: impl FnOnce(&'a Context, &'a ApiRequest) -> F) -> usize {
        size_of::<F>()
    }

    /// What is held of a blocking query while it waits, beside the wait itself (`read`).
    #[test]
    fn who_waits_for_an_answer_holds_little() {
        let (request, page) = (of_request(Api::count_and_answer), of_page(health::service));
        assert!(request <= 512 && page <= 1024, "{request} bytes of a request, {page} of a page");
    }
}
