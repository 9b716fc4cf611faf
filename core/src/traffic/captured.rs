//! Where a call goes that the host has redirected to the proxy: by the address that it was for.

use std::net::{IpAddr, SocketAddr};

use crate::catalog::{PROBE_IP, PROBE_IPV6, VirtualIp};

/// What becomes of a captured call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It goes on as it is to where it was to go.
    Elsewhere(SocketAddr),
    /// It is told who took it: somebody tries out the rules.
    Probe,
    /// It ends here; the word says why, in counts and logs.
    Refused(&'static str),
    /// It goes where the chain of this upstream leads.
    Upstream(usize),
}

/// What is known of a captured call.
#[derive(Debug, Clone, Copy)]
pub struct CapturedCall {
    /// Where it was to go.
    pub called: SocketAddr,
    /// Where the proxy took it.
    pub taken_at: SocketAddr,
    /// Whether the proxy itself made it, on behalf of another captured call.
    pub is_own: bool,
    /// Whether calls to elsewhere than services of the mesh are refused.
    pub destinations_only: bool,
}

impl CapturedCall {
    /// Decides; `upstreams` has the virtual address of each upstream, in order.
    ///
    /// **Source**: Consul: docs/connect/config-entries/mesh#meshdestinationsonly.
    pub fn course(self, upstreams: impl IntoIterator<Item = Option<VirtualIp>>) -> Course {
        if self.is_own {
            return Course::Refused("captured-own-connection");
        }
        if self.called == self.taken_at {
            return Course::Refused("not-captured");
        }
        if [IpAddr::from(PROBE_IP), PROBE_IPV6.into()].contains(&self.called.ip()) {
            return Course::Probe;
        }
        if let Some(called) = VirtualIp::of(self.called.ip()) {
            // No network routes such an address: whoever is not told of leads nowhere.
            let number = upstreams.into_iter().position(|ip| ip == Some(called));
            return number.map_or(Course::Refused("unknown-virtual-address"), Course::Upstream);
        }
        if self.destinations_only {
            return Course::Refused("mesh-destinations-only");
        }
        Course::Elsewhere(self.called)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_was_called_decides() {
        let (web, api) = (VirtualIp::preferred("web"), VirtualIp::preferred("api"));
        let upstreams = [None, Some(web), Some(api)];
        let call = |called: SocketAddr| CapturedCall {
            called,
            taken_at: SocketAddr::from(([127, 0, 0, 1], 15001)),
            is_own: false,
            destinations_only: false,
        };
        let other = SocketAddr::from(([192, 0, 2, 7], 443));
        let to_web = SocketAddr::from((web.v4(), 80));
        for (call, want) in [
            (call(to_web), Course::Upstream(1)),
            (call(SocketAddr::from((api.v6(), 8080))), Course::Upstream(2)),
            (
                call(SocketAddr::from((VirtualIp::preferred("gone").v4(), 80))),
                Course::Refused("unknown-virtual-address"),
            ),
            (call(other), Course::Elsewhere(other)),
            (call(SocketAddr::from((PROBE_IP, 1))), Course::Probe),
            (call(SocketAddr::from((PROBE_IPV6, 1))), Course::Probe),
            (
                CapturedCall { destinations_only: true, ..call(other) },
                Course::Refused("mesh-destinations-only"),
            ),
            (CapturedCall { destinations_only: true, ..call(to_web) }, Course::Upstream(1)),
            (
                CapturedCall { is_own: true, ..call(other) },
                Course::Refused("captured-own-connection"),
            ),
            (call(SocketAddr::from(([127, 0, 0, 1], 15001))), Course::Refused("not-captured")),
        ] {
            assert_eq!(call.course(upstreams), want, "{call:?}");
        }
    }
}
