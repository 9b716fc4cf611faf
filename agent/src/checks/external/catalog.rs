//! What is written to the catalog of external checks: one transaction each, which holds only if
//! the check still is as it was read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::StatusCode;
use serde_json::{Value, json};
use weft_core::catalog::HealthCheck;
use weft_core::name::{CheckId, NodeName};

use crate::checks::probe::Finding;

/// How long a write may take: a commit takes milliseconds, an election some seconds.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends a transaction to a server; the answer is its status and body.
pub(crate) type Tell =
    Arc<dyn Fn(Bytes) -> BoxFuture<'static, Result<(StatusCode, Bytes), String>> + Send + Sync>;

/// What a write came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    Done,
    /// No server took it, for this reason.
    Failed(String),
    /// The catalog is no longer as it was read.
    Refused,
}

/// Returns the check that says whether a host answers, which its host does not have yet: index 0
/// holds only as long as there is none.
pub(super) fn node_check(node: &NodeName, id: &CheckId, verdict: &Finding) -> HealthCheck {
    let name = "External Node Status";
    HealthCheck {
        output: verdict.output.clone(),
        ..HealthCheck::of_node(node.clone(), id.clone(), name, verdict.status)
    }
}

/// Writes a check under the index that it has; `is_over` takes its service away with it.
pub(super) async fn write(check: &HealthCheck, is_over: bool, tell: &Tell) -> Written {
    let mut operations = vec![json!({ "Check": { "Verb": "cas", "Check": check } })];
    if let Some(service) = check.service_id.as_ref().filter(|_| is_over) {
        let service = json!({ "ID": service });
        operations.push(
            json!({ "Service": { "Verb": "delete", "Node": check.node, "Service": service } }),
        );
    }
    let body = Bytes::from(Value::Array(operations).to_string());
    match tokio::time::timeout(LIMIT, tell(body)).await {
        Ok(Ok((StatusCode::OK, _))) => Written::Done,
        Ok(Ok((StatusCode::CONFLICT, _))) => Written::Refused,
        Ok(Ok((status, body))) => {
            let text = String::from_utf8_lossy(&body);
            Written::Failed(format!("a server answers {status}: {}", text.trim()))
        }
        Ok(Err(reason)) => Written::Failed(reason),
        Err(_) => Written::Failed(format!("no answer within {} s", LIMIT.as_secs())),
    }
}
