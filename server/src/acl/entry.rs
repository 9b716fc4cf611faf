//! Which rights a config entry needs, kind by kind.
//!
//! **Source**: Consul: docs/connect/config-entries, "ACL Required".

use weft_core::acl::{Denial, Permission, Resource};
use weft_core::config_entry::{ConfigEntry, EntryKey, EntryKind};

use super::Rights;

pub(super) fn check_entry(rights: &Rights, entry: &ConfigEntry) -> Result<(), Denial> {
    let key = entry.key();
    rights.require(write_entry(&key))?;
    // Who sends a service's traffic elsewhere must at least know of the place.
    let (_, places) = entry.leads_to().unzip();
    for place in places.into_iter().flatten().filter(|place| place.as_str() != entry.name()) {
        rights.require(Permission::read(Resource::Service, place.as_str()))?;
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
        EntryKind::Rollout
        | EntryKind::ServiceDefaults
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
        | EntryKind::Rollout
        | EntryKind::ServiceDefaults
        | EntryKind::ServiceResolver
        | EntryKind::ServiceRouter
        | EntryKind::ServiceSplitter
        | EntryKind::TerminatingGateway => Some(Permission::read(Resource::Service, &key.name)),
    }
}
