//! `service-resolver`: what the instances of one service are, and where else to look for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::index::Index;
use crate::name::{Datacenter, ServiceName};
use crate::time::Span;

/// What the instances of one service are.
///
/// **Source**: Consul: docs/connect/config-entries/service-resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceResolver {
    /// The service.
    pub name: ServiceName,
    /// The subset used when a caller names none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub default_subset: String,
    /// Named parts of the instances.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subsets: BTreeMap<String, ResolverSubset>,
    /// Where to look instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<ResolverRedirect>,
    /// How long a proxy waits for a connection; `None` means 5 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Span>,
    /// How long a proxy waits for an answer; `None` means 15 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<Span>,
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

/// A named part of a service's instances.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ResolverSubset {
    /// Which instances, as an expression such as `Service.Meta.version == v1`; empty means all.
    pub filter: String,
    /// Whether instances with a warning are left out.
    pub only_passing: bool,
}

/// Where to look for a service instead.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ResolverRedirect {
    /// Another service; `None` means the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// A subset of it; empty means its default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_subset: String,
    /// Another datacenter; `None` means the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<Datacenter>,
}
