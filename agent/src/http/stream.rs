//! `/v1/agent/monitor` and `/v1/agent/metrics/stream`: answers that go on until the caller leaves
//! or the agent stops.
//!
//! **Source**: Consul: api-docs/agent#stream-logs, #stream-metrics.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderValue, Response};
use tokio::sync::Semaphore;
use tracing::Level;
use weft_runtime::http::{Body, streamed};
use weft_runtime::telemetry::log::LogFormat;
use weft_runtime::telemetry::tap::Tap;

use super::answer::{self, ApiError};
use super::{Api, Call};

/// How often metrics are sent (Consul: 10 s).
const METRICS_INTERVAL: Duration = Duration::from_secs(10);
/// Streams of metrics at once.
const METRICS_STREAMS_MAX: usize = 8;

/// The places for streams of metrics.
#[derive(Debug, Clone)]
pub(super) struct MetricsPlaces(Arc<Semaphore>);

impl Default for MetricsPlaces {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(METRICS_STREAMS_MAX)))
    }
}

impl Api {
    /// Streams the log's lines.
    pub(super) fn monitor(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let level = match call.query.get("loglevel").unwrap_or_default() {
            "" => Level::INFO,
            word => word.parse().map_err(|_| {
                ApiError::Query(format!(
                    "Unknown log level: {word}; use error, warn, info, debug or trace"
                ))
            })?,
        };
        let format = match call.query.has("logjson") {
            true => LogFormat::Json,
            false => LogFormat::Text,
        };
        let tap = Tap::open(level, format).map_err(|full| ApiError::Busy(full.to_string()))?;
        let lines =
            stream::unfold(tap, |mut tap: Tap| async move { Some((tap.next().await?, tap)) });
        Ok(self.endless(lines, "text/plain; charset=utf-8"))
    }

    /// Streams the metrics, one JSON object a line.
    pub(super) fn metrics_stream(self: &Arc<Self>) -> Result<Response<Body>, ApiError> {
        let Ok(place) = self.metrics_places.0.clone().try_acquire_owned() else {
            let reason = format!("{METRICS_STREAMS_MAX} callers follow the metrics already");
            return Err(ApiError::Busy(reason));
        };
        let beat = tokio::time::interval(METRICS_INTERVAL);
        let start = (self.clone(), beat, place);
        let lines = stream::unfold(start, |(api, mut beat, place)| async move {
            beat.tick().await;
            let line = format!("{}\n", api.metrics_json());
            Some((Bytes::from(line), (api, beat, place)))
        });
        Ok(self.endless(lines, "application/json"))
    }

    pub(super) fn endless(
        &self,
        lines: impl Stream<Item = Bytes> + Send + 'static,
        kind: &'static str,
    ) -> Response<Body> {
        let stopped = self.parts.tasks.token().cancelled_owned();
        let mut response = Response::new(streamed(lines.take_until(stopped).map(Ok)));
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
        answer::mark(headers);
        response
    }
}
