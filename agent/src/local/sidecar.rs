//! The sidecar that a service brings along: defaults from its application, and its port.
//!
//! **Source**: Consul: docs/connect/proxies/deploy-sidecar-services#sidecar-service-defaults.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use weft_core::catalog::{CheckDefinition, Service, ServiceDefinition};
use weft_core::name::InstanceId;
use weft_core::time::Span;

use super::definition::Surroundings;
use super::faults::Faults;

/// Ports given to sidecars that ask for none (Consul: `sidecar_min_port`, `sidecar_max_port`).
const PORTS: RangeInclusive<u16> = 21_000..=21_255;

/// Returns the id of the sidecar that belongs to an instance.
pub(super) fn id_of(application: &InstanceId) -> String {
    format!("{application}-sidecar-proxy")
}

/// Returns the first port of the range that no local service has.
pub(super) fn free_port<'a>(services: impl Iterator<Item = &'a Service>) -> Option<u16> {
    let taken: BTreeSet<u16> = services.map(|service| service.port).collect();
    PORTS.into_iter().find(|port| !taken.contains(port))
}

/// Fills in what the sidecar's definition leaves to its application.
pub(super) fn expand(
    wanted: &ServiceDefinition,
    application: &Service,
    surroundings: &Surroundings,
    faults: &mut Faults,
) -> Option<ServiceDefinition> {
    let mut sidecar = wanted.clone();
    refuse_what_is_not_its_own(&sidecar, application, faults);
    sidecar.kind = "connect-proxy".to_owned();
    sidecar.id = id_of(&application.id);
    if sidecar.name.is_empty() {
        sidecar.name = format!("{}-sidecar-proxy", application.name);
    }
    if sidecar.locality.is_none() {
        sidecar.locality.clone_from(&application.locality);
    }
    if sidecar.tags.is_empty() {
        sidecar.tags.clone_from(&application.tags);
    }
    if sidecar.meta.is_empty() {
        sidecar.meta.clone_from(&application.meta);
    }
    if sidecar.port == 0 {
        match surroundings.sidecar_port {
            Some(port) => sidecar.port = port,
            None => {
                let (first, last) = (PORTS.start(), PORTS.end());
                faults.add("Port", format!("none of {first} to {last} is free; give one"));
                return None;
            }
        }
    }
    let proxy = sidecar.proxy.get_or_insert_default();
    proxy.destination_service_name.get_or_insert_with(|| application.name.clone());
    proxy.destination_service_id.get_or_insert_with(|| application.id.clone());
    if proxy.local_service_socket_path.is_none() {
        if proxy.local_service_address.is_empty() {
            proxy.local_service_address = Ipv4Addr::LOCALHOST.to_string();
        }
        if proxy.local_service_port == 0 {
            proxy.local_service_port = application.port;
        }
    }
    if sidecar.check.is_none() && sidecar.checks.is_empty() {
        sidecar.check = Some(listening_check(&sidecar, surroundings.bind_addr));
    }
    Some(sidecar)
}

fn refuse_what_is_not_its_own(
    sidecar: &ServiceDefinition,
    application: &Service,
    faults: &mut Faults,
) {
    if !matches!(sidecar.kind.as_str(), "" | "connect-proxy") {
        faults.add("Kind", "a sidecar is always a \"connect-proxy\"; leave it out");
    }
    let id = id_of(&application.id);
    if !sidecar.id.is_empty() && sidecar.id != id {
        faults.add(
            "ID",
            format!("a sidecar's id is made from its application's ({id:?}); leave it out"),
        );
    }
    if sidecar.connect.as_ref().is_some_and(|connect| connect.sidecar_service.is_some()) {
        faults.add("Connect.SidecarService", "a sidecar has no sidecar of its own");
    }
}

/// Whether the sidecar's public door is open. The application's own health is counted with the
/// sidecar's by the servers, so no alias check is added.
fn listening_check(sidecar: &ServiceDefinition, bind_addr: IpAddr) -> CheckDefinition {
    let host = match (sidecar.address.as_str(), bind_addr) {
        ("", ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        ("", ip) => ip.to_string(),
        (address, _) => address.to_owned(),
    };
    let address = match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, sidecar.port).to_string(),
        Err(_) => format!("{host}:{}", sidecar.port),
    };
    CheckDefinition {
        name: "Connect Sidecar Listening".to_owned(),
        tcp: address,
        interval: Some(Span::seconds(10)),
        ..CheckDefinition::default()
    }
}
