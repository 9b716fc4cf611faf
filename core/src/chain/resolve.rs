//! The end of a chain's ways: redirects followed, subsets looked up, targets made.

use super::compile::{CONNECT_TIMEOUT_DEFAULT, Compiler, REQUEST_TIMEOUT_DEFAULT};
use super::error::Place;
use super::{ChainNode, ResolverNode, Target, TargetId};
use crate::config_entry::{EntryKey, EntryKind, ServiceResolver};
use crate::filter::{Filter, SERVICE_INSTANCE};
use crate::identity::SpiffeId;
use crate::limits;
use crate::name::{Datacenter, ServiceName};

/// Where a way stands while redirects are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stand {
    service: ServiceName,
    /// Empty for the default.
    subset: String,
    datacenter: Datacenter,
}

impl Stand {
    fn id(&self) -> TargetId {
        TargetId::new(&self.service, &self.subset, &self.datacenter)
    }
}

impl Compiler<'_> {
    /// Leads to a service's subset, as its resolver says.
    ///
    /// `place` is who asks for it, and is blamed when it does not exist.
    pub(super) fn resolver(
        &mut self,
        service: &ServiceName,
        subset: &str,
        place: &Place,
    ) -> Option<String> {
        let stand = Stand {
            service: service.clone(),
            subset: subset.to_owned(),
            datacenter: self.datacenter.clone(),
        };
        let (stand, asked_by) = self.follow(stand, place)?;
        let entry = self.entries.resolver(&stand.service);
        let id = self.target(&stand, entry, &asked_by)?;
        let name = format!("resolver:{id}");
        if self.nodes.contains_key(&name) {
            return Some(name);
        }
        let node = ResolverNode {
            target: id,
            failover: self.failover(&stand, entry),
            connect_timeout: self.overrides.connect_timeout.unwrap_or_else(|| {
                let own = entry.and_then(|entry| entry.connect_timeout);
                own.map_or(CONNECT_TIMEOUT_DEFAULT, |timeout| timeout.0)
            }),
            request_timeout: entry
                .and_then(|entry| entry.request_timeout)
                .map_or(REQUEST_TIMEOUT_DEFAULT, |timeout| timeout.0),
        };
        self.add(name, ChainNode::Resolver(node), &asked_by)
    }

    /// Follows redirects to where they end, and says who led there.
    fn follow(&mut self, mut stand: Stand, place: &Place) -> Option<(Stand, Place)> {
        let mut asked_by = place.clone();
        let mut way = vec![stand.id()];
        loop {
            if !self.agrees(&stand.service, &asked_by) {
                return None;
            }
            let entry = self.entries.resolver(&stand.service);
            self.check_external(&stand.service, entry);
            let Some((next, field)) = entry.and_then(|entry| redirected(entry, &stand)) else {
                return Some((stand, asked_by));
            };
            let key = EntryKey::new(EntryKind::ServiceResolver, stand.service.as_str());
            asked_by = Place { entry: key, field: field.to_owned() };
            stand = next;
            if let Err(reason) = step(&mut way, stand.id()) {
                self.error(asked_by, reason);
                return None;
            }
        }
    }

    /// Returns where to go when no instance is healthy. What is tried instead has no failover of
    /// its own, and is never the target itself.
    ///
    /// **Source**: Consul: docs/connect/config-entries/service-resolver#failover: the subset's
    /// own, else that of `*`.
    fn failover(&mut self, from: &Stand, entry: Option<&ServiceResolver>) -> Vec<TargetId> {
        let Some(entry) = entry else { return Vec::new() };
        let own = |name: &str| entry.failover.get_key_value(name);
        let Some((name, failover)) = own(&from.subset).or_else(|| own("*")) else {
            return Vec::new();
        };
        let place = Place {
            entry: EntryKey::new(EntryKind::ServiceResolver, entry.name.as_str()),
            field: format!("Failover.{name}"),
        };
        let mut targets = Vec::new();
        for to in failover.places() {
            let is_other = to.service.as_ref().is_some_and(|service| *service != from.service);
            // A subset is the service's own and means nothing to another one.
            let subset = match is_other || !to.service_subset.is_empty() {
                true => to.service_subset,
                false => from.subset.clone(),
            };
            let stand = Stand {
                service: to.service.unwrap_or_else(|| from.service.clone()),
                subset,
                datacenter: to.datacenter.unwrap_or_else(|| self.datacenter.clone()),
            };
            let Some((stand, asked_by)) = self.follow(stand, &place) else { continue };
            let entry = self.entries.resolver(&stand.service);
            let Some(id) = self.target(&stand, entry, &asked_by) else { continue };
            if id != from.id() && !targets.contains(&id) {
                targets.push(id);
            }
        }
        targets
    }

    /// A service outside the mesh is one thing: nothing of it can be told apart or sent elsewhere.
    fn check_external(&mut self, service: &ServiceName, entry: Option<&ServiceResolver>) {
        let Some(entry) = entry.filter(|_| self.entries.is_external(service)) else { return };
        for (field, is_given) in [
            ("Redirect", entry.redirect.is_some()),
            ("Subsets", !entry.subsets.is_empty()),
            ("Failover", !entry.failover.is_empty()),
        ] {
            if is_given {
                let key = EntryKey::new(EntryKind::ServiceResolver, service.as_str());
                let reason = format!(
                    "service-defaults/{service} has an ExternalSNI or a Destination, with which it must be \
                     left out"
                );
                self.error(Place { entry: key, field: field.to_owned() }, reason);
            }
        }
    }

    /// Whether a service speaks what the chain's own service speaks.
    fn agrees(&mut self, service: &ServiceName, place: &Place) -> bool {
        let (own, other) = (self.protocol, self.entries.protocol(service));
        if own == other || self.overrides.protocol.is_some() {
            return true;
        }
        let reason = format!(
            "{service} speaks {other}, but {} speaks {own}; give them one Protocol in \
             service-defaults",
            self.service
        );
        self.error(place.clone(), reason);
        false
    }

    /// Makes a target of where a way ends.
    fn target(
        &mut self,
        stand: &Stand,
        entry: Option<&ServiceResolver>,
        place: &Place,
    ) -> Option<TargetId> {
        // Once for each service: several of its targets are the usual case.
        if let Some(entry) = entry
            && self.checked.insert(stand.service.clone())
        {
            self.check_filters(entry);
        }
        let subset = entry.and_then(|entry| entry.subsets.get(&stand.subset));
        if subset.is_none() && !stand.subset.is_empty() {
            let known: Vec<&str> =
                entry.iter().flat_map(|entry| entry.subsets.keys().map(String::as_str)).collect();
            let known = match known.is_empty() {
                true => format!("service-resolver/{} names none", stand.service),
                false => format!("it has {}", known.join(", ")),
            };
            let reason = format!("{} has no subset {:?}; {known}", stand.service, stand.subset);
            self.error(place.clone(), reason);
            return None;
        }
        let id = stand.id();
        let trust_domain = self.trust_domain;
        let Stand { service, subset: service_subset, datacenter } = stand.clone();
        let dot = if service_subset.is_empty() { "" } else { "." };
        let target = Target {
            id: id.clone(),
            filter: subset.map(|subset| subset.filter.clone()).unwrap_or_default(),
            only_passing: subset.is_some_and(|subset| subset.only_passing),
            sni: format!(
                "{service_subset}{dot}{service}.default.{datacenter}.internal.{trust_domain}"
            ),
            spiffe_id: SpiffeId::service(trust_domain.clone(), datacenter.clone(), service.clone()),
            outside: self.entries.outside(&service).cloned(),
            load_balancer: entry.and_then(|entry| entry.load_balancer.clone()).map(Box::new),
            locality: self.entries.locality(entry),
            transport: self.entries.transport(&service),
            service,
            service_subset,
            datacenter,
        };
        self.targets.insert(id.clone(), target);
        Some(id)
    }

    /// Every filter of a resolver that is used must be one, also of subsets not used yet.
    fn check_filters(&mut self, entry: &ServiceResolver) {
        for (name, subset) in &entry.subsets {
            let filter = &subset.filter;
            let checked = match filter.is_empty() {
                true => Ok(()),
                false => Filter::parse_for(filter, &SERVICE_INSTANCE).map(drop),
            };
            if let Err(error) = checked {
                let place = Place {
                    entry: EntryKey::new(EntryKind::ServiceResolver, entry.name.as_str()),
                    field: format!("Subsets.{name}.Filter"),
                };
                self.error(place, error.to_string());
            }
        }
    }
}

