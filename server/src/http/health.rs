//! `/v1/health/…`: what exists, with its checks.
//!
//! **Source**: Consul: api-docs/health.

use std::sync::Arc;

use http::Response;
use weft_core::catalog::{CheckStatus, HealthCheck};
use weft_core::filter::{CHECK, SERVICE_INSTANCE};
use weft_core::index::Index;
use weft_core::state::State;
use weft_core::watch::Topic;
use weft_runtime::http::Body;

use super::catalog::node_name;
use super::error::ApiError;
use super::instances::{Instances, Wanted};
use super::near::Near;
use super::request::{ApiRequest, has_meta, service_name};
use super::routes::Routes;
use super::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    table
        .get("/v1/health/checks/{service}", |context, request| {
            Box::pin(of_service(context, request))
        })
        .get("/v1/health/connect/{service}", |context, request| Box::pin(connect(context, request)))
        .get("/v1/health/ingress/{service}", |context, request| Box::pin(ingress(context, request)))
        .get("/v1/health/node/{node}", |context, request| Box::pin(node(context, request)))
        .get("/v1/health/service/{service}", |context, request| Box::pin(service(context, request)))
        .get("/v1/health/state/{state}", |context, request| Box::pin(in_state(context, request)))
}

/// `GET /v1/health/service/:name`
pub(super) async fn service(
    context: &Context,
    request: &ApiRequest,
) -> Result<Response<Body>, ApiError> {
    instances(context, request, Instances::Service).await
}

/// `GET /v1/health/ingress/:name`
async fn ingress(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    instances(context, request, Instances::Ingress).await
}

/// `GET /v1/health/connect/:name`
async fn connect(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    instances(context, request, Instances::Connect).await
}

async fn instances(
    context: &Context,
    request: &ApiRequest,
    which: Instances,
) -> Result<Response<Body>, ApiError> {
    let wanted = Wanted::read(request, which)?;
    let filter = request.query.filter(Some(&SERVICE_INSTANCE))?;
    let only_passing = request.query.passing()?;
    let read = page::read(context, request, wanted.topics(), |state, rights| {
        let (index, mut instances) = wanted.look(state, rights);
        instances.retain(|instance| {
            (!only_passing || instance.status() == CheckStatus::Passing)
                && filter.as_ref().is_none_or(|filter| filter.matches_record(instance))
        });
        Ok((index, Some(instances)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/health/node/:node`
async fn node(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = node_name(request.params.get("node"))?;
    let topic = Topic::node(&name);
    checks(context, request, topic, |state| state.checks_of_node(&name)).await
}

/// `GET /v1/health/checks/:service`
async fn of_service(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = service_name(request.params.get("service"))?;
    let topic = Topic::service(&name);
    checks(context, request, topic, |state| state.checks_of_service(&name)).await
}

/// `GET /v1/health/state/:state`
async fn in_state(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let status = match request.params.get("state") {
        "any" => None,
        word => {
            let parsed = word.parse::<CheckStatus>();
            Some(parsed.map_err(|error| ApiError::bad_request(format!("{error}, or any")))?)
        }
    };
    checks(context, request, Topic::Checks, |state| state.checks_in_state(status)).await
}

async fn checks(
    context: &Context,
    request: &ApiRequest,
    topic: Topic,
    look: impl Fn(&State) -> (Index, Vec<Arc<HealthCheck>>) + Send + Sync,
) -> Result<Response<Body>, ApiError> {
    let filter = request.query.filter(Some(&CHECK))?;
    let (meta, near) = (request.query.node_meta(), Near::of(request));
    let nodes = (!meta.is_empty()).then_some(Topic::Nodes);
    let read = page::read(context, request, nodes.into_iter().chain([topic]), |state, rights| {
        let (index, mut checks) = look(state);
        checks.retain(|check| {
            rights.see_check(check)
                && (meta.is_empty()
                    || state.node_record(&check.node).is_some_and(|node| has_meta(node, &meta)))
        });
        if let Some(filter) = &filter {
            checks.retain(|check| filter.matches_record(check));
        }
        if let Some(near) = &near {
            near.sort(state, &mut checks, |check| &check.node);
        }
        Ok((index, Some(checks)))
    });
    Ok(read.await?.or_null(context))
}
