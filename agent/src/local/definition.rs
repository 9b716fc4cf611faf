//! A service definition, checked: faults by field, Consul's defaults, the sidecar that comes
//! along. Nothing is changed here; see `book`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_core::catalog::{
    CheckDefinition, Connect, ConnectDefinition, ProxyConfig, Service, ServiceDefinition,
    ServiceKind, Unheeded, Upstream, Weights,
};
use weft_core::index::Index;
use weft_core::limits;
use weft_core::name::{InstanceId, ServiceName};
use weft_proto::json::config_entry::fault;
use weft_proto::text::Fault;

use super::check_plan::CheckPlan;
use super::faults::Faults;
use super::sidecar;

/// A service with its checks, ready to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registration {
    /// The instance.
    pub(super) service: Service,
    /// Its checks.
    pub(super) checks: Vec<CheckPlan>,
    /// The application that it was registered along with; `None` for what was registered for
    /// itself.
    pub(super) sidecar_of: Option<InstanceId>,
    /// Whether it stands in the agent's configuration.
    pub(super) is_configured: bool,
}

/// What the rules need to know of this host.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// Where sidecars listen unless told otherwise.
    pub(super) bind_addr: IpAddr,
    /// The port of the sidecar when none is given; `None` when none is free.
    pub(super) sidecar_port: Option<u16>,
}

/// Checks a definition; the answer is the service, followed by its sidecar if it wants one.
///
/// # Errors
/// Every fault, by field.
pub(super) fn resolve(
    definition: &ServiceDefinition,
    surroundings: &Surroundings,
) -> Result<Vec<Registration>, Vec<Fault>> {
    let mut faults = Faults::default();
    let own = resolve_one(definition, &mut faults);
    let Some(connect) = &definition.connect else {
        return faults.unless_any(own).map(|own| vec![own]);
    };
    let Some(wanted) = &connect.sidecar_service else {
        return faults.unless_any(own).map(|own| vec![own]);
    };
    let both = faults.within("Connect.SidecarService", |faults| {
        if connect.native {
            faults.add("", "a service that is Native speaks for itself and takes no sidecar");
        }
        let own = own?;
        let expanded = sidecar::expand(wanted, &own.service, surroundings, faults)?;
        let mut sidecar = resolve_one(&expanded, faults)?;
        sidecar.sidecar_of = Some(own.service.id.clone());
        Some(vec![own, sidecar])
    });
    faults.unless_any(both)
}

/// Tells what is wrong with a definition, whatever else is registered; commands are another
/// question.
pub fn check(definition: &ServiceDefinition) -> Vec<Fault> {
    let bind_addr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    let surroundings = Surroundings { bind_addr, sidecar_port: Some(21_000) };
    resolve(definition, &surroundings).err().unwrap_or_default()
}

/// Checks a definition that comes from this agent's own files, where the sidecar was expanded.
///
/// # Errors
/// Every fault, by field.
pub(super) fn resolve_kept(definition: &ServiceDefinition) -> Result<Registration, Vec<Fault>> {
    let mut faults = Faults::default();
    let own = resolve_one(definition, &mut faults);
    faults.unless_any(own)
}

/// Returns the definition from which the service can be made again; checks are kept apart.
pub(super) fn kept_form(service: &Service) -> ServiceDefinition {
    ServiceDefinition {
        kind: match service.kind {
            ServiceKind::ConnectProxy => "connect-proxy".to_owned(),
            ServiceKind::Typical => String::new(),
        },
        id: service.id.to_string(),
        name: service.name.to_string(),
        tags: service.tags.clone(),
        address: service.address.clone(),
        tagged_addresses: service.tagged_addresses.clone(),
        meta: service.meta.clone(),
        port: if service.ports.is_empty() { service.port } else { 0 },
        ports: service.ports.clone(),
        locality: service.locality.clone(),
        token: Unheeded,
        weights: Some(service.weights),
        enable_tag_override: service.enable_tag_override,
        check: None,
        checks: Vec::new(),
        proxy: (!service.proxy.is_empty()).then(|| service.proxy.clone()),
        connect: service
            .connect
            .native
            .then_some(ConnectDefinition { native: true, sidecar_service: None }),
    }
}

