//! `http-route`: which requests of an API gateway go to which services.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};
use super::{EntryKind, HeaderChanges, InvalidEntry, ResourceReference, RetryPolicy};
use crate::index::Index;
use crate::limits;
use crate::log_format::HeaderSide;
use crate::name::ServiceName;
use crate::time::{Span, nanoseconds};

/// Which requests of an API gateway go to which services.
///
/// **Source**: Consul: docs/connect/config-entries/http-route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HttpRoute {
    /// The route.
    pub name: ServiceName,
    /// The gateways, or listeners of them, to which it belongs.
    #[serde(default)]
    pub parents: Vec<ResourceReference>,
    /// The rules, the most precise match first.
    #[serde(default)]
    pub rules: Vec<HttpRouteRule>,
    /// The host names asked for; none means any.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub hostnames: Vec<String>,
    /// Free key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// When the entry was created.
    #[serde(default)]
    pub create_index: Index,
    /// When the entry last changed.
    #[serde(default)]
    pub modify_index: Index,
}

/// One rule of a route.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HttpRouteRule {
    /// What is done with requests.
    #[serde(skip_serializing_if = "is_blank")]
    pub filters: HttpRouteFilters,
    /// What is done with answers.
    #[serde(skip_serializing_if = "is_blank")]
    pub response_filters: HttpRouteResponseFilters,
    /// Which requests; any of them, and all when there is none.
    #[serde(skip_serializing_if = "is_blank")]
    pub matches: Vec<HttpRouteMatch>,
    /// Where they go, by weight.
    #[serde(skip_serializing_if = "is_blank")]
    pub services: Vec<HttpRouteService>,
}

/// What is done with requests.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HttpRouteFilters {
    /// Changes to headers.
    #[serde(skip_serializing_if = "is_blank")]
    pub headers: Vec<HeaderChanges>,
    /// Another path.
    #[serde(rename = "URLRewrite", skip_serializing_if = "is_blank")]
    pub url_rewrite: Option<UrlRewrite>,
    /// How often a request is tried.
    #[serde(skip_serializing_if = "is_blank")]
    pub retry_filter: Option<RetryPolicy>,
    /// How long is waited.
    #[serde(skip_serializing_if = "is_blank")]
    pub timeout_filter: Option<TimeoutFilter>,
}

/// What is done with answers.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HttpRouteResponseFilters {
    /// Changes to headers.
    #[serde(skip_serializing_if = "is_blank")]
    pub headers: Vec<HeaderChanges>,
}

/// Another path.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UrlRewrite {
    /// What the matched prefix, or the whole path, is replaced by.
    pub path: String,
}

/// How long is waited; zero means the default.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TimeoutFilter {
    /// For the head of an answer.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "nanoseconds")]
    pub request_timeout: Span,
    /// For anything on a connection that is open.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "nanoseconds")]
    pub idle_timeout: Span,
}

/// Which requests; all that is given must hold.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HttpRouteMatch {
    /// Headers.
    #[serde(skip_serializing_if = "is_blank")]
    pub headers: Vec<NamedMatch>,
    /// The method; empty means any.
    #[serde(skip_serializing_if = "is_blank")]
    pub method: String,
    /// The path.
    #[serde(skip_serializing_if = "is_blank")]
    pub path: PathMatch,
    /// Query parameters.
    #[serde(skip_serializing_if = "is_blank")]
    pub query: Vec<NamedMatch>,
}

/// A condition on the path.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PathMatch {
    /// How it is compared.
    #[serde(rename = "Match")]
    pub how: MatchHow,
    /// With what.
    pub value: String,
}

/// A condition on a header or a query parameter.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NamedMatch {
    /// How it is compared.
    #[serde(rename = "Match")]
    pub how: MatchHow,
    /// The header or parameter.
    pub name: String,
    /// With what; empty where it need only be there.
    #[serde(skip_serializing_if = "is_blank")]
    pub value: String,
}

/// How a text is compared.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatchHow {
    /// The whole.
    Exact,
    /// How it starts.
    Prefix,
    /// Whether it is there.
    Present,
    /// By a regular expression for the whole.
    Regex,
    /// How it ends.
    Suffix,
    /// Not at all.
    #[default]
    #[serde(rename = "")]
    Unset,
}

/// A service to which a rule leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HttpRouteService {
    /// The service.
    pub name: ServiceName,
    /// Its share among the others; 0 means 1.
    #[serde(default)]
    pub weight: u32,
    /// What is done with its requests.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub filters: HttpRouteFilters,
    /// What is done with its answers.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub response_filters: HttpRouteResponseFilters,
}

