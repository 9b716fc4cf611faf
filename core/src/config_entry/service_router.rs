//! `service-router`: where requests to one service go by their content.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use super::request_conditions::{normalise_headers, normalise_methods, normalise_paths};
use super::{HeaderChanges, HeaderMatch, InvalidEntry, QueryMatch, RetryPolicy};
use crate::index::Index;
use crate::limits;
use crate::log_format::HeaderSide;
use crate::name::ServiceName;
use crate::time::Span;

/// Where requests to one service go by their content.
///
/// **Shape**: routes are tried in order; what none takes goes to the service itself.
/// **Source**: Consul: docs/connect/config-entries/service-router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceRouter {
    /// The service.
    pub name: ServiceName,
    /// The routes.
    #[serde(default)]
    pub routes: Vec<ServiceRoute>,
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

/// One route.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceRoute {
    /// What the route takes; absent means everything.
    #[serde(rename = "Match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<RouteMatch>,
    /// Where it sends; absent means the service itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<RouteDestination>,
}

/// What a route takes.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RouteMatch {
    /// Conditions on an HTTP request.
    #[serde(rename = "HTTP", skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpMatch>,
    /// Conditions on a connection over which its callers speak TLS with the service itself, for
    /// services that speak tcp. Ours; Istio has the like in `VirtualService`.
    #[serde(rename = "TLS", skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsMatch>,
}

/// Conditions on a connection that carries TLS of the callers' own.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TlsMatch {
    /// Server names, any of them: whole ones, or `*.` and the end of some.
    #[serde(rename = "SNI", skip_serializing_if = "Vec::is_empty")]
    pub sni: Vec<String>,
}

/// Conditions on an HTTP request; all that are given must hold.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HttpMatch {
    /// The whole path. At most one of the three path conditions is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_exact: Option<String>,
    /// How the path starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
    /// A regular expression for the whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// Whether case is ignored in the path's condition.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub case_insensitive: bool,
    /// Conditions on headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<HeaderMatch>,
    /// Conditions on query parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query_param: Vec<QueryMatch>,
    /// Methods, any of them; empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
}

/// Where a route sends.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RouteDestination {
    /// Another service; `None` means the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// A subset; empty means the default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_subset: String,
    /// What the matched path prefix (or exact path) is replaced by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_rewrite: Option<String>,
    /// How long a proxy waits for an answer; `None` means the resolver's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<Span>,
    /// How long a proxy waits for an answer to one attempt; `None` means as long as to all. Not in Consul; Istio and
    /// Kuma have the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Span>,
    /// How long the caller's proxy keeps a request open on which nothing moves; `None` means its own
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,
    /// Further attempts.
    #[serde(skip_serializing_if = "is_blank")]
    pub num_retries: u32,
    /// Whether a connection that failed is tried again.
    #[serde(skip_serializing_if = "is_blank")]
    pub retry_on_connect_failure: bool,
    /// What is tried again, in Envoy's words.
    #[serde(skip_serializing_if = "is_blank")]
    pub retry_on: Vec<String>,
    /// Which statuses are tried again.
    #[serde(skip_serializing_if = "is_blank")]
    pub retry_on_status_codes: Vec<u16>,
    /// Changes to requests.
    #[serde(skip_serializing_if = "is_blank")]
    pub request_headers: Option<HeaderChanges>,
    /// Changes to answers.
    #[serde(skip_serializing_if = "is_blank")]
    pub response_headers: Option<HeaderChanges>,
}

impl RouteDestination {
    /// Returns how often a request is tried, and after what.
    pub fn retries(&self) -> RetryPolicy {
        RetryPolicy {
            num_retries: self.num_retries,
            retry_on: self.retry_on.clone(),
            retry_on_status_codes: self.retry_on_status_codes.clone(),
            retry_on_connect_failure: self.retry_on_connect_failure,
        }
    }
}

