//! Requests that are values on their way out: HTTP/2 between proxies.

use std::time::{Duration, Instant};

use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version, header};
use weft_core::config_entry::Protocol;
use weft_core::limits::HTTP_HEADERS_MAX;
use weft_core::log_format::{CalledLatency, TIMING_ASKED, TIMING_FIELD};
use weft_core::traffic::deadline::{
    GRPC_TIMEOUT_FIELD, TIMEOUT_FIELD, grpc_timeout, read_grpc_timeout, timeout_ms,
};
use weft_core::traffic::{AttemptEnd, RequestView, Throttle};
use weft_runtime::task::TaskTree;

use super::connect::{CONNECTS_MAX, Dial, Way, failed};
use super::endpoint::{Called, Said, choose, none_left};
use super::outside::{own_host, speaks_tls};
use super::retry;
use super::route::{Ask, HttpUpstream, Plan, Written};
use crate::http::general::{
    CLIENT_CERT, HeadRules, Incoming, PartsView, RequestBody, SaidCert, StreamHop, Tunnels,
    each_value, is_plain_connect, not_offered, set_authority, set_proto, wants_tunnel,
};
use crate::http::h1::MeshFields;
use crate::http::messages::Call;
use crate::http::{CAUSE_FIELD, Changes, Outcome, Refusal, UNREACHED_FIELD, chain, says_overload};
use crate::observe::Observed;
use crate::transport::{HopWire, Lease};

/// Connections tried for one request when those before were being closed.
const ATTEMPTS_MAX: u32 = 3;

impl StreamHop for HttpUpstream {
    type Plan = Plan;
    type Ready = ();

    const MESH_FIELDS: MeshFields = MeshFields::Keep;
    const HEADS: HeadRules = HeadRules { fields_max: HTTP_HEADERS_MAX, tunnels: Tunnels::Taken };

    fn takes_grpc_web(&self) -> bool {
        self.speaks() == Protocol::Grpc
    }

    fn plan(&mut self, parts: &mut Parts, _ready: ()) -> Result<Plan, Refusal> {
        let mut host_default = String::new();
        let (mut target, mut outside, mut host) = (Vec::new(), None, None);
        let (mut headers, mut asks) = (None, Ask::default());
        let mut plan = self.decide(&PartsView(parts), |written| {
            let Written { upstream, target: called, rewrite, edits, changes, .. } = written;
            asks = written.ask;
            host_default = upstream.service.to_string();
            outside = called.outside.clone();
            host = written.host.map(str::to_owned);
            if edits.is_some() || !changes.is_empty() {
                let headers = headers.insert(parts.headers.clone());
                edits.inspect(|edits| edits.apply(headers));
                changes.apply(headers);
            }
            let view = PartsView(parts);
            match rewrite {
                Some(rewrite) if view.path() != b"*" => rewrite.apply(view.path(), &mut target),
                Some(_) | None => target.extend_from_slice(view.path()),
            }
            if let Some(query) = view.query() {
                target.push(b'?');
                target.extend_from_slice(query);
            }
        })?;
        if let Some(headers) = headers {
            parts.headers = headers;
        }
        if self.speaks() == Protocol::Grpc {
            plan.keep_deadline(&parts.headers);
            asks.within = plan.request_timeout.filter(|_| outside.is_none());
        }
        asks.write(&mut parts.headers);
        if outside.is_none() {
            set_proto(&mut parts.headers, "http");
        }
        if let Some(SaidCert(said)) = parts.extensions.remove().filter(|_| self.keeps_client_cert())
        {
            parts.headers.extend(said.into_iter().map(|value| (CLIENT_CERT, value)));
        }
        if is_plain_connect(parts) {
            parts.headers.remove(header::HOST);
            parts.version = Version::HTTP_2;
            return plan.within_mesh(true);
        }
        let target = String::from_utf8_lossy(&target);
        let own = || outside.as_ref().and_then(|outside| own_host(outside));
        if let Some(host) = host.or_else(own) {
            (parts.uri, host_default) = (Uri::default(), host);
            parts.headers.remove(header::HOST);
        }
        set_authority(parts, &target, &host_default);
        if outside.is_some_and(|outside| speaks_tls(&outside)) {
            let mut uri = parts.uri.clone().into_parts();
            uri.scheme = uri.scheme.map(|_| Scheme::HTTPS);
            parts.uri = Uri::from_parts(uri).unwrap_or_default();
        }
        parts.version = Version::HTTP_2;
        Ok(plan)
    }