impl HttpRoute {
    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        findings.parents(&mut self.parents, EntryKind::ApiGateway);
        findings.count("Rules", self.rules.len(), limits::ROUTES_PER_ROUTER_MAX);
        for (at, rule) in self.rules.iter_mut().enumerate() {
            rule.normalise(&format!("Rules[{at}]"), &mut findings);
        }
        findings.count("Hostnames", self.hostnames.len(), max);
        for (at, host) in self.hostnames.iter_mut().enumerate() {
            host.make_ascii_lowercase();
            findings.host_pattern(&format!("Hostnames[{at}]"), host);
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}

impl HttpRouteRule {
    fn normalise(&mut self, field: &str, findings: &mut Findings) {
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        self.filters.check(&format!("{field}.Filters"), findings);
        self.response_filters.check(&format!("{field}.ResponseFilters"), findings);
        findings.count(&format!("{field}.Matches"), self.matches.len(), max);
        for (at, one) in self.matches.iter_mut().enumerate() {
            one.normalise(&format!("{field}.Matches[{at}]"), findings);
        }
        let count = self.services.len();
        findings.count(&format!("{field}.Services"), count, limits::SPLITS_PER_SPLITTER_MAX);
        for (at, service) in self.services.iter_mut().enumerate() {
            let field = format!("{field}.Services[{at}]");
            service.weight = service.weight.max(1);
            service.filters.check(&format!("{field}.Filters"), findings);
            service.response_filters.check(&format!("{field}.ResponseFilters"), findings);
        }
    }
}

impl HttpRouteFilters {
    fn check(&self, field: &str, findings: &mut Findings) {
        for (at, changes) in self.headers.iter().enumerate() {
            changes.check(HeaderSide::Request, &format!("{field}.Headers[{at}]"), findings);
        }
        if let Some(rewrite) = &self.url_rewrite {
            findings.path(&format!("{field}.URLRewrite.Path"), &rewrite.path);
        }
        if let Some(retries) = &self.retry_filter {
            retries.check(&format!("{field}.RetryFilter"), findings);
        }
        if let Some(timeouts) = &self.timeout_filter {
            let field = format!("{field}.TimeoutFilter");
            findings.timeout(&format!("{field}.RequestTimeout"), timeouts.request_timeout.0);
            findings.timeout(&format!("{field}.IdleTimeout"), timeouts.idle_timeout.0);
        }
    }
}

impl HttpRouteResponseFilters {
    fn check(&self, field: &str, findings: &mut Findings) {
        for (at, changes) in self.headers.iter().enumerate() {
            changes.check(HeaderSide::Answer, &format!("{field}.Headers[{at}]"), findings);
        }
    }
}

impl HttpRouteMatch {
    fn normalise(&mut self, field: &str, findings: &mut Findings) {
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        self.method.make_ascii_uppercase();
        if !self.method.is_empty() && !METHODS.contains(&self.method.as_str()) {
            let reason =
                format!("{:?} must be one of {}", shortened(&self.method), METHODS.join(", "));
            findings.add(format!("{field}.Method"), reason);
        }
        let path = format!("{field}.Path");
        match self.path.how {
            MatchHow::Exact | MatchHow::Prefix => {
                findings.path(&format!("{path}.Value"), &self.path.value);
            }
            MatchHow::Regex => findings.regex(&format!("{path}.Value"), &self.path.value),
            MatchHow::Present | MatchHow::Suffix => {
                findings.add(format!("{path}.Match"), "must be exact, prefix or regex");
            }
            MatchHow::Unset => {
                if !self.path.value.is_empty() {
                    findings.add(format!("{path}.Match"), "must be exact, prefix or regex");
                }
            }
        }
        for (name, conditions) in [("Headers", &self.headers), ("Query", &self.query)] {
            let field = format!("{field}.{name}");
            findings.count(&field, conditions.len(), max);
            for (at, condition) in conditions.iter().enumerate() {
                condition.check(&format!("{field}[{at}]"), name == "Headers", findings);
            }
        }
    }
}

impl NamedMatch {
    fn check(&self, field: &str, is_header: bool, findings: &mut Findings) {
        match is_header {
            true => findings.token(&format!("{field}.Name"), &self.name),
            false if self.name.is_empty() => {
                findings.add(format!("{field}.Name"), "must not be empty");
            }
            false => {}
        }
        match self.how {
            MatchHow::Exact | MatchHow::Present => {}
            MatchHow::Prefix | MatchHow::Suffix => {
                if !is_header {
                    findings.add(format!("{field}.Match"), "must be exact, present or regex");
                }
            }
            MatchHow::Regex => findings.regex(&format!("{field}.Value"), &self.value),
            MatchHow::Unset => findings.add(format!("{field}.Match"), "is missing"),
        }
    }
}

/// The methods that a match may name.
///
/// **Source**: Consul: docs/connect/config-entries/http-route#rules-matches-method.
const METHODS: [&str; 9] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
