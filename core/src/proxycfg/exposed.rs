//! From the paths that a registration or an entry exposes to doors of the proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::doors::Doors;
use super::{ExposedListener, ExposedRoute};
use crate::canonical_path::CanonicalPath;
use crate::config_entry::{Expose, ExposedPath, Protocol};

/// Gives the doors for a registration's paths or, where it has none, for those of the entries;
/// with what cannot be opened, and why.
///
/// Paths with the same port share a door.
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults#expose.
pub(super) fn listeners(doors: &Doors, central: &Expose) -> (Vec<ExposedListener>, Vec<String>) {
    let paths = match doors.expose.paths.as_slice() {
        [] => &central.paths,
        _ => &doors.expose.paths,
    };
    let ip = doors.inbound.ip();
    let upstreams = doors.upstreams.iter().filter_map(|it| shares(ip, it.bind.tcp()?));
    let taken: BTreeSet<u16> = upstreams.chain([doors.inbound.port()]).collect();
    let mut refused = Vec::new();
    let mut found: BTreeMap<u16, Vec<ExposedRoute>> = BTreeMap::new();
    for exposed in paths {
        let port = exposed.listener_port;
        if taken.contains(&port) {
            let path = &exposed.path;
            refused.push(format!("{path}: port {port} is taken by another listener of this proxy"));
            continue;
        }
        let Some(route) = route(exposed, doors.local_ip) else { continue };
        let routes = found.entry(port).or_default();
        if routes.iter().any(|other| other.path == route.path) {
            refused.push(format!("{}: is exposed at port {port} already", route.path));
        } else {
            routes.push(route);
        }
    }
    let listener = |(port, routes)| ExposedListener { bind: SocketAddr::new(ip, port), routes };
    (found.into_iter().map(listener).collect(), refused)
}

/// Returns the port of an upstream's listener that a door at this address cannot have as well.
fn shares(ip: IpAddr, upstream: SocketAddr) -> Option<u16> {
    let is_same = ip == upstream.ip() || ip.is_unspecified() || upstream.ip().is_unspecified();
    is_same.then_some(upstream.port())
}

fn route(exposed: &ExposedPath, local_ip: IpAddr) -> Option<ExposedRoute> {
    // Entries and registrations have been checked.
    let path = CanonicalPath::parse(exposed.path.as_bytes()).ok()?;
    Some(ExposedRoute {
        path: String::from_utf8(path.as_bytes().to_vec()).ok()?,
        local: SocketAddr::new(local_ip, exposed.local_path_port),
        protocol: exposed.protocol.unwrap_or(Protocol::Http),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Site;
    use super::*;
    use crate::catalog::Service;
    use crate::config_entry::ServiceDefaults;
    use crate::name::{Datacenter, ServiceName, TrustDomain};

    fn doors(proxy: serde_json::Value) -> Doors {
        let sidecar: Service = serde_json::from_value(serde_json::json!({
            "Kind": "connect-proxy", "ID": "web-sidecar-proxy", "Service": "web-sidecar-proxy",
            "Port": 21000, "Proxy": proxy,
        }))
        .expect("a sidecar");
        let site = Site {
            bind_address: IpAddr::from([10, 0, 0, 1]),
            datacenter: Datacenter::parse("dc1").expect("a name"),
            trust_domain: TrustDomain::parse("test.mesh").expect("a name"),
        };
        Doors::of(&sidecar, &site).expect("usable")
    }

    fn shown(proxy: serde_json::Value, central: serde_json::Value) -> (Vec<String>, Vec<String>) {
        let mut defaults = ServiceDefaults::new(ServiceName::parse("web").expect("a name"));
        defaults.expose = serde_json::from_value(central).expect("paths");
        let (listeners, refused) = listeners(&doors(proxy), &defaults.expose);
        let show = |it: &ExposedListener| {
            let route = |it: &ExposedRoute| format!("{} {} {:?}", it.path, it.local, it.protocol);
            let routes: Vec<String> = it.routes.iter().map(route).collect();
            format!("{}: {}", it.bind, routes.join(", "))
        };
        (listeners.iter().map(show).collect(), refused)
    }

    #[test]
    fn paths_of_the_registration_come_first_and_ports_are_shared() {
        let path = |path: &str, port: u16| serde_json::json!({ "Path": path, "LocalPathPort": 8080, "ListenerPort": port });
        let registered = serde_json::json!({
            "DestinationServiceName": "web", "LocalServicePort": 80,
            "Upstreams": [{ "DestinationName": "db", "LocalBindPort": 9000 }],
        });
        let central = serde_json::json!({ "Paths": [
            path("/live//x", 21500), path("/ready", 21500), path("/metrics", 9102),
            path("/a", 21000), path("/%72eady", 21500), path("/db", 9000),
        ] });
        let (listeners, refused) = shown(registered.clone(), central.clone());
        assert_eq!(
            listeners,
            [
                // An upstream listens on loopback, which is another address.
                "10.0.0.1:9000: /db 127.0.0.1:8080 Http",
                "10.0.0.1:9102: /metrics 127.0.0.1:8080 Http",
                "10.0.0.1:21500: /live/x 127.0.0.1:8080 Http, /ready 127.0.0.1:8080 Http",
            ]
        );
        assert_eq!(
            refused,
            [
                "/a: port 21000 is taken by another listener of this proxy",
                "/ready: is exposed at port 21500 already",
            ]
        );
        let mut own = registered;
        own["Upstreams"][0]["LocalBindAddress"] = "0.0.0.0".into();
        own["LocalServiceAddress"] = "127.0.0.2".into();
        own["Expose"]["Paths"] = serde_json::json!([path("/own", 9000), path("/own", 9001)]);
        own["Expose"]["Paths"][1]["Protocol"] = "http2".into();
        let (listeners, refused) = shown(own, central);
        assert_eq!(listeners, ["10.0.0.1:9001: /own 127.0.0.2:8080 Http2"]);
        assert_eq!(refused, ["/own: port 9000 is taken by another listener of this proxy"]);
    }
}
