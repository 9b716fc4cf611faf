//! `/v1/operator/autopilot/…`: its settings, and what it sees.
//!
//! **Source**: Consul: api-docs/operator/autopilot.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::{Value, json};
use weft_core::acl::{Permission, Resource};
use weft_core::autopilot::{AutopilotConfig, ClusterHealth, ServerState};
use weft_core::state::{Command, OperatorCommand};
use weft_core::time::Span;
use weft_runtime::http::Body;

use super::{ApiError, Context, Routes, page, shown};
use crate::http::request::ApiRequest;

pub(super) fn routes(table: Routes) -> Routes {
    const CONFIGURATION: &str = "/v1/operator/autopilot/configuration";
    table
        .get(CONFIGURATION, |context, request| Box::pin(configuration(context, request)))
        .put(CONFIGURATION, |context, request| Box::pin(configure(context, request)))
        .get("/v1/operator/autopilot/health", |context, request| Box::pin(health(context, request)))
        .get("/v1/operator/autopilot/state", |context, request| Box::pin(state(context, request)))
}

/// `GET /v1/operator/autopilot/configuration`
async fn configuration(
    context: &Context,
    request: &ApiRequest,
) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::read(Resource::Operator, ""))?;
    let consistency = request.query.read_options()?.consistency;
    let state = context.reader.state(consistency).await?;
    Ok(page::json_response(page::json(state.autopilot())?))
}

/// `PUT /v1/operator/autopilot/configuration`
async fn configure(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let cas = request.query.cas()?;
    let config: AutopilotConfig = read(&request.body)?;
    let command = Command::Operator(OperatorCommand::SetAutopilot { config, cas });
    let written = context.proposer.write(&request.caller, command).await?;
    Ok(page::verdict(written.matched))
}

/// Reads settings; what is left out takes its default, as with Consul.
fn read(body: &[u8]) -> Result<AutopilotConfig, ApiError> {
    /// Fields of Consul's that have no meaning here; clients send them all the same.
    const UNUSED: [&str; 3] = ["DisableUpgradeMigration", "RedundancyZoneTag", "UpgradeVersionTag"];
    let fail =
        |text: String| ApiError::bad_request(format!("Error parsing autopilot config: {text}"));
    let mut value: Value = serde_json::from_slice(body).map_err(|error| fail(error.to_string()))?;
    let fields = value.as_object_mut().ok_or_else(|| fail("not a JSON object".to_owned()))?;
    let known = serde_json::to_value(AutopilotConfig::default()).unwrap_or_default();
    let mut named = serde_json::Map::new();
    for (name, value) in std::mem::take(fields) {
        let plain = name.replace('_', "");
        let is_name = |known: &&str| known.eq_ignore_ascii_case(&plain);
        if UNUSED.iter().any(&is_name) {
            continue;
        }
        let mut names = known.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        let known = names.find(is_name).ok_or_else(|| fail(format!("{name:?}: no such field")))?;
        named.insert(known.to_owned(), value);
    }
    serde_json::from_value(Value::Object(named)).map_err(|error| fail(error.to_string()))
}

/// `GET /v1/operator/autopilot/health`; 429 when a server is not well.
async fn health(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::read(Resource::Operator, ""))?;
    request.query.read_options()?;
    let health = context.reader.consensus().health().await?;
    let servers: Vec<Value> = health
        .servers
        .iter()
        .map(|server| {
            json!({
                "ID": shown(server.id),
                "Name": server.name,
                "Address": server.address,
                "SerfStatus": status(server),
                "Version": server.version,
                "Leader": server.is_leader,
                "LastContact": last_contact(server),
                "LastTerm": server.last_term,
                "LastIndex": server.last_index,
                "Healthy": server.is_healthy,
                "Voter": server.is_voter,
                "StableSince": server.since.rfc3339(),
            })
        })
        .collect();
    let body = json!({
        "Healthy": health.is_healthy(),
        "FailureTolerance": health.failure_tolerance,
        "Servers": servers,
    });
    let mut response = page::json_response(page::json(&body)?);
    if !health.is_healthy() {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    }
    Ok(response)
}

/// `GET /v1/operator/autopilot/state`
async fn state(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::read(Resource::Operator, ""))?;
    request.query.read_options()?;
    let health = context.reader.consensus().health().await?;
    Ok(page::json_response(page::json(&shape(&health))?))
}

fn shape(health: &ClusterHealth) -> Value {
    let role = |server: &ServerState| match server {
        ServerState { is_leader: true, .. } => "leader",
        ServerState { is_voter: true, .. } => "voter",
        ServerState { is_read_replica: true, .. } => "read-replica",
        ServerState { .. } => "non-voter",
    };
    let ids = |wanted: &dyn Fn(&ServerState) -> bool| -> Vec<String> {
        health.servers.iter().filter(|it| wanted(it)).map(|it| shown(it.id)).collect()
    };
    let servers: BTreeMap<String, Value> = health
        .servers
        .iter()
        .map(|server| {
            let value = json!({
                "ID": shown(server.id),
                "Name": server.name,
                "Address": server.address,
                "NodeStatus": status(server),
                "Version": server.version,
                "LastContact": last_contact(server),
                "LastTerm": server.last_term,
                "LastIndex": server.last_index,
                "Healthy": server.is_healthy,
                "StableSince": server.since.rfc3339(),
                "ReadReplica": server.is_read_replica,
                "Status": role(server),
                "NodeType": if server.is_read_replica { "read-replica" } else { "voter" },
                "Meta": {},
            });
            (shown(server.id), value)
        })
        .collect();
    json!({
        "Healthy": health.is_healthy(),
        "FailureTolerance": health.failure_tolerance,
        "OptimisticFailureTolerance": health.failure_tolerance,
        "Leader": ids(&|server| server.is_leader).pop().unwrap_or_default(),
        "Voters": ids(&|server| server.is_voter),
        "ReadReplicas": ids(&|server| server.is_read_replica),
        "Servers": servers,
    })
}

fn status(server: &ServerState) -> &'static str {
    if server.is_alive { "alive" } else { "failed" }
}

/// A server that never answered shows a silence that no client takes for short.
fn last_contact(server: &ServerState) -> String {
    match server.last_contact_ms {
        Some(ms) => Span(Duration::from_millis(ms)).to_string(),
        None => "never".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_in_any_spelling_and_strange_ones_named() {
        let config = read(
            br#"{"cleanup_dead_servers": false, "LastContactThreshold": "1s",
            "maxtrailinglogs": 7, "RedundancyZoneTag": ""}"#,
        );
        let config = config.expect("settings");
        assert!(!config.cleanup_dead_servers);
        assert_eq!(config.last_contact_threshold, Span::seconds(1));
        assert_eq!((config.max_trailing_logs, config.min_quorum), (7, 0));
        assert_eq!(config.server_stabilization_time, Span::seconds(10), "left out: the default");
        for (body, expected) in [
            ("[]", "not a JSON object"),
            ("{", "EOF"),
            (r#"{"MinQuorums": 3}"#, "\"MinQuorums\": no such field"),
            (r#"{"MinQuorum": "x"}"#, "invalid type"),
            (r#"{"LastContactThreshold": "soon"}"#, "is not a duration"),
        ] {
            let error = read(body.as_bytes()).expect_err(body).text;
            assert!(error.contains(expected), "{body}: {error}");
        }
    }
}
