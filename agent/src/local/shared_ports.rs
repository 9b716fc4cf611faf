//! Listeners that two services of this host ask for: only one of their proxies can have each, and which
//! one is chance.

use imbl::OrdMap;
use tracing::warn;
use weft_core::catalog::{Service, Upstream};
use weft_core::name::InstanceId;

/// Logs which listeners of a sidecar another one has as well, unless it had them before.
pub(super) fn warn_of(sidecar: &Service, services: &OrdMap<InstanceId, Service>) {
    let before = services.get(&sidecar.id);
    if before.is_some_and(|before| before.proxy.upstreams == sidecar.proxy.upstreams) {
        return;
    }
    for (listener, other) in shared(sidecar, services) {
        let service = &sidecar.id;
        warn!(%service, %other, listener, "two services ask for the same listener of an upstream");
    }
}

/// Returns listeners with who else asks for them.
///
/// Sidecars with other addresses have networks of their own, in which each has all ports.
fn shared<'a>(
    sidecar: &Service,
    services: &'a OrdMap<InstanceId, Service>,
) -> Vec<(String, &'a InstanceId)> {
    if sidecar.proxy.upstreams.is_empty() {
        return Vec::new();
    }
    let is_beside = |other: &&Service| other.id != sidecar.id && other.address == sidecar.address;
    let mut found = Vec::new();
    for other in services.values().filter(is_beside) {
        for upstream in &sidecar.proxy.upstreams {
            let listener = listener(upstream);
            if other.proxy.upstreams.iter().any(|it| self::listener(it) == listener) {
                found.push((listener, &other.id));
            }
        }
    }
    found
}

fn listener(upstream: &Upstream) -> String {
    match (&upstream.local_bind_socket_path, upstream.local_bind_address.as_str()) {
        (Some(path), _) => path.as_str().to_owned(),
        (None, "" | "localhost") => format!("127.0.0.1:{}", upstream.local_bind_port),
        (None, address) => format!("{address}:{}", upstream.local_bind_port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(id: &str, address: &str, port: u16) -> Service {
        serde_json::from_value(serde_json::json!({
            "Kind": "connect-proxy", "ID": id, "Service": id, "Address": address,
            "Proxy": { "DestinationServiceName": "web",
                "Upstreams": [{ "DestinationName": "db", "LocalBindPort": port }] },
        }))
        .expect("a sidecar")
    }

    #[test]
    fn the_same_listener_of_two_sidecars_is_found_and_no_other() {
        let (own, other) = (sidecar("a", "", 9000), sidecar("b", "", 9000));
        let others = [own.clone(), other, sidecar("c", "10.0.0.2", 9000), sidecar("d", "", 9001)];
        let services = others.into_iter().map(|it| (it.id.clone(), it)).collect();
        let found = shared(&own, &services);
        let found: Vec<String> = found.iter().map(|(at, id)| format!("{at} {id}")).collect();
        assert_eq!(found, ["127.0.0.1:9000 b"]);
    }
}
