//! The alias check: the worst that is known of an instance, or of a node, on this host or another.
//!
//! **Source**: Consul: docs/services/usage/checks#alias-checks. Differs: while no server answers,
//! what was last known of another node stands.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use weft_core::catalog::{CheckStatus, HealthCheck};
use weft_core::name::NodeName;
use weft_runtime::backoff::Backoff;
use weft_runtime::entropy;

use super::probe::Finding;
use crate::local::{AliasProbe, LocalServices};

/// How long a server holds a question whose answer has not changed.
pub(super) const WAIT_S: u64 = 60;
/// How long an answer is waited for: the wait, its spread of a sixteenth, and the way.
const ANSWER_LIMIT: Duration = Duration::from_secs(WAIT_S + WAIT_S / 16 + 10);
/// The pauses after failures.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Asks a server for a path of the API; the answer is its index and its body.
pub(crate) type Ask =
    Arc<dyn Fn(String) -> BoxFuture<'static, Result<(u64, Bytes), String>> + Send + Sync>;

/// Says what is known of something on this host.
pub(super) fn of_host(target: &AliasProbe, local: &LocalServices) -> Finding {
    let is_there = target.service.as_ref().is_none_or(|id| local.services.contains_key(id));
    judge(target, local.checks.values(), is_there)
}

/// Follows something on another node for as long as it is awaited; each finding goes to `tell`.
pub(super) async fn follow<T: Future<Output = ()>>(
    (node, target): (NodeName, AliasProbe),
    ask: Ask,
    tell: impl Fn(Finding) -> T,
) {
    let mut pauses = Backoff::new(PAUSE_MIN, PAUSE_MAX, entropy::rng());
    let (mut index, mut is_known) = (0, false);
    loop {
        match look(&node, &target, &ask, index).await {
            Ok((newest, finding)) => {
                pauses.reset();
                // An index that went down is of another state; all is new then.
                index = if newest < index { 0 } else { newest };
                is_known = true;
                tell(finding).await;
            }
            Err(reason) => {
                if !is_known {
                    let output = format!("Failure checking aliased node or service: {reason}");
                    tell(Finding::critical(output)).await;
                }
                tokio::time::sleep(pauses.next()).await;
            }
        }
    }
}

async fn look(
    node: &NodeName,
    target: &AliasProbe,
    ask: &Ask,
    index: u64,
) -> Result<(u64, Finding), String> {
    let path = format!("/v1/health/node/{node}?index={index}&wait={WAIT_S}s");
    let (index, body) = in_time(ask(path)).await?;
    let checks: Vec<HealthCheck> =
        serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let is_of_target = |check: &HealthCheck| check.service_id == target.service;
    let is_there = target.service.is_none() || checks.iter().any(is_of_target) || {
        let path = format!("/v1/catalog/node-services/{node}");
        let (_, body) = in_time(ask(path)).await?;
        let answer: serde_json::Value =
            serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let services = answer["Services"].as_array().map(Vec::as_slice).unwrap_or_default();
        let id = target.service.as_ref().map(|id| id.as_str());
        services.iter().any(|service| service["ID"].as_str() == id)
    };
    Ok((index, judge(target, checks.iter(), is_there)))
}

/// Waits for an answer as long as a question that is held may take.
pub(super) async fn in_time<T>(call: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_LIMIT, call).await {
        Ok(answer) => answer,
        Err(_) => Err("no server answered in time".to_owned()),
    }
}

/// The worst of the target's checks and of those of its node, in Consul's words.
fn judge<'a>(
    target: &AliasProbe,
    checks: impl Iterator<Item = &'a HealthCheck>,
    is_there: bool,
) -> Finding {
    if let Some(service) = target.service.as_ref().filter(|_| !is_there) {
        return Finding::critical(format!("Service {service} could not be found"));
    }
    let concerns =
        |check: &&HealthCheck| check.service_id.is_none() || check.service_id == target.service;
    match checks.filter(concerns).max_by_key(|check| check.status) {
        None => Finding::passing("No checks found."),
        Some(worst) if worst.status == CheckStatus::Passing => {
            Finding::passing("All checks passing.")
        }
        Some(worst) => Finding {
            status: worst.status,
            output: format!("Aliased check {:?} failing: {}", worst.name, worst.output),
        },
    }
}
