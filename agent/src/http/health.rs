//! `/v1/agent/health/service/…`: how local instances stand, told by the status code as well.
//!
//! **Source**: Consul: api-docs/agent/service#get-local-service-health.

use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use weft_core::catalog::{CheckStatus, HealthCheck, Service, aggregate_status};
use weft_runtime::http::Body;

use super::answer::{self, ApiError};
use super::{Api, Call, check, service};
use crate::local::LocalServices;

/// Tells in a header how the service stands.
const REASON: HeaderName = HeaderName::from_static("x-consul-reason");

impl Api {
    pub(super) fn health_by_id(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let id = call.params.get("id");
        let local = self.parts.local.current();
        let Some(service) = local.services.get(id) else {
            return Err(ApiError::NotFound(format!("ServiceId {id} not found")));
        };
        let (standing, shown) = self.health_of(service, &local);
        Ok(answered(call, standing, shown))
    }

    pub(super) fn health_by_name(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let name = call.params.get("name");
        let local = self.parts.local.current();
        let named = local.services.values().filter(|service| service.name.as_str() == name);
        let (standings, shown): (Vec<Standing>, Vec<Value>) =
            named.map(|service| self.health_of(service, &local)).unzip();
        if shown.is_empty() {
            return Err(ApiError::NotFound(format!("ServiceName {name} Not Found")));
        }
        let worst = standings.into_iter().max().unwrap_or(Standing::Is(CheckStatus::Passing));
        Ok(answered(call, worst, Value::Array(shown)))
    }

    fn health_of(&self, of: &Service, local: &LocalServices) -> (Standing, Value) {
        // A check of the node speaks for each service on it.
        let concerns = |check: &&HealthCheck| {
            check.service_id.as_ref().is_none_or(|service| *service == of.id)
        };
        let checks: Vec<&HealthCheck> = local.checks.values().filter(concerns).collect();
        let is_maintained = checks.iter().any(|check| check.kind == "maintenance");
        let standing = match is_maintained {
            true => Standing::Maintenance,
            false => Standing::Is(aggregate_status(checks.iter().map(|check| check.status))),
        };
        let plans = self.parts.local.plans().borrow().clone();
        let checks: Vec<Value> =
            checks.into_iter().map(|check| check::shown(check, &plans)).collect();
        let datacenter = &self.parts.servers.membership().datacenter;
        let shown = json!({
            "AggregatedStatus": standing.as_str(),
            "Service": service::shown(of, datacenter),
            "Checks": checks,
        });
        (standing, shown)
    }
}

/// How a service stands, in the order of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// As its checks say.
    Is(CheckStatus),
    /// An operator has taken it out of service.
    Maintenance,
}

impl Standing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Is(status) => status.as_str(),
            Self::Maintenance => "maintenance",
        }
    }
}

fn answered(call: &Call, standing: Standing, shown: Value) -> Response<Body> {
    let word = HeaderValue::from_static(standing.as_str());
    let wants_text = call.query.get("format") == Some("text");
    let mut response = match wants_text {
        true => answer::text(standing.as_str().to_owned(), HeaderValue::from_static("text/plain")),
        false => answer::json(&shown, call.query.has("pretty")),
    };
    // The same word for clients that read no body (Consul: the header of that name).
    response.headers_mut().insert(REASON, word);
    *response.status_mut() = match standing {
        Standing::Is(CheckStatus::Passing) => StatusCode::OK,
        Standing::Is(CheckStatus::Warning) => StatusCode::TOO_MANY_REQUESTS,
        Standing::Is(CheckStatus::Critical) | Standing::Maintenance => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    response
}
