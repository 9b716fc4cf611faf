//! Config entries: what operators write to shape traffic and authorisation.
//!
//! One file per kind, with the record and the checks that concern that entry alone. What
//! several entries mean together is compiled by `chain` and judged by `intention`.

mod findings;
mod header_match;
mod kind;
mod proxy_defaults;
mod service_defaults;
mod service_intentions;
mod service_resolver;
mod service_router;
mod service_splitter;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use header_match::{HeaderMatch, QueryMatch};
pub use kind::{EntryKey, EntryKind, UnknownKind};
pub use proxy_defaults::ProxyDefaults;
pub use service_defaults::{Protocol, ServiceDefaults, UnknownProtocol};
pub use service_intentions::{
    IntentionAction, IntentionSource, ServiceIntentions, SourceName, precedence,
};
pub use service_resolver::{ResolverRedirect, ResolverSubset, ServiceResolver};
pub use service_router::{HttpMatch, RouteDestination, RouteMatch, ServiceRoute, ServiceRouter};
pub use service_splitter::{ServiceSplit, ServiceSplitter, Weight};

use crate::index::Index;
use crate::name::InvalidName;

/// Any config entry.
///
/// **Source**: Consul: docs/connect/config-entries. `Kind` is the tag in the public JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Kind", rename_all = "kebab-case")]
pub enum ConfigEntry {
    /// Defaults of all proxies.
    ProxyDefaults(ProxyDefaults),
    /// Defaults of one service.
    ServiceDefaults(ServiceDefaults),
    /// Who may call one service.
    ServiceIntentions(ServiceIntentions),
    /// What the instances of one service are, and where else to look for it.
    ServiceResolver(ServiceResolver),
    /// Where requests to one service go by their content.
    ServiceRouter(ServiceRouter),
    /// Where requests to one service go by weight.
    ServiceSplitter(ServiceSplitter),
}

/// States what is wrong with one config entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// A field has a value that it must not have.
    #[error("{field}: {reason}")]
    Field {
        /// The field's path, e.g. `Splits[0].Weight`.
        field: String,
        /// Why, and what to write instead.
        reason: String,
    },
    /// The entry's name is not a name.
    #[error("Name: {0}")]
    Name(#[from] InvalidName),
}

impl InvalidEntry {
    /// Makes an error about one field.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field { field: field.into(), reason: reason.into() }
    }
}

impl ConfigEntry {
    /// Checks what concerns the entry alone and brings it into the form that is stored: words in
    /// their usual case, sources by precedence, defaults that were written out left out.
    ///
    /// # Errors
    /// Everything found wrong, by field.
    pub fn normalise(self) -> Result<Self, Vec<InvalidEntry>> {
        Ok(match self {
            Self::ProxyDefaults(entry) => Self::ProxyDefaults(entry.normalise()?),
            Self::ServiceDefaults(entry) => Self::ServiceDefaults(entry.normalise()?),
            Self::ServiceIntentions(entry) => Self::ServiceIntentions(entry.normalise()?),
            Self::ServiceResolver(entry) => Self::ServiceResolver(entry.normalise()?),
            Self::ServiceRouter(entry) => Self::ServiceRouter(entry.normalise()?),
            Self::ServiceSplitter(entry) => Self::ServiceSplitter(entry.normalise()?),
        })
    }

    /// Returns the entry's kind.
    pub fn kind(&self) -> EntryKind {
        match self {
            Self::ProxyDefaults(_) => EntryKind::ProxyDefaults,
            Self::ServiceDefaults(_) => EntryKind::ServiceDefaults,
            Self::ServiceIntentions(_) => EntryKind::ServiceIntentions,
            Self::ServiceResolver(_) => EntryKind::ServiceResolver,
            Self::ServiceRouter(_) => EntryKind::ServiceRouter,
            Self::ServiceSplitter(_) => EntryKind::ServiceSplitter,
        }
    }

    /// Returns the entry's name.
    pub fn name(&self) -> &str {
        match self {
            Self::ProxyDefaults(entry) => &entry.name,
            Self::ServiceDefaults(entry) => entry.name.as_str(),
            Self::ServiceIntentions(entry) => entry.name.as_str(),
            Self::ServiceResolver(entry) => entry.name.as_str(),
            Self::ServiceRouter(entry) => entry.name.as_str(),
            Self::ServiceSplitter(entry) => entry.name.as_str(),
        }
    }

    /// Returns the entry if it is defaults of all proxies.
    pub fn as_proxy_defaults(&self) -> Option<&ProxyDefaults> {
        if let Self::ProxyDefaults(entry) = self { Some(entry) } else { None }
    }

    /// Returns the entry if it is defaults of a service.
    pub fn as_service_defaults(&self) -> Option<&ServiceDefaults> {
        if let Self::ServiceDefaults(entry) = self { Some(entry) } else { None }
    }

    /// Returns the entry if it is intentions.
    pub fn as_service_intentions(&self) -> Option<&ServiceIntentions> {
        if let Self::ServiceIntentions(entry) = self { Some(entry) } else { None }
    }

    /// Returns the entry if it is a resolver.
    pub fn as_service_resolver(&self) -> Option<&ServiceResolver> {
        if let Self::ServiceResolver(entry) = self { Some(entry) } else { None }
    }

    /// Returns the entry if it is a router.
    pub fn as_service_router(&self) -> Option<&ServiceRouter> {
        if let Self::ServiceRouter(entry) = self { Some(entry) } else { None }
    }

    /// Returns the entry if it is a splitter.
    pub fn as_service_splitter(&self) -> Option<&ServiceSplitter> {
        if let Self::ServiceSplitter(entry) = self { Some(entry) } else { None }
    }

    /// Returns what the entry is found by.
    pub fn key(&self) -> EntryKey {
        EntryKey { kind: self.kind(), name: self.name().into() }
    }

    /// Returns when the entry was created and last changed.
    pub fn indexes(&self) -> (Index, Index) {
        match self {
            Self::ProxyDefaults(entry) => (entry.create_index, entry.modify_index),
            Self::ServiceDefaults(entry) => (entry.create_index, entry.modify_index),
            Self::ServiceIntentions(entry) => (entry.create_index, entry.modify_index),
            Self::ServiceResolver(entry) => (entry.create_index, entry.modify_index),
            Self::ServiceRouter(entry) => (entry.create_index, entry.modify_index),
            Self::ServiceSplitter(entry) => (entry.create_index, entry.modify_index),
        }
    }

    /// Returns the entry with the given indexes.
    pub fn with_indexes(mut self, create: Index, modify: Index) -> Self {
        let (create_index, modify_index) = match &mut self {
            Self::ProxyDefaults(entry) => (&mut entry.create_index, &mut entry.modify_index),
            Self::ServiceDefaults(entry) => (&mut entry.create_index, &mut entry.modify_index),
            Self::ServiceIntentions(entry) => (&mut entry.create_index, &mut entry.modify_index),
            Self::ServiceResolver(entry) => (&mut entry.create_index, &mut entry.modify_index),
            Self::ServiceRouter(entry) => (&mut entry.create_index, &mut entry.modify_index),
            Self::ServiceSplitter(entry) => (&mut entry.create_index, &mut entry.modify_index),
        };
        (*create_index, *modify_index) = (create, modify);
        self
    }
}
