//! From the paths that a registration or an entry exposes to doors of the proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::doors::Doors;
use super::{CheckDoor, ExposedListener, ExposedRoute, Exposure};
use crate::canonical_path::CanonicalPath;
use crate::config_entry::{Expose, ExposedPath, Protocol};

/// Gives the doors for a registration's paths or, where it has none, for those of the entries, and
/// those for checks; with what cannot be opened, and why.
///
/// Paths with the same port share a door; a check has one of its own, which is for this host alone.
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults#expose.
pub(super) fn listeners(
    doors: &Doors,
    central: &Expose,
    (checks, advertised): (&[CheckDoor], IpAddr),
) -> (Vec<ExposedListener>, Vec<String>) {
    let (mut listeners, mut refused) = of_paths(doors, central);
    if !asks_for_checks(doors, central) {
        return (listeners, refused);
    }
    if doors.instance.is_none() {
        refused.push(
            "Checks: Proxy.DestinationServiceID is missing, which says whose checks they are"
                .to_owned(),
        );
    }
    let ip = doors.inbound.ip();
    for CheckDoor { check, path } in checks {
        let refusal = match path {
            Err(reason) => reason.clone(),
            Ok(path) if listeners.iter().any(|it| it.bind.port() == path.listener_port) => {
                format!("port {} is taken by a path", path.listener_port)
            }
            Ok(path) => {
                if let Some(route) = route(path, doors.local_ip) {
                    let bind = SocketAddr::new(ip, path.listener_port);
                    // A caller on this host has the address that it calls.
                    let callers = BTreeSet::from([advertised, ip]);
                    let callers = callers.into_iter().filter(|it| !it.is_unspecified()).collect();
                    listeners.push(ExposedListener { bind, routes: vec![route], callers });
                }
                continue;
            }
        };
        refused.push(format!("Checks: {check}: {refusal}"));
    }
    (listeners, refused)
}

/// Says what becomes of the checks of the proxy's instance; `None` when it is not known whose they
/// are.
pub(super) fn exposure(doors: &Doors, central: &Expose) -> Option<Exposure> {
    let others = of_paths(doors, central).0.into_iter().map(|it| it.bind.port());
    Some(Exposure {
        instance: doors.instance.clone()?,
        is_on: asks_for_checks(doors, central),
        other_ports: others.collect(),
    })
}

fn asks_for_checks(doors: &Doors, central: &Expose) -> bool {
    doors.expose.checks || central.checks
}

fn of_paths(doors: &Doors, central: &Expose) -> (Vec<ExposedListener>, Vec<String>) {
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
    let listener = |(port, routes)| {
        let bind = SocketAddr::new(ip, port);
        ExposedListener { bind, routes, callers: Vec::new() }
    };
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
            locality: None,
            bind_address: IpAddr::from([10, 0, 0, 1]),
            advertise_address: ADVERTISED,
            datacenter: Datacenter::parse("dc1").expect("a name"),
            trust_domain: TrustDomain::parse("test.mesh").expect("a name"),
        };
        Doors::of(&sidecar, &site).expect("usable")
    }

    const ADVERTISED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn shown(proxy: serde_json::Value, central: serde_json::Value) -> (Vec<String>, Vec<String>) {
        shown_with(proxy, central, &[])
    }

    fn shown_with(
        proxy: serde_json::Value,
        central: serde_json::Value,
        checks: &[CheckDoor],
    ) -> (Vec<String>, Vec<String>) {
        let mut defaults = ServiceDefaults::new(ServiceName::parse("web").expect("a name"));
        defaults.expose = serde_json::from_value(central).expect("paths");
        let checks = (checks, ADVERTISED);
        let (listeners, refused) = listeners(&doors(proxy), &defaults.expose, checks);
        let show = |it: &ExposedListener| {
            let route = |it: &ExposedRoute| format!("{} {} {:?}", it.path, it.local, it.protocol);
            let routes: Vec<String> = it.routes.iter().map(route).collect();
            let callers = if it.callers.is_empty() { "" } else { " (this host)" };
            format!("{}: {}{callers}", it.bind, routes.join(", "))
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

    #[test]
    fn checks_have_doors_for_this_host_alone_where_the_registration_or_an_entry_says_so() {
        let door = |check: &str, path: Result<(&str, u16, Option<Protocol>), &str>| CheckDoor {
            check: check.parse().expect("an id"),
            path: path.map_err(str::to_owned).map(|(path, listener_port, protocol)| ExposedPath {
                listener_port,
                path: path.to_owned(),
                local_path_port: 8080,
                protocol,
                parsed_from_check: true,
            }),
        };
        let checks = [
            door("a", Ok(("/live", 21_500, None))),
            door("b", Ok(("/grpc.health.v1.Health/Check", 21_501, Some(Protocol::Http2)))),
            door("c", Ok(("/c", 9102, None))),
            door("d", Err("is asked with TLS")),
        ];
        let metrics = serde_json::json!({ "Path": "/metrics", "LocalPathPort": 8080,
            "ListenerPort": 9102 });
        let own = serde_json::json!({ "DestinationServiceName": "web", "LocalServicePort": 80,
            "DestinationServiceID": "web-1" });
        let mut asking = own.clone();
        asking["Expose"]["Checks"] = true.into();
        let central = serde_json::json!({ "Paths": [metrics] });
        let mut central_asking = central.clone();
        central_asking["Checks"] = true.into();
        let paths = ["10.0.0.1:9102: /metrics 127.0.0.1:8080 Http"];
        assert_eq!(
            shown_with(own.clone(), central.clone(), &checks),
            (paths.map(str::to_owned).to_vec(), vec![])
        );
        for (own, central) in [(asking, central), (own.clone(), central_asking.clone())] {
            let (listeners, refused) = shown_with(own.clone(), central.clone(), &checks);
            assert_eq!(
                listeners,
                [
                    paths[0],
                    "10.0.0.1:21500: /live 127.0.0.1:8080 Http (this host)",
                    "10.0.0.1:21501: /grpc.health.v1.Health/Check 127.0.0.1:8080 Http2 (this host)",
                ]
            );
            assert_eq!(
                refused,
                ["Checks: c: port 9102 is taken by a path", "Checks: d: is asked with TLS"]
            );
            let central = serde_json::from_value(central).expect("paths");
            let exposure = exposure(&doors(own), &central).expect("an instance");
            assert_eq!((exposure.is_on, exposure.other_ports), (true, BTreeSet::from([9102])));
        }
        let mut nobody = own;
        nobody.as_object_mut().expect("an object").remove("DestinationServiceID");
        let (listeners, refused) = shown_with(nobody, central_asking, &[]);
        assert_eq!(listeners.len(), 1);
        assert!(refused[0].contains("DestinationServiceID is missing"), "{refused:?}");
    }
}
