//! `service-resolver`: what the instances of one service are, and where else to look for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};
use super::{InvalidEntry, LoadBalancer, PrioritizeByLocality, ResolverFailover};
use crate::index::Index;
use crate::limits;
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
    /// Where else to look when no instance is healthy; by subset, `*` for all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failover: BTreeMap<String, ResolverFailover>,
    /// How one of several instances is chosen.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub load_balancer: Option<LoadBalancer>,
    /// Whether near instances come first.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub prioritize_by_locality: Option<PrioritizeByLocality>,
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

impl ServiceResolver {
    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        let subset = &self.default_subset;
        if !subset.is_empty() && !self.subsets.contains_key(subset) {
            findings.add("DefaultSubset", format!("{subset:?} is not among Subsets"));
        }
        findings.count("Subsets", self.subsets.len(), limits::SUBSETS_PER_RESOLVER_MAX);
        for (name, subset) in &self.subsets {
            let shown = shortened(name);
            if !is_label(name) {
                let reason = "a subset's name stands in server names: write 1 to 63 lower-case \
                              letters, digits and '-', with a letter or digit at both ends";
                findings.add(format!("Subsets.{shown}"), reason);
            }
            let (bytes, max) = (subset.filter.len(), limits::FILTER_BYTES_MAX);
            if bytes > max {
                let reason = format!("has {bytes} bytes, more than the {max} allowed");
                findings.add(format!("Subsets.{shown}.Filter"), reason);
            }
        }
        self.check_redirect(&mut findings);
        self.check_failover(&mut findings);
        if let Some(balancer) = &self.load_balancer {
            balancer.check(&mut findings);
        }
        for (field, timeout) in [
            ("ConnectTimeout", &mut self.connect_timeout),
            ("RequestTimeout", &mut self.request_timeout),
        ] {
            // Zero is how clients leave a time-out to its default.
            *timeout = timeout.filter(|timeout| *timeout != Span::default());
            findings.timeout(field, timeout.unwrap_or_default().0);
        }
        findings.meta(&self.meta);
        findings.result(self)
    }

    fn check_failover(&self, findings: &mut Findings) {
        findings.count("Failover", self.failover.len(), limits::SUBSETS_PER_RESOLVER_MAX);
        if self.redirect.is_some() && !self.failover.is_empty() {
            findings.add("Failover", "must be left out with a Redirect");
        }
        for (subset, failover) in &self.failover {
            let field = format!("Failover.{}", shortened(subset));
            if subset != "*" && !self.subsets.contains_key(subset) {
                findings.add(&field, "is neither \"*\" nor among Subsets");
            }
            failover.check(&field, self, findings);
        }
    }

    fn check_redirect(&self, findings: &mut Findings) {
        let Some(redirect) = &self.redirect else { return };
        let elsewhere = redirect.service.as_ref().is_some_and(|service| *service != self.name);
        let subset = &redirect.service_subset;
        if *redirect == ResolverRedirect::default() {
            findings.add("Redirect", "must name a Service, a ServiceSubset or a Datacenter");
        } else if !elsewhere && !subset.is_empty() && !self.subsets.contains_key(subset) {
            findings.add("Redirect.ServiceSubset", format!("{subset:?} is not among Subsets"));
        } else if !elsewhere && subset.is_empty() && redirect.datacenter.is_none() {
            findings.add("Redirect.Service", "leads back to the service itself");
        }
    }
}

/// Whether a text can stand as a label in a server name.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
