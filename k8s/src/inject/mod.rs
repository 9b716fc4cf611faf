//! What is added to a pod so that it is in the mesh: a pure function from a pod and settings to a
//! JSON patch, or to the reason why the pod is left alone.

mod asked;
mod containers;
mod patch;
mod pod;
mod probes;
mod settings;
mod sidecars;
mod switch;
mod verdict;

pub use patch::{Operation, Patch};
pub use settings::{Capture, Foreign, Resources, Settings, SidecarKind};
pub use switch::Switch;
pub use verdict::{Injected, Verdict, Why, inject};

/// The name of the container that is agent and proxy of the pod.
pub const SIDECAR: &str = "weft-proxy";
/// The name of the container that leads the pod's traffic to the sidecar.
pub const CAPTURE: &str = "weft-capture";
/// The user of the sidecar: what it sends is not captured.
pub const SIDECAR_UID: u32 = 5678;
/// Where captured connections from outside arrive.
pub const INBOUND_PORT: u16 = 15_006;
/// Where the kubelet asks: whether the sidecar is ready, and for probes of the application.
pub const HEALTH_PORT: u16 = 15_021;
/// What our labels and annotations begin with.
pub const PREFIX: &str = "weft.dev/";

#[cfg(test)]
mod tests;
