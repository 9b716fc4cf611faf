//! Asks and tells others about a rollout, by its webhooks.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::json;
use tracing::warn;
use weft_core::config_entry::{Rollout, RolloutStatus, RolloutWebhook, WebhookTime};
use weft_runtime::http::HttpClient;
use weft_runtime::tls::{OutsideTrust, client_config_outside_with};

/// Bytes of an answer that are read; its status is what counts.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Asks all who are to be asked at this time, one after the other.
///
/// # Errors
/// In words, the first that did not answer with a status of 200 to 299.
pub(super) async fn ask(rollout: &Rollout, when: WebhookTime) -> Result<(), String> {
    for hook in rollout.webhooks.iter().filter(|hook| hook.when == when) {
        call(rollout, &rollout.status, hook).await?;
    }
    Ok(())
}

/// Tells all who are to be told at this time; what they answer changes nothing.
pub(super) async fn tell(rollout: &Rollout, when: WebhookTime) {
    for hook in rollout.webhooks.iter().filter(|hook| hook.when == when) {
        if let Err(reason) = call(rollout, &rollout.status, hook).await {
            warn!(service = %rollout.name, reason, "a webhook of a rollout was not told");
        }
    }
}

async fn call(
    rollout: &Rollout,
    status: &RolloutStatus,
    hook: &RolloutWebhook,
) -> Result<(), String> {
    let fail = |reason: String| format!("the webhook {:?}: {reason}", hook.name);
    let client = client(&hook.url, hook.timeout()).map_err(fail)?;
    let body = json!({
        "Service": rollout.name,
        "Stable": rollout.stable,
        "Canary": rollout.canary,
        "When": hook.when,
        "Phase": status.phase,
        "Step": status.step,
        "Weight": rollout.share().weight,
        "Reason": status.reason,
        "Meta": rollout.meta,
    });
    let json = HeaderValue::from_static("application/json");
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json)]);
    let answer = client.request(Method::POST, &hook.url, headers, body.to_string().into());
    let answer = answer.await.map_err(|error| fail(error.to_string()))?;
    match answer.status.is_success() {
        true => Ok(()),
        false => Err(fail(format!("it answered {}", answer.status.as_u16()))),
    }
}

fn client(url: &str, limit: Duration) -> Result<HttpClient, String> {
    let client = HttpClient::new(limit, ANSWER_BYTES_MAX).cutting_bodies();
    if !url.starts_with("https://") {
        return Ok(client);
    }
    let tls = client_config_outside_with(&OutsideTrust::System, None);
    Ok(client.with_tls(Arc::new(tls.map_err(|error| error.to_string())?)))
}
