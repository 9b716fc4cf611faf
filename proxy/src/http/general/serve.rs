//! One client connection that hyper reads: each request is judged, routed and sent on.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tracing::debug;
use weft_core::limits;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::super::h1::MeshFields;
use super::super::refusal::Refusal;
use super::super::session::Outcome;
use super::answer::{AnswerBody, refuse};
use super::rewound::Rewound;
use super::view::{clean, clean_request, strip_mesh};
use crate::listen::Live;
use crate::transport::{Buffer, Wire};

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 1024;
/// Bytes in flight on one stream and on all.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How long a client may take for the head of an HTTP/1.1 request.
const HEAD_LIMIT: Duration = Duration::from_secs(15);

/// One side's decisions about requests that are values.
pub(crate) trait StreamHop: 'static {
    /// What was decided for one request.
    type Plan: 'static;

    /// Whether fields that the mesh sets are believed in answers.
    const MESH_FIELDS: MeshFields;

    /// Decides, and changes the head to what the next hop gets.
    fn plan(&mut self, parts: &mut Parts) -> Result<Self::Plan, Refusal>;

    /// Sends the request and waits for the head of the answer.
    fn send(
        plan: &mut Self::Plan,
        request: Request<Incoming>,
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
    let hop = Rc::new(RefCell::new(hop));
    let service = service_fn(move |request| {
        let hop = hop.clone();
        async move { Ok::<_, Infallible>(handle(&hop, request).await) }
    });
    let mut builder = auto::Builder::new(LocalExecutor(tasks.clone()));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(limits::HTTP_HEAD_BYTES_MAX as u32);
    if engine == Engine::Http2 {
        builder = builder.http2_only();
    }
    let io = TokioIo::new(Rewound { wire, input });
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut is_told = false;
    let ended = poll_fn(|cx| {
        if live.is_draining() && !is_told {
            is_told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        debug!(error, "connection ended");
    }
}

/// One request.
async fn handle<H: StreamHop>(
    hop: &Rc<RefCell<H>>,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let started = clock::instant();
    let (mut parts, body) = request.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE).map_or(&[][..], |kind| kind.as_bytes());
    let is_grpc = kind.starts_with(b"application/grpc");
    let refused = |plan: Option<&H::Plan>, refusal: &Refusal| {
        let duration = clock::instant() - started;
        let outcome = Outcome::refused(refusal.status, refusal.cause, duration);
        hop.borrow().record(plan, &outcome);
        refuse(refusal, is_grpc)
    };
    let planned = clean_request(&mut parts).and_then(|()| hop.borrow_mut().plan(&mut parts));
    let mut plan = match planned {
        Ok(plan) => plan,
        Err(refusal) => return refused(None, &refusal),
    };
    let answer = match H::send(&mut plan, Request::from_parts(parts, body)).await {
        Ok(answer) => answer,
        Err(refusal) => return refused(Some(&plan), &refusal),
    };
    let (mut parts, body) = answer.into_parts();
    clean_answer(&mut parts.headers, H::MESH_FIELDS);
    parts.version = http::Version::default();
    let (status, hop) = (parts.status.as_u16(), hop.clone());
    let body = AnswerBody::passed(body, move |bytes, is_whole| {
        let outcome = Outcome {
            status,
            cause: (!is_whole).then_some("answer-broken"),
            request_bytes: 0,
            response_bytes: bytes,
            duration: clock::instant() - started,
        };
        hop.borrow().record(Some(&plan), &outcome);
    });
    Response::from_parts(parts, body)
}

fn clean_answer(headers: &mut HeaderMap, mesh_fields: MeshFields) {
    clean(headers);
    if mesh_fields == MeshFields::Strip {
        strip_mesh(headers);
    }
}
