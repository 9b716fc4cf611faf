//! Which instances of a target a proxy may call.

use crate::catalog::{CheckStatus, ServiceInstance};
use crate::chain::{Endpoint, Target};

/// Chooses the usable sidecars, by address; what a filter would leave out is left out whole.
pub(super) fn select(target: &Target, instances: &[ServiceInstance]) -> Vec<Endpoint> {
    let worst = if target.only_passing { CheckStatus::Passing } else { CheckStatus::Warning };
    if !target.filter.is_empty() {
        return Vec::new();
    }
    let endpoint = |instance: &ServiceInstance| {
        let ip = instance.address().parse().ok()?;
        Some(Endpoint {
            address: std::net::SocketAddr::new(ip, instance.service.port),
            weight: instance.weight().max(1),
            instance: instance.service.id.clone(),
        })
    };
    let mut endpoints: Vec<Endpoint> = instances
        .iter()
        .filter(|instance| instance.status() <= worst)
        .filter_map(endpoint)
        .collect();
    endpoints.sort();
    endpoints
}
