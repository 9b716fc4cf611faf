//! Which rights a config entry needs, kind by kind.
//!
//! **Source**: Consul: docs/connect/config-entries, "ACL Required".

use weft_core::acl::{Denial, Permission, Resource};
use weft_core::config_entry::{ConfigEntry, EntryKey, EntryKind};
use weft_core::name::ServiceName;

use super::Rights;

pub(super) fn check_entry(rights: &Rights, entry: &ConfigEntry) -> Result<(), Denial> {
    let key = entry.key();
    rights.require(write_entry(&key))?;
    // Who sends a service's traffic elsewhere must at least know of the place.
    for service in elsewhere(entry) {
        rights.require(Permission::read(Resource::Service, service))?;
    }
    Ok(())
}

/// The right to write or remove an entry.
pub(super) fn write_entry(key: &EntryKey) -> Permission<'_> {
    match key.kind {
        EntryKind::ApiGateway
        | EntryKind::ExportedServices
        | EntryKind::FileSystemCertificate
        | EntryKind::HttpRoute
        | EntryKind::IngressGateway
        | EntryKind::InlineCertificate
        | EntryKind::JwtProvider
        | EntryKind::Mesh
        | EntryKind::ProxyDefaults
        | EntryKind::TcpRoute
        | EntryKind::TerminatingGateway => Permission::write(Resource::Mesh, ""),
        EntryKind::ServiceIntentions => Permission::write(Resource::Intention, &key.name),
        EntryKind::ServiceDefaults
        | EntryKind::ServiceResolver
        | EntryKind::ServiceRouter
        | EntryKind::ServiceSplitter => Permission::write(Resource::Service, &key.name),
    }
}

/// The right to read an entry; `None` for those that every proxy needs.
pub(crate) fn read_entry(key: &EntryKey) -> Option<Permission<'_>> {
    match key.kind {
        EntryKind::Mesh | EntryKind::ProxyDefaults => None,
        EntryKind::ExportedServices
        | EntryKind::FileSystemCertificate
        | EntryKind::HttpRoute
        | EntryKind::InlineCertificate
        | EntryKind::JwtProvider
        | EntryKind::TcpRoute => Some(Permission::read(Resource::Mesh, "")),
        EntryKind::ServiceIntentions => Some(Permission::read(Resource::Intention, &key.name)),
        EntryKind::ApiGateway
        | EntryKind::IngressGateway
        | EntryKind::ServiceDefaults
        | EntryKind::ServiceResolver
        | EntryKind::ServiceRouter
        | EntryKind::ServiceSplitter
        | EntryKind::TerminatingGateway => Some(Permission::read(Resource::Service, &key.name)),
    }
}

/// The other services to which an entry sends traffic of its own service.
fn elsewhere(entry: &ConfigEntry) -> Vec<&str> {
    let services: Vec<Option<&ServiceName>> = match entry {
        ConfigEntry::ServiceResolver(entry) => {
            let failover = entry.failover.values().flat_map(|it| {
                let targets = it.targets.iter().map(|target| target.service.as_ref());
                targets.chain([it.service.as_ref()])
            });
            failover.chain(entry.redirect.iter().map(|it| it.service.as_ref())).collect()
        }
        ConfigEntry::ServiceRouter(entry) => {
            let destinations = entry.routes.iter().filter_map(|route| route.destination.as_ref());
            destinations.map(|it| it.service.as_ref()).collect()
        }
        ConfigEntry::ServiceSplitter(entry) => {
            entry.splits.iter().map(|it| it.service.as_ref()).collect()
        }
        ConfigEntry::ApiGateway(_)
        | ConfigEntry::ExportedServices(_)
        | ConfigEntry::FileSystemCertificate(_)
        | ConfigEntry::HttpRoute(_)
        | ConfigEntry::IngressGateway(_)
        | ConfigEntry::InlineCertificate(_)
        | ConfigEntry::JwtProvider(_)
        | ConfigEntry::Mesh(_)
        | ConfigEntry::ProxyDefaults(_)
        | ConfigEntry::ServiceDefaults(_)
        | ConfigEntry::ServiceIntentions(_)
        | ConfigEntry::TcpRoute(_)
        | ConfigEntry::TerminatingGateway(_) => Vec::new(),
    };
    let others = services.into_iter().flatten().map(ServiceName::as_str);
    others.filter(|service| *service != entry.name()).collect()
}
