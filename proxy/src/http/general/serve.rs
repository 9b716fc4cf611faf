//! One client connection that hyper reads: each request is judged, routed and sent on.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Body as _;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tracing::debug;
use weft_core::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};
use weft_core::log_format::{CalledLatency, TIMING_FIELD};
use weft_core::traffic::Throttle;
use weft_core::traffic::grpc_web::WebForm;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::super::changes::Changes;
use super::super::h1::MeshFields;
use super::super::held::{Held, Holding};
use super::super::refusal::Refusal;
use super::super::session::Outcome;
use super::super::watch::Patience;
use super::answer::{AnswerBody, Idle, Passage, grpc_code, refuse};
use super::asked::RequestBody;
use super::incoming::Incoming;
use super::progress::Progress;
use super::rewound::Rewound;
use super::tunnel::{Carrying, caller_end};
use super::view::{HeadRules, Tunnels, clean, clean_request, each_value, strip_mesh};
use super::web::{unweb, web};
use crate::inbound::Cut;
use crate::limits::Limits;
use crate::listen::Live;
use crate::observe::Observed;
use crate::transport::{Buffer, Timer, Wire};

/// Bytes in flight on one stream and on all.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How often a silent HTTP/2 client is asked whether it lives, and how long it may take: a host
/// that is gone without a word must not hold its connections for ever.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_LIMIT: Duration = Duration::from_secs(20);

/// One side's decisions about requests that are values.
pub(crate) trait StreamHop: 'static {
    /// What was decided for one request.
    type Plan: 'static;
    /// What deciding needs from elsewhere.
    type Ready: Default;

    /// Whether fields that the mesh sets are believed in answers.
    const MESH_FIELDS: MeshFields;

    /// What heads it takes.
    const HEADS: HeadRules = HeadRules { fields_max: HTTP_HEADERS_MAX, tunnels: Tunnels::None };

    /// Whether callers may speak gRPC-Web.
    fn takes_grpc_web(&self) -> bool {
        false
    }

    /// Returns how much of the next body is shown to somebody before it goes on.
    fn holding(&mut self) -> Option<Holding> {
        None
    }

    /// Changes a head that was checked to what is judged.
    fn receive(&mut self, _parts: &mut Parts) {}

    /// Finds out what deciding needs from elsewhere, or that it is refused there.
    fn ready(
        _hop: &RefCell<Self>,
        _parts: &Parts,
        _held: Option<Held>,
    ) -> impl Future<Output = Result<Self::Ready, Refusal>> {
        std::future::ready(Ok(Self::Ready::default()))
    }

    /// Decides, and changes the head to what the next hop gets.
    fn plan(&mut self, parts: &mut Parts, ready: Self::Ready) -> Result<Self::Plan, Refusal>;

    /// Takes note of a request that is about to be refused before it has a plan.
    fn refuses(&self, _parts: &Parts) {}

    /// Returns where it is noted what becomes of the request, if anything is.
    fn observed(_plan: &Self::Plan) -> Option<&Observed> {
        None
    }

    /// Takes note of the head of the answer to a request that came at `started`. Returns what the
    /// calling proxy is told of where the time went, if it wants to know.
    fn answered(
        _plan: &Self::Plan,
        _headers: &HeaderMap,
        _started: Instant,
    ) -> Option<CalledLatency> {
        None
    }

    /// Returns how fast the body of the answer goes on, if the route slows it down.
    fn throttle(_plan: &Self::Plan) -> Option<Throttle> {
        None
    }

    /// Returns what a route changes of the headers of the answer.
    fn changes(_plan: &Self::Plan) -> Changes<'_> {
        Changes::default()
    }

    /// Takes note of the fields after an answer's body.
    fn trailed(plan: &Self::Plan, trailers: &HeaderMap) {
        if let Some(observed) = Self::observed(plan) {
            observed.trailed(|name, visit| each_value(trailers, name, visit));
        }
    }

    /// Returns what ends the request from outside, if something may.
    fn cut(_plan: &Self::Plan) -> Option<Rc<Cut>> {
        None
    }

    /// Returns how long the answer may take once the request is sent; `None` for ever.
    fn answer_limit(plan: &Self::Plan) -> Option<Duration>;

    /// Returns how long nothing may move on a request, if its route says so.
    fn idle_limit(_plan: &Self::Plan) -> Option<Duration> {
        None
    }

    /// Sends the request and waits for the head of the answer.
    fn send(
        plan: &mut Self::Plan,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, Refusal>>;

    /// Takes note of how a request ended.
    fn record(&self, plan: Option<&Self::Plan>, outcome: &Outcome);
}