impl ServiceRouter {
    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        findings.count("Routes", self.routes.len(), limits::ROUTES_PER_ROUTER_MAX);
        for (at, route) in self.routes.iter_mut().enumerate() {
            route.normalise(&format!("Routes[{at}]"), &mut findings);
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}

impl ServiceRoute {
    fn normalise(&mut self, field: &str, findings: &mut Findings) {
        if let Some(RouteMatch { http, tls: Some(tls) }) = &mut self.matches {
            let field = format!("{field}.Match.TLS");
            if http.is_some() {
                findings.add(&field, "stands beside HTTP, and inside TLS no request can be seen");
            }
            tls.normalise(&field, findings);
            let changes = RouteDestination {
                service: None,
                service_subset: String::new(),
                ..self.destination.clone().unwrap_or_default()
            };
            if changes != RouteDestination::default() {
                let reason = "only Service and ServiceSubset go with it: bytes go on as they come";
                findings.add(&field, reason);
            }
        }
        let http = self.matches.as_mut().and_then(|matches| matches.http.as_mut());
        let mut has_path = false;
        if let Some(http) = http {
            http.normalise(&format!("{field}.Match.HTTP"), findings);
            has_path = http.path_exact.is_some() || http.path_prefix.is_some();
        }
        if let Some(destination) = &mut self.destination {
            let field = format!("{field}.Destination");
            destination.normalise(&field, findings);
            if destination.prefix_rewrite.is_some() && !has_path {
                let reason = "needs a PathExact or PathPrefix to replace";
                findings.add(format!("{field}.PrefixRewrite"), reason);
            }
        }
    }
}

impl TlsMatch {
    fn normalise(&mut self, field: &str, findings: &mut Findings) {
        let field = format!("{field}.SNI");
        if self.sni.is_empty() {
            findings.add(&field, "must name at least one");
        }
        findings.count(&field, self.sni.len(), limits::CONDITIONS_PER_ROUTE_MAX);
        for (at, name) in self.sni.iter_mut().enumerate() {
            name.make_ascii_lowercase();
            findings.host(&format!("{field}[{at}]"), name.strip_prefix("*.").unwrap_or(name));
        }
    }
}

impl HttpMatch {
    fn normalise(&mut self, field: &str, findings: &mut Findings) {
        let paths = [&mut self.path_exact, &mut self.path_prefix, &mut self.path_regex];
        normalise_paths(field, paths, findings);
        for (name, path) in [("PathExact", &self.path_exact), ("PathPrefix", &self.path_prefix)] {
            if let Some(path) = path {
                findings.path(&format!("{field}.{name}"), path);
            }
        }
        if let Some(regex) = &self.path_regex {
            findings.regex(&format!("{field}.PathRegex"), regex);
        }
        normalise_headers(field, &mut self.header, findings);
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        findings.count(&format!("{field}.QueryParam"), self.query_param.len(), max);
        for (at, query) in self.query_param.iter_mut().enumerate() {
            query.normalise(&format!("{field}.QueryParam[{at}]"), findings);
        }
        normalise_methods(field, &mut self.methods, findings);
    }
}

impl RouteDestination {
    fn normalise(&mut self, field: &str, findings: &mut Findings) {
        self.prefix_rewrite = self.prefix_rewrite.take().filter(|text| !text.is_empty());
        if let Some(rewrite) = &self.prefix_rewrite {
            findings.path(&format!("{field}.PrefixRewrite"), rewrite);
        }
        for (name, timeout) in [
            ("RequestTimeout", &mut self.request_timeout),
            ("PerTryTimeout", &mut self.per_try_timeout),
            ("IdleTimeout", &mut self.idle_timeout),
        ] {
            *timeout = timeout.filter(|timeout| *timeout != Span::default());
            findings.timeout(&format!("{field}.{name}"), timeout.unwrap_or_default().0);
        }
        self.retries().check(field, findings);
        for (side, name, changes) in [
            (HeaderSide::Request, "RequestHeaders", &self.request_headers),
            (HeaderSide::Answer, "ResponseHeaders", &self.response_headers),
        ] {
            if let Some(changes) = changes {
                changes.check(side, &format!("{field}.{name}"), findings);
            }
        }
    }
}
