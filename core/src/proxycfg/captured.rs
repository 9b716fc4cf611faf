//! Calls that the host redirects: whether a proxy takes them, where, and for which services.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::CapturedConfig;
use super::doors::{Door, Doors};
use crate::capture::OUTBOUND_PORT;
use crate::catalog::{CapturedUpstream, CapturedUpstreams, VirtualIp};
use crate::config_entry::{ProxyMode, ServiceDefaults, UpstreamConfig};
use crate::limits;
use crate::name::ServiceName;

/// Returns the port on which a proxy takes captured calls: as its registration says, else as the
/// entries do; `None` where none are captured.
pub(super) fn port(doors: &Doors, defaults: &ServiceDefaults) -> Option<u16> {
    let mode = match doors.mode {
        ProxyMode::Unset => defaults.mode,
        said @ (ProxyMode::Direct | ProxyMode::Transparent) => said,
    };
    let ports = [&doors.transparent_proxy, &defaults.transparent_proxy];
    let said = ports.into_iter().map(|it| it.outbound_listener_port).find(|port| *port != 0);
    match mode {
        ProxyMode::Transparent => Some(said.unwrap_or(OUTBOUND_PORT)),
        ProxyMode::Direct | ProxyMode::Unset => None,
    }
}

/// Says how captured calls are met.
pub(super) fn config(port: u16, upstreams: &CapturedUpstreams) -> CapturedConfig {
    let binds = vec![
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ];
    CapturedConfig { binds, destinations_only: upstreams.destinations_only }
}

/// Returns the doors of services that the registration does not name: they have no listener.
pub(super) fn further_doors(doors: &Doors, captured: &CapturedUpstreams) -> Vec<Door> {
    let is_named =
        |it: &CapturedUpstream| doors.upstreams.iter().any(|door| door.destination == it.service);
    let door = |it: &CapturedUpstream| Door {
        destination: it.service.clone(),
        bind: SocketAddr::from((it.virtual_ip.v4(), 0)).into(),
        socket_mode: None,
        config: Ok(Box::<UpstreamConfig>::default()),
    };
    captured.upstreams.iter().filter(|it| !is_named(it)).map(door).collect()
}

/// Returns the address that stands for a service.
pub(super) fn virtual_ip(
    captured: Option<&CapturedUpstreams>,
    service: &ServiceName,
) -> Option<VirtualIp> {
    let mut upstreams = captured?.upstreams.iter();
    upstreams.find(|it| it.service == *service).map(|it| it.virtual_ip)
}

/// Says that there are more services than a proxy takes calls to.
pub(super) fn problem(captured: &CapturedUpstreams) -> Option<String> {
    (captured.left_out > 0).then(|| {
        format!(
            "Mode: captured calls reach the first {} services that intentions allow, not {} more; \
             name what is called in Upstreams, or allow less",
            limits::UPSTREAMS_PER_PROXY_MAX,
            captured.left_out
        )
    })
}
