//! `/v1/agent/{join,force-leave,reload}`: what changes where this agent belongs, and what it
//! reads again.
//!
//! **Source**: Consul: api-docs/agent#join-agent, #force-leave-and-shutdown, #reload-agent.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::json;
use tracing::info;
use weft_core::name::NodeName;
use weft_runtime::http::{Body, collect, full};

use super::answer::ApiError;
use super::{Api, Call, done};
use crate::config::TokenText;
use crate::servers::reason;

/// The port of servers when none is said.
const SERVER_PORT: u16 = 8300;
/// Bytes of a server's answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

impl Api {
    /// Takes up the servers that a server of this mesh names. The host itself joined with its
    /// token; who is called here must show a certificate of the same mesh.
    pub(super) async fn join(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let given = call.params.get("address");
        let has_port = given.rsplit_once(':').is_some_and(|(host, port)| {
            port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
        });
        let address = match (has_port, given.contains(':')) {
            (true, _) => given.to_owned(),
            (false, true) => format!("[{given}]:{SERVER_PORT}"),
            (false, false) => format!("{given}:{SERVER_PORT}"),
        };
        self.parts.servers.join(&address, &self.parts.tasks).await.map_err(|reason| {
            ApiError::Unavailable(format!("cannot join by way of {address}: {reason}"))
        })?;
        Ok(done())
    }

    /// Takes a host that is gone out of the catalog. One that is there would only come back, so
    /// it is refused.
    pub(super) async fn force_leave(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let name = NodeName::parse(call.params.get("node"))
            .map_err(|error| ApiError::Query(error.to_string()))?;
        let mut view = self.parts.views.nodes();
        let nodes = view.first(super::node::NODES_LIMIT).await.value;
        let Some(nodes) = nodes else {
            let reason = "the nodes of the cluster are not known: no server has answered yet";
            return Err(ApiError::Unavailable(reason.to_owned()));
        };
        let is_it = |known: &NodeName| known.as_str().eq_ignore_ascii_case(name.as_str());
        let Some(node) = nodes.iter().find(|node| is_it(&node.name)) else {
            let reason = format!("agent: No node found with name '{name}'");
            return Err(ApiError::NotFound(reason));
        };
        if !self.nodes_away().await.contains(node.name.as_str()) {
            return Err(ApiError::Query(format!(
                "node {name} is alive; stop its agent, or have it leave by itself"
            )));
        }
        let body = json!({ "Node": node.name }).to_string();
        let mut request = Request::put("/v1/catalog/deregister");
        if let Some(token) = call.token.as_ref().and_then(TokenText::header) {
            request = request.header(TokenText::HEADER, token);
        }
        let request = request
            .body(full(Bytes::from(body)))
            .map_err(|error| ApiError::Query(error.to_string()))?;
        let answer = self.parts.servers.forward(request).await?;
        let status = answer.status();
        let body = collect(answer.into_body(), ANSWER_BYTES_MAX).await?;
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        match status {
            StatusCode::OK => {
                info!(node = %name, "a host that is gone was taken out on request");
                Ok(done())
            }
            StatusCode::FORBIDDEN => Err(ApiError::Refused(text)),
            other => Err(ApiError::Unavailable(format!("a server answers {other}: {text}"))),
        }
    }

    /// Reads the configuration's files again.
    pub(super) async fn reload(&self) -> Result<Response<Body>, ApiError> {
        self.parts.reloader.reload().await.map_err(|error| ApiError::Reload(reason(&error)))?;
        Ok(done())
    }
}
