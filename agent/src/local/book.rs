//! What is registered, in memory: what each change does to services and checks.
//!
//! No disk and no waiting here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use imbl::OrdMap;
use weft_core::catalog::{CheckStatus, HealthCheck, Service};
use weft_core::name::{CheckId, InstanceId, NodeName};

use super::check_plan::CheckPlan;
use super::definition::Registration;
use super::exposure::Exposed;
use super::{LocalServices, Place};

/// The checks that are run on this host, by id.
pub type Plans = OrdMap<CheckId, Arc<CheckPlan>>;

/// The registrations of this host.
#[derive(Debug, Clone)]
pub(super) struct Book {
    node: NodeName,
    pub(super) bind_addr: IpAddr,
    pub(super) expose_ports: RangeInclusive<u16>,
    pub(super) services: Arc<LocalServices>,
    pub(super) plans: Arc<Plans>,
    sidecars: BTreeMap<InstanceId, InstanceId>,
    /// Services that stand, or stood, in the agent's configuration.
    pub(super) configured: BTreeSet<InstanceId>,
    /// The same of checks that stand for themselves.
    pub(super) configured_checks: BTreeSet<CheckId>,
    pub(super) exposed: Exposed,
}

/// Checks that a service has and its new registration does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingChecks {
    /// They stay.
    Kept,
    /// They go.
    Replaced,
}

/// What went from the book.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) services: Vec<InstanceId>,
    pub(super) checks: Vec<CheckId>,
}

impl Book {
    pub(super) fn new(place: &Place) -> Self {
        Self {
            node: place.node.clone(),
            bind_addr: place.bind_addr,
            expose_ports: place.expose_ports.clone(),
            services: Arc::default(),
            plans: Arc::default(),
            sidecars: BTreeMap::new(),
            configured: BTreeSet::new(),
            configured_checks: BTreeSet::new(),
            exposed: Exposed::default(),
        }
    }

    /// Writes a registration down; the answer is the checks that went.
    ///
    /// A check that was there before keeps its status: registering again is no news of health.
    pub(super) fn register(
        &mut self,
        registration: Registration,
        existing: ExistingChecks,
    ) -> Vec<CheckId> {
        let Registration { service, checks, sidecar_of, is_configured } = registration;
        let gone = match existing {
            ExistingChecks::Kept => Vec::new(),
            ExistingChecks::Replaced => {
                let named: BTreeSet<&CheckId> = checks.iter().map(|check| &check.id).collect();
                let replaced =
                    |id: &CheckId| !named.contains(id) && *id != maintenance_id(&service.id);
                self.checks_of(&service.id).into_iter().filter(replaced).collect()
            }
        };
        for id in &gone {
            self.remove_check(id);
        }
        match is_configured {
            true => self.configured.insert(service.id.clone()),
            false => self.configured.remove(&service.id),
        };
        match sidecar_of {
            Some(application) => self.sidecars.insert(service.id.clone(), application),
            None => self.sidecars.remove(&service.id),
        };
        let services = Arc::make_mut(&mut self.services);
        // Checks carry both; each was written down beside the service as it was before.
        let is_told_otherwise = services
            .services
            .get(&service.id)
            .is_some_and(|before| before.name != service.name || before.tags != service.tags);
        if is_told_otherwise {
            let is_its = |check: &&HealthCheck| check.service_id.as_ref() == Some(&service.id);
            let its: Vec<HealthCheck> = services.checks.values().filter(is_its).cloned().collect();
            for mut check in its {
                check.service_name = Some(service.name.clone());
                check.service_tags.clone_from(&service.tags);
                services.checks.insert(check.id.clone(), check);
            }
        }
        services.services.insert(service.id.clone(), service);
        for plan in checks {
            self.put_check(plan);
        }
        gone
    }

    /// Writes a check down. One that was there before keeps its status and output.
    pub(super) fn put_check(&mut self, plan: CheckPlan) {
        let services = Arc::make_mut(&mut self.services);
        let service = plan.service.as_ref().and_then(|id| services.services.get(id));
        let mut check = plan.health_check(&self.node, service);
        if let Some(before) = services.checks.get(&plan.id)
            && before.service_id == check.service_id
        {
            check.status = before.status;
            check.output.clone_from(&before.output);
        }
        services.checks.insert(plan.id.clone(), check);
        Arc::make_mut(&mut self.plans).insert(plan.id.clone(), Arc::new(plan));
    }

