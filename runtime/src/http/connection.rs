//! One served connection: handshake, protocol, limits, graceful end.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use http::{Request, Response, header};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::{Service, ServiceExt};

use super::body::Limited;
use super::{Body, BoxError, Callers, PeerIdentity, Remote, ServeOptions};
use crate::task::TaskTree;
use crate::tls::rustls::ServerConfig;
use crate::tls::{peer_identity, tokio_rustls::TlsAcceptor};

/// The length of HTTP/2's opening bytes: with fewer, the protocol is not yet known.
const PREFACE_BYTES: usize = 24;

pub(super) struct Connection<I> {
    pub(super) stream: I,
    pub(super) remote: Remote,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) options: Arc<ServeOptions>,
    pub(super) tasks: TaskTree,
}

/// What every request of a connection has in common.
#[derive(Clone)]
struct Origin {
    remote: Remote,
    peer: PeerIdentity,
    options: Arc<ServeOptions>,
}

pub(super) async fn serve_connection<I, S, B>(
    connection: Connection<I>,
    service: S,
) -> Result<(), BoxError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Connection { stream, remote, tls, options, tasks } = connection;
    let Some(tls) = tls else {
        let origin = Origin { remote, peer: PeerIdentity(None), options };
        return serve_stream(stream, origin, service, tasks).await;
    };
    // Boxed: what a handshake needs is let go when it is over.
    let handshake = Box::pin(TlsAcceptor::from(tls).accept(stream));
    let stream = tokio::time::timeout(options.handshake_limit, handshake)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time"))??;
    let peer = match (options.callers, stream.get_ref().1.peer_certificates()) {
        (Callers::Members, Some(certificates)) => PeerIdentity(Some(peer_identity(certificates)?)),
        (Callers::Members, None) | (Callers::Outsiders, _) => PeerIdentity(None),
    };
    serve_stream(stream, Origin { remote, peer, options }, service, tasks).await
}

/// Serves what a stream carries. No `async fn`, and the connection in a box: a server has ten
/// thousand of them that say nothing, and their tasks would hold the stream more than once.
fn serve_stream<I, S, B>(
    stream: I,
    origin: Origin,
    service: S,
    tasks: TaskTree,
) -> impl Future<Output = Result<(), BoxError>> + Send
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let head_limit = origin.options.head_limit;
    let builder = builder(&origin.options, tasks.clone());
    let read_bytes = Arc::new(AtomicUsize::new(0));
    let stream = Counted { inner: stream, read_bytes: read_bytes.clone() };
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        answer(service.clone(), judge(request, origin.clone()))
    });
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut serving = Box::pin(serving.into_owned());
    async move {
        // hyper's own limits start once it knows the protocol; until then a silent peer is ours.
        let silence = tokio::time::sleep(head_limit);
        tokio::pin!(silence);
        let (mut is_silence_over, mut is_stopping) = (false, false);
        loop {
            tokio::select! {
                // Cancel-safe: all three are pinned outside and polled again.
                served = serving.as_mut() => return served,
                () = silence.as_mut(), if !is_silence_over => {
                    is_silence_over = true;
                    if read_bytes.load(Ordering::Relaxed) < PREFACE_BYTES {
                        return Err("no request in time".into());
                    }
                }
                () = tasks.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Calls the service; boxed, as the compiler cannot name the future's bounds otherwise.
fn answer<S, B>(
    mut service: S,
    request: Request<Body>,
) -> BoxFuture<'static, Result<Response<Body>, Infallible>>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // Not an async block: that would need `S::Future: Send` for every lifetime in `Body`.
    let boxed = |answer: Response<B>| answer.map(|body| body.map_err(Into::into).boxed_unsync());
    match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
        // The usual case: the request is not held until there is an answer.
        Poll::Ready(Ok(())) => service.call(request).map_ok(boxed).boxed(),
        Poll::Ready(Err(never)) => match never {},
        Poll::Pending => service.oneshot(request).map_ok(boxed).boxed(),
    }
}

/// Runs the requests of an HTTP/2 connection as tasks of the server's tree.
#[derive(Clone)]
struct Streams(TaskTree);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("http2 stream", future);
    }
}

fn builder(options: &ServeOptions, tasks: TaskTree) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams(tasks));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_limit)
        .max_buf_size(options.head_bytes_max)
        .max_headers(weft_core::limits::HTTP_HEADERS_MAX)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_max)
        .max_header_list_size(u32::try_from(options.head_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(options.keepalive)
        .keep_alive_timeout(options.keepalive);
    builder
}

/// Adds who called, and puts the body under its limits.
fn judge(request: Request<Incoming>, origin: Origin) -> Request<Body> {
    let Origin { remote, peer, options } = origin;
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let mut request = request.map(|body| {
        if is_grpc {
            body.map_err(BoxError::from).boxed_unsync()
        } else {
            Limited::new(body, options.body_bytes_max, options.body_limit).boxed_unsync()
        }
    });
    request.extensions_mut().insert(remote);
    request.extensions_mut().insert(peer);
    request
}

/// A stream that counts what was read.
struct Counted<I> {
    inner: I,
    read_bytes: Arc<AtomicUsize>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.read_bytes.fetch_add(buffer.filled().len() - before, Ordering::Relaxed);
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
