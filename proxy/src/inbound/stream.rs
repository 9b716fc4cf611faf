//! Requests that are values on their way to the local instance, in the protocol that it speaks.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use http_body::Body as _;
use weft_core::config_entry::Protocol;
use weft_core::limits::HTTP_HEADERS_MAX;
use weft_core::log_format::CalledLatency;
use weft_runtime::net::TcpStream;
use weft_runtime::task::TaskTree;

use super::forward::{LocalApp, Plan, connect_refused};
use super::own_app::open_with;
use super::under_way::Cut;
use crate::http::general::{
    AppPool, AsksTiming, HeadRules, Incoming, Multiplexed, PartsView, RequestBody, SaidCert,
    StreamHop, Tunnels, ask_http1, bridge, each_value, is_bridged, is_extended_connect,
    is_plain_connect, not_offered, set_authority, set_proto, wants_tunnel,
};
use crate::http::h1::MeshFields;
use crate::http::{Edits, Held, Holding, MADE_FIELDS_MAX, Outcome, Refusal, chain};
use crate::observe::Observed;

/// Connections tried for one request when those before were being closed.
const ATTEMPTS_MAX: u32 = 2;

impl StreamHop for LocalApp {
    type Plan = Plan;
    type Ready = Edits;

    const MESH_FIELDS: MeshFields = MeshFields::Strip;
    const HEADS: HeadRules =
        HeadRules { fields_max: HTTP_HEADERS_MAX + MADE_FIELDS_MAX, tunnels: Tunnels::Taken };

    fn holding(&mut self) -> Option<Holding> {
        self.wants_body()
    }

    fn receive(&mut self, parts: &mut Parts) {
        if is_extended_connect(parts) && !speaks_http2(self.speaks()) {
            bridge(parts, self.nonce());
        }
    }

    async fn ready(
        hop: &RefCell<Self>,
        parts: &Parts,
        held: Option<Held>,
    ) -> Result<Edits, Refusal> {
        let preparation = hop.borrow_mut().preparation();
        match preparation.is_nothing() {
            true => Ok(Edits::default()),
            false => Box::pin(preparation.run(&PartsView(parts), held)).await,
        }
    }

    fn plan(&mut self, parts: &mut Parts, ready: Edits) -> Result<Plan, Refusal> {
        let mut plan = self.admit(&PartsView(parts), ready)?;
        let inbound = &plan.local.workload.snapshot.inbound;
        if is_plain_connect(parts) && !inbound.allow_connect {
            return Err(connect_refused(&plan.local.workload.snapshot.service));
        }
        if parts.extensions.remove::<AsksTiming>().is_some() {
            plan.observed.ask();
        }
        self.enter(&mut plan);
        let query = match plan.edits.as_ref().and_then(|edits| edits.query.as_ref()) {
            Some(query) => query.as_ref().map(|query| String::from_utf8_lossy(query).into_owned()),
            None => parts.uri.query().map(str::to_owned),
        };
        if let Some(edits) = &plan.edits {
            edits.apply(&mut parts.headers);
        }
        set_proto(&mut parts.headers, "https");
        let said = parts.extensions.remove::<SaidCert>().map_or_else(Vec::new, |said| said.0);
        self.shown().write(&said, &mut parts.headers);
        let snapshot = &plan.local.workload.snapshot;
        let target = match plan.is_respelled {
            true => {
                let path = String::from_utf8_lossy(self.judged_path());
                with_query(&path, query)
            }
            false => with_query(parts.uri.path(), query),
        };
        direct(parts, (&target, snapshot.inbound.protocol), snapshot.service.as_str())?;
        Ok(plan)
    }

    fn cut(plan: &Plan) -> Option<Rc<Cut>> {
        plan.entered.as_ref().map(|entered| entered.cut.clone())
    }

    fn answer_limit(plan: &Plan) -> Option<Duration> {
        plan.limit()
    }

