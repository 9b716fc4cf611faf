//! Sidecars that a pod may have already: a second one would fight over its traffic.

use super::pod::Pod;
use super::{CAPTURE, SIDECAR};

/// Containers by which a sidecar is known, and whose they are.
const KNOWN: [(&str, &str); 9] = [
    (SIDECAR, "Weft"),
    (CAPTURE, "Weft"),
    ("istio-proxy", "Istio"),
    ("istio-init", "Istio"),
    ("linkerd-proxy", "Linkerd"),
    ("linkerd-init", "Linkerd"),
    ("consul-dataplane", "Consul"),
    ("envoy-sidecar", "Consul"),
    ("kuma-sidecar", "Kuma"),
];

/// Returns the mesh and the container of a sidecar that is there.
pub(super) fn present(pod: Pod<'_>) -> Option<(&'static str, &'static str)> {
    let containers = [pod.containers(), pod.init_containers()].concat();
    let names: Vec<&str> = containers.iter().map(super::pod::Container::name).collect();
    KNOWN.iter().find(|(known, _)| names.contains(known)).map(|(known, mesh)| (*mesh, *known))
}
