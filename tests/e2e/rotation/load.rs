//! Steady work through sidecars: requests, short connections, a long one and a long gRPC stream.
//! Whatever breaks is written down with the moment.

use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};
use weft_proto::grpc::v1 as wire;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::eventually;
use weft_tests::http::read_answer;

use crate::story::Shop;

/// Callers at once, each with a connection of its own to the sidecar.
const CALLERS: usize = 8;
/// The pause of a caller between two requests.
const REQUEST_PAUSE: Duration = Duration::from_millis(5);
/// The pause between two short connections, two echoes, two messages.
const PAUSE: Duration = Duration::from_millis(50);
/// An answer that takes longer counts as a failure.
const LIMIT: Duration = Duration::from_secs(10);

/// What the work came to.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) requests: u64,
    pub(super) connections: u64,
    pub(super) echoes: u64,
    pub(super) messages: u64,
    #[expect(dead_code, reason = "shown in the report")]
    pub(super) requests_per_second: u64,
    pub(super) failures: Vec<String>,
}

#[derive(Default)]
struct Tally {
    is_over: AtomicBool,
    /// After so many messages a stream is ended; `None` means at the end of the work.
    messages_max: Option<u64>,
    requests: AtomicU64,
    connections: AtomicU64,
    echoes: AtomicU64,
    messages: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// The work, until it is ended.
pub(super) struct Load {
    tally: Arc<Tally>,
    started: Instant,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn start(shop: &Shop) -> Self {
        let (web, feed, chat) =
            (shop.to("web").addr(), shop.to("feed").addr(), shop.to("chat").addr());
        eventually(SPREAD_LIMIT, "the echo answers", || {
            let mut stream = connect(feed)?;
            echo(&mut stream, 0)
        });
        eventually(SPREAD_LIMIT, "a gRPC stream is opened", || {
            let tally = Tally { messages_max: Some(1), ..Tally::default() };
            talk(&tally, chat)
        });
        let tally = Arc::<Tally>::default();
        let mut threads = Vec::new();
        for _ in 0..CALLERS {
            threads.push(work(&tally, "request", move |tally| call(tally, web)));
        }
        threads.push(work(&tally, "short connection", move |tally| {
            while tally.goes_on() {
                let mut stream = connect(feed)?;
                echo(&mut stream, 1)?;
                tally.connections.fetch_add(1, Ordering::Relaxed);
                thread::park_timeout(PAUSE);
            }
            Ok(())
        }));
        threads.push(work(&tally, "long connection", move |tally| {
            let mut stream = connect(feed)?;
            while tally.goes_on() {
                echo(&mut stream, tally.echoes.fetch_add(1, Ordering::Relaxed))?;
                thread::park_timeout(PAUSE);
            }
            Ok(())
        }));
        threads.push(work(&tally, "gRPC stream", move |tally| talk(tally, chat)));
        Self { tally, started: Instant::now(), threads }
    }

    pub(super) fn end(self) -> Report {
        let took = self.started.elapsed();
        self.tally.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads {
            let _ = thread.join();
        }
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let failures = self.tally.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let requests = of(&self.tally.requests);
        Report {
            requests,
            connections: of(&self.tally.connections),
            echoes: of(&self.tally.echoes),
            messages: of(&self.tally.messages),
            requests_per_second: requests / took.as_secs().max(1),
            failures,
        }
    }
}

impl Tally {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }
}

/// Works in a thread; its end before the end of the work is a failure.
fn work(
    tally: &Arc<Tally>,
    what: &'static str,
    task: impl FnOnce(&Tally) -> Result<(), String> + Send + 'static,
) -> JoinHandle<()> {
    let (tally, started) = (Arc::clone(tally), Instant::now());
    thread::spawn(move || {
        if let Err(error) = task(&tally) {
            let text = format!("{what} after {:?}: {error}", started.elapsed());
            tally.failures.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }
    })
}

fn connect(addr: SocketAddr) -> Result<TcpStream, String> {
    let words = |error: std::io::Error| error.to_string();
    let stream = TcpStream::connect_timeout(&addr, LIMIT).map_err(words)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(words)?;
    stream.set_nodelay(true).map_err(words)?;
    Ok(stream)
}

fn echo(stream: &mut TcpStream, number: u64) -> Result<(), String> {
    let (sent, mut got) = (number.to_be_bytes(), [0; 8]);
    stream.write_all(&sent).map_err(|error| format!("writing: {error}"))?;
    stream.read_exact(&mut got).map_err(|error| format!("reading: {error}"))?;
    if sent == got { Ok(()) } else { Err(format!("{got:?} for {sent:?}")) }
}

/// Calls again and again over one connection.
fn call(tally: &Tally, web: SocketAddr) -> Result<(), String> {
    let mut stream = connect(web)?;
    let mut reader = BufReader::new(stream.try_clone().map_err(|error| error.to_string())?);
    while tally.goes_on() {
        let sent = stream.write_all(b"GET /rotation HTTP/1.1\r\nhost: web\r\n\r\n");
        sent.map_err(|error| format!("writing: {error}"))?;
        let answer = read_answer(&mut reader).map_err(|error| format!("reading: {error}"))?;
        if answer.status != 200 {
            return Err(format!("{}: {}", answer.status, answer.body));
        }
        tally.requests.fetch_add(1, Ordering::Relaxed);
        thread::park_timeout(REQUEST_PAUSE);
    }
    Ok(())
}

/// Sends and gets messages on one stream.
fn talk(tally: &Tally, chat: SocketAddr) -> Result<(), String> {
    let runtime = runtime();
    runtime.block_on(async {
        let words = |status: Status| status.to_string();
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{chat}"));
        let endpoint = endpoint.map_err(|error| error.to_string())?;
        let mut client = wire::watch_client::WatchClient::new(endpoint.connect_lazy());
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
        sender.send(wire::WatchRequest::default()).await.map_err(|error| error.to_string())?;
        let mut events = client.watch(requests).await.map_err(words)?.into_inner();
        while tally.goes_on()
            && tally.messages_max.is_none_or(|max| tally.messages.load(Ordering::Relaxed) < max)
        {
            let next = tokio::time::timeout(LIMIT, events.next()).await;
            match next.map_err(|_| "no message in time".to_owned())? {
                Some(event) => event.map_err(words)?,
                None => return Err("the stream ended".to_owned()),
            };
            tally.messages.fetch_add(1, Ordering::Relaxed);
            let _ = tokio::time::timeout(PAUSE, std::future::pending::<()>()).await;
            sender.send(wire::WatchRequest::default()).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime can be made")
}

/// A TCP server that gives back what it gets.
pub(super) struct Echo {
    port: u16,
}

impl Echo {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let _ = stream.set_nodelay(true);
                    let _ = std::io::copy(&mut &stream, &mut &stream);
                });
            }
        });
        Self { port }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

/// A gRPC server that answers each message of a stream with one.
pub(super) struct Stream {
    port: u16,
}

impl Stream {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        thread::spawn(move || {
            runtime().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let server = tonic::transport::Server::builder()
                    .add_service(wire::watch_server::WatchServer::new(Answering));
                let _ = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
            });
        });
        Self { port }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

struct Answering;

#[tonic::async_trait]
impl wire::watch_server::Watch for Answering {
    type WatchStream = futures::stream::BoxStream<'static, Result<wire::WatchEvent, Status>>;

    async fn watch(
        &self,
        requests: Request<Streaming<wire::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let answers =
            requests.into_inner().map(|request| request.map(|_| wire::WatchEvent::default()));
        Ok(Response::new(answers.boxed()))
    }
}
