//! A check definition, checked: what is probed, how often, and how results are judged.
//!
//! Probing is `checks`' affair, judging `core::health`'s.

use std::net::SocketAddr;
use std::time::Duration;

use weft_core::catalog::{CheckDefinition, CheckStatus, HealthCheck, Service};
use weft_core::health::{CheckPolicy, TtlPolicy};
use weft_core::limits;
use weft_core::name::{CheckId, InstanceId, NodeName};
use weft_core::time::Span;

use super::faults::Faults;
use super::probe::Probe;

/// How long a probe may take when nothing else is said (Consul: 10 s).
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The same for a command (Consul: 30 s).
const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// The shortest time after which a critical service is deregistered (Consul: 1 min).
const DEREGISTER_AFTER_MIN: Duration = Duration::from_secs(60);

/// One check, ready to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckPlan {
    /// Unique on this host.
    pub id: CheckId,
    /// The instance it speaks of; `None` for the node.
    pub service: Option<InstanceId>,
    /// What is done.
    pub probe: Probe,
    /// What it is before the first result.
    pub initial: CheckStatus,
    /// The definition with every default filled in; what is kept on disk.
    pub definition: CheckDefinition,
    /// The port of its proxy's door for it; `None` when it goes through none.
    pub exposed_port: Option<u16>,
    /// The door, once it is open: what is called in place of what the probe names.
    pub through: Option<SocketAddr>,
}

impl CheckPlan {
    /// Checks a definition. `service` is the instance it speaks of, `number` its place when an
    /// instance has several checks without ids.
    pub(super) fn resolve(
        definition: &CheckDefinition,
        service: Option<&Service>,
        number: Option<usize>,
        faults: &mut Faults,
    ) -> Option<Self> {
        let mut definition = definition.clone();
        fill_in_names(&mut definition, service, number, faults);
        raise_minima(&mut definition);
        let probe = Probe::resolve(&definition, faults);
        check_thresholds(&definition, faults);
        let initial = match definition.status.as_str() {
            "" => Some(CheckStatus::Critical),
            word => faults.take("Status", word.parse()),
        };
        let id = faults.take("CheckID", CheckId::parse(&definition.check_id));
        Some(Self {
            id: id?,
            service: service.map(|service| service.id.clone()),
            probe: probe?,
            initial: initial?,
            definition,
            exposed_port: None,
            through: None,
        })
    }

    /// Returns how results of a probe are judged, starting from `initial`; whether it is eager
    /// is the runner's to say.
    pub fn policy(&self, initial: CheckStatus) -> CheckPolicy {
        let definition = &self.definition;
        CheckPolicy {
            initial,
            interval: definition.interval.map_or(limits::CHECK_INTERVAL_MIN, |span| span.0),
            success_before_passing: definition.success_before_passing,
            failures_before_warning: definition.failures_before_warning,
            failures_before_critical: definition.failures_before_critical,
            deregister_after: self.deregister_after(),
            output_bytes_max: self.output_bytes_max(),
            is_eager: true,
        }
    }

    /// Returns how reports are judged, starting from `initial`.
    pub fn ttl_policy(&self, ttl: Duration, initial: CheckStatus) -> TtlPolicy {
        TtlPolicy {
            initial,
            ttl,
            deregister_after: self.deregister_after(),
            output_bytes_max: self.output_bytes_max(),
        }
    }

    /// Returns how long one run of the probe may take.
    pub fn timeout(&self) -> Duration {
        let default = match self.probe.runs_commands() {
            true => COMMAND_TIMEOUT_DEFAULT,
            false => TIMEOUT_DEFAULT,
        };
        self.definition.timeout.map_or(default, |span| span.0)
    }

    /// Returns the bytes of output that are kept.
    pub fn output_bytes_max(&self) -> usize {
        match self.definition.output_max_size {
            0 => limits::CHECK_OUTPUT_BYTES_MAX,
            bytes => bytes as usize,
        }
    }

    fn deregister_after(&self) -> Option<Duration> {
        self.definition.deregister_critical_service_after.map(|span| span.0)
    }

    /// Returns the check as the catalog has it before its first result.
    pub(super) fn health_check(&self, node: &NodeName, service: Option<&Service>) -> HealthCheck {
        let text = |span: Option<Span>| span.map(|span| span.to_string()).unwrap_or_default();
        let (id, name) = (self.id.clone(), &self.definition.name);
        HealthCheck {
            notes: self.definition.notes.clone(),
            service_id: service.map(|service| service.id.clone()),
            service_name: service.map(|service| service.name.clone()),
            service_tags: service.map(|service| service.tags.clone()).unwrap_or_default(),
            kind: self.probe.kind().to_owned(),
            interval: text(self.definition.interval),
            timeout: text(self.definition.timeout),
            ..HealthCheck::of_node(node.clone(), id, name, self.initial)
        }
    }
}

fn fill_in_names(
    definition: &mut CheckDefinition,
    service: Option<&Service>,
    number: Option<usize>,
    faults: &mut Faults,
) {
    match service {
        Some(service) => {
            if definition.check_id.is_empty() {
                definition.check_id = match number {
                    Some(number) => format!("service:{}:{number}", service.id),
                    None => format!("service:{}", service.id),
                };
            }
            if definition.name.is_empty() {
                definition.name = format!("Service '{}' check", service.name);
            }
            definition.service_id = service.id.to_string();
        }
        None => {
            if definition.name.is_empty() {
                faults.add("Name", "a check that belongs to no service needs a name");
            }
            if definition.check_id.is_empty() {
                definition.check_id.clone_from(&definition.name);
            }
        }
    }
}

/// Raises what is below its smallest useful value, as Consul does, instead of refusing it.
fn raise_minima(definition: &mut CheckDefinition) {
    if let Some(interval) = &mut definition.interval
        && !interval.0.is_zero()
    {
        interval.0 = interval.0.max(limits::CHECK_INTERVAL_MIN);
    }
    match &mut definition.deregister_critical_service_after {
        Some(after) if after.0.is_zero() => definition.deregister_critical_service_after = None,
        Some(after) => after.0 = after.0.max(DEREGISTER_AFTER_MIN),
        None => {}
    }
    if definition.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
        definition.timeout = None;
    }
    let limit = u32::try_from(limits::CHECK_OUTPUT_BYTES_MAX).unwrap_or(u32::MAX);
    definition.output_max_size = definition.output_max_size.min(limit);
}

fn check_thresholds(definition: &CheckDefinition, faults: &mut Faults) {
    if definition.failures_before_warning > definition.failures_before_critical {
        faults.add(
            "FailuresBeforeWarning",
            "must not be higher than FailuresBeforeCritical, or the check never warns",
        );
    }
}
