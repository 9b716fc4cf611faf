//! What an assembler watches, and what comes of it.

use std::sync::Arc;

use super::JwtKeys;
use crate::ca::{Leaf, TrustBundle};
use crate::catalog::{CapturedUpstreams, ServiceInstance};
use crate::chain::CompiledChain;
use crate::config_entry::{MeshTls, ServiceDefaults};
use crate::intention::IntentionSet;
use crate::name::ServiceName;

/// Something to watch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watch {
    /// What a service calls when its calls are captured.
    CapturedUpstreams(ServiceName),
    /// The discovery chain of a service.
    Chain(ServiceName),
    /// The sidecars and native instances that speak for a service.
    Connect(ServiceName),
    /// Who may call a service.
    Intentions(ServiceName),
    /// The public keys of a provider of tokens.
    JwtKeys(ServiceName),
    /// The certificate of a local service.
    Leaf(ServiceName),
    /// Which TLS proxies speak with each other.
    MeshTls,
    /// Whom to trust.
    Roots,
    /// What a service speaks, and its limits.
    ServiceDefaults(ServiceName),
}

/// The newest value of something watched.
#[derive(Debug, Clone)]
pub enum Update {
    /// What a service calls when its calls are captured.
    CapturedUpstreams(ServiceName, Arc<CapturedUpstreams>),
    /// A chain, or why there is none.
    Chain(ServiceName, Result<Arc<CompiledChain>, Arc<str>>),
    /// The instances that speak for a service, also critical ones.
    Connect(ServiceName, Arc<Vec<ServiceInstance>>),
    /// Who may call a service.
    Intentions(ServiceName, Arc<IntentionSet>),
    /// The public keys of a provider of tokens.
    JwtKeys(ServiceName, JwtKeys),
    /// The certificate of a local service.
    Leaf(ServiceName, Arc<Leaf>),
    /// Which TLS proxies speak with each other.
    MeshTls(Arc<MeshTls>),
    /// Whom to trust.
    Roots(Arc<TrustBundle>),
    /// What a service speaks; its protocol is resolved.
    ServiceDefaults(ServiceName, Arc<ServiceDefaults>),
}

impl Update {
    /// Returns the watch that it answers.
    pub fn watch(&self) -> Watch {
        match self {
            Self::CapturedUpstreams(name, _) => Watch::CapturedUpstreams(name.clone()),
            Self::Chain(name, _) => Watch::Chain(name.clone()),
            Self::Connect(name, _) => Watch::Connect(name.clone()),
            Self::Intentions(name, _) => Watch::Intentions(name.clone()),
            Self::JwtKeys(name, _) => Watch::JwtKeys(name.clone()),
            Self::Leaf(name, _) => Watch::Leaf(name.clone()),
            Self::MeshTls(_) => Watch::MeshTls,
            Self::Roots(_) => Watch::Roots,
            Self::ServiceDefaults(name, _) => Watch::ServiceDefaults(name.clone()),
        }
    }
}
