//! `/v1/session/…`: who holds locks.
//!
//! **Source**: Consul: api-docs/session.

use http::{Response, StatusCode};
use weft_core::acl::{Permission, Resource};
use weft_core::identity::Workload;
use weft_core::name::NodeName;
use weft_core::session::{Session, SessionId};
use weft_core::state::{Command, SessionCommand};
use weft_core::watch::Topic;
use weft_proto::json::session::{SessionCreated, decode_create};
use weft_runtime::entropy;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};
use crate::acl::Rights;
use crate::propose::Caller;
use crate::read::Consistency;

pub(super) fn routes(table: Routes) -> Routes {
    table
        .put("/v1/session/create", |context, request| Box::pin(create(context, request)))
        .put("/v1/session/destroy/{id}", |context, request| Box::pin(destroy(context, request)))
        .get("/v1/session/info/{id}", |context, request| Box::pin(info(context, request)))
        .get("/v1/session/list", |context, request| Box::pin(list(context, request)))
        .get("/v1/session/node/{node}", |context, request| Box::pin(of_node(context, request)))
        .put("/v1/session/renew/{id}", |context, request| Box::pin(renew(context, request)))
}

/// `PUT /v1/session/create`
async fn create(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let mut body = decode_create(&request.body)?;
    if body.node.is_empty() {
        body.node = node_of(&request.caller).ok_or_else(|| {
            let text = "Must provide Node: this is no agent, and speaks for no node";
            ApiError::bad_request(text)
        })?;
    }
    // Clients look for what is wrong in answers with 500.
    let session = body
        .session(&entropy::uuid(), context.limits.session_ttl_min)
        .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let id = session.id.to_string();
    let command = Command::Session(SessionCommand::Create(session));
    context.proposer.write(&request.caller, command).await?;
    Ok(page::json_response(page::json(&SessionCreated { id })?))
}

/// The agent's node, for those who come through it.
pub(super) fn node_of(caller: &Caller) -> Option<String> {
    match caller {
        Caller::Client { through: Some(id), .. } => match &id.workload {
            Workload::Agent(node) => Some(node.to_string()),
            Workload::Server(_) | Workload::Service(_) => None,
        },
        Caller::Client { through: None, .. } | Caller::Member(_) | Caller::Server => None,
    }
}

/// `PUT /v1/session/destroy/:id`; what is not there is gone already.
async fn destroy(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    if let Some(id) = id(request) {
        let command = Command::Session(SessionCommand::Destroy(id));
        context.proposer.write(&request.caller, command).await?;
    }
    Ok(page::verdict(true))
}

/// `GET /v1/session/info/:id`
async fn info(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let id = id(request);
    let topic = id.map_or(Topic::Sessions, Topic::Session);
    let read = page::read(context, request, [topic], |state, rights| {
        let found = id.and_then(|id| state.sessions().get(id)).filter(|it| see(rights, it));
        let index = found.map_or(state.sessions().index(), |found| found.modify_index);
        Ok((index, Some(found.into_iter().cloned().collect::<Vec<_>>())))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/session/list`
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let read = page::read(context, request, [Topic::Sessions], |state, rights| {
        let sessions =
            state.sessions().list().filter(|it| see(rights, it)).cloned().collect::<Vec<_>>();
        Ok((state.sessions().index(), Some(sessions)))
    });
    Ok(read.await?.or_null(context))
}

/// `GET /v1/session/node/:node`
async fn of_node(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let node = NodeName::parse(request.params.get("node"))
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let read = page::read(context, request, [Topic::sessions_of(&node)], |state, rights| {
        let of_node = state.sessions().of_node(&node);
        let sessions = of_node.filter(|it| see(rights, it)).cloned().collect::<Vec<_>>();
        Ok((state.sessions().index(), Some(sessions)))
    });
    Ok(read.await?.or_null(context))
}

/// `PUT /v1/session/renew/:id`; the leader takes note, nothing is written.
async fn renew(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let state = context.reader.state(Consistency::Default).await?;
    let found = id(request).and_then(|id| state.sessions().get(id));
    let gone =
        || ApiError::not_found(format!("Session id '{}' not found", request.params.get("id")));
    let session = found.ok_or_else(gone)?;
    request.rights.require(Permission::write(Resource::Session, session.node.as_str()))?;
    if session.ttl.is_some() && !context.proposer.renew(session.id).await? {
        return Err(gone());
    }
    Ok(page::json_response(page::json(&[session])?))
}

fn see(rights: &Rights, session: &Session) -> bool {
    rights.see(Permission::read(Resource::Session, session.node.as_str()))
}

fn id(request: &ApiRequest) -> Option<SessionId> {
    request.params.get("id").parse().ok()
}
