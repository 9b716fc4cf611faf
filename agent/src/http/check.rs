//! `/v1/agent/checks`, `/v1/agent/check/…`.
//!
//! **Source**: Consul: api-docs/agent/check.

use std::collections::BTreeMap;

use http::Response;
use serde_json::{Value, json};
use weft_core::catalog::{CheckDefinition, CheckStatus, HealthCheck};
use weft_core::filter::CHECK;
use weft_proto::json::agent_check::CheckUpdate;
use weft_runtime::http::Body;

use super::answer::{self, ApiError};
use super::{Api, Call, done};
use crate::local::Plans;

pub(super) const PASS: CheckStatus = CheckStatus::Passing;
pub(super) const WARN: CheckStatus = CheckStatus::Warning;
pub(super) const FAIL: CheckStatus = CheckStatus::Critical;

impl Api {
    pub(super) async fn check_register(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let token = call.token.clone();
        let definition: CheckDefinition = call.decode().await?;
        self.require(token.as_ref(), vec![self.of_new_check(&definition)]).await?;
        self.parts.local.register_check(definition).await?;
        Ok(done())
    }

    pub(super) async fn check_deregister(&self, call: Call) -> Result<Response<Body>, ApiError> {
        self.parts.local.deregister_check(call.params.get("id").to_owned()).await?;
        Ok(done())
    }

    pub(super) async fn check_report(
        &self,
        call: Call,
        status: CheckStatus,
    ) -> Result<Response<Body>, ApiError> {
        let note = call.query.get("note").unwrap_or_default().to_owned();
        self.parts.checks.report(call.params.get("id").to_owned(), status, note).await?;
        Ok(done())
    }

    pub(super) async fn check_update(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let id = call.params.get("id").to_owned();
        let CheckUpdate { status, output } = call.decode().await?;
        self.parts.checks.report(id, status, output).await?;
        Ok(done())
    }

    pub(super) async fn checks(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let filter = call.query.filter(&CHECK)?;
        let local = self.parts.local.current();
        let plans = self.parts.local.plans().borrow().clone();
        let all = local.checks.values().map(|it| (self.to_see_check(it), it)).collect();
        let (seen, is_filtered) = self.seen(call.token.as_ref(), all).await?;
        let checks: BTreeMap<String, Value> = seen
            .into_iter()
            .map(|check| (check.id.to_string(), shown(check, &plans)))
            .filter(|(_, check)| filter.as_ref().is_none_or(|filter| filter.matches(check)))
            .collect();
        Ok(answer::list(&checks, call.query.has("pretty"), is_filtered))
    }
}

/// A check as the agent's pages show it.
pub(super) fn shown(check: &HealthCheck, plans: &Plans) -> Value {
    let exposed_port = plans.get(&check.id).and_then(|plan| plan.exposed_port);
    let mut shown = serde_json::to_value(check).unwrap_or_default();
    if let Value::Object(fields) = &mut shown {
        fields.insert("ExposedPort".to_owned(), json!(exposed_port.unwrap_or(0)));
        fields.insert("Definition".to_owned(), json!({}));
    }
    shown
}
