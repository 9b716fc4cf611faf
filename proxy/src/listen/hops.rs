//! Where streams on shared connections come from, for each endpoint of a workload.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use weft_core::config_entry::{MeshTransport, Protocol};
use weft_core::identity::SpiffeId;

use super::Local;
use crate::config::Sharing;
use crate::observe::{Side, WorkerMetrics};
use crate::transport::MuxPool;
use crate::transport::quic::QuicPool;
use crate::workload::{UpstreamTarget, Workload};

/// Where streams to one endpoint come from.
#[derive(Debug, Default, Clone)]
pub(crate) struct Shared {
    /// `None` while none are wanted.
    pub(crate) mux: Option<Rc<MuxPool>>,
    /// Where they come from over QUIC.
    pub(crate) quic: Option<Rc<QuicPool>>,
}

impl Shared {
    /// Makes what a target's endpoint has, of what it had.
    fn new(
        before: Self,
        (workload, target, address, policy): (
            &Workload,
            &UpstreamTarget,
            SocketAddr,
            MeshTransport,
        ),
        metrics: &WorkerMetrics,
    ) -> Self {
        let mux = match workload.mux {
            Sharing::Auto => Some(before.mux.unwrap_or_default()),
            Sharing::Off => None,
        };
        let quic = target.quic.clone().map(|config| match before.quic {
            Some(quic) => {
                quic.configure(policy, config);
                quic
            }
            None => {
                let slot = metrics.board().slot(address);
                QuicPool::new((policy, config), metrics.quic(Side::Outbound), slot)
            }
        });
        Self { mux, quic }
    }

    pub(super) fn retire(&self) {
        self.mux.iter().for_each(|mux| mux.retire());
        self.quic.iter().for_each(|quic| quic.retire());
    }

    /// Closes connections that have waited too long for a stream.
    pub(super) fn close_idle(&self, now: Instant, idle_max: Duration) {
        self.mux.iter().for_each(|mux| mux.close_idle(now, idle_max));
        self.quic.iter().for_each(|quic| quic.close_idle(now, idle_max));
    }
}

/// Shared connections, by whom they lead to: all targets with the same identity at the same address
/// have the same, if they are called by the same name.
pub(super) type SharedPools = BTreeMap<SharedKey, Shared>;
pub(super) type SharedKey = (SpiffeId, String, SocketAddr);

/// Finds or makes the pools of shared connections, and retires those that are not kept: all of them
/// when the identity is not the same as before.
pub(super) fn shared_pools(
    workload: &Workload,
    (before, is_same): (Option<&Local>, bool),
    metrics: &WorkerMetrics,
) -> SharedPools {
    let mut kept = SharedPools::new();
    for (_, target, local) in before.iter().flat_map(|before| before.targets()) {
        for pools in local.endpoints.iter().map(|endpoint| &endpoint.pools) {
            kept.insert(shared_key(target, pools.address), pools.shared.clone());
        }
    }
    let mut all = SharedPools::new();
    for upstream in &workload.upstreams {
        for target in upstream.targets.iter().filter(|target| target.outside.is_none()) {
            for endpoint in &target.endpoints {
                let key = shared_key(target, endpoint.address);
                if all.contains_key(&key) {
                    continue;
                }
                let before = if is_same { kept.remove(&key) } else { None };
                let policy = policy(target, upstream.protocol);
                let how = (workload, target, endpoint.address, policy);
                all.insert(key, Shared::new(before.unwrap_or_default(), how, metrics));
            }
        }
    }
    kept.into_values().for_each(|gone| gone.retire());
    all
}

/// Says over what a target is called.
fn policy(target: &UpstreamTarget, protocol: Protocol) -> MeshTransport {
    match (protocol, target.transport) {
        // Over TCP a datagram that is lost holds up all that follow.
        (Protocol::Udp, MeshTransport::Auto | MeshTransport::Unset) => MeshTransport::Quic,
        (
            Protocol::Grpc | Protocol::Http | Protocol::Http2 | Protocol::Tcp | Protocol::Udp,
            said,
        ) => said,
    }
}

pub(super) fn shared_key(target: &UpstreamTarget, address: SocketAddr) -> SharedKey {
    (target.spiffe_id.clone(), target.sni.clone(), address)
}
