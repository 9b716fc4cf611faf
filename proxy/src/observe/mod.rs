//! What the proxy tells about itself: counts for Prometheus, access logs, and what collectors get.

mod captured;
mod decisions;
mod export;
mod flows;
mod gate;
mod logs;
mod metrics;
mod observed;
mod plaintext;
mod quic;
mod spans;
mod taps;
mod text;
mod udp;

pub(crate) use captured::CapturedCounts;
pub(crate) use decisions::{Asking, Decisions, Verdict};
pub use flows::Dialect;
pub(crate) use flows::{Flow, FlowKey, Flows, Party, RateResult, RetryResult};
pub(crate) use logs::{AccessLog, Carried, From, Lines, LogPlan, Logged, Watchers};
pub(crate) use metrics::{Metrics, MuxCounts, Open, Series, Side, WorkerMetrics, WorkloadMetrics};
pub(crate) use observed::Observed;
pub(crate) use plaintext::PlaintextReport;
pub(crate) use quic::{QuicCounts, Slot};
pub(crate) use spans::{SpanKind, Spans, Traced};
pub(crate) use taps::{Seen, TapSet, Taps};
pub(crate) use udp::{Lost, OpenSession, UdpCounts};