    /// Takes a service out, with its checks, its sidecar and the checks of that.
    pub(super) fn remove_service(&mut self, id: &InstanceId) -> Removed {
        let sidecars = self.sidecars.iter().filter(|(_, application)| *application == id);
        let mut services: Vec<InstanceId> = sidecars.map(|(sidecar, _)| sidecar.clone()).collect();
        services.push(id.clone());
        let mut removed = Removed::default();
        for id in services {
            for check in self.checks_of(&id) {
                self.remove_check(&check);
                removed.checks.push(check);
            }
            self.sidecars.remove(&id);
            self.configured.remove(&id);
            self.exposed.forget_service(&id);
            if Arc::make_mut(&mut self.services).services.remove(&id).is_some() {
                removed.services.push(id);
            }
        }
        removed
    }

    pub(super) fn remove_check(&mut self, id: &CheckId) {
        self.configured_checks.remove(id);
        self.exposed.forget_check(id);
        Arc::make_mut(&mut self.services).checks.remove(id);
        if self.plans.contains_key(id) {
            Arc::make_mut(&mut self.plans).remove(id);
        }
    }

    /// Sets how a check stands; `false` when it is not known (any more) or stands so already.
    pub(super) fn set_status(&mut self, id: &CheckId, status: CheckStatus, output: &str) -> bool {
        let stands_so = |check: &HealthCheck| check.status == status && check.output == output;
        if self.services.checks.get(id).is_none_or(stands_so) {
            return false;
        }
        if let Some(check) = Arc::make_mut(&mut self.services).checks.get_mut(id) {
            check.status = status;
            output.clone_into(&mut check.output);
        }
        true
    }

    /// Goes back to how things were; what is known of checks since then stays known.
    pub(super) fn go_back(&mut self, before: &Self) {
        let since = std::mem::replace(self, before.clone());
        for check in since.services.checks.values() {
            self.set_status(&check.id, check.status, &check.output);
        }
        self.exposed.keep_told(since.exposed);
        // Ports that changed with that are kept with the next change that can be.
        self.settle_doors();
    }

    /// Puts a service, or the node, out of use by a check that is critical until it is removed.
    pub(super) fn put_maintenance(&mut self, service: Option<&InstanceId>, reason: &str) {
        let services = Arc::make_mut(&mut self.services);
        let service = service.and_then(|id| services.services.get(id));
        let check = maintenance_check(&self.node, service, reason);
        services.checks.insert(check.id.clone(), check);
    }

    fn checks_of(&self, service: &InstanceId) -> Vec<CheckId> {
        let of_service = |check: &&HealthCheck| check.service_id.as_ref() == Some(service);
        self.services.checks.values().filter(of_service).map(|check| check.id.clone()).collect()
    }
}

/// Returns the id of the check that puts a service out of use.
///
/// **Source**: Consul: api-docs/agent/service#enable-maintenance-mode.
pub(super) fn maintenance_id(service: &InstanceId) -> CheckId {
    let id = format!("_service_maintenance:{service}");
    CheckId::parse(&id).unwrap_or_else(|_| {
        // The prefix made the id longer than allowed: its start still tells which it is.
        let short: String = id.chars().take(60).collect();
        CheckId::parse(&short).expect("60 printable characters are a check id")
    })
}

/// Returns the id of the check that puts the whole node out of use.
pub(super) fn node_maintenance_id() -> CheckId {
    CheckId::parse("_node_maintenance").expect("a valid check id")
}

fn maintenance_check(node: &NodeName, service: Option<&Service>, reason: &str) -> HealthCheck {
    let (what, id) = match service {
        Some(service) => ("service", maintenance_id(&service.id)),
        None => ("node", node_maintenance_id()),
    };
    let name = match service {
        Some(_) => "Service Maintenance Mode",
        None => "Node Maintenance Mode",
    };
    let notes = match reason {
        "" => format!(
            "Maintenance mode is enabled for this {what}, but no reason was provided. This is a default message."
        ),
        reason => reason.to_owned(),
    };
    HealthCheck {
        notes,
        service_id: service.map(|service| service.id.clone()),
        service_name: service.map(|service| service.name.clone()),
        service_tags: service.map(|service| service.tags.clone()).unwrap_or_default(),
        kind: "maintenance".to_owned(),
        ..HealthCheck::of_node(node.clone(), id, name, CheckStatus::Critical)
    }
}
