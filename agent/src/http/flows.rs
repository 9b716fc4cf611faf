//! `/v1/agent/flows`: what goes through the proxies of this host a second, one JSON object for each
//! interval.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::Response;
use weft_core::acl::Resource;
use weft_core::name::ServiceName;
use weft_core::traffic::flow::FlowMeter;
use weft_proto::json::flows::FlowsBody;
use weft_runtime::clock;
use weft_runtime::http::Body;

use super::answer::ApiError;
use super::{Api, Call};
use crate::acl::Question;
use crate::config::TokenText;
use crate::proxycfg::{FlowFollower, FlowLook};

/// How often proxies tell what they have counted.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// **Units**: seconds.
const INTERVAL_DEFAULT: u32 = 2;
const INTERVAL_MAX: u32 = 60;

/// One caller's place.
struct Followed {
    api: Arc<Api>,
    follower: FlowFollower,
    token: Option<TokenText>,
    /// Only the proxies of this service.
    service: Option<ServiceName>,
    /// **Units**: seconds.
    interval: u32,
    has_told: bool,
}

impl Api {
    /// Streams what goes on until the caller leaves.
    pub(super) fn flows(self: &Arc<Self>, call: Call) -> Result<Response<Body>, ApiError> {
        let service = match call.query.get("service").unwrap_or_default() {
            "" => None,
            name => Some(
                ServiceName::parse(name)
                    .map_err(|error| ApiError::Query(format!("service: {error}")))?,
            ),
        };
        let interval = interval(call.query.get("interval").unwrap_or_default())?;
        let follower = self.parts.proxies.flows().follow();
        let follower = follower.map_err(|full| ApiError::Busy(full.to_string()))?;
        let (api, token) = (self.clone(), call.token);
        let start = Followed { api, follower, token, service, interval, has_told: false };
        let lines = stream::unfold(start, |mut followed| async move {
            Some((followed.next().await?, followed))
        });
        Ok(self.endless(lines, "application/x-ndjson"))
    }
}

fn interval(text: &str) -> Result<u32, ApiError> {
    match text.trim_end_matches('s') {
        "" => Ok(INTERVAL_DEFAULT),
        number => match number.parse() {
            Ok(seconds @ 1..=INTERVAL_MAX) => Ok(seconds),
            Ok(_) | Err(_) => Err(ApiError::Query(format!(
                "interval: {text:?} is not from 1s to {INTERVAL_MAX}s in whole seconds"
            ))),
        },
    }
}

impl Followed {
    /// Waits for the end of the interval, and tells what went on in it; `None` where the rights cannot
    /// be asked for any more.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            for _ in 0..self.interval {
                tokio::time::sleep(TOLD_EVERY).await;
                self.follower.note();
            }
            let looks = self.follower.look();
            // The first look may find that nobody has told enough yet.
            if looks.is_empty() && !std::mem::replace(&mut self.has_told, true) {
                continue;
            }
            self.has_told = true;
            let proxies = &self.api.parts.proxies;
            let shown = looks.into_iter().filter_map(|look| {
                let service = proxies.service_of(&look.proxy)?;
                let is_meant = self.service.as_ref().is_none_or(|wanted| *wanted == service);
                is_meant.then(|| (Question::read(Resource::Service, service.as_str()), look))
            });
            let shown = self.api.seen(self.token.as_ref(), shown.collect()).await;
            let (looks, _) = shown.ok()?;
            return Some(line(&looks, self.interval));
        }
    }
}

fn line(looks: &[FlowLook], interval: u32) -> Bytes {
    let mut meter = FlowMeter::default();
    for look in looks {
        meter.add(&look.before, &look.now, look.seconds);
    }
    let time = clock::wall().rfc3339();
    let body = FlowsBody { time, interval_seconds: interval, flows: meter.rates() };
    Bytes::from(format!("{}\n", serde_json::json!(body)))
}
