//! What exists in the mesh: nodes, service instances, checks, and how they are registered.
//!
//! Records carry serde for one shape, the public JSON (Consul's field names). How they are
//! stored and looked up is `state`'s affair.

mod check;
mod check_definition;
mod instance;
mod node;
mod registration;
mod service;
mod virtual_ip;

pub use check::{CheckDefinition, CheckStatus, HealthCheck, InvalidStatus, SERF_HEALTH};
pub use check_definition::HealthCheckDefinition;
pub use instance::{ServiceInstance, aggregate_status};
pub use node::{Node, TaggedAddress};
pub use registration::{
    CatalogDeregistration, CatalogRegistration, ConnectDefinition, ServiceDefinition, Unheeded,
};
pub use service::{
    Connect, Locality, ProxyConfig, SOCKET_MODE_DEFAULT, Service, ServiceKind, ServicePort,
    Upstream, Weights,
};
pub use virtual_ip::{
    CapturedUpstream, CapturedUpstreams, NotVirtual, PROBE_IP, PROBE_IPV6, VIRTUAL_TAG, VirtualIp,
};
