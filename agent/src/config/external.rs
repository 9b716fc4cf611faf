//! The `external_checks` section: whether this agent runs the checks of hosts that have none.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_core::catalog::ServiceDefinition;
use weft_core::limits;
use weft_core::name::ServiceName;
use weft_core::time::Span;
use weft_proto::text::Fault;

use super::resolve::take;
use crate::local::Placed;

/// The service by which agents that do this know of each other.
const SERVICE: &str = "weft-external-checks";
/// What marks the hosts.
///
/// **Source**: Consul: docs/services/usage/register-services-checks#external-services, as its monitor
/// has it by default.
const MARK: (&str, &str) = ("external-node", "true");
/// How often a host is looked for (Consul's monitor: 10 s).
const NODE_INTERVAL: Duration = Duration::from_secs(10);
/// Results in a row; more would hide a host that is gone for hours.
const THRESHOLD_MAX: u32 = 1_000;

/// The `external_checks` section.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExternalChecksSection {
    /// Whether this agent takes its part.
    pub enabled: bool,
    /// The service by which those who do know of each other.
    pub service: Option<String>,
    /// The metadata that the hosts have; `external-node = "true"` by default.
    pub node_meta: BTreeMap<String, String>,
    /// How often hosts marked for it are looked for.
    pub node_interval: Option<Span>,
    /// Successes in a row before a check turns passing.
    pub passing_threshold: u32,
    /// Failures in a row before it turns critical.
    pub critical_threshold: u32,
}

/// How the checks of hosts without an agent are run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalChecks {
    /// The service by which agents that do this know of each other.
    pub service: ServiceName,
    /// The metadata of the hosts; not empty, of letters, digits and `-_.` alone.
    pub node_meta: BTreeMap<String, String>,
    /// How often hosts marked for it are looked for.
    pub node_interval: Duration,
    /// Successes in a row before a check turns passing; 0 is as 1.
    pub passing_threshold: u32,
    /// Failures in a row before it turns critical; 0 is as 1.
    pub critical_threshold: u32,
}

impl ExternalChecks {
    /// Returns the service to register, so that the others know of this agent. The lease of its
    /// host says whether it lives.
    pub(crate) fn announcement(&self) -> Placed<ServiceDefinition> {
        let name = self.service.to_string();
        let definition = ServiceDefinition { name, ..ServiceDefinition::default() };
        Placed { place: "external_checks.service".to_owned(), definition }
    }
}

/// Checks the section; `None` when it is off.
pub(super) fn resolve(
    section: &ExternalChecksSection,
    faults: &mut Vec<Fault>,
) -> Option<ExternalChecks> {
    let name = section.service.as_deref().unwrap_or(SERVICE);
    let service = take(faults, "external_checks.service", ServiceName::parse(name));
    for (field, threshold) in [
        ("passing_threshold", section.passing_threshold),
        ("critical_threshold", section.critical_threshold),
    ] {
        if threshold > THRESHOLD_MAX {
            let reason = format!("{threshold} results in a row are more than {THRESHOLD_MAX}");
            faults.push(Fault::new(format!("external_checks.{field}"), reason));
        }
    }
    let node_interval = section.node_interval.map_or(NODE_INTERVAL, |span| span.0);
    if node_interval < limits::CHECK_INTERVAL_MIN {
        let reason = "is shorter than one second";
        faults.push(Fault::new("external_checks.node_interval", reason));
    }
    let mut node_meta = section.node_meta.clone();
    if node_meta.is_empty() {
        node_meta.insert(MARK.0.to_owned(), MARK.1.to_owned());
    }
    let is_plain = |text: &String| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !text.is_empty() && text.chars().all(is_plain)
    };
    for (key, value) in &node_meta {
        if !is_plain(key) || !is_plain(value) {
            let reason = "a mark has letters, digits, '-', '_' and '.' only";
            faults.push(Fault::new(format!("external_checks.node_meta.{key}"), reason));
        }
    }
    let ExternalChecksSection { passing_threshold, critical_threshold, .. } = *section;
    let settings = ExternalChecks {
        service: service?,
        node_meta,
        node_interval,
        passing_threshold,
        critical_threshold,
    };
    section.enabled.then_some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_off_unless_switched_on_and_faults_are_told_either_way() {
        let mut faults = Vec::new();
        let off = ExternalChecksSection::default();
        assert_eq!(resolve(&off, &mut faults), None);
        let on = ExternalChecksSection { enabled: true, ..off.clone() };
        let settings = resolve(&on, &mut faults).expect("on");
        assert_eq!(faults, []);
        assert_eq!(settings.service.as_str(), "weft-external-checks");
        assert_eq!(settings.node_meta, BTreeMap::from([("external-node".into(), "true".into())]));
        assert_eq!(settings.node_interval, Duration::from_secs(10));
        let wrong = ExternalChecksSection {
            service: Some("a b".to_owned()),
            node_meta: BTreeMap::from([("a&b".to_owned(), "c".to_owned())]),
            node_interval: Some(Span(Duration::from_millis(1))),
            passing_threshold: 5_000,
            ..off
        };
        assert_eq!(resolve(&wrong, &mut faults), None);
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "external_checks.service",
                "external_checks.passing_threshold",
                "external_checks.node_interval",
                "external_checks.node_meta.a&b",
            ]
        );
    }
}
