//! How a proxy calls one upstream: as its registration says, else as the entry of the service that it speaks
//! for does.

use std::time::Duration;

use super::doors::{Door, Doors};
use crate::catalog::ServiceInstance;
use crate::chain::{ChainNode, CompiledChain, Endpoint, Target, subset, tell_tiers};
use crate::config_entry::{LocalityMode, Protocol, ServiceDefaults, UpstreamConfig};
use crate::name::InstanceId;

/// Returns how the upstream behind a door is called.
pub(super) fn calls(door: &Door, own: Option<&ServiceDefaults>) -> UpstreamConfig {
    let entry = own.and_then(|own| own.upstream_config.as_ref());
    let entry = entry.map(|configs| configs.of(&door.destination)).unwrap_or_default();
    // What cannot be read is told as a problem, and keeps no call from being made.
    let said = door.config.as_ref().ok().map(|config| (**config).clone());
    said.unwrap_or_default().over(entry)
}

/// Puts into a chain what the caller has its own way.
///
/// **Source**: Consul: the compiler's `OverrideConnectTimeout` and `OverrideProtocol`. Differs: requests stay requests
/// and bytes stay bytes, as the proxy there would not understand the other.
pub(super) fn put_into(chain: &mut CompiledChain, calls: &UpstreamConfig) {
    if calls.connect_timeout_ms > 0 {
        let timeout = Duration::from_millis(calls.connect_timeout_ms.into());
        for node in chain.nodes.values_mut() {
            match node {
                ChainNode::Resolver(resolver) => resolver.connect_timeout = timeout,
                ChainNode::Router(_) | ChainNode::Splitter(_) => {}
            }
        }
    }
    if let Some(protocol) = calls.protocol.filter(|protocol| is_same_kind(*protocol, chain)) {
        chain.protocol = protocol;
    }
}

/// Leaves to a proxy those endpoints of a target that it is to call.
pub(super) fn subset_of(
    target: &Target,
    endpoints: Vec<Endpoint>,
    proxy: &InstanceId,
) -> Vec<Endpoint> {
    let settings = target.load_balancer.as_ref().and_then(|balancer| balancer.subset.as_ref());
    match settings {
        Some(settings) => subset(endpoints, settings.size, proxy.as_str()),
        None => endpoints,
    }
}

/// Says how far each endpoint of a target is, where near ones come first and somebody has said where the proxy is.
pub(super) fn near_first(
    target: &Target,
    (mut endpoints, instances): (Vec<Endpoint>, &[ServiceInstance]),
    doors: &Doors,
) -> Vec<Endpoint> {
    match (target.locality, &doors.locality) {
        (LocalityMode::Failover, Some(own)) => tell_tiers(&mut endpoints, instances, own),
        (LocalityMode::Failover, None) | (LocalityMode::None | LocalityMode::Unset, _) => {}
    }
    endpoints
}

/// Says what of how a service is called cannot be, with that chain.
pub(super) fn problem(
    chain: &CompiledChain,
    door: &Door,
    own: Option<&ServiceDefaults>,
) -> Option<String> {
    if let Err(reason) = &door.config {
        return Some(reason.clone());
    }
    let calls = calls(door, own);
    let protocol = calls.protocol.filter(|protocol| !is_same_kind(*protocol, chain))?;
    let spoken = chain.protocol;
    Some(format!(
        "Protocol: {protocol} cannot be spoken with a service of {spoken}; {spoken} is spoken"
    ))
}

fn is_same_kind(protocol: Protocol, chain: &CompiledChain) -> bool {
    protocol == chain.protocol || protocol.is_http_like() && chain.protocol.is_http_like()
}
