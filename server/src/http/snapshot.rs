//! `/v1/snapshot` and `/v1/operator/raft/digest`: the whole state, saved, restored, compared.
//!
//! **Source**: Consul: api-docs/snapshot. Differs: the archive has our own form, and a snapshot
//! of another cluster is refused unless it is asked for with `?foreign`.

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;
use weft_core::acl::{Permission, Resource};
use weft_core::limits;
use weft_core::state::{Command, RestoreCommand};
use weft_runtime::entropy;
use weft_runtime::http::{Body, empty, streamed};

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::{BodyBound, Routes};
use super::{Context, page};
use crate::acl::Rights;
use crate::read::Consistency;

pub(super) fn routes(table: Routes) -> Routes {
    table
        .get("/v1/snapshot", |context, request| Box::pin(save(context, request)))
        .put_admitted("/v1/snapshot", BodyBound::Snapshot, admits_restore, |context, request| {
            Box::pin(restore(context, request))
        })
        .get("/v1/operator/raft/digest", |context, request| Box::pin(digest(context, request)))
}

/// `GET /v1/snapshot`
async fn save(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    // It has every token and every key in it.
    request.rights.require(Permission::snapshot())?;
    let state = context.reader.state(request.query.read_options()?.consistency).await?;
    let index = state.index();
    let pieces = ReceiverStream::new(context.archive.save(state));
    let mut answer = Response::new(streamed(pieces.map(|piece| piece.map_err(Into::into))));
    let standing = context.reader.standing();
    let contact = standing.last_contact.as_millis().to_string();
    let known = if standing.leader.is_some() { "true" } else { "false" };
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    for (name, value) in [
        ("x-consul-index", index.0.to_string()),
        ("x-consul-knownleader", known.to_owned()),
        ("x-consul-lastcontact", contact),
    ] {
        let value = HeaderValue::try_from(value).map_err(|_| ApiError::bad_request("a header"))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(answer)
}

/// Half a gigabyte is not read of just anyone.
fn admits_restore(rights: &Rights) -> Result<(), ApiError> {
    Ok(rights.require(Permission::snapshot())?)
}

/// `PUT /v1/snapshot`; with `?foreign` also one of another cluster, of which the content comes
/// here and the identity does not.
async fn restore(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    // Read whole first: what is damaged never comes near the log.
    let read = context.archive.inspect(request.body.clone()).await;
    let read =
        read.map_err(|ending| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, ending.message))?;
    if let Err(reason) = read {
        return Err(ApiError::bad_request(format!("the snapshot is not restored: {reason}")));
    }
    let body = match request.query.has("foreign") {
        true => take_over(context, request).await?,
        false => request.body.clone(),
    };
    let id = entropy::uuid();
    let done = send(context, request, &id, &body).await;
    if done.is_err() {
        let forget = Command::Restore(RestoreCommand::Abandon { id });
        // When this fails too, the next restore takes the place of what came.
        let _ = context.proposer.write(&request.caller, forget).await;
    }
    done?;
    Ok(Response::new(empty()))
}

/// Makes the snapshot of another cluster one of this cluster.
async fn take_over(context: &Context, request: &ApiRequest) -> Result<Bytes, ApiError> {
    let ours = context.reader.state(Consistency::Default).await?;
    let taken = context.archive.take_over(request.body.clone(), ours).await;
    let taken =
        taken.map_err(|ending| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, ending.message))?;
    taken.map_err(|reason| ApiError::bad_request(format!("the snapshot is not restored: {reason}")))
}

async fn send(
    context: &Context,
    request: &ApiRequest,
    id: &str,
    snapshot: &Bytes,
) -> Result<(), ApiError> {
    let write = async |step| {
        context.proposer.write(&request.caller, Command::Restore(step)).await.map(drop)
    };
    let id = || id.to_owned();
    write(RestoreCommand::Begin { id: id(), bytes: snapshot.len() as u64 }).await?;
    let mut offset = 0;
    while offset < snapshot.len() {
        let end = (offset + limits::SNAPSHOT_PIECE_BYTES).min(snapshot.len());
        let bytes = snapshot.slice(offset..end);
        write(RestoreCommand::Piece { id: id(), offset: offset as u64, bytes }).await?;
        offset = end;
    }
    write(RestoreCommand::Finish { id: id() }).await?;
    Ok(())
}

/// `GET /v1/operator/raft/digest`: the same on servers that have applied the same entries.
async fn digest(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::read(Resource::Operator, ""))?;
    let state = context.reader.state(request.query.read_options()?.consistency).await?;
    let index = state.index();
    let digest = context.archive.digest(state).await;
    let digest =
        digest.map_err(|ending| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, ending.message))?;
    Ok(page::json_response(page::json(&json!({ "Index": index.0, "Digest": digest }))?))
}
