//! From what a file says to a configuration with nothing left open: every default and every
//! check of the agent's configuration.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_core::ca::KeyKind;
use weft_core::catalog::Locality;
use weft_core::limits::{self, SOCKET_PATH_BYTES_MAX};
use weft_core::name::{Datacenter, NodeName};
use weft_proto::text::Fault;

use super::{ChecksConfig, Config, FileConfig, JoinSource, LeafSection, PortsSection, Scripts};
use crate::checks::DOCKER_SOCKET;
use crate::local::{Definitions, Placed};

/// Where packages put the data of the service.
const DATA_DIR: &str = "/var/lib/weft/agent";
/// Ports of proxies' doors for checks (Consul: `expose_min_port`, `expose_max_port`).
const EXPOSE_PORTS: RangeInclusive<u16> = 21_500..=21_755;

impl Config {
    /// Checks what a file says and fills in every default.
    ///
    /// # Errors
    /// Every fault, by field.
    pub fn resolve(file: FileConfig) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let settings = Arc::new(file.clone());
        let node_name = node_name(file.node_name.as_deref(), &mut faults);
        let datacenter = file
            .datacenter
            .as_deref()
            .and_then(|name| take(&mut faults, "datacenter", Datacenter::parse(name)));
        check_node_meta(&file, &mut faults);
        // Proxies, started elsewhere, are told of paths in it.
        let data_dir = absolute(file.data_dir.as_deref().unwrap_or(DATA_DIR));
        let join = join_source(&file, &mut faults);
        for (at, server) in file.servers.iter().enumerate() {
            check_host_port(&format!("servers[{at}]"), server, &mut faults);
        }
        let bind_addr = ip(&mut faults, "bind_addr", file.bind_addr.as_deref())
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let advertise_addr = advertise_addr(&file, bind_addr, &mut faults);
        let locality = locality(file.locality.clone(), &mut faults);
        let acl = super::acl::resolve(&file.acl, &mut faults);
        let http = super::http::resolve(&file.http, &file.https, &mut faults);
        let audit = file.audit.resolve(&mut faults);
        let dns = super::dns::resolve(&file.dns, &mut faults);
        let external_checks = super::external::resolve(&file.external_checks, &mut faults);
        let expose_ports = expose_ports(&file.ports, &mut faults);
        let proxy_socket = match &file.proxy.socket {
            Some(path) => absolute(path),
            None => data_dir.join("proxy.sock"),
        };
        check_socket_path("proxy.socket", &proxy_socket, &mut faults);
        let host_proxy = super::host_proxy::resolve(&file.host_proxy, &mut faults);
        let leaf_key = leaf_key(&file.leaf, &mut faults);
        let workload_api = super::workload::resolve(&file.workload_api, &mut faults);
        let scripts = scripts(&file);
        let docker_socket = absolute(file.docker_socket.as_deref().unwrap_or(DOCKER_SOCKET));
        match node_name {
            Some(node_name) if faults.is_empty() => Ok(Self {
                node_name,
                node_meta: file.node_meta,
                datacenter,
                data_dir,
                join,
                servers: file.servers,
                bind_addr,
                advertise_addr,
                locality,
                acl,
                http,
                audit,
                dns,
                expose_ports,
                proxy_socket,
                host_proxy,
                leaf_key,
                workload_api,
                checks: ChecksConfig { scripts, docker_socket },
                external_checks,
                definitions: Definitions {
                    services: placed("services", file.services),
                    checks: placed("checks", file.checks),
                    faults: Vec::new(),
                },
                reread: None,
                settings,
            }),
            _ => Err(faults),
        }
    }
}

/// Says whose scripts are run.
fn scripts(file: &FileConfig) -> Scripts {
    match (file.enable_script_checks, file.enable_local_script_checks) {
        (true, _) => Scripts::Everyone,
        (false, true) => Scripts::Files,
        (false, false) => Scripts::Nobody,
    }
}

/// Definitions that were given as settings, each with its place among them.
fn placed<T>(list: &str, definitions: Vec<T>) -> Vec<Placed<T>> {
    let placed = |(at, definition)| Placed { place: format!("{list}[{at}]"), definition };
    definitions.into_iter().enumerate().map(placed).collect()
}

pub(super) fn take<T, E: Display>(
    faults: &mut Vec<Fault>,
    path: &str,
    parsed: Result<T, E>,
) -> Option<T> {
    parsed.map_err(|error| faults.push(Fault::new(path, error.to_string()))).ok()
}

