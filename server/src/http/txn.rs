//! `/v1/txn`: several operations that all happen, or none.
//!
//! **Source**: Consul: api-docs/txn.

use http::{Response, StatusCode};
use weft_core::kv::KvCommand;
use weft_core::state::{Answer, Command, TxnOp};
use weft_proto::json::txn::{TxnAnswer, decode};
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, kv, page, register};
use crate::acl::check_txn;

pub(super) fn routes(table: Routes) -> Routes {
    table.put("/v1/txn", |context, request| Box::pin(txn(context, request)))
}

/// `PUT /v1/txn`
async fn txn(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let ops = decode(&request.body, &register::own(context)?)?;
    let most = context.limits.txn_ops_max;
    if ops.len() > most {
        let text = format!("Transaction contains too many operations ({} > {most})", ops.len());
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    for op in &ops {
        if let TxnOp::KvWrite(command) = op
            && let KvCommand::Set { key, value, .. } = command
        {
            kv::check_key(key.as_str())?;
            kv::check_value(context, value.len())?;
        }
    }
    // Whatever only looks costs no write, and is as fresh as is asked for.
    let outcome = if ops.iter().all(TxnOp::only_reads) {
        let options = request.query.read_options()?;
        let state = context.reader.state(options.consistency).await?;
        check_txn(&request.rights, &state, &ops)?;
        state.look(ops)
    } else {
        match context.proposer.ask(&request.caller, Command::Txn(ops)).await?.1 {
            Answer::Txn(results) => Ok(results),
            Answer::TxnFailed(errors) => Err(errors),
            Answer::Refused(refusal) => return Err(ApiError::bad_request(refusal.to_string())),
            Answer::CasMismatch | Answer::Done { .. } => Ok(Vec::new()),
        }
    };
    let mut response = page::json_response(page::json(&TxnAnswer::new(&outcome))?);
    if outcome.is_err() {
        *response.status_mut() = StatusCode::CONFLICT;
    }
    Ok(response)
}
