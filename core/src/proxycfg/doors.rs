//! From a sidecar's registration to the addresses on which its proxy listens and calls.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use super::Site;
use crate::catalog::{Locality, Service, ServiceKind, Upstream};
use crate::config_entry::{Expose, ProxyMode, TransparentProxy, UpstreamConfig};
use crate::limits;
use crate::local_address::LocalAddress;
use crate::name::{InstanceId, ServiceName};

/// States why a registration is not that of a usable sidecar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSidecar {
    /// An address is a name; a proxy listens on addresses.
    #[error("{field}: {text:?} is not an IP address")]
    Address {
        /// The field of the registration.
        field: &'static str,
        /// What it says.
        text: String,
    },
    /// It says not what it stands for.
    #[error("Proxy.DestinationServiceName is missing")]
    Destination,
    /// It is an application.
    #[error("Kind is not connect-proxy")]
    Kind,
    /// A port is missing.
    #[error("{field} is missing")]
    Port {
        /// The field of the registration.
        field: &'static str,
    },
}

/// Where a proxy listens and calls on its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doors {
    pub(super) proxy_id: InstanceId,
    pub(super) service: ServiceName,
    /// The instance that it stands beside; `None` when the registration does not say it.
    pub(super) instance: Option<InstanceId>,
    pub(super) inbound: SocketAddr,
    pub(super) local_app: LocalAddress,
    /// Where other ports of the local instance are.
    pub(super) local_ip: IpAddr,
    pub(super) expose: Expose,
    /// Where the proxy is, if somebody has said.
    pub(super) locality: Option<Locality>,
    pub(super) proxy_protocol_from: Vec<IpNet>,
    pub(super) mode: ProxyMode,
    pub(super) transparent_proxy: TransparentProxy,
    /// In the order of the registration; no two listen on the same address.
    pub(super) upstreams: Vec<Door>,
    /// Upstreams that cannot be opened, with the reason.
    pub(super) refused: Vec<(ServiceName, String)>,
}

/// Where a proxy listens for calls to one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Door {
    pub(super) destination: ServiceName,
    pub(super) bind: LocalAddress,
    /// Of a unix socket.
    pub(super) socket_mode: Option<u32>,
    /// How it is called, as the registration says; else why that means nothing.
    pub(super) config: Result<Box<UpstreamConfig>, String>,
}

impl Door {
    /// Whether datagrams can come in: at an address and port.
    pub(super) fn takes_datagrams(&self) -> bool {
        self.bind.port().is_some_and(|port| port != 0)
    }
}

impl Doors {
    /// Reads a sidecar's registration.
    pub(super) fn of(sidecar: &Service, site: &Site) -> Result<Self, InvalidSidecar> {
        if sidecar.kind != ServiceKind::ConnectProxy {
            return Err(InvalidSidecar::Kind);
        }
        let proxy = &sidecar.proxy;
        let service = proxy.destination_service_name.clone().ok_or(InvalidSidecar::Destination)?;
        let inbound_ip = ip("Address", &sidecar.address, site.bind_address)?;
        let inbound = SocketAddr::new(inbound_ip, port("Port", sidecar.port)?);
        let local_ip = ip("Proxy.LocalServiceAddress", &proxy.local_service_address, LOOPBACK)?;
        let local_app = match &proxy.local_service_socket_path {
            Some(path) => LocalAddress::Unix(path.clone()),
            None => {
                let port = port("Proxy.LocalServicePort", proxy.local_service_port)?;
                SocketAddr::new(local_ip, port).into()
            }
        };
        let mut doors = Self {
            proxy_id: sidecar.id.clone(),
            service,
            instance: proxy.destination_service_id.clone(),
            inbound,
            local_app,
            local_ip,
            expose: proxy.expose.clone(),
            locality: sidecar.locality.clone().or_else(|| site.locality.clone()),
            mode: proxy.mode,
            transparent_proxy: proxy.transparent_proxy.clone(),
            proxy_protocol_from: proxy.accept_proxy_protocol.clone(),
            upstreams: Vec::new(),
            refused: Vec::new(),
        };
        doors.add_upstreams(&proxy.upstreams, site);
        Ok(doors)
    }

    fn add_upstreams(&mut self, upstreams: &[Upstream], site: &Site) {
        let mut taken = BTreeSet::from([LocalAddress::from(self.inbound)]);
        for (at, upstream) in upstreams.iter().enumerate() {
            let door = if at < limits::UPSTREAMS_PER_PROXY_MAX {
                door(upstream, site)
            } else {
                Err(format!("a proxy has at most {} upstreams", limits::UPSTREAMS_PER_PROXY_MAX))
            };
            let door = door.and_then(|door| {
                if taken.insert(door.bind.clone()) {
                    Ok(door)
                } else {
                    Err(format!("{} is taken by another listener of this proxy", door.bind))
                }
            });
            match door {
                Ok(door) => self.upstreams.push(door),
                Err(reason) => self.refused.push((upstream.destination_name.clone(), reason)),
            }
        }
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn door(upstream: &Upstream, site: &Site) -> Result<Door, String> {
    if let Some(datacenter) = upstream.datacenter.as_ref().filter(|dc| **dc != site.datacenter) {
        return Err(format!("datacenter {datacenter} cannot be reached from {}", site.datacenter));
    }
    let destination = upstream.destination_name.clone();
    let config = UpstreamConfig::read(&upstream.config).map(Box::new);
    if let Some(path) = &upstream.local_bind_socket_path {
        let socket_mode = upstream.socket_mode().ok_or_else(|| {
            let text = &upstream.local_bind_socket_mode;
            format!("LocalBindSocketMode: {text:?} is no mode of a file")
        })?;
        let bind = LocalAddress::Unix(path.clone());
        return Ok(Door { destination, bind, socket_mode: Some(socket_mode), config });
    }
    let said = |invalid: InvalidSidecar| invalid.to_string();
    let address = ip("LocalBindAddress", &upstream.local_bind_address, LOOPBACK).map_err(said)?;
    let port = port("LocalBindPort", upstream.local_bind_port).map_err(said)?;
    let bind = SocketAddr::new(address, port).into();
    Ok(Door { destination, bind, socket_mode: None, config })
}

fn ip(field: &'static str, text: &str, default: IpAddr) -> Result<IpAddr, InvalidSidecar> {
    match text {
        "" => Ok(default),
        "localhost" => Ok(LOOPBACK),
        _ => text.parse().map_err(|_| InvalidSidecar::Address { field, text: text.to_owned() }),
    }
}

fn port(field: &'static str, port: u16) -> Result<u16, InvalidSidecar> {
    if port == 0 { Err(InvalidSidecar::Port { field }) } else { Ok(port) }
}