pub(super) fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

pub(super) fn check_socket_path(field: &str, path: &Path, faults: &mut Vec<Fault>) {
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let reason = format!(
            "{} is longer than the {SOCKET_PATH_BYTES_MAX} bytes that a socket's path may have",
            path.display()
        );
        faults.push(Fault::new(field, reason));
    }
}

fn node_name(given: Option<&str>, faults: &mut Vec<Fault>) -> Option<NodeName> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => match weft_runtime::net::host_name() {
            Ok(name) => name,
            Err(error) => {
                let reason = format!("this host does not tell its name ({error}); give one");
                faults.push(Fault::new("node_name", reason));
                return None;
            }
        },
    };
    take(faults, "node_name", NodeName::parse(&name))
}

fn check_node_meta(file: &FileConfig, faults: &mut Vec<Fault>) {
    let mut add = |path: String, reason: String| faults.push(Fault::new(path, reason));
    if file.node_meta.len() > limits::META_PAIRS_MAX {
        let limit = limits::META_PAIRS_MAX;
        add("node_meta".into(), format!("{} pairs are more than {limit}", file.node_meta.len()));
    }
    for (key, value) in &file.node_meta {
        let (key_max, value_max) = (limits::META_KEY_BYTES_MAX, limits::META_VALUE_BYTES_MAX);
        if key.is_empty() || key.len() > key_max {
            add(format!("node_meta.{key}"), format!("a key has 1 to {key_max} bytes"));
        }
        if value.len() > value_max {
            add(format!("node_meta.{key}"), format!("the value is longer than {value_max} bytes"));
        }
    }
}

fn expose_ports(given: &PortsSection, faults: &mut Vec<Fault>) -> RangeInclusive<u16> {
    let first = given.expose_min_port.unwrap_or(*EXPOSE_PORTS.start());
    let last = given.expose_max_port.unwrap_or(*EXPOSE_PORTS.end());
    if first == 0 {
        faults.push(Fault::new("ports.expose_min_port", "must be a port from 1"));
    }
    if last < first {
        let reason = format!("{last} is lower than expose_min_port, which is {first}");
        faults.push(Fault::new("ports.expose_max_port", reason));
    }
    first..=last
}

fn leaf_key(given: &LeafSection, faults: &mut Vec<Fault>) -> KeyKind {
    let kind = given.key_type.as_deref().unwrap_or("ec");
    KeyKind::parse(kind, given.key_bits.unwrap_or(0)).unwrap_or_else(|| {
        let (field, reason) = match KeyKind::parse(kind, 0) {
            None => ("leaf.key_type", format!("{kind:?} is none of ec, ed25519 and rsa")),
            Some(_) => {
                let reason = "ec has 256 or 384, ed25519 256, and rsa 2048 or 4096 bits";
                ("leaf.key_bits", reason.to_owned())
            }
        };
        faults.push(Fault::new(field, reason));
        KeyKind::default()
    })
}

/// A zone is one of a region.
fn locality(given: Option<Locality>, faults: &mut Vec<Fault>) -> Option<Locality> {
    let given = given?;
    if given.region.is_empty() && !given.zone.is_empty() {
        faults.push(Fault::new("locality.region", "a zone needs the region that it is in"));
    }
    for (field, text) in [("region", &given.region), ("zone", &given.zone)] {
        if text.len() > limits::META_VALUE_BYTES_MAX {
            let reason = format!("is longer than {} bytes", limits::META_VALUE_BYTES_MAX);
            faults.push(Fault::new(format!("locality.{field}"), reason));
        }
    }
    (!given.region.is_empty()).then_some(given)
}

fn join_source(file: &FileConfig, faults: &mut Vec<Fault>) -> JoinSource {
    match (&file.join, &file.join_token_file) {
        (Some(_), Some(_)) => {
            faults.push(Fault::new("join_token_file", "give either this or join, not both"));
            JoinSource::None
        }
        (Some(token), None) => JoinSource::Token(token.clone()),
        (None, Some(path)) => JoinSource::File(path.into()),
        (None, None) => JoinSource::None,
    }
}

fn check_host_port(path: &str, text: &str, faults: &mut Vec<Fault>) {
    let is_valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !is_valid {
        faults.push(Fault::new(path, format!("{text:?} is no server; write \"host:port\"")));
    }
}

