//! How many requests the proxies of a service have under way at its instances, and which go first when that
//! is too many.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Protocol;
use super::blank::is_blank;
use super::findings::{Findings, shortened};
use crate::limits;
use crate::time::Span;

/// A limit of requests under way that follows how long answers take. Ours, after Envoy's adaptive
/// concurrency filter.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AdaptiveConcurrency {
    /// What is let through however long answers take, 0 for 4.
    #[serde(skip_serializing_if = "is_blank")]
    pub min_requests: u32,
    /// What is never exceeded, 0 for 1000.
    #[serde(skip_serializing_if = "is_blank")]
    pub max_requests: u32,
    /// How much longer than without any load answers may take before the limit falls, 0 for
    /// 25.
    ///
    /// **Units**: percent.
    #[serde(skip_serializing_if = "is_blank")]
    pub tolerance_percent: u32,
    /// How often the limit is set anew, zero for 100 ms.
    #[serde(skip_serializing_if = "is_blank")]
    pub window: Span,
}

/// Which requests go on longest while the limit is near.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RequestPriority {
    /// The header that says how important a request is.
    pub header: String,
    /// Its values, the most important first.
    pub levels: Vec<String>,
    /// What requests are that say none of them; the last when it is empty.
    #[serde(skip_serializing_if = "is_blank")]
    pub default: String,
}

/// All limits of requests under way at one instance.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LoadLimits {
    /// Requests under way, 0 for any number.
    pub max_concurrent_requests: u32,
    /// A limit that follows how long answers take.
    pub adaptive: Option<AdaptiveConcurrency>,
    /// Which requests go on longest.
    pub priority: Option<RequestPriority>,
}

/// Some always go through, or nobody would learn that answers are quick again.
const REQUESTS_MIN_DEFAULT: u32 = 4;
/// More are seldom worked on by one instance (Envoy: `max_concurrency_limit`).
const REQUESTS_MAX_DEFAULT: u32 = 1_000;
/// Answers vary so much without any load (Envoy: `buffer`).
const TOLERANCE_PERCENT_DEFAULT: u32 = 25;
/// As Envoy's `concurrency_update_interval`.
const WINDOW_DEFAULT: Duration = Duration::from_millis(100);
/// The range of windows: shorter ones see too few answers, longer ones come too late.
const WINDOW_MIN: Duration = Duration::from_millis(10);
const WINDOW_MAX: Duration = Duration::from_secs(60);
/// The most that any limit may say.
const REQUESTS_MAX: u32 = 1_000_000;

impl LoadLimits {
    /// Whether there is any limit.
    pub fn is_some(&self) -> bool {
        self.max_concurrent_requests > 0 || self.adaptive.is_some()
    }

    pub(super) fn normalise(&mut self, protocol: Option<Protocol>, findings: &mut Findings) {
        if self.max_concurrent_requests > REQUESTS_MAX {
            let reason = format!("must be at most {REQUESTS_MAX}");
            findings.add("MaxConcurrentRequests", reason);
        }
        if let Some(adaptive) = &self.adaptive {
            adaptive.check("AdaptiveConcurrency", findings);
        }
        if let Some(priority) = &mut self.priority {
            priority.normalise("Priority", findings);
            if !self.is_some() {
                findings.add("Priority", "goes with MaxConcurrentRequests or AdaptiveConcurrency");
            }
        }
        if self.is_some() && protocol.is_some_and(|protocol| !protocol.is_http_like()) {
            let field = match self.adaptive {
                Some(_) => "AdaptiveConcurrency",
                None => "MaxConcurrentRequests",
            };
            findings.add(field, "needs a Protocol of requests, such as http");
        }
    }
}

impl AdaptiveConcurrency {
    fn check(&self, field: &str, findings: &mut Findings) {
        let (min, max) = self.range();
        if max > REQUESTS_MAX {
            findings.add(format!("{field}.MaxRequests"), format!("must be at most {REQUESTS_MAX}"));
        }
        if min > max {
            findings.add(format!("{field}.MinRequests"), "is more than MaxRequests");
        }
        if self.tolerance_percent > 1_000 {
            findings.add(format!("{field}.TolerancePercent"), "must be at most 1000");
        }
        let window = self.window.0;
        if !window.is_zero() && !(WINDOW_MIN..=WINDOW_MAX).contains(&window) {
            findings.add(format!("{field}.Window"), "must be 10ms to 1m");
        }
    }

    /// Returns the least and the most that the limit can be.
    pub fn range(&self) -> (u32, u32) {
        let or = |given: u32, default| if given == 0 { default } else { given };
        let max = or(self.max_requests, REQUESTS_MAX_DEFAULT);
        let min = or(self.min_requests, REQUESTS_MIN_DEFAULT.min(max));
        (min, max)
    }

    /// Returns how many times as long as without any load answers may take.
    pub fn tolerance(&self) -> f64 {
        let percent = match self.tolerance_percent {
            0 => TOLERANCE_PERCENT_DEFAULT,
            given => given,
        };
        1.0 + f64::from(percent) / 100.0
    }

    /// Returns how often the limit is set anew.
    pub fn window(&self) -> Duration {
        if self.window.0.is_zero() { WINDOW_DEFAULT } else { self.window.0 }
    }
}

impl RequestPriority {
    fn normalise(&mut self, field: &str, findings: &mut Findings) {
        self.header.make_ascii_lowercase();
        findings.token(&format!("{field}.Header"), &self.header);
        let max = limits::PRIORITY_LEVELS_MAX;
        if !(2..=max).contains(&self.levels.len()) {
            findings.add(format!("{field}.Levels"), format!("must name 2 to {max}"));
        }
        let mut seen = std::collections::BTreeSet::new();
        for (at, level) in self.levels.iter().enumerate() {
            let field = format!("{field}.Levels[{at}]");
            findings.token(&field, level);
            findings.bytes(&field, level.len(), limits::NAME_BYTES_MAX);
            if !seen.insert(level) {
                findings.add(field, format!("{:?} is given twice", shortened(level)));
            }
        }
        if !self.default.is_empty() && !self.levels.contains(&self.default) {
            findings.add(format!("{field}.Default"), "is none of Levels");
        }
    }
}
