//! Copies of requests, to find out what another version makes of them.

use serde::{Deserialize, Serialize};

use super::Weight;
use super::findings::Findings;
use crate::name::ServiceName;

/// Where copies of a route's requests go, whose answers nobody gets.
///
/// Ours; **Source**: Istio: VirtualService, HTTPRoute.mirrors.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RouteMirror {
    /// A service; `None` means the one that is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// A subset; empty means the default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_subset: String,
    /// Of how many requests; `None` means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Weight>,
}

impl RouteMirror {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        if self.service.is_none() && self.service_subset.is_empty() {
            findings.add(field, "must have a Service or a ServiceSubset");
        }
    }
}