fn ip(faults: &mut Vec<Fault>, path: &str, text: Option<&str>) -> Option<IpAddr> {
    let text = text?;
    let parsed = text.parse::<IpAddr>();
    if parsed.is_err() {
        faults.push(Fault::new(path, format!("{text:?} is not an IP address")));
    }
    parsed.ok()
}

fn advertise_addr(file: &FileConfig, bind_addr: IpAddr, faults: &mut Vec<Fault>) -> IpAddr {
    match ip(faults, "advertise_addr", file.advertise_addr.as_deref()) {
        Some(given) if given.is_unspecified() => {
            let reason = format!("{given} is no address that others can call");
            faults.push(Fault::new("advertise_addr", reason));
            given
        }
        Some(given) => given,
        None if !bind_addr.is_unspecified() => bind_addr,
        None => weft_runtime::net::outward_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    }
}

/// Reads `ip:port`, or `off`.
pub(super) fn addr(
    faults: &mut Vec<Fault>,
    path: &str,
    text: Option<&str>,
    default: SocketAddr,
) -> Option<SocketAddr> {
    match text {
        None => Some(default),
        Some("off") => None,
        Some(text) => {
            let parsed = text.parse();
            if parsed.is_err() {
                let reason = format!("{text:?} is not an address; write \"ip:port\" or \"off\"");
                faults.push(Fault::new(path, reason));
            }
            parsed.ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::HTTP_ADDR;
    use super::*;

    fn file(text: &str) -> FileConfig {
        let value = weft_proto::text::parse("agent.hcl", text).expect("HCL");
        weft_proto::text::decode(&value, weft_proto::json::Unknown::Refuse).expect("known fields")
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = Config::resolve(file("node_name = \"host-1\"")).expect("valid");
        assert_eq!(config.http.addr, Some(HTTP_ADDR));
        assert_eq!(config.dns.addrs, [super::super::dns::ADDR]);
        assert_eq!(config.dns.domain, "mesh");
        assert_eq!(config.expose_ports, 21_500..=21_755);
        assert_eq!(config.dns.alt_domain.as_deref(), Some("consul"));
        assert_eq!(config.proxy_socket, PathBuf::from("/var/lib/weft/agent/proxy.sock"));
        assert!(!config.advertise_addr.is_unspecified());
    }

    #[test]
    fn everything_can_be_said() {
        let config = Config::resolve(file(
            r#"
            node_name = "host-1"
            node_meta = { rack = "r1" }
            datacenter = "dc2"
            data_dir = "/data"
            join_token_file = "/token"
            servers = ["10.0.0.1:8300"]
            bind_addr = "10.0.0.9"
            http {
                addr = "off"
                allowed_hosts = ["Weft.Example"]
            }
            dns {
                addr = "127.0.0.1:53"
                domain = "Corp."
                alt_domain = ""
                recursors = ["9.9.9.9"]
            }
            proxy { socket = "/run/weft.sock" }
            ports {
                expose_min_port = 30000
                expose_max_port = 30009
            }
            "#,
        ))
        .expect("valid");
        assert_eq!(config.advertise_addr, config.bind_addr);
        assert_eq!(config.expose_ports, 30_000..=30_009);
        assert_eq!(
            (config.http.addr, config.http.allowed_hosts),
            (None, vec!["weft.example".into()])
        );
        assert_eq!((config.dns.domain.as_str(), config.dns.alt_domain), ("corp", None));
        assert_eq!(config.dns.recursors.general, ["9.9.9.9:53".parse().expect("an address")]);
        assert!(matches!(config.join, JoinSource::File(_)));
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let faults = Config::resolve(file(
            r#"
            node_name = "host 1"
            datacenter = "DC"
            join = "x"
            join_token_file = "y"
            servers = ["somewhere"]
            bind_addr = "eth0"
            advertise_addr = "0.0.0.0"
            ports { expose_max_port = 21000 }
            http { addr = "8500" }
            dns {
                addr = "x"
                domain = "a..b"
                recursors = ["dns"]
            }
            "#,
        ))
        .expect_err("wrong");
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "node_name",
                "datacenter",
                "join_token_file",
                "servers[0]",
                "bind_addr",
                "advertise_addr",
                "http.addr",
                "dns.domain",
                "dns.recursors[0]",
                "dns.addr",
                "ports.expose_max_port",
            ]
        );
    }
}
