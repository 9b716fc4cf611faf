//! Which instances of a target may be called.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::{Endpoint, Target};
use crate::catalog::{CheckStatus, Locality, ServiceInstance};
use crate::filter::{Filter, SERVICE_INSTANCE};

/// Chooses the usable ones of the sidecars and native instances that speak for a service.
///
/// A subset's filter is about the application, but sees the sidecar's registration: tags,
/// metadata, node and weights are the same there, because a sidecar inherits them, while
/// `Service.ID`, `Service.Service`, `Service.Port` and `Service.Kind` are the sidecar's own.
///
/// Left out are instances that speak for another spelling of the service's name: they have
/// another identity, which callers refuse. Left out are instances in another datacenter, those with a critical check (or a warning,
/// where the target wants passing ones only), and those without an IP address and port: a proxy
/// asks no DNS.
///
/// **Shape**: by address, each once; weights are at least 1, so that an instance that is alone
/// is used whatever its weight.
pub fn select(target: &Target, instances: &[ServiceInstance]) -> Vec<Endpoint> {
    let worst = if target.only_passing { CheckStatus::Passing } else { CheckStatus::Warning };
    let filter = match target.filter.is_empty() {
        true => None,
        false => match Filter::parse_for(&target.filter, &SERVICE_INSTANCE) {
            Ok(filter) => Some(filter),
            // The compiler lets no such target through; calling everyone would be worse.
            Err(_) => return Vec::new(),
        },
    };
    let mut endpoints: Vec<Endpoint> = instances
        .iter()
        .filter(|instance| instance.service.mesh_door_of() == Some(&target.service))
        .filter(|instance| instance.node.datacenter == target.datacenter)
        .filter(|instance| instance.status() <= worst)
        .filter(|instance| filter.as_ref().is_none_or(|filter| filter.matches_record(instance)))
        .filter_map(endpoint)
        .collect();
    endpoints.sort();
    endpoints.dedup_by(|a, b| a.address == b.address);
    endpoints
}

/// Says how far each endpoint is from a caller: of the same zone, of the same region, elsewhere.
///
/// **Source**: Consul: docs/connect/config-entries/service-resolver#prioritizebylocality.
pub fn tell_tiers(endpoints: &mut [Endpoint], instances: &[ServiceInstance], own: &Locality) {
    let known: BTreeMap<SocketAddr, u8> = instances
        .iter()
        .filter_map(|instance| {
            let there = instance.service.locality.as_ref();
            Some((endpoint(instance)?.address, tier(own, there)))
        })
        .collect();
    for endpoint in endpoints {
        endpoint.tier = known.get(&endpoint.address).copied().unwrap_or(ELSEWHERE);
    }
}

/// Of those whose region is another one, or not known.
const ELSEWHERE: u8 = 2;

fn tier(own: &Locality, there: Option<&Locality>) -> u8 {
    match there {
        Some(there) if there.region != own.region => ELSEWHERE,
        Some(there) if there.zone == own.zone => 0,
        Some(_) => 1,
        None => ELSEWHERE,
    }
}

fn endpoint(instance: &ServiceInstance) -> Option<Endpoint> {
    let ip: IpAddr = instance.address().parse().ok()?;
    let port = Some(instance.service.port).filter(|port| *port != 0)?;
    Some(Endpoint {
        address: SocketAddr::new(ip, port),
        weight: instance.weight().max(1),
        instance: instance.service.id.clone(),
        tier: 0,
    })
}
