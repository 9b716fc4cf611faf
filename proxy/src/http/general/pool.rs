//! Connections that hyper drives: HTTP/2 ones shared by many requests, HTTP/1.1 ones to the
//! local instance. They belong to one worker.

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioIo, TokioTimer};
use tracing::debug;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::asked::RequestBody;
use super::incoming::Incoming;
use super::serve::LocalExecutor;
use crate::transport::Wire;

/// Requests on one connection before another is opened beside it: as many as most servers
/// allow at once.
const STREAMS_PER_CONNECTION: u32 = 100;
/// Connections to one endpoint, per worker; what comes beyond waits for a stream.
const CONNECTIONS_MAX: usize = 8;
/// Bytes in flight on one stream and on all: a 1 Gbit/s path of 8 ms, and four such streams.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How often a silent connection is asked whether it lives, and how long it may take.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_LIMIT: Duration = Duration::from_secs(10);
/// How long a peer may take to say on a new connection what it takes: it does so first of all.
const OFFER_LIMIT: Duration = Duration::from_secs(1);
/// How often that is looked at.
const OFFER_CHECK: Duration = Duration::from_millis(1);
/// HTTP/1.1 connections that wait for their next request.
const IDLE_MAX: usize = 64;

/// HTTP/2 connections to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Multiplexed {
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Lets a storm of first requests open one connection, not one each. Async, as opening
    /// waits for the network.
    opening: tokio::sync::Mutex<()>,
    /// Openings that failed; who waited for one does not repeat it.
    failures: Cell<u64>,
}

#[derive(Debug)]
struct Connection {
    sender: http2::SendRequest<RequestBody>,
    streams: Cell<u32>,
    offers: Rc<Offers>,
}

/// What the peer of a connection says that it takes.
#[derive(Debug, Default)]
struct Offers {
    /// Whether requests for other protocols.
    ///
    /// **Source**: Spec: RFC 8441 §3.
    tunnels: Cell<bool>,
    /// Whether it has had time to say so.
    is_settled: Cell<bool>,
    /// Of the task that can look: the library wakes nobody when it has come.
    looking: RefCell<Option<Waker>>,
}

/// A place for one request on a connection.
pub(crate) struct Stream {
    connection: Rc<Connection>,
}

/// States that a request got no answer.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Unanswered {
    #[source]
    error: hyper::Error,
    /// The request, if not a byte of it was sent: the peer was closing the connection.
    pub(crate) unsent: Option<Box<http::Request<RequestBody>>>,
}

impl Unanswered {
    /// Whether the peer has said that it has not looked at the request.
    ///
    /// **Source**: Spec: RFC 9113 §8.7.
    pub(crate) fn is_refused(&self) -> bool {
        let reason = self.error.source().and_then(|error| error.downcast_ref::<h2::Error>());
        reason.and_then(h2::Error::reason) == Some(h2::Reason::REFUSED_STREAM)
    }
}

impl Multiplexed {
    /// Returns the requests on their way.
    pub(crate) fn streams(&self) -> u32 {
        self.connections.borrow().iter().map(|connection| connection.streams.get()).sum()
    }

    /// Closes idle connections and takes no new requests on the others.
    pub(crate) fn retire(&self) {
        // The connection's task ends once the last sender and stream are gone.
        self.connections.borrow_mut().clear();
    }

    /// Gets a place for a request, on a connection that is there or a new one.
    ///
    /// # Errors
    /// Those of `open` and of the HTTP/2 handshake.
    pub(crate) async fn stream<W: Wire + 'static, F: Future<Output = io::Result<W>>>(
        &self,
        open: impl FnOnce() -> F,
        tasks: &TaskTree,
    ) -> io::Result<Stream> {
        self.once(|| self.place(), async || self.adopt(open().await?, tasks).await).await
    }

    /// Gets what is there, or what is opened; requests that come meanwhile wait for the one attempt.
    ///
    /// # Errors
    /// Those of `open`.
    pub(crate) async fn once<T, F: Future<Output = io::Result<T>>>(
        &self,
        found: impl Fn() -> Option<T>,
        open: impl FnOnce() -> F,
    ) -> io::Result<T> {
        if let Some(found) = found() {
            return Ok(found);
        }
        let failures = self.failures.get();
        let _opening = self.opening.lock().await;
        if let Some(found) = found() {
            return Ok(found);
        }
        if self.failures.get() != failures {
            // Else each one in the queue would wait for its own attempt after all before it.
            return Err(io::Error::other("an attempt for another request has just failed"));
        }
        open().await.inspect_err(|_| self.failures.set(failures + 1))
    }

    /// Gets a place for a request on a connection that has just been opened.
    ///
    /// # Errors
    /// Those of the HTTP/2 handshake.
    pub(crate) async fn adopt<W: Wire + 'static>(
        &self,
        wire: W,
        tasks: &TaskTree,
    ) -> io::Result<Stream> {
        let executor = LocalExecutor(tasks.clone());
        let (sender, driver) = http2::Builder::new(executor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_LIMIT)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(io::Error::other)?;
        let offers = Rc::new(Offers::default());
        let told = offers.clone();
        tasks.spawn_local("http2 connection", async move {
            let mut driver = pin!(driver);
            let driving = poll_fn(|cx| {
                let polled = driver.as_mut().poll(cx);
                told.tunnels.set(driver.is_extended_connect_protocol_enabled());
                *told.looking.borrow_mut() = Some(cx.waker().clone());
                polled
            });
            if let Err(error) = driving.await {
                debug!(%error, "HTTP/2 connection ended");
            }
        });
        let connection = Rc::new(Connection { sender, streams: Cell::new(0), offers });
        self.connections.borrow_mut().push(connection.clone());
        Ok(Stream::new(connection))
    }

    /// Finds a place: the connection with the fewest requests, unless there is room for more
    /// connections and all are well used.
    pub(crate) fn place(&self) -> Option<Stream> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| !connection.sender.is_closed());
        let best = connections.iter().min_by_key(|connection| connection.streams.get())?;
        let is_full = best.streams.get() >= STREAMS_PER_CONNECTION;
        if is_full && connections.len() < CONNECTIONS_MAX {
            return None;
        }
        Some(Stream::new(best.clone()))
    }
}