/// Which protocols a connection may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// HTTP/1.1 or HTTP/2, by its first bytes.
    Any,
    /// HTTP/2.
    Http2,
}

/// Starts hyper's tasks on the worker's own thread.
#[derive(Clone)]
pub(super) struct LocalExecutor(pub(super) TaskTree);

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        self.0.spawn_local("http2 stream", async move {
            future.await;
        });
    }
}

/// Serves a connection to its end; `input` holds what was read of it before.
pub(crate) async fn serve<W: Wire + 'static, H: StreamHop>(
    (wire, input): (W, Buffer),
    engine: Engine,
    hop: H,
    live: &Live,
    tasks: &TaskTree,
) {
    live.set_busy(true);
    let limits = live.limits();
    let hop = Rc::new(RefCell::new(hop));
    let has_asked = Rc::new(Cell::new(false));
    let asked = has_asked.clone();
    let context = Rc::new(Context::new(limits, tasks));
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        asked.set(true);
        let (hop, context) = (hop.clone(), context.clone());
        let request = request.map(Incoming::Hyper);
        // Boxed: it is some kilobytes, and the library moves it from hand to hand.
        Box::pin(async move { Ok::<_, Infallible>(answer_one(&hop, request, &context).await) })
    });
    let mut builder = auto::Builder::new(LocalExecutor(tasks.clone()));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HTTP_HEAD_BYTES_MAX as u32)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_LIMIT);
    match H::HEADS.tunnels {
        Tunnels::None => {}
        Tunnels::Taken => drop(builder.http2().enable_connect_protocol()),
    }
    if engine == Engine::Http2 {
        builder = builder.http2_only();
    }
    let io = TokioIo::new(Rewound { wire, input });
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut is_told = false;
    let (mut timer, first_by) = (Timer::default(), clock::instant() + limits.idle);
    let ended = poll_fn(|cx| {
        // Before the first request HTTP/1 would be closed without an answer.
        if !is_told && (live.is_leaving() || live.is_draining() && has_asked.get()) {
            is_told = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        if has_asked.get() {
            return Poll::Pending;
        }
        timer.poll_past(cx, first_by).map(|()| Err("no request in time".into()))
    });
    if let Err(error) = ended.await {
        debug!(error, "connection ended");
    }
}

/// Answers one request, in gRPC or gRPC-Web.
pub(crate) async fn answer_one<H: StreamHop>(
    hop: &Rc<RefCell<H>>,
    mut request: Request<Incoming>,
    context: &Context,
) -> Response<AnswerBody> {
    let takes_web = hop.borrow().takes_grpc_web();
    let form = if takes_web { unweb(request.headers_mut()) } else { None };
    let answer = handle(hop, (request, form), context).await;
    match form {
        Some(form) => web(answer, form),
        None => answer,
    }
}

