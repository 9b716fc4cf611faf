//! What has to change in the catalog so that it says what the host says.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{
    CatalogDeregistration, CatalogRegistration, HealthCheck, Node, SERF_HEALTH, Service,
};
use crate::index::Index;
use crate::name::{CheckId, InstanceId};

/// Whether checks that differ in nothing but their output are taken as different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outputs {
    /// They are.
    Compared,
    /// They are not; the catalog's output is left to stand.
    Ignored,
}

/// The tags that the host last gave to instances whose tags others may change.
///
/// The catalog's tags of such an instance are somebody else's word until the host gives other ones:
/// who spoke last is right. An instance that is not among these is one that the host has just
/// registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagsTold(BTreeMap<InstanceId, Vec<String>>);

impl TagsTold {
    /// What a host says.
    pub fn by(local: &CatalogRegistration) -> Self {
        let open = local.services.iter().filter(|service| service.enable_tag_override);
        Self(open.map(|service| (service.id.clone(), service.tags.clone())).collect())
    }

    /// Whether an instance has the tags that it had.
    fn still_has(&self, service: &Service) -> bool {
        self.0.get(&service.id) == Some(&service.tags)
    }
}

/// What to ask of the catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// What is missing or stands differently; `None` when nothing is.
    pub register: Option<CatalogRegistration>,
    /// What the host does not know (any more); `None` when nothing is.
    pub deregister: Option<CatalogDeregistration>,
}

impl Differences {
    /// Whether the catalog is true to the host.
    pub fn is_empty(&self) -> bool {
        self.register.is_none() && self.deregister.is_none()
    }

    /// Cuts a registration into several that are small enough for one message and one entry of
    /// the log each.
    ///
    /// **Shape**: in order, at least one. A check comes with its instance, so that none is
    /// ever seen healthier than it is; `records_max` bounds instances and checks together, but
    /// an instance is never parted from its checks.
    pub fn batches(
        registration: CatalogRegistration,
        records_max: usize,
    ) -> Vec<CatalogRegistration> {
        let CatalogRegistration { node, services, checks } = registration;
        let mut by_service: BTreeMap<Option<InstanceId>, Vec<HealthCheck>> = BTreeMap::new();
        for check in checks {
            by_service.entry(check.service_id.clone()).or_default().push(check);
        }
        let mut batches = Vec::new();
        let mut batch =
            CatalogRegistration { node: node.clone(), services: Vec::new(), checks: Vec::new() };
        let mut add = |service: Option<Service>, checks: Vec<HealthCheck>| {
            if batch.services.len() + batch.checks.len() >= records_max {
                let empty = CatalogRegistration {
                    node: node.clone(),
                    services: Vec::new(),
                    checks: Vec::new(),
                };
                batches.push(std::mem::replace(&mut batch, empty));
            }
            batch.services.extend(service);
            batch.checks.extend(checks);
        };
        for service in services {
            let checks = by_service.remove(&Some(service.id.clone())).unwrap_or_default();
            add(Some(service), checks);
        }
        for check in by_service.into_values().flatten() {
            add(None, vec![check]);
        }
        batches.push(batch);
        batches
    }

    /// Returns what the catalog holds once all of this is carried out on what it `held`.
    pub fn applied_to(&self, held: CatalogRegistration) -> CatalogRegistration {
        let CatalogRegistration { mut node, services, checks } = held;
        let mut services: BTreeMap<InstanceId, Service> =
            services.into_iter().map(|service| (service.id.clone(), service)).collect();
        let mut checks: BTreeMap<CheckId, HealthCheck> =
            checks.into_iter().map(|check| (check.id.clone(), check)).collect();
        if let Some(register) = &self.register {
            node = register.node.clone();
            services.extend(register.services.iter().map(|s| (s.id.clone(), s.clone())));
            checks.extend(register.checks.iter().map(|c| (c.id.clone(), c.clone())));
        }
        if let Some(deregister) = &self.deregister {
            services.retain(|id, _| !deregister.services.contains(id));
            let goes = |id: &InstanceId| deregister.services.contains(id);
            checks.retain(|id, check| {
                !deregister.checks.contains(id) && !check.service_id.as_ref().is_some_and(goes)
            });
        }
        let (services, checks) = (services.into_values().collect(), checks.into_values().collect());
        CatalogRegistration { node, services, checks }
    }
}

