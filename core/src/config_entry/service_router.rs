//! `service-router`: where requests to one service go by their content.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use super::grpc_match::check_template;
use super::request_conditions::{normalise_headers, normalise_methods, normalise_paths};
use super::route_answer::check_path;
use super::{
    GrpcMatch, HeaderChanges, HeaderMatch, InvalidEntry, PathRewrite, QueryMatch, RetryPolicy,
    RouteFault, RouteMirror, RouteRedirect, RouteResponse,
};
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
    /// The path by its segments, `/orders/{id}/items`; a fourth path condition. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_template: Option<String>,
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
    /// Hosts, any of them: whole ones, or `*.` and the end of some. Ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<String>,
    /// Conditions on cookies. Ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cookie: Vec<HeaderMatch>,
    /// A condition on calls of gRPC. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcMatch>,
    /// Services that call, any of them; empty means all. Ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<ServiceName>,
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
    /// What becomes of parts of the path. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_rewrite: Option<PathRewrite>,
    /// The host that the service is asked for. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_rewrite: Option<String>,
    /// Where the caller is sent instead. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RouteRedirect>,
    /// What the caller gets instead. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<RouteResponse>,
    /// What goes wrong on purpose. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<RouteFault>,
    /// Where copies of its requests go. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<RouteMirror>,
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
            let redirect = destination.redirect.as_ref();
            for (name, rewrite) in [
                ("PrefixRewrite", &destination.prefix_rewrite),
                ("Redirect.PrefixRewrite", &redirect.and_then(|it| it.prefix_rewrite.clone())),
            ] {
                if rewrite.is_some() && !has_path {
                    let reason = "needs a PathExact or PathPrefix to replace";
                    findings.add(format!("{field}.{name}"), reason);
                }
            }
        }
    }
}

impl RouteDestination {
    /// A route that answers itself leads to no service.
    fn normalise_answers(&mut self, field: &str, findings: &mut Findings) {
        if let Some(redirect) = &mut self.redirect {
            redirect.normalise(&format!("{field}.Redirect"), findings);
        }
        if let Some(response) = &self.response {
            response.check(&format!("{field}.Response"), findings);
        }
        let name = match (&self.redirect, &self.response) {
            (None, None) => return,
            (Some(_), None) => "Redirect",
            (_, Some(_)) => "Response",
        };
        if self.redirect.is_some() && self.response.is_some() {
            findings.add(format!("{field}.Response"), "stands beside Redirect: write one of them");
        }
        let alone = Self {
            redirect: self.redirect.clone(),
            response: self.response.clone(),
            response_headers: self.response_headers.clone(),
            ..Self::default()
        };
        if *self != alone {
            let reason = "only ResponseHeaders go with it: no service gets the request";
            findings.add(format!("{field}.{name}"), reason);
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
    pub(super) fn normalise(&mut self, field: &str, findings: &mut Findings) {
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
        self.normalise_ours(field, findings);
    }

    /// Checks what Consul does not have.
    fn normalise_ours(&mut self, field: &str, findings: &mut Findings) {
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        self.path_template = self.path_template.take().filter(|text| !text.is_empty());
        let paths = [&self.path_exact, &self.path_prefix, &self.path_regex];
        if let Some(template) = &self.path_template {
            check_template(&format!("{field}.PathTemplate"), template, findings);
            if paths.iter().any(|path| path.is_some()) {
                let reason = "stands beside another condition on the path: write one of them";
                findings.add(format!("{field}.PathTemplate"), reason);
            }
        }
        findings.count(&format!("{field}.Host"), self.host.len(), max);
        for (at, host) in self.host.iter_mut().enumerate() {
            host.make_ascii_lowercase();
            findings.host(&format!("{field}.Host[{at}]"), host.strip_prefix("*.").unwrap_or(host));
        }
        findings.count(&format!("{field}.Cookie"), self.cookie.len(), max);
        for (at, cookie) in self.cookie.iter_mut().enumerate() {
            cookie.normalise(&format!("{field}.Cookie[{at}]"), findings);
        }
        if let Some(grpc) = &self.grpc {
            grpc.check(&format!("{field}.Grpc"), findings);
            if self.path_template.is_some() || paths.iter().any(|path| path.is_some()) {
                let reason = "stands beside a condition on the path, which it is one of";
                findings.add(format!("{field}.Grpc"), reason);
            }
        }
        findings.count(&format!("{field}.Sources"), self.sources.len(), max);
    }
}

impl RouteDestination {
    fn normalise(&mut self, field: &str, findings: &mut Findings) {
        self.prefix_rewrite = self.prefix_rewrite.take().filter(|text| !text.is_empty());
        if let Some(rewrite) = &self.prefix_rewrite {
            check_path(&format!("{field}.PrefixRewrite"), rewrite, findings);
        }
        if let Some(rewrite) = &self.path_rewrite {
            rewrite.check(&format!("{field}.PathRewrite"), findings);
            if self.prefix_rewrite.is_some() {
                let reason = "stands beside PrefixRewrite: write one of them";
                findings.add(format!("{field}.PathRewrite"), reason);
            }
        }
        self.host_rewrite = self.host_rewrite.take().filter(|text| !text.is_empty());
        if let Some(host) = &self.host_rewrite {
            let (name, port) = host.rsplit_once(':').unwrap_or((host, "1"));
            findings.host(&format!("{field}.HostRewrite"), name);
            if !port.parse::<u16>().is_ok_and(|port| port > 0) {
                findings.add(
                    format!("{field}.HostRewrite"),
                    format!("{host:?} has a port that is none"),
                );
            }
        }
        if let Some(fault) = &self.fault {
            fault.check(&format!("{field}.Fault"), findings);
        }
        if let Some(mirror) = &self.mirror {
            mirror.check(&format!("{field}.Mirror"), findings);
        }
        self.normalise_answers(field, findings);
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