/// One request, whose body comes in gRPC-Web where a form is given.
async fn handle<H: StreamHop>(
    hop: &Rc<RefCell<H>>,
    (request, form): (Request<Incoming>, Option<WebForm>),
    context: &Context,
) -> Response<AnswerBody> {
    let started = clock::instant();
    let (body_bytes_max, stall) = (context.limits.body_bytes, context.limits.stall);
    let (mut parts, body) = request.into_parts();
    let caller_end = caller_end(&mut parts);
    let progress = Rc::new(Progress::default());
    let mut body = RequestBody::new(body, progress.clone(), body_bytes_max).read_as(form);
    let kind = parts.headers.get(header::CONTENT_TYPE).map_or(&[][..], |kind| kind.as_bytes());
    let is_grpc = kind.starts_with(b"application/grpc");
    let refused = |plan: Option<&H::Plan>, refusal: &Refusal| {
        let duration = clock::instant() - started;
        let mut outcome = Outcome::refused(refusal.status, refusal.cause, duration);
        outcome.grpc_status = is_grpc.then(|| grpc_code(refusal));
        hop.borrow().record(plan, &outcome);
        refuse(refusal, is_grpc)
    };
    let ready = ready(hop, (&mut parts, &mut body), body_bytes_max).await;
    let planned = ready.and_then(|ready| hop.borrow_mut().plan(&mut parts, ready));
    let plan = match planned {
        Ok(plan) => plan,
        Err(refusal) => {
            hop.borrow().refuses(&parts);
            return refused(None, &refusal);
        }
    };
    let cut = H::cut(&plan);
    let mut waiting = Waiting { hop, plan: Some(plan), started, progress: progress.clone() };
    let request = Request::from_parts(parts, body);
    let sending = waiting.answered(request, stall);
    let sent = match &cut {
        None => sending.await,
        Some(cut) => cut.guard(sending).await.unwrap_or_else(|| Err(no_longer_allowed())),
    };
    let plan = waiting.plan.take().expect("only dropping takes it otherwise");
    let answer = match sent {
        Ok(answer) if caller_end.is_some() && answer.status().is_success() => {
            let open = Carrying::new(hop.clone(), plan, started);
            return open_tunnel(open, (caller_end, answer), cut, context);
        }
        Ok(answer) if answer.status().is_informational() => {
            let message = "the next hop changed the protocol, which nobody asked for";
            let refusal = Refusal::new(502, "upstream-malformed", message);
            return refused(Some(&plan), &refusal);
        }
        Ok(answer) => answer,
        Err(_) if progress.bytes() > body_bytes_max => {
            return refused(Some(&plan), &body_too_large());
        }
        Err(refusal) => return refused(Some(&plan), &refusal),
    };
    let (mut parts, body) = answer.into_parts();
    pass_head::<H>((&plan, started), &mut parts);
    let status = parts.status.as_u16();
    let grpc_status = Cell::new(grpc_status(&parts.headers));
    let idle = H::idle_limit(&plan).map(|limit| Idle::new(limit, progress.clone()));
    let throttle = H::throttle(&plan);
    let passing = Passing { hop: hop.clone(), plan, status, progress, started, grpc_status };
    let body = AnswerBody::passed(body, (cut, idle), Box::new(passing)).slowed_down(throttle);
    Response::from_parts(parts, body)
}

/// Checks a request and waits for what judging it needs.
async fn ready<H: StreamHop>(
    hop: &RefCell<H>,
    (parts, body): (&mut Parts, &mut RequestBody),
    body_bytes_max: u64,
) -> Result<H::Ready, Refusal> {
    clean_request(parts, H::HEADS)?;
    if body.size_hint().lower() > body_bytes_max {
        return Err(body_too_large());
    }
    hop.borrow_mut().receive(parts);
    let holding = hop.borrow_mut().holding();
    let held = body.held(holding).await?;
    H::ready(hop, parts, held).await
}

/// Lets a tunnel through that the next hop has opened.
fn open_tunnel<H: StreamHop>(
    open: Carrying<H>,
    (caller, mut answer): (Option<OnUpgrade>, Response<Incoming>),
    cut: Option<Rc<Cut>>,
    context: &Context,
) -> Response<AnswerBody> {
    let there = answer.extensions_mut().remove::<OnUpgrade>();
    let (Some(caller), Some(there)) = (caller, there) else {
        let message = "the next hop opens no tunnel, but does not refuse it either";
        let refusal = Refusal::new(502, "upstream-malformed", message);
        open.refused(&refusal);
        return refuse(&refusal, false);
    };
    let (mut parts, _) = answer.into_parts();
    pass_head::<H>((&open.plan, open.started), &mut parts);
    parts.headers.remove(header::CONTENT_LENGTH);
    let limits = context.limits.clone();
    context.tasks.spawn_local("tunnel", open.run((caller, there), limits, cut));
    Response::from_parts(parts, AnswerBody::Own(None))
}

/// What the requests of a connection share.
pub(crate) struct Context {
    limits: Rc<Limits>,
    tasks: TaskTree,
}

impl Context {
    /// Makes that of a connection whose caller may take so much, and whose tasks are started there.
    pub(crate) fn new(limits: &Limits, tasks: &TaskTree) -> Self {
        Self { limits: Rc::new(limits.clone()), tasks: tasks.clone() }
    }
}

/// An answer whose body is on its way.
struct Passing<H: StreamHop> {
    hop: Rc<RefCell<H>>,
    plan: H::Plan,
    status: u16,
    progress: Rc<Progress>,
    started: Instant,
    grpc_status: Cell<Option<u8>>,
}

impl<H: StreamHop> Passage for Passing<H> {
    fn trailed(&self, trailers: &HeaderMap) {
        self.grpc_status.set(grpc_status(trailers).or(self.grpc_status.get()));
        H::trailed(&self.plan, trailers);
    }

    fn ended(&self, bytes: u64, cause: Option<&'static str>) {
        let outcome = Outcome {
            status: self.status,
            cause,
            grpc_status: self.grpc_status.get(),
            request_bytes: self.progress.bytes(),
            response_bytes: bytes,
            duration: clock::instant() - self.started,
        };
        self.hop.borrow().record(Some(&self.plan), &outcome);
    }
}

