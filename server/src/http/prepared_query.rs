//! `/v1/query…`: prepared queries, kept and carried out.
//!
//! **Source**: Consul: api-docs/query.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Response;
use serde_json::{Value, json};
use weft_core::acl::{Permission, Resource};
use weft_core::catalog::ServiceInstance;
use weft_core::name::ServiceName;
use weft_core::prepared_query::{PreparedQuery, choose};
use weft_core::state::{Command, QueryCommand, State};
use weft_core::watch::Topic;
use weft_proto::json::query::decode;
use weft_runtime::entropy;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::near::{self, Near};
use super::page::Page;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};
use crate::acl::{Credential, Rights, Secret};
use crate::ca::Purpose;

pub(super) fn routes(table: Routes) -> Routes {
    const ONE: &str = "/v1/query/{id}";
    table
        .get("/v1/query", |context, request| Box::pin(list(context, request)))
        .post("/v1/query", |context, request| Box::pin(create(context, request)))
        .get(ONE, |context, request| Box::pin(show(context, request)))
        .put(ONE, |context, request| Box::pin(update(context, request)))
        .delete(ONE, |context, request| Box::pin(delete(context, request)))
        .get("/v1/query/{id}/execute", |context, request| Box::pin(execute(context, request)))
        .get("/v1/query/{id}/explain", |context, request| Box::pin(explain(context, request)))
}

/// `GET /v1/query`
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let read = page::read(context, request, [Topic::Queries], |state, rights| {
        let (index, queries) = state.prepared_queries();
        // One without a name is shown to who may see everything.
        let all = Permission::write(Resource::Acl, "");
        let shown = queries.iter().filter(|query| match query.is_named() {
            true => rights.see(read_query(query)),
            false => rights.see(all),
        });
        let bodies: Vec<Value> =
            shown.map(|query| body(context, rights, query)).collect::<Result<_, _>>()?;
        Ok((index, Some(bodies)))
    });
    Ok(read.await?.or_null(context))
}

/// `POST /v1/query`
async fn create(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let mut query = sealed(context, decode(&request.body)?);
    if !query.id.is_empty() {
        return Err(ApiError::bad_request("ID: must be left out; the servers choose it"));
    }
    query.id = entropy::uuid();
    let body = page::json(&json!({ "ID": query.id }))?;
    let command = Command::Query(QueryCommand::Create(query));
    context.proposer.write(&request.caller, command).await?;
    Ok(page::json_response(body))
}

/// `GET /v1/query/:id`
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let id = request.params.get("id");
    let read = page::read(context, request, [Topic::Queries], |state, rights| {
        let found = state.prepared_query(id);
        if let Some(query) = found.filter(|query| query.is_named()) {
            rights.require(read_query(query))?;
        }
        let found = found.map(|query| body(context, rights, query)).transpose()?;
        Ok((state.prepared_queries().0, found.map(|query| [query])))
    });
    Ok(read.await?.or_not_found(context, NOT_FOUND.to_owned()))
}

/// `PUT /v1/query/:id`
async fn update(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let mut query = sealed(context, decode(&request.body)?);
    query.id = request.params.get("id").to_owned();
    let command = Command::Query(QueryCommand::Update(query));
    context.proposer.write(&request.caller, command).await?;
    Ok(page::empty_response())
}

/// `DELETE /v1/query/:id`
async fn delete(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let id = request.params.get("id").to_owned();
    let command = Command::Query(QueryCommand::Delete { id });
    context.proposer.write(&request.caller, command).await?;
    Ok(page::empty_response())
}

/// `GET /v1/query/:id/explain`
async fn explain(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let asked = request.params.get("id");
    let read = page::read(context, request, [Topic::Queries], |state, rights| {
        let Some(found) = state.find_prepared_query(asked) else {
            return Ok((state.prepared_queries().0, None));
        };
        if found.is_named() {
            rights.require(read_query(found))?;
        }
        let made = Arc::new(rendered(found, asked)?);
        Ok((state.prepared_queries().0, Some(json!({ "Query": body(context, rights, &made)? }))))
    });
    Ok(read.await?.or_not_found(context, NOT_FOUND.to_owned()))
}

