//! Two proxies in this process with an application behind, and raw clients.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use weft_core::config_entry::{IntentionAction, Protocol};
use weft_core::proxycfg::ProxySnapshot;
use weft_proxy::config::{Config, Sharing, SnapshotSource, Workers};
use weft_proxy::{HandOver, Limits, Proxy, ProxyHandle, StartError};
use weft_runtime::http::{Body, HttpClient, HttpResponse, ServeOptions, collect, full, serve};
use weft_runtime::net::{self, TcpStream};
use weft_runtime::task::TaskTree;
use weft_runtime::tls::{certificates_from_pem, fingerprint};

use super::{Mesh, Upstream};

/// How long anything in these tests may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A proxy whose snapshot the test changes.
pub(crate) struct Running {
    pub(crate) handle: ProxyHandle,
    pub(crate) snapshots: watch::Sender<Arc<ProxySnapshot>>,
    pub(crate) tasks: TaskTree,
}

impl Running {
    pub(crate) async fn start(name: &str, snapshot: ProxySnapshot) -> Self {
        let mut running = Self::launch(name, snapshot, 1).await;
        running.handle.ready().await.expect("a proxy in service");
        running
    }

    /// Starts without waiting for the first snapshot to be in force.
    pub(crate) async fn launch(name: &str, snapshot: ProxySnapshot, workers: usize) -> Self {
        let launched = Self::launch_with(name, snapshot, |config| {
            config.workers.count = workers;
        });
        launched.await.expect("a proxy")
    }

    /// Starts with other settings, without waiting for the first snapshot to be in force.
    pub(crate) async fn launch_with(
        name: &str,
        snapshot: ProxySnapshot,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, StartError> {
        let (snapshots, given) = watch::channel(Arc::new(snapshot));
        let mut config = Config {
            source: SnapshotSource::Given(given),
            admin_addr: localhost(0),
            workers: Workers { count: 1, reason: "as the test says" },
            start_limit: LIMIT,
            drain_limit: Duration::from_secs(5),
            drain_delay: Duration::ZERO,
            hand_over: None,
            limits: Limits::default(),
            access_log: None,
            metric_dialects: Default::default(),
            mux: Sharing::Auto,
            quic: Sharing::Auto,
            audit: None,
        };
        change(&mut config);
        let tasks = TaskTree::root(name);
        let handle = Proxy::start(config, tasks.clone()).await?;
        Ok(Self { handle, snapshots, tasks })
    }

    /// Starts one that takes over from the one at the socket, if there is one.
    pub(crate) async fn succeeding(
        name: &str,
        snapshot: &ProxySnapshot,
        (socket, workers): (&Path, usize),
    ) -> Result<Self, StartError> {
        let socket = PathBuf::from(socket);
        let mut running = Self::launch_with(name, snapshot.clone(), |config| {
            config.workers.count = workers;
            config.hand_over = Some(HandOver { socket, takes_over: true, limit: LIMIT * 3 });
        })
        .await?;
        match running.handle.ready().await {
            Ok(()) => Ok(running),
            Err(error) => {
                running.tasks.cancel();
                Err(error)
            }
        }
    }

    /// Changes the snapshot and waits until the change is in force.
    pub(crate) async fn change(&self, change: impl FnOnce(&mut ProxySnapshot)) {
        let mut version = 0;
        self.snapshots.send_modify(|snapshot| {
            let snapshot = Arc::make_mut(snapshot);
            change(snapshot);
            snapshot.version += 1;
            version = snapshot.version;
        });
        let want = format!("weft_proxy_snapshot_version {version}\n");
        eventually(|| async { self.admin("/metrics").await.contains(&want) }).await;
    }

    /// Returns the digest of the certificate that it shows.
    pub(crate) fn leaf_hash(&self) -> String {
        let pem = self.snapshots.borrow().leaf.certificate_pem.clone();
        let chain = certificates_from_pem("the leaf", &pem).expect("certificates");
        fingerprint(&chain[0])
    }

    /// Sets what happens to callers without an intention.
    pub(crate) async fn default_action(&self, action: IntentionAction) {
        self.change(|snapshot| snapshot.inbound.intentions.default_action = action).await;
    }

    pub(crate) async fn admin(&self, path: &str) -> String {
        get(&format!("http://{}{path}", self.handle.admin_addr())).await.text()
    }
}

/// A client's proxy and a service's, with `call` as the client's door.
pub(crate) struct Pair {
    pub(crate) mesh: Mesh,
    pub(crate) call: SocketAddr,
    pub(crate) client: Running,
    pub(crate) server: Running,
}

impl Pair {
    pub(crate) async fn start(protocol: Protocol, app: SocketAddr) -> Self {
        Self::start_with(protocol, app, [Sharing::Auto; 2]).await
    }

