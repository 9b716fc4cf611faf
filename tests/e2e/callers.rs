//! Callers that go on for the length of a test, and count what failed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::{Cluster, TestProxy, eventually};

use crate::story::{Called, Shop, called, speaks};

/// How long one step may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// What callers count.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) is_over: AtomicBool,
    pub(crate) answered: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Counts {
    /// Waits until more calls were answered, or one failed.
    pub(crate) fn go_on(&self) {
        let before = self.answered.load(Ordering::SeqCst);
        eventually(LIMIT, "calls go on", || {
            let more = self.answered.load(Ordering::SeqCst) - before;
            let failed = self.failed.load(Ordering::SeqCst);
            if more > 40 || failed > 0 { Ok(()) } else { Err(format!("{more}, {failed} failed")) }
        });
    }

    /// Ends the callers; returns how many calls were answered, and how many failed.
    pub(crate) fn end(&self, callers: impl IntoIterator<Item = JoinHandle<()>>) -> (u64, u64) {
        self.is_over.store(true, Ordering::SeqCst);
        callers.into_iter().for_each(|caller| caller.join().expect("a caller ends"));
        (self.answered.load(Ordering::SeqCst), self.failed.load(Ordering::SeqCst))
    }
}

/// Services to call for long: `shop` may call `web`, which answers, and `echo`.
pub(crate) struct Mesh {
    pub(crate) shop: Shop,
    pub(crate) web: Called,
    /// The sidecar of `echo`.
    pub(crate) echo: TestProxy,
}

impl Mesh {
    pub(crate) fn start(cluster: &Cluster) -> Self {
        speaks(cluster, "web", "http");
        let web = called(cluster, "web-1", "web", "v1");
        cluster.agent.register(&meshed("echo-1", "echo", Echo::start().0.port(), &[]));
        let echo = cluster.agent.sidecar("echo-1");
        for service in ["web", "echo"] {
            cluster.agent.intend("shop", service, "allow");
        }
        let shop = Shop::open(cluster, &["web", "echo"]);
        shop.wait_status("web", 200);
        cluster.agent.wait_passing("echo", 1);
        Self { shop, web, echo }
    }
}

/// Says everything back.
pub(crate) struct Echo(pub(crate) SocketAddr);

impl Echo {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut back = stream.try_clone().expect("a handle");
                    let _ = std::io::copy(&mut stream, &mut back);
                    let _ = back.shutdown(Shutdown::Write);
                });
            }
        });
        Self(addr)
    }
}

/// Opens a connection on which no read takes longer than the limit.
pub(crate) fn connect(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Opens a connection to an echo, as soon as it answers.
pub(crate) fn echo_stream(addr: SocketAddr) -> TcpStream {
    eventually(SPREAD_LIMIT, "the echo answers", || {
        let answered = || -> std::io::Result<TcpStream> {
            let mut stream = connect(addr)?;
            stream.write_all(b"?")?;
            stream.read_exact(&mut [0])?;
            Ok(stream)
        };
        answered().map_err(|error| error.to_string())
    })
}

/// Calls from all sides: over HTTP/2, over connections that are kept, and one for each request.
pub(crate) fn load(addr: SocketAddr, counts: &Arc<Counts>) -> Vec<JoinHandle<()>> {
    let mut callers = vec![calls_http2(addr, counts.clone())];
    callers.extend([true, true, false].map(|keeps| calls(addr, keeps, counts.clone())));
    callers
}

/// Asks again and again over one connection for as long as it may be kept. A request that gets no
/// answer has failed: this client asks nothing twice.
pub(crate) fn calls(addr: SocketAddr, keeps: bool, counts: Arc<Counts>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut connection: Option<BufReader<TcpStream>> = None;
        while !counts.is_over.load(Ordering::SeqCst) {
            match call(addr, keeps, &mut connection) {
                Ok(()) => drop(counts.answered.fetch_add(1, Ordering::SeqCst)),
                Err(error) => {
                    eprintln!("a call failed: {error}");
                    counts.failed.fetch_add(1, Ordering::SeqCst);
                    connection = None;
                }
            }
        }
    })
}

fn call(
    addr: SocketAddr,
    keeps: bool,
    connection: &mut Option<BufReader<TcpStream>>,
) -> std::io::Result<()> {
    if connection.is_none() {
        *connection = Some(BufReader::new(connect(addr)?));
    }
    let reader = connection.as_mut().expect("it was just put there");
    let option = if keeps { "" } else { "connection: close\r\n" };
    let head = format!("POST / HTTP/1.1\r\nhost: web\r\n{option}content-length: 3\r\n\r\nabc");
    reader.get_mut().write_all(head.as_bytes())?;
    let (mut line, mut length, mut closes) = (String::new(), 0, false);
    reader.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") {
        return Err(std::io::Error::other(format!("the answer begins {line:?}")));
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        match line.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap_or_default(),
            Some(("connection", "close")) => closes = true,
            Some(_) => {}
            None => break,
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    if closes {
        *connection = None;
    }
    Ok(())
}

/// Calls over HTTP/2. A request that was surely not sent, as the connection was being closed, goes
/// to the next connection, as HTTP/2 has it.
fn calls_http2(addr: SocketAddr, counts: Arc<Counts>) -> JoinHandle<()> {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let work = async move {
        'connections: while !counts.is_over.load(Ordering::SeqCst) {
            let stream = tokio::net::TcpStream::connect(addr).await.expect("a connection");
            let handshake =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (mut sender, driver) = handshake.await.expect("HTTP/2");
            tokio::spawn(async move {
                let _ = driver.await;
            });
            while !counts.is_over.load(Ordering::SeqCst) {
                if sender.ready().await.is_err() {
                    continue 'connections;
                }
                let request = hyper::Request::post(format!("http://{addr}/"));
                let request = request.body(Full::new(bytes::Bytes::from("abc"))).expect("valid");
                let answered = match sender.try_send_request(request).await {
                    Ok(answer) if answer.status() == 200 => {
                        answer.into_body().collect().await.map(drop).map_err(|e| e.to_string())
                    }
                    Ok(answer) => Err(answer.status().to_string()),
                    Err(mut unanswered) => match unanswered.take_message() {
                        Some(_unsent) => continue 'connections,
                        None => Err(format!("{:?}", unanswered.error())),
                    },
                };
                match answered {
                    Ok(()) => drop(counts.answered.fetch_add(1, Ordering::SeqCst)),
                    Err(error) => {
                        eprintln!("an HTTP/2 call failed: {error}");
                        counts.failed.fetch_add(1, Ordering::SeqCst);
                        continue 'connections;
                    }
                }
            }
        }
    };
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work);
    })
}

/// Says something to an echo and hears it back.
pub(crate) fn echoes(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).expect("the connection takes bytes");
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).expect("the connection gives them back");
    assert_eq!(back, text);
}