    async fn send(
        plan: &mut Plan,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Refusal> {
        plan.observed.hand();
        let (worker, local) = (&plan.worker, &plan.local);
        let inbound = &local.workload.snapshot.inbound;
        let (header, pools) = match &plan.own {
            Some(own) => (Some(own.header.as_slice()), (&own.general1, &own.general2)),
            None => (None, (&*local.app_http1, &*local.app_http2)),
        };
        let open = || open_with(&inbound.local_app, inbound.connect_timeout, header);
        send(request, (inbound.protocol, pools), open, &worker.tasks).await
    }

    fn refuses(&self, parts: &Parts) {
        self.refuse_line(&PartsView(parts));
    }

    fn observed(plan: &Plan) -> Option<&Observed> {
        Some(&plan.observed)
    }

    fn answered(plan: &Plan, headers: &HeaderMap, started: Instant) -> Option<CalledLatency> {
        plan.answered(started, |name, visit| each_value(headers, name, visit))
    }

    fn record(&self, plan: Option<&Plan>, outcome: &Outcome) {
        self.note(plan, outcome);
    }
}

/// Gives a request the form of the protocol that the local instance speaks.
pub(super) fn direct(
    parts: &mut Parts,
    (target, protocol): (&str, Protocol),
    host_default: &str,
) -> Result<(), Refusal> {
    let is_connect = is_plain_connect(parts);
    if is_bridged(parts) == speaks_http2(protocol)
        && (is_bridged(parts) || is_extended_connect(parts))
    {
        let message = "what the service speaks has just changed; send the request again";
        return Err(Refusal::new(503, "upstream-failed", message).unreached());
    }
    match protocol {
        Protocol::Grpc | Protocol::Http2 if is_connect => {
            parts.headers.remove(header::HOST);
            parts.version = Version::HTTP_2;
        }
        Protocol::Grpc | Protocol::Http2 => {
            set_authority(parts, target, host_default);
            parts.version = Version::HTTP_2;
        }
        Protocol::Http | Protocol::Tcp | Protocol::Udp => {
            let host = parts.uri.authority().map(|authority| authority.as_str().to_owned());
            if let Some(Ok(host)) = host.map(|host| HeaderValue::from_str(&host)) {
                parts.headers.insert(header::HOST, host);
            }
            if !is_connect {
                parts.uri = target.parse().map_err(|_| {
                    let message = "the request target is not one that HTTP/1 can say";
                    Refusal::new(400, "bad-request", message)
                })?;
            }
            parts.version = Version::HTTP_11;
            parts.headers.remove(header::TE);
            join_cookies(&mut parts.headers);
        }
    }
    Ok(())
}

/// Sends a request to the local instance in the protocol that it speaks, and waits for the head
/// of the answer.
pub(super) async fn send<F: Future<Output = io::Result<TcpStream>>>(
    mut request: Request<RequestBody>,
    (protocol, (http1, http2)): (Protocol, (&AppPool, &Multiplexed)),
    open: impl Fn() -> F,
    tasks: &TaskTree,
) -> Result<Response<Incoming>, Refusal> {
    match protocol {
        Protocol::Grpc | Protocol::Http2 => {
            let mut attempts = 0;
            loop {
                attempts += 1;
                let stream = http2.stream(&open, tasks).await;
                let stream = stream.map_err(|error| unreachable_app(&error))?;
                if !stream.takes(&request).await {
                    return Err(not_offered("the local instance"));
                }
                let mut unanswered = match stream.send(request).await {
                    Ok(response) => return Ok(response),
                    Err(unanswered) => unanswered,
                };
                match unanswered.unsent.take() {
                    // Nothing of it was sent: the connection was being closed.
                    Some(unsent) if attempts < ATTEMPTS_MAX => request = *unsent,
                    Some(_) | None => return Err(broken(&unanswered)),
                }
            }
        }
        Protocol::Http | Protocol::Tcp | Protocol::Udp if wants_tunnel(&request) => {
            let asked = ask_http1(request, &open, tasks).await;
            asked.unwrap_or_else(|error| Err(not_asked(&error)))
        }
        Protocol::Http | Protocol::Tcp | Protocol::Udp => {
            frame_body(&mut request);
            let sent = http1.send(request, &open, tasks).await;
            sent.map_err(|error| not_asked(&error))
        }
    }
}

fn speaks_http2(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Grpc | Protocol::Http2 => true,
        Protocol::Http | Protocol::Tcp | Protocol::Udp => false,
    }
}

fn not_asked(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::Other => broken(error),
        _ => unreachable_app(error),
    }
}

pub(super) fn with_query(path: &str, query: Option<String>) -> String {
    let path = if path.is_empty() { "/" } else { path };
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// Joins the cookies that HTTP/2 may spread over several lines.
///
/// **Source**: Spec: RFC 9113 §8.2.3.
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// Has a body of unknown length sent in chunks whatever the method: by itself, the library
/// drops that of a GET.
fn frame_body(request: &mut Request<RequestBody>) {
    let is_unknown = request.body().size_hint().exact().is_none();
    if is_unknown && !request.headers().contains_key(header::CONTENT_LENGTH) {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
    }
}

fn unreachable_app(error: &io::Error) -> Refusal {
    let message = format!("cannot reach the local instance: {}", chain(error));
    Refusal::new(503, "app-unreachable", message).unreached()
}

fn broken(error: &dyn std::error::Error) -> Refusal {
    let message = format!("the local instance failed before its answer: {}", chain(error));
    Refusal::new(502, "upstream-failed", message)
}