    fn answer_limit(plan: &Plan) -> Option<Duration> {
        plan.request_timeout
    }

    fn idle_limit(plan: &Plan) -> Option<Duration> {
        plan.idle_timeout
    }

    fn throttle(plan: &Plan) -> Option<Throttle> {
        plan.throttle()
    }

    fn changes(plan: &Plan) -> Changes<'_> {
        plan.changes()
    }

    async fn send(
        plan: &mut Plan,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Refusal> {
        if let Some(own) = plan.begin_own() {
            // Boxed: rare, and large beside the requests that go on at once.
            Box::pin(own.pass()).await?;
        }
        let is_copied = plan.mirror().is_some() && Carried::of(&request) == Carried::Message;
        let request = if is_copied { plan.copied(request) } else { request };
        plan.observed.hand();
        if plan.is_limited() {
            Box::pin(plan.admit()).await?;
        }
        if plan.further.is_some() && Carried::of(&request) == Carried::Message {
            // Boxed: not on the way of requests that are sent once.
            return Box::pin(retry::attempts(plan, request)).await;
        }
        attempt(plan, request).await.map_err(|unsent| *unsent.refusal)
    }

    fn refuses(&self, parts: &Parts) {
        self.refuse_line(&PartsView(parts));
    }

    fn observed(plan: &Plan) -> Option<&Observed> {
        Some(&plan.observed)
    }

    fn answered(plan: &Plan, headers: &HeaderMap, started: Instant) -> Option<CalledLatency> {
        let is_overload =
            headers.get_all(CAUSE_FIELD).iter().any(|it| says_overload(it.as_bytes()));
        plan.tried.hears(Said { is_unreached: headers.contains_key(UNREACHED_FIELD), is_overload });
        plan.answered(started, |name, visit| each_value(headers, name, visit));
        None
    }

    fn record(&self, plan: Option<&Plan>, outcome: &Outcome) {
        match plan {
            Some(plan) => plan.record(outcome),
            None => self.record_unplanned(outcome),
        }
    }
}

/// Says within what time the answer is wanted, in gRPC too if the caller has said it so.
pub(super) fn set_timeout(headers: &mut HeaderMap, within: Duration) {
    headers.insert(TIMEOUT_FIELD, HeaderValue::from(timeout_ms(within)));
    if headers.contains_key(GRPC_TIMEOUT_FIELD)
        && let Ok(lowered) = HeaderValue::try_from(grpc_timeout(within))
    {
        headers.insert(GRPC_TIMEOUT_FIELD, lowered);
    }
}

/// What a way is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    /// A request and its answer.
    Message,
    /// Bytes both ways, for which the peer must speak HTTP/2.
    Tunnel,
}

impl Carried {
    fn of(request: &Request<RequestBody>) -> Self {
        if wants_tunnel(request) { Self::Tunnel } else { Self::Message }
    }
}

impl Ask {
    /// Says it in fields.
    fn write(self, headers: &mut HeaderMap) {
        if self.timing {
            headers.insert(TIMING_FIELD, HeaderValue::from_static(TIMING_ASKED));
        }
        if let Some(within) = self.within {
            set_timeout(headers, within);
        }
    }
}

impl Plan {
    /// Waits no longer than a call of gRPC says.
    fn keep_deadline(&mut self, headers: &HeaderMap) {
        let said = headers.get(GRPC_TIMEOUT_FIELD);
        let said = said.and_then(|said| read_grpc_timeout(said.as_bytes()));
        self.request_timeout = [self.request_timeout, said].into_iter().flatten().min();
    }
}

/// A request that was sent in vain.
pub(super) struct Unsent {
    pub(super) refusal: Box<Refusal>,
    /// `None` where there can be no further attempt.
    pub(super) end: Option<AttemptEnd>,
}

impl Unsent {
    fn new(refusal: Refusal, end: Option<AttemptEnd>) -> Self {
        Self { refusal: Box::new(refusal), end }
    }

    /// Makes one of an attempt that took too long.
    pub(super) fn late() -> Self {
        let message = "the next hop did not answer within the route's time for one attempt";
        Self::new(Refusal::new(504, "request-timeout", message), Some(AttemptEnd::Late))
    }