fn resolve_one(definition: &ServiceDefinition, faults: &mut Faults) -> Option<Registration> {
    let service = service(definition, faults);
    let checks = checks(definition, service.as_ref(), faults);
    Some(Registration { service: service?, checks, sidecar_of: None, is_configured: false })
}

fn service(definition: &ServiceDefinition, faults: &mut Faults) -> Option<Service> {
    let kind = match definition.kind.as_str() {
        "" => Some(ServiceKind::Typical),
        "connect-proxy" => Some(ServiceKind::ConnectProxy),
        other => {
            faults.add("Kind", format!("{other:?} is not a kind that is known; leave it out for an application, or write \"connect-proxy\""));
            None
        }
    };
    let name = faults.take("Name", ServiceName::parse(&definition.name));
    let id = match (definition.id.as_str(), &name) {
        ("", Some(name)) => faults.take("ID", InstanceId::parse(name.as_str())),
        ("", None) => None,
        (id, _) => faults.take("ID", InstanceId::parse(id)),
    };
    check_address(&definition.address, faults);
    check_tags(&definition.tags, faults);
    check_meta(&definition.meta, faults);
    let weights = definition.weights.unwrap_or_default();
    check_weights(weights, faults);
    let port = port(definition, faults);
    if definition.locality.as_ref().is_some_and(|it| it.region.is_empty()) {
        faults.add("Locality.Region", "must be given with a locality");
    }
    let proxy = proxy(definition, kind, faults);
    Some(Service {
        kind: kind?,
        id: id?,
        name: name?,
        tags: definition.tags.clone(),
        address: definition.address.clone(),
        tagged_addresses: definition.tagged_addresses.clone(),
        meta: definition.meta.clone(),
        port,
        ports: definition.ports.clone(),
        locality: definition.locality.clone(),
        weights,
        enable_tag_override: definition.enable_tag_override,
        proxy: proxy?,
        connect: Connect { native: definition.connect.as_ref().is_some_and(|c| c.native) },
        create_index: Index::default(),
        modify_index: Index::default(),
    })
}

fn check_address(address: &str, faults: &mut Faults) {
    if address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        faults.add(
            "Address",
            format!("{address} is no address that others can call; leave it out for the node's"),
        );
    } else if address.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') {
        faults.add("Address", format!("{address:?} is neither an IP address nor a host name"));
    }
}

/// The one port of an instance, or the default of several.
fn port(definition: &ServiceDefinition, faults: &mut Faults) -> u16 {
    let ports = &definition.ports;
    if ports.is_empty() {
        return definition.port;
    }
    if definition.port != 0 {
        faults.add("Port", "give either Port or Ports, not both");
    }
    if ports.len() > limits::PORTS_PER_SERVICE_MAX {
        let limit = limits::PORTS_PER_SERVICE_MAX;
        faults.add("Ports", format!("{} are more than the {limit} allowed", ports.len()));
    }
    let mut names = BTreeSet::new();
    for (at, port) in ports.iter().enumerate() {
        let name = port.name.as_str();
        let is_label = (1..=63).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !is_label {
            faults.add(
                &format!("Ports[{at}].Name"),
                format!("{name:?} has other characters than letters, digits and '-' inside"),
            );
        } else if !names.insert(name.to_ascii_lowercase()) {
            faults.add(&format!("Ports[{at}].Name"), format!("{name:?} is there twice"));
        }
        if port.port == 0 {
            faults.add(&format!("Ports[{at}].Port"), "must be a port from 1 to 65535");
        }
    }
    let mut defaults = ports.iter().filter(|port| port.default);
    match (defaults.next(), defaults.next()) {
        (Some(_), Some(_)) => {
            faults.add("Ports", "more than one is the default");
            0
        }
        (Some(default), None) => default.port,
        (None, _) if ports.len() == 1 => ports[0].port,
        (None, _) => {
            faults.add("Ports", "one of several must be the default: \"Default\": true");
            0
        }
    }
}

