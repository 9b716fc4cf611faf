//! `/v1/rollout…`: how far new versions of services have come, and what operators say to that. Consul
//! has no such pages.

use http::Response;
use weft_core::acl::{Permission, Resource};
use weft_core::config_entry::{EntryKey, EntryKind};
use weft_core::name::ServiceName;
use weft_core::state::{Command, RolloutAct, RolloutCommand, RolloutSignal};
use weft_core::watch::Topic;
use weft_proto::json::rollout::RolloutBody;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::{ApiRequest, service_name};
use super::routes::Routes;
use super::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    table
        .get("/v1/rollouts", |context, request| Box::pin(list(context, request)))
        .get("/v1/rollout/{service}", |context, request| Box::pin(show(context, request)))
        .put("/v1/rollout/{service}/{signal}", |context, request| {
            Box::pin(signal(context, request))
        })
}

/// `GET /v1/rollouts`
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let topics = [Topic::EntryKind(EntryKind::Rollout)];
    let read = page::read(context, request, topics, |state, rights| {
        let seen = state.rollouts().filter(|rollout| {
            rights.see(Permission::read(Resource::Service, rollout.name.as_str()))
        });
        let bodies: Vec<RolloutBody> = seen.map(RolloutBody::from).collect();
        Ok((state.entry_kind_index(EntryKind::Rollout), Some(bodies)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/rollout/:service`
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let name = service_name(request.params.get("service"))?;
    let key = EntryKey::new(EntryKind::Rollout, name.as_str());
    let read = page::read(context, request, [Topic::Entry(key)], |state, rights| {
        rights.require(Permission::read(Resource::Service, name.as_str()))?;
        let rollout = state.rollout(&name);
        let index = match rollout {
            Some(rollout) => rollout.modify_index,
            None => state.entry_kind_index(EntryKind::Rollout),
        };
        Ok((index, rollout.map(RolloutBody::from)))
    });
    Ok(read.await?.or_not_found(context, missing(&name)))
}

/// `PUT /v1/rollout/:service/:signal`
async fn signal(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let service = service_name(request.params.get("service"))?;
    let word = request.params.get("signal");
    let signal = RolloutSignal::ALL.into_iter().find(|signal| signal.as_str() == word);
    let signal = signal.ok_or_else(|| {
        let words = RolloutSignal::ALL.map(RolloutSignal::as_str).join(", ");
        ApiError::bad_request(format!("{word:?} is not a signal; the signals are {words}"))
    })?;
    let act = RolloutAct::Signal(signal);
    let command = Command::Rollout(RolloutCommand { service: service.clone(), act });
    context.proposer.write(&request.caller, command).await?;
    let state = context.reader.newest();
    let body = state.rollout(&service).map(RolloutBody::from);
    let body = body.ok_or_else(|| ApiError::not_found(missing(&service)))?;
    page::json(&body).map(page::json_response)
}

fn missing(service: &ServiceName) -> String {
    format!("no rollout is written for {service:?}; write an entry of the kind \"rollout\" first")
}
