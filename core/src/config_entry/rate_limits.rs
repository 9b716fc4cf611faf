//! How many requests the proxies of a service let through to their instances.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};
use super::{HttpMatch, Protocol};
use crate::limits;
use crate::time::Span;

/// How many requests each proxy of a service lets through to its instance.
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults#ratelimits. `Buckets` are ours,
/// after Envoy's local rate limit filter.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RateLimits {
    /// Of all callers together, by path.
    #[serde(skip_serializing_if = "is_blank")]
    pub instance_level: InstanceRateLimits,
    /// Of some requests or some callers; a request needs room in each that it meets.
    #[serde(skip_serializing_if = "is_blank")]
    pub buckets: Vec<RateLimitBucket>,
}

/// Limits of all callers together.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct InstanceRateLimits {
    /// Requests in a second, on average; 0 for no limit of those that no route takes.
    #[serde(skip_serializing_if = "is_blank")]
    pub requests_per_second: u32,
    /// Requests at one time, 0 for as many as in a second.
    #[serde(skip_serializing_if = "is_blank")]
    pub requests_max_burst: u32,
    /// Limits that take the place of that, by path; the first that holds counts.
    #[serde(skip_serializing_if = "is_blank")]
    pub routes: Vec<RouteRateLimit>,
}

/// A limit of requests by their path.
///
/// **Shape**: exactly one of the three path conditions.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RouteRateLimit {
    /// The whole path.
    #[serde(skip_serializing_if = "is_blank")]
    pub path_exact: Option<String>,
    /// How the path starts.
    #[serde(skip_serializing_if = "is_blank")]
    pub path_prefix: Option<String>,
    /// A regular expression for the whole path.
    #[serde(skip_serializing_if = "is_blank")]
    pub path_regex: Option<String>,
    /// Requests in a second, on average.
    #[serde(skip_serializing_if = "is_blank")]
    pub requests_per_second: u32,
    /// Requests at one time, 0 for as many as in a second.
    #[serde(skip_serializing_if = "is_blank")]
    pub requests_max_burst: u32,
}

/// Tokens of which each request takes one.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RateLimitBucket {
    /// What it is called in answers and metrics.
    pub name: String,
    /// Tokens that it holds at most, and at first.
    pub max_tokens: u32,
    /// Tokens that are added each time, 0 for as many as it holds.
    #[serde(skip_serializing_if = "is_blank")]
    pub tokens_per_fill: u32,
    /// How far apart these times are.
    pub fill_interval: Span,
    /// Whose requests share it.
    #[serde(skip_serializing_if = "is_blank")]
    pub by: RateLimitKey,
    /// The header, where each value of one has tokens of its own.
    #[serde(skip_serializing_if = "is_blank")]
    pub header: String,
    /// Which requests take tokens; all of them when it is left out.
    #[serde(rename = "Match", skip_serializing_if = "is_blank")]
    pub matches: HttpMatch,
    /// The status that requests without a token get, 0 for 429.
    #[serde(skip_serializing_if = "is_blank")]
    pub status: u16,
    /// Of how many requests without a token that is in force, the others are counted alone; `None` for
    /// all.
    ///
    /// **Units**: percent.
    #[serde(skip_serializing_if = "is_blank")]
    pub enforce_percent: Option<u32>,
}

/// Whose requests share tokens.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateLimitKey {
    /// Those with the same value of a header.
    Header,
    /// Those of one calling service.
    Identity,
    /// Those of all callers.
    #[default]
    Instance,
    /// Those from one address.
    SourceAddress,
}

/// The shortest time between two fills (Envoy: 50 ms).
const INTERVAL_MIN: Duration = Duration::from_millis(50);
/// The longest: what is counted is lost with the process, and none can be believed to live longer.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);