fn check_tags(tags: &[String], faults: &mut Faults) {
    if tags.len() > limits::TAGS_MAX {
        faults
            .add("Tags", format!("{} are more than the {} allowed", tags.len(), limits::TAGS_MAX));
    }
    if let Some(tag) = tags.iter().find(|tag| tag.len() > limits::ID_BYTES_MAX) {
        let limit = limits::ID_BYTES_MAX;
        faults.add("Tags", format!("one has {} bytes, more than the {limit} allowed", tag.len()));
    }
}

/// **Source**: Consul: docs/services/configuration/services-configuration-reference#meta.
fn check_meta(meta: &BTreeMap<String, String>, faults: &mut Faults) {
    if meta.len() > limits::META_PAIRS_MAX {
        let limit = limits::META_PAIRS_MAX;
        faults.add("Meta", format!("{} pairs are more than the {limit} allowed", meta.len()));
    }
    for (key, value) in meta {
        let field = format!("Meta.{key}");
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if key.is_empty() || !key.chars().all(is_word) {
            faults.add(&field, "a key has only letters, digits, '-' and '_'");
        }
        if key.len() > limits::META_KEY_BYTES_MAX {
            let limit = limits::META_KEY_BYTES_MAX;
            faults.add(&field, format!("the key is longer than the {limit} bytes allowed"));
        }
        if key.starts_with("consul-") {
            faults.add(&field, "keys that start with \"consul-\" are reserved");
        }
        if value.len() > limits::META_VALUE_BYTES_MAX {
            let limit = limits::META_VALUE_BYTES_MAX;
            faults.add(&field, format!("the value is longer than the {limit} bytes allowed"));
        }
    }
}

fn check_weights(weights: Weights, faults: &mut Faults) {
    if weights.passing == 0 {
        faults.add("Weights.Passing", "must be at least 1; a passing instance takes its share");
    }
}

fn proxy(
    definition: &ServiceDefinition,
    kind: Option<ServiceKind>,
    faults: &mut Faults,
) -> Option<ProxyConfig> {
    let given = definition.proxy.as_ref();
    match kind? {
        ServiceKind::Typical => {
            if given.is_some_and(|proxy| !proxy.is_empty()) {
                faults.add("Proxy", "is for Kind \"connect-proxy\" only; an application's proxy settings go to Connect.SidecarService.Proxy");
            }
            Some(ProxyConfig::default())
        }
        ServiceKind::ConnectProxy => {
            let proxy = given.cloned().unwrap_or_default();
            if proxy.destination_service_name.is_none() {
                faults.add(
                    "Proxy.DestinationServiceName",
                    "must name the service that the proxy speaks for",
                );
            }
            if definition.port == 0 {
                faults.add("Port", "a proxy needs a port on which others reach it");
            }
            if definition.connect.as_ref().is_some_and(|c| c.native || c.sidecar_service.is_some())
            {
                faults.add("Connect", "a proxy is neither Native nor has it a SidecarService");
            }
            let has_port = proxy.local_service_port != 0 || !proxy.local_service_address.is_empty();
            if proxy.local_service_socket_path.is_some() && has_port {
                faults.add(
                    "Proxy.LocalServiceSocketPath",
                    "stands in place of LocalServiceAddress and LocalServicePort; leave them out",
                );
            }
            check_upstreams(&proxy, definition, faults);
            check_expose(&proxy, definition.port, faults);
            Some(proxy)
        }
    }
}

