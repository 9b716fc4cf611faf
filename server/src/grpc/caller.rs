//! Who calls, by the certificate that the connection was made with.

use tonic::{Request, Status};
use weft_core::identity::{SpiffeId, Workload};
use weft_core::name::NodeName;
use weft_runtime::http::PeerIdentity;

/// Returns the caller's identity.
pub(super) fn member<T>(request: &Request<T>) -> Result<SpiffeId, Status> {
    request
        .extensions()
        .get::<PeerIdentity>()
        .and_then(|peer| peer.0.clone())
        .ok_or_else(|| Status::unauthenticated("a certificate of the mesh is needed"))
}

/// Returns the node that the caller speaks for: an agent's own.
pub(super) fn node(caller: &SpiffeId) -> Result<NodeName, Status> {
    match &caller.workload {
        Workload::Agent(node) => Ok(node.clone()),
        Workload::Server(_) | Workload::Service(_) => {
            Err(Status::permission_denied(format!("{caller} is not an agent")))
        }
    }
}