impl RateLimits {
    pub(super) fn normalise(&mut self, protocol: Option<Protocol>, findings: &mut Findings) {
        let has_requests = protocol.is_none_or(Protocol::is_http_like);
        self.instance_level.normalise("RateLimits.InstanceLevel", findings);
        if !has_requests && self.instance_level != InstanceRateLimits::default() {
            let reason = "needs a Protocol of requests, such as http; Buckets count connections";
            findings.add("RateLimits.InstanceLevel", reason);
        }
        if protocol == Some(Protocol::Udp) && !self.buckets.is_empty() {
            findings.add(
                "RateLimits.Buckets",
                "must be left out: udp has neither requests nor connections",
            );
        }
        findings.count("RateLimits.Buckets", self.buckets.len(), limits::RATE_BUCKETS_MAX);
        let mut seen = std::collections::BTreeSet::new();
        for (at, bucket) in self.buckets.iter_mut().enumerate() {
            let field = format!("RateLimits.Buckets[{at}]");
            bucket.normalise(&field, findings);
            if !has_requests
                && (bucket.matches != HttpMatch::default() || !bucket.header.is_empty())
            {
                let reason = "Match and Header need a Protocol of requests, such as http";
                findings.add(&field, reason);
            }
            if !seen.insert(bucket.name.clone()) {
                let name = shortened(&bucket.name);
                findings.add(format!("{field}.Name"), format!("{name:?} is given twice"));
            }
        }
    }
}

impl InstanceRateLimits {
    fn normalise(&mut self, field: &str, findings: &mut Findings) {
        let rate = (self.requests_per_second, self.requests_max_burst);
        if rate != (0, 0) {
            check_rate(field, rate, findings);
        }
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        findings.count(&format!("{field}.Routes"), self.routes.len(), max);
        for (at, route) in self.routes.iter_mut().enumerate() {
            let field = format!("{field}.Routes[{at}]");
            let mut matches = route.matches();
            matches.normalise(&field, findings);
            if matches == HttpMatch::default() {
                findings.add(&field, "write one of PathExact, PathPrefix and PathRegex");
            }
            let HttpMatch { path_exact, path_prefix, path_regex, .. } = matches;
            (route.path_exact, route.path_prefix, route.path_regex) =
                (path_exact, path_prefix, path_regex);
            check_rate(&field, (route.requests_per_second, route.requests_max_burst), findings);
        }
    }
}

impl RouteRateLimit {
    /// Returns its conditions in the form of a route's.
    pub fn matches(&self) -> HttpMatch {
        HttpMatch {
            path_exact: self.path_exact.clone(),
            path_prefix: self.path_prefix.clone(),
            path_regex: self.path_regex.clone(),
            ..HttpMatch::default()
        }
    }
}

fn check_rate(field: &str, (rate, burst): (u32, u32), findings: &mut Findings) {
    let max = limits::RATE_TOKENS_MAX;
    if !(1..=max).contains(&rate) {
        findings.add(format!("{field}.RequestsPerSecond"), format!("must be 1 to {max}"));
    }
    if burst != 0 && !(rate..=max).contains(&burst) {
        let reason = format!("must be RequestsPerSecond to {max}, or 0 for the same");
        findings.add(format!("{field}.RequestsMaxBurst"), reason);
    }
}

impl RateLimitBucket {
    fn normalise(&mut self, field: &str, findings: &mut Findings) {
        // It stands in headers and labels.
        findings.token(&format!("{field}.Name"), &self.name);
        findings.bytes(&format!("{field}.Name"), self.name.len(), limits::NAME_BYTES_MAX);
        let max = limits::RATE_TOKENS_MAX;
        if !(1..=max).contains(&self.max_tokens) {
            findings.add(format!("{field}.MaxTokens"), format!("must be 1 to {max}"));
        }
        if self.tokens_per_fill > max {
            findings.add(format!("{field}.TokensPerFill"), format!("must be at most {max}"));
        }
        if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&self.fill_interval.0) {
            findings.add(format!("{field}.FillInterval"), "must be 50ms to 24h");
        }
        self.header.make_ascii_lowercase();
        match (self.by == RateLimitKey::Header, self.header.is_empty()) {
            (true, false) => findings.token(&format!("{field}.Header"), &self.header),
            (true, true) => findings.add(format!("{field}.Header"), "must name the header"),
            (false, false) => {
                findings.add(format!("{field}.Header"), "goes with By = \"header\"");
            }
            (false, true) => {}
        }
        self.matches.normalise(&format!("{field}.Match"), findings);
        if self.status != 0 && !(400..=599).contains(&self.status) {
            findings.add(format!("{field}.Status"), "must be 400 to 599, or 0 for 429");
        }
        if self.enforce_percent.is_some_and(|percent| percent > 100) {
            findings.add(format!("{field}.EnforcePercent"), "must be 0 to 100");
        }
    }
}
