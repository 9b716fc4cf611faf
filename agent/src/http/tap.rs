//! `/v1/agent/tap`: requests and connections of a service's proxies on this host while they happen,
//! one JSON object a line.

use bytes::Bytes;
use futures::stream;
use http::Response;
use serde_json::json;
use weft_core::name::ServiceName;
use weft_core::traffic::tap::{TAP_RATE_MAX, TapFilter};
use weft_runtime::http::Body;

use super::answer::ApiError;
use super::{Api, Call};
use crate::proxycfg::{TapStream, TapWish, Told};

/// Events a second when nothing else is said: as many as a person can see go by.
const RATE_DEFAULT: u32 = 100;
/// What can be filtered by.
const FIELDS: [&str; 6] = ["from", "to", "method", "path", "status", "header"];

impl Api {
    /// Streams what proxies see until the caller leaves or has as many as it wanted.
    pub(super) fn tap(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let wish = wish(call)?;
        let max = number(call, "max", u64::MAX)?;
        let stream = self.parts.proxies.taps().open(wish);
        let stream = stream.map_err(|full| ApiError::Busy(full.to_string()))?;
        let lines =
            stream::unfold((stream, max), |(mut stream, left): (TapStream, u64)| async move {
                if left == 0 {
                    return None;
                }
                let (line, left) = match stream.next().await {
                    Told::Event(event) => (json!(event), left - 1),
                    Told::Missed(missed) => (json!({ "Kind": "missed", "Missed": missed }), left),
                };
                Some((Bytes::from(format!("{line}\n")), (stream, left)))
            });
        Ok(self.endless(lines, "application/x-ndjson"))
    }
}

fn wish(call: &Call) -> Result<TapWish, ApiError> {
    let service = call.query.get("service").unwrap_or_default();
    let service = ServiceName::parse(service)
        .map_err(|error| ApiError::Query(format!("service: {error}")))?;
    let mut filter = TapFilter::default();
    for field in FIELDS {
        let text = call.query.get(field).unwrap_or_default();
        filter.add(field, text).map_err(|error| ApiError::Query(error.to_string()))?;
    }
    let rate = number(call, "rate", RATE_DEFAULT.into())?;
    match u32::try_from(rate) {
        Ok(rate @ 1..=TAP_RATE_MAX) => Ok(TapWish { service, filter, rate }),
        Ok(_) | Err(_) => {
            Err(ApiError::Query(format!("rate: {rate} is not from 1 to {TAP_RATE_MAX} a second")))
        }
    }
}

fn number(call: &Call, field: &str, default: u64) -> Result<u64, ApiError> {
    match call.query.get(field).unwrap_or_default() {
        "" => Ok(default),
        text => {
            text.parse().map_err(|_| ApiError::Query(format!("{field}: {text:?} is no number")))
        }
    }
}
