//! The door of the RPC port: who may come in, and where to.
//!
//! The handshake has proven who calls (or that nobody says so); here it is decided what each
//! role may call. Certificates of services are refused: they are for proxies.

use std::convert::Infallible;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use tower::Service;
use weft_core::identity::{SpiffeId, Workload};
use weft_runtime::http::{Body, PeerIdentity, full};

use crate::grpc;
use crate::watch::Hub;

/// The only method open to hosts without a certificate.
const JOIN: &str = "/weft.v1.Join/Join";

/// Decides whether a caller may use a path.
fn judge(path: &str, caller: Option<&SpiffeId>) -> Result<(), String> {
    if path == JOIN {
        return Ok(());
    }
    let Some(caller) = caller else {
        return Err("a certificate of the mesh is needed; join first".to_owned());
    };
    let is_for_servers = path.starts_with("/weft.v1.Raft/");
    match &caller.workload {
        Workload::Server(_) => Ok(()),
        Workload::Agent(_) if is_for_servers => {
            Err(format!("{caller} is an agent; only servers may call {path}"))
        }
        Workload::Agent(_) => Ok(()),
        Workload::Service(_) => {
            Err(format!("{caller} is a service; this port is for agents and servers"))
        }
    }
}

/// Puts the judgement before a service.
#[derive(Clone)]
pub(crate) struct Door<S> {
    hub: Arc<Hub>,
    inner: S,
}

impl<S> Door<S> {
    pub(crate) fn new(hub: Arc<Hub>, inner: S) -> Self {
        Self { hub, inner }
    }
}

impl<S> Service<Request<Body>> for Door<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.0.as_ref());
        let barred = peer.filter(|peer| self.hub.state().is_barred(peer));
        let judged = match barred {
            Some(peer) => Err(format!("{peer} was revoked")),
            None => judge(request.uri().path(), peer),
        };
        match judged {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(reason) => {
                tracing::debug!(path = request.uri().path(), reason, "turned away");
                let answer = refuse(&request, &reason);
                Box::pin(std::future::ready(Ok(answer)))
            }
        }
    }
}

fn refuse(request: &Request<Body>, reason: &str) -> Response<Body> {
    if request.uri().path().starts_with("/weft.v1.") {
        return grpc::denied(reason);
    }
    let mut answer = Response::new(full(format!("Permission denied: {reason}")));
    *answer.status_mut() = StatusCode::FORBIDDEN;
    let headers = answer.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("x-content-type-options", http::HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_comes_as_far_as_it_may() {
        let id = |path: &str| SpiffeId::parse(&format!("spiffe://a.mesh/{path}")).expect("an id");
        let callers = [
            None,
            Some(id("agent/client/dc/dc1/id/n1")),
            Some(id("agent/server/dc/dc1/id/s1")),
            Some(id("ns/default/dc/dc1/svc/web")),
        ];
        for (path, allowed) in [
            ("/weft.v1.Join/Join", [true, true, true, true]),
            ("/weft.v1.Join/Other", [false, true, true, false]),
            ("/weft.v1.Raft/Append", [false, false, true, false]),
            ("/weft.v1.Raft/Propose", [false, false, true, false]),
            ("/weft.v1.Catalog/Register", [false, true, true, false]),
            ("/weft.v1.Watch/Watch", [false, true, true, false]),
            ("/weft.v1.Ca/SignLeaf", [false, true, true, false]),
            ("/v1/config", [false, true, true, false]),
            ("/", [false, true, true, false]),
        ] {
            for (caller, allowed) in callers.iter().zip(allowed) {
                assert_eq!(judge(path, caller.as_ref()).is_ok(), allowed, "{path} {caller:?}");
            }
        }
    }
}