/// Reads the status of a call.
fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn body_too_large() -> Refusal {
    let message = "the body is larger than this proxy lets through";
    Refusal::new(413, "body-limit", message)
}

fn no_longer_allowed() -> Refusal {
    let message = "the intentions were changed, and do not allow this request any more";
    Refusal::new(403, "intention-denied", message)
}

/// A request that waits for its answer. Dropped before that, it was given up by its caller.
struct Waiting<'a, H: StreamHop> {
    hop: &'a RefCell<H>,
    plan: Option<H::Plan>,
    started: Instant,
    progress: Rc<Progress>,
}

impl<H: StreamHop> Waiting<'_, H> {
    /// Sends the request and waits for its answer in time.
    async fn answered(
        &mut self,
        request: Request<RequestBody>,
        stall: Duration,
    ) -> Result<Response<Incoming>, Refusal> {
        let plan = self.plan.as_mut().expect("only the answer's arrival takes it");
        let (answer, idle) = (H::answer_limit(plan), H::idle_limit(plan));
        let patience = Patience { answer, stall, idle };
        self.progress.answered(patience, H::send(plan, request)).await
    }
}

impl<H: StreamHop> Drop for Waiting<'_, H> {
    fn drop(&mut self) {
        if let Some(plan) = self.plan.take() {
            let outcome = Outcome {
                status: 0,
                cause: Some("client-gone"),
                grpc_status: None,
                request_bytes: self.progress.bytes(),
                response_bytes: 0,
                duration: clock::instant() - self.started,
            };
            self.hop.borrow().record(Some(&plan), &outcome);
        }
    }
}

/// Takes note of the head of an answer, and gives it the form in which the caller gets it.
fn pass_head<H: StreamHop>(
    (plan, started): (&H::Plan, Instant),
    parts: &mut http::response::Parts,
) {
    let told = H::answered(plan, &parts.headers, started);
    clean(&mut parts.headers);
    match H::MESH_FIELDS {
        // Of what proxies have measured for each other nobody else hears.
        MeshFields::Keep if H::observed(plan).is_some_and(Observed::wants_latency) => {
            parts.headers.remove(TIMING_FIELD);
        }
        MeshFields::Keep => {}
        MeshFields::Strip => {
            strip_mesh(&mut parts.headers);
        }
    }
    H::changes(plan).apply(&mut parts.headers);
    if let Some(Ok(told)) = told.map(|told| HeaderValue::try_from(told.to_string())) {
        parts.headers.insert(TIMING_FIELD, told);
    }
    parts.version = http::Version::default();
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A hop that no request reaches.
    struct Nowhere;

    impl StreamHop for Nowhere {
        type Plan = ();
        type Ready = ();
        const MESH_FIELDS: MeshFields = MeshFields::Strip;

        fn plan(&mut self, _parts: &mut Parts, _ready: ()) -> Result<(), Refusal> {
            Err(Refusal::new(503, "no-endpoint", "nowhere"))
        }

        fn answer_limit(_plan: &()) -> Option<Duration> {
            None
        }

        async fn send(
            _plan: &mut (),
            _request: Request<RequestBody>,
        ) -> Result<Response<Incoming>, Refusal> {
            Err(Refusal::new(503, "no-endpoint", "nowhere"))
        }

        fn record(&self, _plan: Option<&()>, _outcome: &Outcome) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_for_nothing_does_not_stay() {
        for (engine, opening) in [
            (Engine::Http2, ""),
            (Engine::Http2, "PRI * HTTP/2.0\r\n"),
            (Engine::Http2, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
            (Engine::Any, "P"),
        ] {
            let (mut client, wire) = tokio::io::duplex(4096);
            let (live, tasks) = (Live::default(), TaskTree::root("test"));
            let started = clock::instant();
            let serving = serve((wire, Buffer::default()), engine, Nowhere, &live, &tasks);
            let calling = async {
                client.write_all(opening.as_bytes()).await.expect("sent");
                let _ = client.read_to_end(&mut Vec::new()).await;
            };
            let idle = live.limits().idle;
            let limit = idle * 2;
            let both = async { tokio::join!(serving, calling) };
            assert!(tokio::time::timeout(limit, both).await.is_ok(), "{opening:?} stayed");
            assert!(clock::instant() - started <= idle, "{opening:?}");
        }
    }
}