fn check_upstreams(proxy: &ProxyConfig, definition: &ServiceDefinition, faults: &mut Faults) {
    if proxy.upstreams.len() > limits::UPSTREAMS_PER_PROXY_MAX {
        let limit = limits::UPSTREAMS_PER_PROXY_MAX;
        let count = proxy.upstreams.len();
        faults.add("Proxy.Upstreams", format!("{count} are more than the {limit} allowed"));
    }
    let (mut bound, mut sockets) = (BTreeSet::new(), BTreeSet::new());
    for (at, upstream) in proxy.upstreams.iter().enumerate() {
        let field = |name: &str| format!("Proxy.Upstreams[{at}].{name}");
        if let Some(path) = &upstream.local_bind_socket_path {
            check_upstream_socket(upstream, &field, faults);
            if !sockets.insert(path) {
                let reason = format!("{path} is taken by another upstream of this proxy");
                faults.add(&field("LocalBindSocketPath"), reason);
            }
            continue;
        }
        if !upstream.local_bind_socket_mode.is_empty() {
            faults.add(&field("LocalBindSocketMode"), "goes with LocalBindSocketPath");
        }
        let address = match upstream.local_bind_address.as_str() {
            "" => "127.0.0.1",
            address => address,
        };
        if address.parse::<IpAddr>().is_err() {
            faults.add(&field("LocalBindAddress"), format!("{address:?} is not an IP address"));
        }
        let port = upstream.local_bind_port;
        if port == 0 {
            faults.add(
                &field("LocalBindPort"),
                "must be the port on which the application calls the upstream, or \
                 LocalBindSocketPath the socket",
            );
        } else if port == definition.port {
            faults.add(&field("LocalBindPort"), format!("{port} is the proxy's own port"));
        } else if !bound.insert((address, port)) {
            faults.add(
                &field("LocalBindPort"),
                format!("{address}:{port} is taken by another upstream of this proxy"),
            );
        }
    }
}

fn check_expose(proxy: &ProxyConfig, own_port: u16, faults: &mut Faults) {
    for invalid in proxy.expose.faults("Proxy.Expose") {
        let Fault { path, reason } = fault(invalid);
        faults.add(&path, reason);
    }
    if proxy.accept_proxy_protocol.len() > limits::PROXY_NETWORKS_MAX {
        let (count, limit) = (proxy.accept_proxy_protocol.len(), limits::PROXY_NETWORKS_MAX);
        faults
            .add("Proxy.AcceptProxyProtocol", format!("{count} are more than the {limit} allowed"));
    }
    for (at, exposed) in proxy.expose.paths.iter().enumerate() {
        let port = exposed.listener_port;
        if port != 0 && port == own_port {
            let field = format!("Proxy.Expose.Paths[{at}].ListenerPort");
            faults.add(&field, format!("{port} is the proxy's own port"));
        }
    }
}

fn check_upstream_socket(upstream: &Upstream, field: &dyn Fn(&str) -> String, faults: &mut Faults) {
    if upstream.local_bind_port != 0 || !upstream.local_bind_address.is_empty() {
        faults.add(
            &field("LocalBindSocketPath"),
            "stands in place of LocalBindAddress and LocalBindPort; leave them out",
        );
    }
    if upstream.socket_mode().is_none() {
        let mode = &upstream.local_bind_socket_mode;
        let reason = format!("{mode:?} is not the mode of a file in octal, such as \"0660\"");
        faults.add(&field("LocalBindSocketMode"), reason);
    }
}

fn checks(
    definition: &ServiceDefinition,
    service: Option<&Service>,
    faults: &mut Faults,
) -> Vec<CheckPlan> {
    let given: Vec<(String, &CheckDefinition)> = (definition.check.iter())
        .map(|check| ("Check".to_owned(), check))
        .chain(definition.checks.iter().enumerate().map(|(at, c)| (format!("Checks[{at}]"), c)))
        .collect();
    if given.len() > limits::CHECKS_PER_REGISTRATION_MAX {
        let limit = limits::CHECKS_PER_REGISTRATION_MAX;
        faults.add("Checks", format!("{} are more than the {limit} allowed", given.len()));
        return Vec::new();
    }
    let mut plans: Vec<CheckPlan> = Vec::new();
    let several = given.len() > 1;
    for (number, (field, check)) in given.iter().enumerate() {
        faults.within(field, |faults| {
            let number = several.then_some(number + 1);
            let Some(service) = service else { return };
            let Some(plan) = CheckPlan::resolve(check, Some(service), number, faults) else {
                return;
            };
            if plans.iter().any(|other| other.id == plan.id) {
                faults.add("CheckID", format!("{:?} is the id of another check here", plan.id));
            }
            plans.push(plan);
        });
    }
    plans
}
