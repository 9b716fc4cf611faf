//! Paths that are reached without mutual TLS, such as those of probes. Nobody is known here, so
//! no intention is asked: a request goes on if its path is exposed, letter by letter.
//!
//! **Source**: Consul: docs/connect/config-entries/service-defaults#expose.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response};
use tracing::debug;
use weft_core::canonical_path::CanonicalPath;
use weft_core::local_address::LocalAddress;
use weft_core::proxycfg::ExposedRoute;
use weft_core::traffic::proxy_protocol::Header;
use weft_runtime::net::TcpStream;

use super::forward::admitted;
use super::own_app::open_with;
use super::stream::{direct, send, with_query};
use crate::http::general::{
    AppPool, Engine, Incoming, Multiplexed, PartsView, RequestBody, StreamHop, serve, set_proto,
};
use crate::http::h1::MeshFields;
use crate::http::{Edits, Outcome, Refusal, chain, from_outside};
use crate::listen::{InFlight, Live, Local, Worker};
use crate::observe::Open;
use crate::transport::{Buffer, preamble, write_header};

/// How long the local instance may take to answer: nothing that probes waits longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Connections to one place of the local instance.
#[derive(Debug, Default)]
pub(crate) struct ExposedPools {
    http1: AppPool,
    http2: Multiplexed,
}

/// What one caller without an identity reaches.
struct ExposedApp {
    worker: Rc<Worker>,
    bind: SocketAddr,
    /// Where the caller is, and whether it speaks TLS with a proxy before us.
    from: (Option<IpAddr>, bool),
}

/// What was decided for one request.
struct Plan {
    worker: Rc<Worker>,
    local: Rc<Local>,
    route: ExposedRoute,
    _in_flight: InFlight,
}

/// Serves one connection to its end.
pub(crate) async fn accept_exposed(
    worker: Rc<Worker>,
    mut stream: TcpStream,
    bind: SocketAddr,
    live: Rc<Live>,
) {
    let local = worker.current();
    let listener = local.workload.snapshot.exposed.iter().find(|it| it.bind == bind);
    let callers = listener.map(|it| &it.callers[..]).unwrap_or_default();
    let peer = stream.peer_addr().ok().map(|peer| peer.ip());
    let from = match admission(callers, peer) {
        Admission::Anybody => match preamble(&local.workload, &mut stream).await {
            Ok(told) => {
                let ends = told.as_ref().and_then(|told| told.ends);
                let remote = ends.map(|(from, _)| from.ip()).or(peer);
                (remote, told.is_some_and(|told| told.ssl.is_some()))
            }
            Err(error) => return debug!(error = chain(&error), "connection refused"),
        },
        // It is the agent that probes: nothing stands between, and nobody writes a header.
        Admission::Host => (peer, false),
        Admission::Nobody => {
            local.inbound.cause("not-exposed");
            return debug!(%bind, "a door for checks is for this host alone");
        }
    };
    let _open = Open::new(&local.inbound);
    live.set_shared();
    let tasks = worker.tasks.clone();
    let hop = ExposedApp { worker, bind, from };
    serve((stream, Buffer::default()), Engine::Any, hop, &live, &tasks).await;
}

/// Who a connection is from, as far as a door cares.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Anybody,
    /// This host, at a door that is for it alone.
    Host,
    Nobody,
}

fn admission(callers: &[IpAddr], peer: Option<IpAddr>) -> Admission {
    if callers.is_empty() {
        return Admission::Anybody;
    }
    let peer = peer.map(|peer| peer.to_canonical());
    match peer.is_some_and(|peer| peer.is_loopback() || callers.contains(&peer)) {
        true => Admission::Host,
        false => Admission::Nobody,
    }
}

impl StreamHop for ExposedApp {
    type Plan = Plan;
    type Ready = ();

    const MESH_FIELDS: MeshFields = MeshFields::Strip;

    fn plan(&mut self, parts: &mut Parts, _ready: ()) -> Result<Plan, Refusal> {
        let local = self.worker.current();
        let in_flight = admitted(&self.worker)?;
        // The path goes on as it was judged: no origin can read another one in it.
        let path = CanonicalPath::parse(parts.uri.path().as_bytes());
        let mut listeners = local.workload.snapshot.exposed.iter();
        let routes = listeners.find(|it| it.bind == self.bind).map(|it| &it.routes[..]);
        let route = path.ok().and_then(|path| {
            let routes = routes.unwrap_or_default();
            routes.iter().find(|route| route.path.as_bytes() == path.as_bytes()).cloned()
        });
        let route = route.ok_or_else(|| {
            let message = "this path is not exposed: others are reached through the mesh alone";
            Refusal::new(404, "not-exposed", message)
        })?;
        let mut edits = Edits::default();
        let hops = local.workload.snapshot.forwarded_headers.xff_num_trusted_hops;
        from_outside(&PartsView(parts), self.from, hops, &mut edits);
        edits.apply(&mut parts.headers);
        set_proto(&mut parts.headers, "http");
        let target = with_query(&route.path, parts.uri.query().map(str::to_owned));
        let service = local.workload.snapshot.service.as_str();
        direct(parts, (&target, route.protocol), service)?;
        Ok(Plan { worker: self.worker.clone(), local, route, _in_flight: in_flight })
    }

    fn answer_limit(_plan: &Plan) -> Option<Duration> {
        Some(ANSWER_LIMIT)
    }

    async fn send(
        plan: &mut Plan,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Refusal> {
        let Plan { worker, local, route, .. } = plan;
        let limit = local.workload.snapshot.inbound.connect_timeout;
        let address = LocalAddress::Tcp(route.local);
        let inbound = &local.workload.snapshot.inbound;
        // The same port expects a header from everybody; connections are used for many callers.
        let header = inbound.proxy_protocol.filter(|_| inbound.local_app == address);
        let header = header.map(|version| write_header(version, &Header::default()));
        let open = || open_with(&address, limit, header.as_deref());
        let pools = local.exposed_pools(route);
        let speaks = (route.protocol, (&pools.http1, &pools.http2));
        send(request, speaks, open, &worker.tasks).await
    }

    fn record(&self, _plan: Option<&Plan>, outcome: &Outcome) {
        self.worker.current().inbound.request(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_for_this_host_takes_its_own_addresses_and_no_others() {
        let callers: [IpAddr; 1] = [[192, 0, 2, 1].into()];
        for (callers, peer, expected) in [
            (&callers[..0], "198.51.100.1", Admission::Anybody),
            (&callers, "127.0.0.1", Admission::Host),
            (&callers, "::1", Admission::Host),
            (&callers, "192.0.2.1", Admission::Host),
            (&callers, "::ffff:192.0.2.1", Admission::Host),
            (&callers, "192.0.2.2", Admission::Nobody),
            (&callers, "::ffff:192.0.2.2", Admission::Nobody),
        ] {
            let found = admission(callers, Some(peer.parse().expect("an address")));
            assert_eq!(found, expected, "{peer}");
        }
        assert_eq!(admission(&callers, None), Admission::Nobody);
    }
}
