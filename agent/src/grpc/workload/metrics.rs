//! What can be seen of the Workload API from outside.

use tonic::{Code, Status};
use weft_runtime::telemetry::metrics::{Counter, Family, Registry};

type Labels = Vec<(&'static str, &'static str)>;

/// How a call went, up to its first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The call is not one of a SPIFFE library.
    Invalid,
    /// The process matches nothing, or is gone.
    Refused,
    /// It got what it asked for.
    Served,
    /// There is nothing to give yet.
    Unavailable,
}

impl Outcome {
    pub(super) fn of(status: &Status) -> Self {
        match status.code() {
            Code::InvalidArgument => Self::Invalid,
            Code::PermissionDenied => Self::Refused,
            _ => Self::Unavailable,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Served => "served",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The counters; clones share them.
#[derive(Debug, Clone)]
pub(super) struct WorkloadMetrics {
    fetches: Family<Labels, Counter>,
    messages: Family<Labels, Counter>,
    closed: Counter,
    rejected: Counter,
}

impl WorkloadMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        Self {
            fetches: registry.register(
                "workload_api_fetches",
                "Calls of the SPIFFE Workload API and of secret discovery, by outcome",
                Family::default(),
            ),
            messages: registry.register(
                "workload_api_messages",
                "Messages sent on the socket of the SPIFFE Workload API, renewals and new roots included",
                Family::default(),
            ),
            closed: registry.register(
                "workload_api_connections_closed",
                "Connections to the SPIFFE Workload API that were closed at once",
                Counter::default(),
            ),
            rejected: registry.register(
                "workload_api_secrets_rejected",
                "Secrets that an Envoy got and did not take",
                Counter::default(),
            ),
        }
    }

    pub(super) fn fetched(&self, call: &'static str, outcome: Outcome) {
        let labels = vec![("call", call), ("outcome", outcome.as_str())];
        self.fetches.get_or_create(&labels).inc();
    }

    pub(super) fn sent(&self, call: &'static str) {
        self.messages.get_or_create(&vec![("call", call)]).inc();
    }

    pub(super) fn rejected(&self) {
        self.rejected.inc();
    }

    pub(super) fn closed(&self) {
        self.closed.inc();
    }
}