impl Stream {
    fn new(connection: Rc<Connection>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self { connection }
    }

    /// Whether the peer takes a request: one that asks for another protocol must have been offered.
    /// On a new connection a moment is waited for that.
    pub(crate) async fn takes(&self, request: &http::Request<RequestBody>) -> bool {
        if request.extensions().get::<Protocol>().is_none() {
            return true;
        }
        let offers = &self.connection.offers;
        let by = clock::instant() + OFFER_LIMIT;
        while !offers.tunnels.get() && !offers.is_settled.get() {
            if let Some(looking) = &*offers.looking.borrow() {
                looking.wake_by_ref();
            }
            tokio::time::sleep(OFFER_CHECK).await;
            // Later ones need not wait for what did not come in time.
            offers.is_settled.set(clock::instant() >= by);
        }
        offers.tunnels.get()
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// Those of the connection, with the request if it did not leave.
    pub(crate) async fn send(
        &self,
        request: http::Request<RequestBody>,
    ) -> Result<http::Response<Incoming>, Unanswered> {
        let mut sender = self.connection.sender.clone();
        if let Err(error) = sender.ready().await {
            return Err(Unanswered { error, unsent: Some(Box::new(request)) });
        }
        let answered = sender.try_send_request(request).await.map_err(|mut error| {
            let unsent = error.take_message().map(Box::new);
            Unanswered { error: error.into_error(), unsent }
        });
        answered.map(|answer| answer.map(Incoming::Hyper))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get() - 1);
    }
}

/// HTTP/1.1 connections to the local instance for requests that came over HTTP/2.
#[derive(Debug, Default)]
pub(crate) struct AppPool {
    idle: Rc<RefCell<Vec<http1::SendRequest<RequestBody>>>>,
}

impl AppPool {
    /// Sends a request over a waiting connection or a new one, and waits for the head of the
    /// answer.
    ///
    /// # Errors
    /// Those of `open` and of the connection.
    pub(crate) async fn send<W: Wire + 'static, F: Future<Output = io::Result<W>>>(
        &self,
        mut request: http::Request<RequestBody>,
        open: impl FnOnce() -> F,
        tasks: &TaskTree,
    ) -> io::Result<http::Response<Incoming>> {
        while let Some(mut sender) = self.take_idle() {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.take_back(sender, tasks);
                    return Ok(response.map(Incoming::Hyper));
                }
                Err(mut error) => match error.take_message() {
                    // Closed while it waited: not a byte of the request was written.
                    Some(unsent) => request = unsent,
                    None => return Err(io::Error::other(error.into_error())),
                },
            }
        }
        let wire = open().await?;
        let (mut sender, driver) =
            http1::handshake(TokioIo::new(wire)).await.map_err(io::Error::other)?;
        tasks.spawn_local("http1 connection", async move {
            if let Err(error) = driver.await {
                debug!(%error, "connection to the local instance ended");
            }
        });
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        self.take_back(sender, tasks);
        Ok(response.map(Incoming::Hyper))
    }

    fn take_idle(&self) -> Option<http1::SendRequest<RequestBody>> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|sender| !sender.is_closed());
        idle.pop().filter(http1::SendRequest::is_ready)
    }

    /// Keeps a connection for the next request once its answer has been read.
    fn take_back(&self, mut sender: http1::SendRequest<RequestBody>, tasks: &TaskTree) {
        let idle = self.idle.clone();
        tasks.spawn_local("http1 return", async move {
            if sender.ready().await.is_ok() && idle.borrow().len() < IDLE_MAX {
                idle.borrow_mut().push(sender);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_is_silent_costs_each_request_one_attempt() {
        let (pool, tasks) = (Multiplexed::default(), TaskTree::root("test"));
        let limit = Duration::from_secs(5);
        let open = || async move {
            tokio::time::sleep(limit).await;
            Err::<DuplexStream, _>(io::Error::from(io::ErrorKind::TimedOut))
        };
        let started = clock::instant();
        let requests = (0..10).map(|_| pool.stream(open, &tasks));
        for opened in futures::future::join_all(requests).await {
            assert!(opened.is_err(), "nobody answered");
        }
        assert_eq!(clock::instant() - started, limit);
    }
}
