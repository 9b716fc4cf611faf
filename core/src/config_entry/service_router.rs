//! `service-router`: where requests to one service go by their content.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{HeaderMatch, QueryMatch};
use crate::index::Index;
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
}
