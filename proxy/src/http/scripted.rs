//! A next hop of connections that are given, without a network.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::DuplexStream;

use super::h1::{MeshFields, RequestRef, RequestWriter};
use super::refusal::Refusal;
use super::session::{Hop, Outcome, Reuse};
use crate::transport::{Endpoint, Lease};

/// Hands out the connections that it was given, the last one first.
pub(crate) struct Scripted {
    endpoint: Rc<Endpoint<DuplexStream>>,
    wires: Vec<DuplexStream>,
}

impl Scripted {
    /// Makes one with these connections.
    pub(crate) fn new(wires: Vec<DuplexStream>) -> Self {
        Self { endpoint: Endpoint::new(), wires }
    }
}

impl Hop for Scripted {
    type Wire = DuplexStream;
    type Plan = ();
    type Ready = ();
    const MESH_FIELDS: MeshFields = MeshFields::Strip;

    fn plan(
        &mut self,
        request: RequestRef<'_>,
        _ready: (),
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        RequestWriter { host_default: b"web", ..RequestWriter::default() }.write(request, out);
        Ok(())
    }

    async fn connect(
        &mut self,
        _plan: &mut (),
        reuse: Reuse,
    ) -> Result<Lease<DuplexStream>, Refusal> {
        let mut lease = self.endpoint.lease();
        lease.is_reused = reuse == Reuse::Allowed;
        lease.wire = self.wires.pop();
        match lease.wire {
            Some(_) => Ok(lease),
            None => Err(Refusal::new(503, "no-endpoint", "there are no more connections")),
        }
    }

    fn has_alternative(&self, _plan: &()) -> bool {
        false
    }

    fn answer_limit(&self, _plan: &()) -> Option<Duration> {
        Some(Duration::from_secs(5))
    }

    fn record(&mut self, _plan: Option<&()>, _outcome: &Outcome) {}
}
