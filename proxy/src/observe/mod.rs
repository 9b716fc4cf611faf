//! What the proxy tells about itself: counts for Prometheus, and access logs.

mod access_log;
mod decisions;
mod metrics;
mod plaintext;
mod spans;
mod text;

pub(crate) use access_log::{AccessLog, AccessRecord};
pub(crate) use decisions::{Asking, Decisions, Verdict};
pub(crate) use metrics::{Metrics, MuxCounts, Open, Series, Side, WorkerMetrics};
pub(crate) use plaintext::PlaintextReport;
pub(crate) use spans::{SpanKind, Spans, Traced};