    fn unconnected(refusal: Refusal) -> Self {
        let end = refusal.is_unreached.then_some(AttemptEnd::ConnectFailed);
        Self::new(refusal, end)
    }
}

/// Sends a request once, and elsewhere while nobody has looked at it.
pub(super) async fn attempt(
    plan: &mut Plan,
    mut request: Request<RequestBody>,
) -> Result<Response<Incoming>, Unsent> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let way = way(plan, Carried::of(&request)).await.map_err(Unsent::unconnected)?;
        let unanswered = match way {
            Way::Stream(lease) => {
                let tasks = plan.worker.tasks.clone();
                return call(plan, request, lease, &tasks).await;
            }
            Way::Http2(stream) if !stream.takes(&request).await => {
                return Err(Unsent::new(not_offered("the next hop"), None));
            }
            Way::Http2(stream) => match stream.send(request).await {
                Ok(response) => return Ok(response),
                Err(mut unanswered) => match unanswered.unsent.take() {
                    // Nothing of it was sent, so sending it elsewhere is always safe.
                    Some(unsent) if attempts < ATTEMPTS_MAX => {
                        request = *unsent;
                        continue;
                    }
                    Some(_) | None => unanswered,
                },
            },
        };
        let end = match unanswered.is_refused() {
            true => AttemptEnd::Refused,
            false => AttemptEnd::Reset { has_begun: true },
        };
        return Err(Unsent::new(broken(&unanswered), Some(end)));
    }
}

/// Sends a request on a stream, and on another one while it was not looked at.
async fn call(
    plan: &mut Plan,
    request: Request<RequestBody>,
    lease: Lease<HopWire>,
    tasks: &TaskTree,
) -> Result<Response<Incoming>, Unsent> {
    let call = Call::new(request);
    let mut call = call.map_err(|error| Unsent::new(broken(&error), None))?;
    let (mut lease, mut attempts) = (lease, 0);
    loop {
        attempts += 1;
        let error = match call.on(lease, tasks).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let end = match error.is_refused() {
            true => AttemptEnd::Refused,
            false => AttemptEnd::Reset { has_begun: true },
        };
        if attempts == ATTEMPTS_MAX || !call.can_go_elsewhere(&error) {
            return Err(Unsent::new(broken(&error), Some(end)));
        }
        lease = match way(plan, Carried::Message).await.map_err(Unsent::unconnected)? {
            Way::Stream(lease) => lease,
            // What has streams does not lose them.
            Way::Http2(_) => return Err(Unsent::new(broken(&error), Some(end))),
        };
    }
}

fn broken(error: &dyn std::error::Error) -> Refusal {
    let message = format!("the next hop failed before its answer: {}", chain(error));
    Refusal::new(502, "upstream-failed", message)
}

/// Gets a way to an endpoint that can be reached.
async fn way(plan: &mut Plan, carried: Carried) -> Result<Way, Refusal> {
    let (worker, local) = (plan.worker.clone(), plan.local.clone());
    let called =
        Called { worker: &worker, local: &local, upstream: plan.upstream, target: plan.target };
    let target = &local.upstreams[plan.upstream].targets[plan.target];
    loop {
        let Some((number, endpoint)) = choose(called, &plan.tried) else {
            return Err(none_left(plan.upstream(), plan.target(), &plan.tried));
        };
        if carried == Carried::Message {
            let lease = endpoint.pools.messages.lease_reused();
            if lease.wire.is_some() {
                plan.tried.take(number);
                return Ok(Way::Stream(lease));
            }
        }
        if let Some(stream) = endpoint.pools.http2.place() {
            plan.tried.take(number);
            return Ok(Way::Http2(stream));
        }
        let _waiting = plan.wait()?;
        let how = (&target.series, plan.connect_timeout);
        let tls = &plan.target().tls;
        let opened = match carried {
            Carried::Message => Dial::new(&worker, (endpoint, &tls.messages), how).way().await,
            Carried::Tunnel => {
                let dial = Dial::new(&worker, (endpoint, &tls.http2), how);
                dial.stream().await.map(Way::Http2)
            }
        };
        match opened {
            Ok(way) => {
                plan.tried.take(number);
                return Ok(way);
            }
            Err(error) => {
                let refusal = failed(plan, number, endpoint, &error);
                plan.tried.fail(number);
                if plan.tried.count() >= CONNECTS_MAX.min(target.endpoints.len()) {
                    return Err(refusal);
                }
            }
        }
    }
}