    /// Starts them with the client's and the server's choice.
    pub(crate) async fn start_with(
        protocol: Protocol,
        app: SocketAddr,
        [ours, theirs]: [Sharing; 2],
    ) -> Self {
        let mesh = Mesh::new("test.mesh");
        let (call, door) = (free().await, free().await);
        let server = mesh.snapshot("web", (door, app), protocol, &[]);
        let upstream = Upstream::of("web", (call, protocol), vec![door]);
        let client = mesh.snapshot("client", (free().await, app), protocol, &[upstream]);
        let server = Running::launch_with("server", server, |config| config.mux = theirs);
        let mut server = server.await.expect("a proxy");
        server.handle.ready().await.expect("a proxy in service");
        let client = Running::launch_with("client", client, |config| config.mux = ours);
        let mut client = client.await.expect("a proxy");
        client.handle.ready().await.expect("a proxy in service");
        Self { mesh, call, client, server }
    }

    pub(crate) async fn get(&self, path: &str) -> HttpResponse {
        get(&format!("http://{}{path}", self.call)).await
    }

    /// Returns where the service's proxy takes callers.
    pub(crate) fn server_door(&self) -> SocketAddr {
        self.server.snapshots.borrow().inbound.bind
    }
}

/// An application that says who it is and what it got.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<AtomicUsize>,
    pub(crate) tasks: TaskTree,
}

impl App {
    pub(crate) async fn start(name: &'static str) -> Self {
        let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, Infallible>(answer(name, request).await) }
        });
        let tasks = TaskTree::root(name);
        let inner = tasks.clone();
        tasks.spawn("serve", async move {
            serve(listener, None, service, ServeOptions::default(), &inner).await;
        });
        Self { address, requests, tasks }
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn answer(name: &str, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let bytes = collect(body, 64 << 20).await.expect("a body");
    let text = serde_json::json!({
        "app": name, "method": head.method.as_str(), "uri": head.uri.to_string(),
        "version": format!("{:?}", head.version), "headers": headers, "bytes": bytes.len(),
    });
    Response::new(full(text.to_string()))
}

/// One raw connection.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(net::connect_tcp(address, LIMIT).await.expect("a connection"))
    }

    /// Connects and reads to the end. Who is refused may learn so before the connection is his.
    pub(crate) async fn all(address: SocketAddr) -> String {
        match net::connect_tcp(address, LIMIT).await {
            Ok(stream) => Self(stream).rest().await,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => String::new(),
            Err(error) => panic!("no connection: {error}"),
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("sent");
    }

    /// Reads until the text has been seen; returns all that was read.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut read = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&read).contains(text) {
                if self.0.read_buf(&mut read).await.expect("bytes") == 0 {
                    panic!("ended before {text:?}: {:?}", String::from_utf8_lossy(&read));
                }
            }
        };
        tokio::time::timeout(LIMIT, reading).await.expect("in time");
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads to the end.
    pub(crate) async fn rest(&mut self) -> String {
        let mut read = Vec::new();
        let reading = self.0.read_to_end(&mut read);
        // A reset is an end as well.
        let _ = tokio::time::timeout(LIMIT, reading).await.expect("in time");
        String::from_utf8_lossy(&read).into_owned()
    }
}

pub(crate) async fn get(url: &str) -> HttpResponse {
    HttpClient::new(LIMIT, 64 << 20).get(url).await.expect("an answer")
}

/// Returns what sends requests over a new HTTP/2 connection.
pub(crate) async fn http2<B>(address: SocketAddr) -> SendRequest<B>
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = net::connect_tcp(address, LIMIT).await.expect("a connection");
    let (sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(async move {
        let _ = driver.await;
    });
    sender
}

pub(crate) fn localhost(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Returns an address on which nothing listens at the moment, below the ports that the system
/// gives to outgoing connections, which would otherwise take it now and then.
pub(crate) async fn free() -> SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::SeqCst);
        let port = 22_000 + (std::process::id() as usize * 131 + step) % 10_000;
        let address = localhost(u16::try_from(port).expect("below 32 000"));
        if net::probe_tcp(address).is_ok() {
            return address;
        }
    }
}

/// Waits until a condition holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("the condition holds in time");
}
