//! `/v1/txn`: several operations that all happen, or none.
//!
//! **Source**: Consul: api-docs/txn.

use http::{Method, Response, StatusCode};
use weft_core::kv::KvCommand;
use weft_core::state::{Answer, Command, TxnError, TxnOp, TxnResult};
use weft_proto::json::txn::{TxnAnswer, decode};
use weft_runtime::http::Body;

use super::error::{ApiError, too_large};
use super::request::ApiRequest;
use super::routes::{BodyBound, Routes};
use super::{Context, kv, page, register};
use crate::acl::denied_ops;

pub(super) fn routes(table: Routes) -> Routes {
    table.with_body(Method::PUT, "/v1/txn", BodyBound::Transaction, |context, request| {
        Box::pin(txn(context, request))
    })
}

/// `PUT /v1/txn`
async fn txn(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let body_bytes_max = context.limits.txn_body_bytes_max();
    let ops = decode(&request.body, body_bytes_max, &register::own(context)?)?;
    let most = context.limits.txn_ops_max;
    if ops.len() > most {
        let text = format!("Transaction contains too many operations ({} > {most})", ops.len());
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    check_length(context, &ops)?;
    for op in &ops {
        if let TxnOp::KvWrite(command) = op
            && let KvCommand::Set { key, value, .. } = command
        {
            kv::check_key(key.as_str())?;
            kv::check_value(context, value.len())?;
        }
    }
    let outcome = carry_out(context, request, ops).await?;
    let mut response = page::json_response(page::json(&TxnAnswer::new(&outcome))?);
    if outcome.is_err() {
        *response.status_mut() = StatusCode::CONFLICT;
    }
    Ok(response)
}

/// Carries a transaction out, unless an operation is denied or fails.
async fn carry_out(
    context: &Context,
    request: &ApiRequest,
    ops: Vec<TxnOp>,
) -> Result<Result<Vec<TxnResult>, Vec<TxnError>>, ApiError> {
    // Whatever only looks costs no write, and is as fresh as is asked for.
    let only_reads = ops.iter().all(TxnOp::only_reads);
    let state = match only_reads {
        true => context.reader.state(request.query.read_options()?.consistency).await?,
        false => context.reader.newest(),
    };
    let denied = denied_ops(&request.rights, &state, &ops);
    if !denied.is_empty() {
        return Ok(Err(denied));
    }
    if only_reads {
        return Ok(state.look(ops));
    }
    drop(state);
    match context.proposer.ask(&request.caller, Command::Txn(ops)).await?.1 {
        Answer::Txn(results) => Ok(Ok(results)),
        Answer::TxnFailed(errors) => Ok(Err(errors)),
        Answer::Refused(refusal) => Err(ApiError::bad_request(refusal.to_string())),
        Answer::CasMismatch | Answer::Done { .. } => Ok(Ok(Vec::new())),
    }
}

/// Refuses a transaction whose keys and values are too long together. Their base64 does not
/// count: a value that fits alone fits here.
fn check_length(context: &Context, ops: &[TxnOp]) -> Result<(), ApiError> {
    let length = |op: &TxnOp| match op {
        TxnOp::KvWrite(KvCommand::Set { key, value, .. }) => key.as_str().len() + value.len(),
        TxnOp::Check(..)
        | TxnOp::KvLook(_)
        | TxnOp::KvWrite(_)
        | TxnOp::Node(..)
        | TxnOp::Service(..)
        | TxnOp::SessionDelete(_) => 0,
    };
    let (length, limit) = (ops.iter().map(length).sum::<usize>(), context.limits.txn_bytes_max);
    if length <= limit {
        return Ok(());
    }
    let text = too_large(&format!("({length} bytes)"), limit);
    Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text))
}