/// Returns where a resolver sends on, and which field says so; `None` when the way ends here.
fn redirected(entry: &ServiceResolver, stand: &Stand) -> Option<(Stand, &'static str)> {
    if let Some(redirect) = &entry.redirect {
        let mut next = stand.clone();
        if let Some(service) = redirect.service.as_ref().filter(|name| **name != stand.service) {
            // A subset is the service's own and means nothing to another one.
            (next.service, next.subset) = (service.clone(), String::new());
        }
        if !redirect.service_subset.is_empty() {
            next.subset = redirect.service_subset.clone();
        }
        if let Some(datacenter) = &redirect.datacenter {
            next.datacenter = datacenter.clone();
        }
        if next != *stand {
            return Some((next, "Redirect"));
        }
    }
    let defaulted = stand.subset.is_empty() && !entry.default_subset.is_empty();
    let next = || Stand { subset: entry.default_subset.clone(), ..stand.clone() };
    defaulted.then(|| (next(), "DefaultSubset"))
}

/// Notes a step of a way, which must lead neither back nor on for ever.
fn step(way: &mut Vec<TargetId>, next: TargetId) -> Result<(), String> {
    let circle = way.contains(&next);
    way.push(next);
    if circle {
        let way: Vec<&str> = way.iter().map(TargetId::as_str).collect();
        return Err(format!("redirects lead in a circle: {}", way.join(" -> ")));
    }
    match way.len() > limits::CHAIN_DEPTH_MAX {
        true => Err(format!("more than {} redirects follow each other", limits::CHAIN_DEPTH_MAX)),
        false => Ok(()),
    }
}
