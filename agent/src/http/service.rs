//! `/v1/agent/services`, `/v1/agent/service/…`.
//!
//! **Source**: Consul: api-docs/agent/service.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use http::{HeaderValue, Response};
use serde_json::Value;
use weft_core::catalog::{Service, ServiceDefinition};
use weft_core::filter::SERVICE;
use weft_core::name::Datacenter;
use weft_proto::json::{self, Options, Unknown};
use weft_proto::text::Fault;
use weft_runtime::http::Body;

use super::answer::{self, ApiError};
use super::{Api, Call, done};
use crate::local::ExistingChecks;

impl Api {
    pub(super) async fn service_register(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let existing = match call.query.has("replace-existing-checks") {
            true => ExistingChecks::Replaced,
            false => ExistingChecks::Kept,
        };
        let token = call.token.clone();
        let body =
            json::parse(&call.read().await?).map_err(|fault| ApiError::Malformed(vec![fault]))?;
        refuse_unsupported(&body)?;
        let definition: ServiceDefinition =
            json::from_value(&body, &Options::new(Unknown::Ignore)).map_err(ApiError::Malformed)?;
        self.require(token.as_ref(), self.of_registration(&definition)).await?;
        self.parts.local.register(definition, existing).await?;
        Ok(done())
    }

    pub(super) async fn service_deregister(&self, call: Call) -> Result<Response<Body>, ApiError> {
        self.parts.local.deregister(call.params.get("id").to_owned()).await?;
        Ok(done())
    }

    pub(super) async fn service_maintenance(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let id = call.params.get("id").to_owned();
        let reason = wanted_maintenance(&call)?;
        self.parts.local.set_maintenance(Some(id), reason).await?;
        Ok(done())
    }

    pub(super) async fn maintenance(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let reason = wanted_maintenance(&call)?;
        self.parts.local.set_maintenance(None, reason).await?;
        Ok(done())
    }

    pub(super) async fn services(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let filter = call.query.filter(&SERVICE)?;
        let datacenter = &self.parts.servers.membership().datacenter;
        let local = self.parts.local.current();
        let all = local.services.values().map(|it| (Self::to_see_service(it), it)).collect();
        let (seen, is_filtered) = self.seen(call.token.as_ref(), all).await?;
        let services: BTreeMap<String, Value> = seen
            .into_iter()
            .map(|service| (service.id.to_string(), shown(service, datacenter)))
            .filter(|(_, service)| filter.as_ref().is_none_or(|filter| filter.matches(service)))
            .collect();
        Ok(answer::list(&services, call.query.has("pretty"), is_filtered))
    }

    /// Answers one service, or waits until it is another than the one of the hash given.
    pub(super) async fn service(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let id = call.params.get("id");
        let wait = call.query.wait()?;
        let known = call.query.get("hash").unwrap_or_default();
        let mut newest = self.parts.local.subscribe();
        if !known.is_empty() {
            let changed = newest.wait_for(|services| {
                services
                    .services
                    .get(id)
                    .is_none_or(|service| self.shown_with_hash(service).1 != known)
            });
            // After the wait the present state is the answer, changed or not.
            let _ = tokio::time::timeout(wait.max(Duration::from_millis(1)), changed).await;
        }
        let services = self.parts.local.current();
        let Some(service) = services.services.get(id) else {
            return Err(ApiError::NotFound(format!(
                "unknown service ID: {id}. Ensure that the service ID is passed, not the service \
                 name."
            )));
        };
        let (shown, hash) = self.shown_with_hash(service);
        let mut response = answer::json(&shown, call.query.has("pretty"));
        if let Ok(hash) = HeaderValue::from_str(&hash) {
            response.headers_mut().insert(answer::CONTENT_HASH, hash);
        }
        Ok(response)
    }

    fn shown_with_hash(&self, service: &Service) -> (Value, String) {
        let mut shown = shown(service, &self.parts.servers.membership().datacenter);
        let mut hasher = DefaultHasher::new();
        shown.to_string().hash(&mut hasher);
        let hash = format!("{:016x}", hasher.finish());
        if let Value::Object(fields) = &mut shown {
            fields.insert("ContentHash".to_owned(), hash.clone().into());
        }
        (shown, hash)
    }
}

/// Fields that Consul knows and that change what a registration means: passing them over, as
/// with other unknown fields, would register something else than was asked for.
const UNSUPPORTED: [&str; 1] = ["SocketPath"];

fn refuse_unsupported(body: &Value) -> Result<(), ApiError> {
    let Value::Object(fields) = body else { return Ok(()) };
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    let is_unsupported = |key: &str| {
        let folded = key.replace('_', "");
        UNSUPPORTED.iter().any(|name| name.eq_ignore_ascii_case(&folded))
    };
    let faults: Vec<Fault> = fields
        .iter()
        .filter(|(key, value)| is_unsupported(key) && !is_empty(value))
        .map(|(key, _)| Fault::new(key, "is not supported yet; remove it"))
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(ApiError::Malformed(faults)) }
}

/// Whether maintenance is asked for, with its reason; `None` ends it.
fn wanted_maintenance(call: &Call) -> Result<Option<String>, ApiError> {
    let reason = call.query.get("reason").unwrap_or_default().to_owned();
    match call.query.get("enable") {
        Some("true" | "1" | "t" | "TRUE" | "True") => Ok(Some(reason)),
        Some("false" | "0" | "f" | "FALSE" | "False") => Ok(None),
        Some(other) => Err(ApiError::Query(format!("enable: {other:?} is neither true nor false"))),
        None => Err(ApiError::Query("Missing value for enable".to_owned())),
    }
}

/// A service as the agent's pages show it: without the catalog's indexes.
pub(super) fn shown(service: &Service, datacenter: &Datacenter) -> Value {
    let mut shown = serde_json::to_value(service).unwrap_or_default();
    if let Value::Object(fields) = &mut shown {
        fields.remove("CreateIndex");
        fields.remove("ModifyIndex");
        if service.proxy.is_empty() {
            fields.remove("Proxy");
        }
        if !service.connect.native {
            fields.remove("Connect");
        }
        fields.insert("Datacenter".to_owned(), datacenter.as_str().into());
        fields.entry("TaggedAddresses").or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    shown
}
