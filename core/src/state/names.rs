//! The names of services with their tags, kept up with the catalog: a list of all services is
//! asked for often, and would else be made of every instance there is.

use imbl::OrdMap;

use super::query::ServiceTags;
use crate::catalog::Service;
use crate::name::ServiceName;

/// Each name as it is registered, with how many instances have it and each tag.
///
/// **Shape**: derived from the nodes' rows; a name or tag that nobody has is absent.
#[derive(Debug, Default, Clone)]
pub(super) struct ServiceNames(OrdMap<ServiceName, Held>);

#[derive(Debug, Default, Clone)]
struct Held {
    instances: usize,
    tags: OrdMap<String, usize>,
}

impl ServiceNames {
    /// Counts an instance in.
    pub(super) fn add(&mut self, service: &Service) {
        let held = self.0.entry(service.name.clone()).or_default();
        held.instances += 1;
        for tag in &service.tags {
            *held.tags.entry(tag.clone()).or_default() += 1;
        }
    }

    /// Counts an instance out that was counted in.
    pub(super) fn remove(&mut self, service: &Service) {
        let Some(held) = self.0.get_mut(&service.name) else { return };
        held.instances = held.instances.saturating_sub(1);
        if held.instances == 0 {
            self.0.remove(&service.name);
            return;
        }
        for tag in &service.tags {
            let count = held.tags.get_mut(tag).map(|count| {
                *count = count.saturating_sub(1);
                *count
            });
            if count == Some(0) {
                held.tags.remove(tag);
            }
        }
    }

    /// Returns the name as it is held, so that equal names share their text.
    pub(super) fn shared(&self, name: &ServiceName) -> ServiceName {
        self.0.get_key_value(name).map_or(name, |(held, _)| held).clone()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn with_tags(&self) -> ServiceTags {
        let tags = |held: &Held| held.tags.keys().cloned().collect();
        self.0.iter().map(|(name, held)| (name.clone(), tags(held))).collect()
    }
}
