//! Counts of connections that the host has redirected to the proxy.

use super::metrics::{Count, Pick};

/// Counts of one worker.
#[derive(Debug, Default)]
pub(crate) struct CapturedCounts {
    /// To services of the mesh.
    pub(crate) led: Count,
    /// To elsewhere, as they are.
    pub(crate) passed: Count,
    pub(crate) refused: Count,
    /// Of those passed on: nobody was reached.
    pub(crate) unreached: Count,
}

/// Name, help and place of each.
pub(super) const CAPTURED_COUNTS: [(&str, &str, Pick<CapturedCounts>); 4] = [
    (
        "weft_proxy_captured_mesh_total",
        "Redirected connections that were for a service of the mesh.",
        |c| &c.led,
    ),
    (
        "weft_proxy_captured_passed_total",
        "Redirected connections to elsewhere that were passed on.",
        |c| &c.passed,
    ),
    ("weft_proxy_captured_refused_total", "Redirected connections that were refused.", |c| {
        &c.refused
    }),
    (
        "weft_proxy_captured_unreached_total",
        "Redirected connections to elsewhere where nobody was reached.",
        |c| &c.unreached,
    ),
];
