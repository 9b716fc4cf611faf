//! `/v1/agent/health/service/…`: how local instances stand, told by the status code as well.
//!
//! **Source**: Consul: api-docs/agent/service#get-local-service-health.

use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use weft_core::catalog::{CheckStatus, HealthCheck, Service, aggregate_status};
use weft_runtime::http::Body;

use super::answer::{self, ApiError};
use super::{Api, Call, check, service};
use crate::local::LocalServices;

impl Api {
    pub(super) fn health_by_id(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let id = call.params.get("id");
        let local = self.parts.local.current();
        let Some(service) = local.services.get(id) else {
            return Err(ApiError::NotFound(format!("ServiceId {id} not found")));
        };
        let (status, shown) = self.health_of(service, &local);
        Ok(answered(call, status, shown))
    }

    pub(super) fn health_by_name(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let name = call.params.get("name");
        let local = self.parts.local.current();
        let named = local.services.values().filter(|service| service.name.as_str() == name);
        let (statuses, shown): (Vec<CheckStatus>, Vec<Value>) =
            named.map(|service| self.health_of(service, &local)).unzip();
        if shown.is_empty() {
            return Err(ApiError::NotFound(format!("ServiceName {name} Not Found")));
        }
        Ok(answered(call, aggregate_status(statuses.into_iter()), Value::Array(shown)))
    }

    fn health_of(&self, of: &Service, local: &LocalServices) -> (CheckStatus, Value) {
        // A check of the node speaks for each service on it.
        let concerns = |check: &&HealthCheck| {
            check.service_id.as_ref().is_none_or(|service| *service == of.id)
        };
        let checks: Vec<&HealthCheck> = local.checks.values().filter(concerns).collect();
        let status = aggregate_status(checks.iter().map(|check| check.status));
        let checks: Vec<Value> = checks.into_iter().map(check::shown).collect();
        let datacenter = &self.parts.servers.membership().datacenter;
        let shown = json!({
            "AggregatedStatus": status.as_str(),
            "Service": service::shown(of, datacenter),
            "Checks": checks,
        });
        (status, shown)
    }
}

fn answered(call: &Call, status: CheckStatus, shown: Value) -> Response<Body> {
    let wants_text = call.query.get("format") == Some("text");
    let mut response = match wants_text {
        true => answer::text(status.as_str().to_owned(), HeaderValue::from_static("text/plain")),
        false => answer::json(&shown, call.query.has("pretty")),
    };
    *response.status_mut() = match status {
        CheckStatus::Passing => StatusCode::OK,
        CheckStatus::Warning => StatusCode::TOO_MANY_REQUESTS,
        CheckStatus::Critical => StatusCode::SERVICE_UNAVAILABLE,
    };
    response
}
