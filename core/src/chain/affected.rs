//! Which chains a config entry takes part in, so that a write is checked against those alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{ChainError, EntryLookup, compile};
use crate::config_entry::{ConfigEntry, EntryKey, EntryKind};
use crate::name::{Datacenter, ServiceName, TrustDomain};

/// Checks every chain that an entry takes part in, as it is after the entry was written or
/// deleted.
///
/// `entries` are all that are stored, `lookup` finds them by key.
///
/// # Errors
/// What keeps the first of those chains, by the service's name, from being compiled.
pub fn check_write<'a>(
    key: &EntryKey,
    entries: impl IntoIterator<Item = &'a ConfigEntry>,
    lookup: &dyn EntryLookup,
) -> Result<(), Vec<ChainError>> {
    // Whether entries make a chain does not depend on where they do.
    let datacenter = Datacenter::parse("dc1").expect("a constant that is a name");
    let trust_domain = TrustDomain::parse("mesh").expect("a constant that is a name");
    affected(key, entries)
        .iter()
        .try_for_each(|service| compile(service, &datacenter, &trust_domain, lookup).map(drop))
}

/// Returns the services whose chains may read an entry. A service of which nothing is written
/// has a chain that always compiles, and is left out.
fn affected<'a>(
    key: &EntryKey,
    entries: impl IntoIterator<Item = &'a ConfigEntry>,
) -> BTreeSet<ServiceName> {
    let mut shaped = BTreeSet::new();
    let mut led_to_by: BTreeMap<&str, Vec<&ServiceName>> = BTreeMap::new();
    for entry in entries {
        if let Some((service, leads_to)) = entry.leads_to() {
            shaped.insert(service);
            for next in leads_to {
                led_to_by.entry(next.as_str()).or_default().push(service);
            }
        }
    }
    match key.kind {
        EntryKind::ProxyDefaults => return shaped.into_iter().cloned().collect(),
        EntryKind::ApiGateway
        | EntryKind::ExportedServices
        | EntryKind::FileSystemCertificate
        | EntryKind::HttpRoute
        | EntryKind::IngressGateway
        | EntryKind::InlineCertificate
        | EntryKind::JwtProvider
        | EntryKind::Mesh
        | EntryKind::ServiceIntentions
        | EntryKind::TcpRoute
        | EntryKind::TerminatingGateway => return BTreeSet::new(),
        EntryKind::Rollout
        | EntryKind::ServiceDefaults
        | EntryKind::ServiceResolver
        | EntryKind::ServiceRouter
        | EntryKind::ServiceSplitter => {}
    }
    let mut found = BTreeSet::new();
    let mut open = vec![&*key.name];
    while let Some(name) = open.pop() {
        for service in led_to_by.get(name).into_iter().flatten() {
            if found.insert(*service) {
                open.push(service.as_str());
            }
        }
    }
    found.extend(shaped.iter().find(|service| service.as_str() == &*key.name));
    found.into_iter().cloned().collect()
}