/// Compares what the host says with what the catalog holds for its node.
///
/// The host wins, with these exceptions: tags of instances that allow others to change them
/// stay as the catalog has them unless the host has `told` other ones, as do the virtual addresses
/// that servers add; the check [`SERF_HEALTH`] is registered when it is missing from the catalog and
/// never touched after.
///
/// **Source**: Consul: agent/config, `enable_tag_override`. Patroni sets it, and moves the tag of its
/// leader by registering again.
pub fn diff(
    local: &CatalogRegistration,
    remote: Option<&CatalogRegistration>,
    told: &TagsTold,
    outputs: Outputs,
) -> Differences {
    let Some(remote) = remote else {
        return Differences { register: Some(local.clone()), deregister: None };
    };
    let (services, gone_services) = diff_services(local, remote, told);
    let (checks, gone_checks) = diff_checks(local, remote, outputs, &gone_services);
    let node_differs = !same_node(&local.node, &remote.node);
    let register = (node_differs || !services.is_empty() || !checks.is_empty())
        .then(|| CatalogRegistration { node: local.node.clone(), services, checks });
    let deregister =
        (!gone_services.is_empty() || !gone_checks.is_empty()).then(|| CatalogDeregistration {
            node: local.node.name.clone(),
            services: gone_services.into_iter().cloned().collect(),
            checks: gone_checks,
        });
    Differences { register, deregister }
}

fn diff_services<'a>(
    local: &CatalogRegistration,
    remote: &'a CatalogRegistration,
    told: &TagsTold,
) -> (Vec<Service>, BTreeSet<&'a InstanceId>) {
    let held: BTreeMap<&InstanceId, &Service> =
        remote.services.iter().map(|service| (&service.id, service)).collect();
    let wanted = local
        .services
        .iter()
        .map(|service| as_the_catalog_should_have_it(service, held.get(&service.id).copied(), told))
        .filter(|service| held.get(&service.id).is_none_or(|held| !same_service(service, held)))
        .collect();
    let known: BTreeSet<&InstanceId> = local.services.iter().map(|service| &service.id).collect();
    (wanted, held.into_keys().filter(|id| !known.contains(id)).collect())
}

fn diff_checks(
    local: &CatalogRegistration,
    remote: &CatalogRegistration,
    outputs: Outputs,
    gone_services: &BTreeSet<&InstanceId>,
) -> (Vec<HealthCheck>, Vec<CheckId>) {
    let held: BTreeMap<&CheckId, &HealthCheck> =
        remote.checks.iter().map(|check| (&check.id, check)).collect();
    let wanted = local
        .checks
        .iter()
        .filter(|check| match held.get(&check.id) {
            None => true,
            Some(held) => check.id.as_str() != SERF_HEALTH && !same_check(check, held, outputs),
        })
        .cloned()
        .collect();
    let known: BTreeSet<&CheckId> = local.checks.iter().map(|check| &check.id).collect();
    let goes_with_service = |check: &HealthCheck| {
        check.service_id.as_ref().is_some_and(|id| gone_services.contains(id))
    };
    let gone = held
        .into_values()
        .filter(|check| !known.contains(&check.id) && check.id.as_str() != SERF_HEALTH)
        .filter(|check| !goes_with_service(check))
        .map(|check| check.id.clone())
        .collect();
    (wanted, gone)
}

/// Tagged addresses that the servers give to services; hosts do not know them.
fn is_given_by_servers(tag: &str) -> bool {
    matches!(tag, "virtual" | "consul-virtual")
}

fn as_the_catalog_should_have_it(
    local: &Service,
    held: Option<&Service>,
    told: &TagsTold,
) -> Service {
    let mut service = local.clone();
    if let Some(held) = held {
        if service.enable_tag_override && told.still_has(local) {
            service.tags.clone_from(&held.tags);
        }
        let given = held.tagged_addresses.iter().filter(|(tag, _)| is_given_by_servers(tag));
        service.tagged_addresses.extend(given.map(|(tag, address)| (tag.clone(), address.clone())));
    }
    service
}

fn same_node(a: &Node, b: &Node) -> bool {
    let plain = |node: &Node| Node {
        create_index: Index::default(),
        modify_index: Index::default(),
        ..node.clone()
    };
    plain(a) == plain(b)
}

fn same_service(a: &Service, b: &Service) -> bool {
    let plain = |service: &Service| Service {
        create_index: Index::default(),
        modify_index: Index::default(),
        ..service.clone()
    };
    plain(a) == plain(b)
}

fn same_check(a: &HealthCheck, b: &HealthCheck, outputs: Outputs) -> bool {
    let plain = |check: &HealthCheck| HealthCheck {
        create_index: Index::default(),
        modify_index: Index::default(),
        output: match outputs {
            Outputs::Compared => check.output.clone(),
            Outputs::Ignored => String::new(),
        },
        ..check.clone()
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests;
