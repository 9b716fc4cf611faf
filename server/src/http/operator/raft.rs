//! `/v1/operator/raft/…`: the members of consensus.
//!
//! **Source**: Consul: api-docs/operator/raft.

use http::Response;
use serde_json::json;
use weft_core::acl::{Permission, Resource};
use weft_runtime::http::Body;

use super::{ApiError, Context, Routes, page, read_id, shown};
use crate::http::request::ApiRequest;
use crate::raft::Peer;

pub(super) fn routes(table: Routes) -> Routes {
    const TRANSFER: &str = "/v1/operator/raft/transfer-leader";
    table
        .get("/v1/operator/raft/configuration", |context, request| {
            Box::pin(configuration(context, request))
        })
        .delete("/v1/operator/raft/peer", |context, request| Box::pin(remove(context, request)))
        .put(TRANSFER, |context, request| Box::pin(transfer(context, request)))
        .post(TRANSFER, |context, request| Box::pin(transfer(context, request)))
}

/// `GET /v1/operator/raft/configuration`: as this server knows it, with `?stale`, or else as the
/// leader does.
async fn configuration(
    context: &Context,
    request: &ApiRequest,
) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::read(Resource::Operator, ""))?;
    let consistency = request.query.read_options()?.consistency;
    // Passing the barrier, the members are those of every change that was acknowledged.
    let _ = context.reader.state(consistency).await?;
    let (index, peers) = context.reader.consensus().peers();
    let server = |peer: &Peer| {
        json!({
            "ID": shown(peer.id),
            "Node": peer.member.name,
            "Address": peer.member.address,
            "Leader": peer.is_leader,
            // The one protocol of Consul's servers that clients still meet.
            "ProtocolVersion": "3",
            "Voter": peer.is_voter,
            "ReadReplica": peer.member.is_read_replica,
        })
    };
    let servers: Vec<_> = peers.iter().map(server).collect();
    Ok(page::json_response(page::json(&json!({ "Servers": servers, "Index": index }))?))
}

/// `DELETE /v1/operator/raft/peer?id=…` or `?address=…`
async fn remove(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::write(Resource::Operator, ""))?;
    let (id, address) = (request.query.value("id"), request.query.value("address"));
    let (_, peers) = context.reader.consensus().peers();
    let unknown = |what: &str, text: &str| {
        let text = format!("{what} {text:?} was not found in the Raft configuration");
        ApiError::new(http::StatusCode::INTERNAL_SERVER_ERROR, text)
    };
    let peer = match (id, address) {
        (None, None) => {
            let text = "Must specify either ?id with the server's ID or ?address with IP:port \
                        of peer to remove";
            return Err(ApiError::bad_request(text));
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::bad_request("Must specify only one of ?id or ?address"));
        }
        (Some(text), None) => {
            let id = read_id(text);
            peers.iter().find(|peer| Some(peer.id) == id).ok_or_else(|| unknown("id", text))?
        }
        (None, Some(text)) => peers
            .iter()
            .find(|peer| peer.member.address == text)
            .ok_or_else(|| unknown("address", text))?,
    };
    context.reader.consensus().remove(peer.id).await?;
    Ok(page::json_response(bytes::Bytes::new()))
}

/// `PUT` or `POST /v1/operator/raft/transfer-leader?id=…`
async fn transfer(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::write(Resource::Operator, ""))?;
    let to = match request.query.value("id") {
        None => None,
        Some(text) => {
            let (_, peers) = context.reader.consensus().peers();
            let id = read_id(text);
            let peer = peers.iter().find(|peer| Some(peer.id) == id);
            let unknown = || ApiError::bad_request(format!("no server has the id {text:?}"));
            Some(peer.ok_or_else(unknown)?.id)
        }
    };
    context.reader.consensus().transfer(to).await?;
    Ok(page::json_response(page::json(&json!({ "Success": true }))?))
}
