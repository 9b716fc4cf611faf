//! Where a service is looked for when none of its instances is healthy.

use serde::{Deserialize, Serialize};

use super::ServiceResolver;
use super::blank::is_blank;
use super::findings::{Findings, shortened};
use crate::limits;
use crate::name::{Datacenter, ServiceName};

/// Where a service is looked for when none of its instances is healthy.
///
/// **Shape**: `targets`, or any of the others.
/// **Source**: Consul: docs/connect/config-entries/service-resolver#failover.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ResolverFailover {
    /// Another service; `None` means the same.
    #[serde(skip_serializing_if = "is_blank")]
    pub service: Option<ServiceName>,
    /// A subset of it; empty means the same, or with another service its default.
    #[serde(skip_serializing_if = "is_blank")]
    pub service_subset: String,
    /// Datacenters, in this order; none means the same.
    #[serde(skip_serializing_if = "is_blank")]
    pub datacenters: Vec<Datacenter>,
    /// The places one by one.
    #[serde(skip_serializing_if = "is_blank")]
    pub targets: Vec<FailoverTarget>,
    /// In which order they are tried.
    #[serde(skip_serializing_if = "is_blank")]
    pub policy: Option<FailoverPolicy>,
}

/// One place where a service is looked for.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FailoverTarget {
    /// Another service; `None` means the same.
    #[serde(skip_serializing_if = "is_blank")]
    pub service: Option<ServiceName>,
    /// A subset of it.
    #[serde(skip_serializing_if = "is_blank")]
    pub service_subset: String,
    /// A datacenter; `None` means the same.
    #[serde(skip_serializing_if = "is_blank")]
    pub datacenter: Option<Datacenter>,
}

/// In which order places are tried.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FailoverPolicy {
    /// How regions count.
    #[serde(skip_serializing_if = "is_blank")]
    pub mode: FailoverMode,
    /// The regions, in this order.
    #[serde(skip_serializing_if = "is_blank")]
    pub regions: Vec<String>,
}

/// How regions count.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailoverMode {
    /// By the order of the regions.
    OrderByLocality,
    /// By the order in which the places are written.
    Sequential,
    /// By the order in which the places are written.
    #[default]
    #[serde(rename = "")]
    Unset,
}

/// Whether near instances come first.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PrioritizeByLocality {
    /// How.
    #[serde(skip_serializing_if = "is_blank")]
    pub mode: LocalityMode,
}

/// Whether near instances come first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalityMode {
    /// Those of one's own zone, then of one's own region.
    Failover,
    /// They do not.
    None,
    /// They do not.
    #[default]
    #[serde(rename = "")]
    Unset,
}

impl ResolverFailover {
    /// Returns the places one by one, however they are written.
    pub fn places(&self) -> Vec<FailoverTarget> {
        if !self.targets.is_empty() {
            return self.targets.clone();
        }
        let place = |datacenter: Option<Datacenter>| FailoverTarget {
            service: self.service.clone(),
            service_subset: self.service_subset.clone(),
            datacenter,
        };
        match self.datacenters.is_empty() {
            true => vec![place(None)],
            false => self.datacenters.iter().cloned().map(Some).map(place).collect(),
        }
    }

    pub(super) fn check(&self, field: &str, of: &ServiceResolver, findings: &mut Findings) {
        let plain = self.service.is_some()
            || !self.service_subset.is_empty()
            || !self.datacenters.is_empty();
        if plain && !self.targets.is_empty() {
            let reason = "write either Targets, or Service, ServiceSubset and Datacenters";
            findings.add(field, reason);
        } else if !plain && self.targets.is_empty() {
            let reason = "must name a Service, a ServiceSubset, Datacenters or Targets";
            findings.add(field, reason);
        }
        let max = limits::FAILOVER_TARGETS_MAX;
        findings.count(&format!("{field}.Datacenters"), self.datacenters.len(), max);
        findings.count(&format!("{field}.Targets"), self.targets.len(), max);
        if self.service.is_none() || self.service.as_ref() == Some(&of.name) {
            self.check_subset(
                &format!("{field}.ServiceSubset"),
                &self.service_subset,
                of,
                findings,
            );
        }
        for (at, target) in self.targets.iter().enumerate() {
            let field = format!("{field}.Targets[{at}]");
            if *target == FailoverTarget::default() {
                findings.add(&field, "must name a Service, a ServiceSubset or a Datacenter");
            }
            if target.service.as_ref().is_none_or(|service| *service == of.name) {
                let field = format!("{field}.ServiceSubset");
                self.check_subset(&field, &target.service_subset, of, findings);
            }
        }
        if let Some(policy) = &self.policy
            && !policy.regions.is_empty()
            && policy.mode != FailoverMode::OrderByLocality
        {
            findings.add(format!("{field}.Policy.Regions"), "goes with the Mode order-by-locality");
        }
    }

    fn check_subset(
        &self,
        field: &str,
        subset: &str,
        of: &ServiceResolver,
        findings: &mut Findings,
    ) {
        if !subset.is_empty() && !of.subsets.contains_key(subset) {
            findings.add(field, format!("{:?} is not among Subsets", shortened(subset)));
        }
    }
}
