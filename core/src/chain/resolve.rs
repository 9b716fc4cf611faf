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
        let mut stand = Stand {
            service: service.clone(),
            subset: subset.to_owned(),
            datacenter: self.datacenter.clone(),
        };
        let mut asked_by = place.clone();
        let mut way = vec![stand.id()];
        loop {
            if !self.agrees(&stand.service, &asked_by) {
                return None;
            }
            let entry = self.entries.resolver(&stand.service);
            let Some((next, field)) = entry.and_then(|entry| redirected(entry, &stand)) else {
                return self.target(stand, entry, &asked_by);
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

    /// Whether a service speaks what the chain's own service speaks.
    fn agrees(&mut self, service: &ServiceName, place: &Place) -> bool {
        let (own, other) = (self.protocol, self.entries.protocol(service));
        if own == other {
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

    fn target(
        &mut self,
        stand: Stand,
        entry: Option<&ServiceResolver>,
        place: &Place,
    ) -> Option<String> {
        if let Some(entry) = entry {
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
        let node = ResolverNode {
            target: id.clone(),
            connect_timeout: entry
                .and_then(|entry| entry.connect_timeout)
                .map_or(CONNECT_TIMEOUT_DEFAULT, |timeout| timeout.0),
            request_timeout: entry
                .and_then(|entry| entry.request_timeout)
                .map_or(REQUEST_TIMEOUT_DEFAULT, |timeout| timeout.0),
        };
        let name = format!("resolver:{id}");
        if self.nodes.contains_key(&name) {
            return Some(name);
        }
        let trust_domain = self.trust_domain;
        let Stand { service, subset: service_subset, datacenter } = stand;
        let dot = if service_subset.is_empty() { "" } else { "." };
        let target = Target {
            id: id.clone(),
            filter: subset.map(|subset| subset.filter.clone()).unwrap_or_default(),
            only_passing: subset.is_some_and(|subset| subset.only_passing),
            sni: format!(
                "{service_subset}{dot}{service}.default.{datacenter}.internal.{trust_domain}"
            ),
            spiffe_id: SpiffeId::service(trust_domain.clone(), datacenter.clone(), service.clone()),
            service,
            service_subset,
            datacenter,
        };
        self.targets.insert(id, target);
        self.add(name, ChainNode::Resolver(node), place)
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