/// `GET /v1/query/:id/execute`
async fn execute(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let asked = request.params.get("id");
    let limit = match request.query.value("limit") {
        None => usize::MAX,
        Some(text) => match text.parse::<usize>() {
            Ok(0) => usize::MAX,
            Ok(limit) => limit,
            Err(_) => return Err(ApiError::bad_request("Invalid value for ?limit")),
        },
    };
    let connect = request.query.has("connect");
    let page = Page {
        topics: |state: &State| -> BTreeSet<Topic> {
            let question = state.find_prepared_query(asked).and_then(|found| {
                let query = rendered(found, asked).ok()?;
                let name = ServiceName::parse(&query.service.service).ok()?;
                Some(topic(&name, connect || query.service.connect))
            });
            [Some(Topic::Queries), question].into_iter().flatten().collect()
        },
        answer: |state: &State, rights: &Rights| {
            let Some(found) = state.find_prepared_query(asked) else {
                return Ok((state.prepared_queries().0, None));
            };
            if found.is_named() {
                rights.require(read_query(found))?;
            }
            let query = rendered(found, asked)?;
            let rights = &asker(context, state, &query, rights)?;
            // What the asker says counts more than what the query says.
            let near = Near::of(request).or_else(|| Near::named(&query.service.near, request));
            let answer = carry_out((state, rights), &query, connect, near, limit)?;
            Ok((state.prepared_queries().0, Some(answer)))
        },
    };
    let read = page::read_page(context, request, page).await?;
    Ok(read.or_not_found(context, NOT_FOUND.to_owned()))
}

/// Looks in this datacenter; all others that the query names count as tried, as there are none
/// that could be asked.
///
/// Differs: Consul counts only datacenters that it knows, and asks them.
fn carry_out(
    (state, rights): (&State, &Rights),
    query: &PreparedQuery,
    connect: bool,
    near: Option<Near>,
    limit: usize,
) -> Result<Value, ApiError> {
    let question = &query.service;
    let name = ServiceName::parse(&question.service)
        .map_err(|error| ApiError::bad_request(format!("Service.Service: {error}")))?;
    let (_, mut nodes) = match connect || question.connect {
        true => state.connect_instances(&name),
        false => state.service_instances(&name),
    };
    nodes.retain(|instance| rights.see_instance(instance));
    choose(question, &mut nodes);
    near::shuffle(&mut nodes);
    if let Some(near) = &near {
        near.sort(state, &mut nodes, |instance: &ServiceInstance| &instance.node.name);
    }
    let datacenter = state.cluster().map(|cluster| cluster.datacenter.to_string());
    let datacenter = datacenter.unwrap_or_default();
    let failovers = match nodes.is_empty() {
        true => {
            let failover = &question.failover;
            let others = failover.datacenters.iter().filter(|name| **name != datacenter);
            let targets = failover.targets.iter().filter(|it| it.datacenter != datacenter);
            others.count() + targets.count()
        }
        false => 0,
    };
    nodes.truncate(limit);
    Ok(json!({
        "Service": question.service,
        "Nodes": nodes,
        "DNS": query.dns,
        "Datacenter": datacenter,
        "Failovers": failovers,
    }))
}

fn topic(name: &ServiceName, connect: bool) -> Topic {
    if connect { Topic::connect(name) } else { Topic::service(name) }
}

fn rendered(query: &PreparedQuery, asked: &str) -> Result<PreparedQuery, ApiError> {
    query.render(asked).map_err(|reason| {
        ApiError::bad_request(format!("template {:?} cannot be filled in: {reason}", query.name))
    })
}

/// The token is replicated in sealed form alone.
fn sealed(context: &Context, mut query: PreparedQuery) -> PreparedQuery {
    let token = &query.token;
    if !token.is_empty() && token.reveal() != PreparedQuery::TOKEN_HIDDEN {
        query.token = context.seal.seal_text(Purpose::QueryToken, token.reveal());
    }
    query
}

/// Whose rights the answer is made with: the query's own token, else the asker's.
fn asker(
    context: &Context,
    state: &State,
    query: &PreparedQuery,
    rights: &Rights,
) -> Result<Rights, ApiError> {
    if query.token.is_empty() {
        return Ok(rights.clone());
    }
    let secret = context.seal.open_text(Purpose::QueryToken, &query.token);
    let secret = secret.ok_or_else(|| {
        ApiError::bad_request("the query's token was sealed by another cluster; write it again")
    })?;
    Ok(context.gate.rights(state, &Credential::of(Secret::new(&secret)))?)
}

fn read_query(query: &PreparedQuery) -> Permission<'_> {
    Permission::read(Resource::Query, &query.name)
}

/// A query as it may be shown: its token is hidden from all who may not write tokens.
fn body(context: &Context, rights: &Rights, query: &Arc<PreparedQuery>) -> Result<Value, ApiError> {
    let mut body =
        serde_json::to_value(&**query).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let may_see = context.gate.is_enabled() && rights.may(Permission::write(Resource::Acl, ""));
    let open = || context.seal.open_text(Purpose::QueryToken, &query.token);
    body["Token"] = match (query.token.is_empty(), may_see.then(open).flatten()) {
        (true, _) => "".into(),
        (false, Some(secret)) => secret.into(),
        (false, None) => PreparedQuery::TOKEN_HIDDEN.into(),
    };
    Ok(body)
}

const NOT_FOUND: &str = "Query not found";
