//! Deadlines that travel with requests, and requests under way that are too many.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::{fs, thread};

use serde_json::json;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, async_trait};
use weft_proto::grpc::auth::authorization_server::{
    Authorization, AuthorizationServer, SERVICE_NAME,
};
use weft_proto::grpc::auth::{CheckRequest, CheckResponse};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Answer, Api, Cluster, TestProxy, eventually};

use crate::programs::curl;
use crate::story::{Shop, called, speaks};

/// A service of gRPC that never answers; what it was told of the time that it has.
#[derive(Clone, Default)]
struct Never(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Authorization for Never {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let told = request.metadata().get("grpc-timeout").and_then(|it| it.to_str().ok());
        let told = told.unwrap_or_default().to_owned();
        self.0.lock().expect("no holder panics").push(told);
        std::future::pending().await
    }
}

impl Never {
    /// Begins to serve, until the test's process ends.
    fn start(port: u16) -> Self {
        let never = Self::default();
        let service = AuthorizationServer::new(never.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let listener = tokio::net::TcpListener::bind(address).await.expect("it is free");
                let incoming = TcpListenerStream::new(listener);
                let server = tonic::transport::Server::builder().add_service(service);
                server.serve_with_incoming(incoming).await.expect("it serves");
            });
        });
        never
    }

    /// Returns what the last call was told.
    ///
    /// **Units**: milliseconds.
    fn told_ms(&self) -> Option<u64> {
        let told = self.0.lock().expect("no holder panics").last().cloned()?;
        told.strip_suffix('m')?.parse().ok()
    }
}

#[test]
fn the_time_of_a_call_is_lowered_passed_on_and_kept() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "grpc");
    let port = free_port();
    let never = Never::start(port);
    cluster.agent.register(&meshed("web", "web", port, &[]));
    let _web = cluster.agent.sidecar("web");
    cluster.agent.intend("shop", "web", "allow");
    let shop = Shop::open(&cluster, &["web"]);
    // An empty message.
    let body = cluster.folder.path().join("empty");
    fs::write(&body, [0; 5]).expect("a temporary folder can be written");
    let (url, body) = (
        format!("http://{}/{SERVICE_NAME}/Check", shop.to("web").addr()),
        format!("@{}", body.display()),
    );
    let call = |timeout: &str| {
        let timeout = format!("grpc-timeout: {timeout}");
        let kind = ["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", &timeout];
        let how = ["-i", "--http2-prior-knowledge", "--data-binary", &body, &url];
        curl(&[&kind[..], &how].concat())
    };
    let wait = |limit: &str| {
        cluster.agent.configure(&json!({
            "Kind": "service-resolver", "Name": "web", "RequestTimeout": limit,
        }));
    };
    // Either of both ends the call: the proxy (4), or the service that was told the same (1).
    let is_late = |answer: &str| {
        let late = ["grpc-status: 4", "grpc-status: 1"];
        match late.iter().any(|status| answer.to_ascii_lowercase().contains(status)) {
            true => Ok(()),
            false => Err(answer.to_owned()),
        }
    };
    wait("1h");
    eventually(SPREAD_LIMIT, "a call ends when its caller says so", || {
        is_late(&call("700m")?)?;
        match never.told_ms() {
            Some(1..=700) => Ok(()),
            told => Err(format!("{told:?}")),
        }
    });
    wait("1500ms");
    eventually(SPREAD_LIMIT, "a call ends when its route says so", || {
        is_late(&call("1H")?)?;
        match never.told_ms() {
            Some(1..=1500) => Ok(()),
            told => Err(format!("{told:?}")),
        }
    });
}

/// An application that answers once it is let.
#[derive(Default)]
struct Held {
    /// How many wait, and whether they may go.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Held {
    fn start() -> (u16, Arc<Self>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let held = Arc::new(Self::default());
        let app = held.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let app = app.clone();
                thread::spawn(move || app.serve(&stream));
            }
        });
        (port, held)
    }

    fn serve(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                assert!(!line.to_ascii_lowercase().starts_with("x-weft-"), "it is told {line}");
            }
            let mut state = self.state.lock().expect("no holder panics");
            state.0 += 1;
            let _open = self.changed.wait_while(state, |(_, may_go)| !*may_go).expect("the same");
            let mut writer = stream;
            writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").ok()?;
        }
    }

    fn waiting(&self) -> usize {
        self.state.lock().expect("no holder panics").0
    }

    fn release(&self) {
        self.state.lock().expect("no holder panics").1 = true;
        self.changed.notify_all();
    }
}

/// Waits until a proxy shows a number.
fn shows(proxy: &TestProxy, line: &str) {
    eventually(SPREAD_LIMIT, line, || {
        let metrics = proxy.admin().get("/metrics")?.body;
        match metrics.lines().any(|shown| shown == line) {
            true => Ok(()),
            false => Err("it is not shown".to_owned()),
        }
    });
}

fn ask(door: Api, priority: &'static str) -> Result<Answer, String> {
    door.request("GET", "/", &[("x-priority", priority)], "")
}

#[test]
fn what_is_too_much_is_refused_the_least_important_first() {
    let cluster = Cluster::start();
    cluster.agent.configure(&json!({
        "Kind": "service-defaults", "Name": "web", "Protocol": "http", "MaxConcurrentRequests": 2,
        "Priority": { "Header": "X-Priority", "Levels": ["high", "low"] },
    }));
    let (port, held) = Held::start();
    cluster.agent.register(&meshed("web", "web", port, &[]));
    let web = cluster.agent.sidecar("web");
    cluster.agent.intend("shop", "web", "allow");
    let shop = Shop::open(&cluster, &["web"]);
    shows(&web, "weft_proxy_concurrency_limit 2");
    let door = shop.to("web");
    let mut waiting = Vec::new();
    let mut hold = |priority| {
        let before = held.waiting();
        let mut asked = thread::spawn(move || ask(door, priority));
        eventually(SPREAD_LIMIT, "one more waits", || {
            // Before the caller's proxy knows the service, it is refused at once.
            if asked.is_finished() {
                asked = thread::spawn(move || ask(door, priority));
            }
            if held.waiting() > before { Ok(()) } else { Err(format!("{before}")) }
        });
        waiting.push(asked);
    };
    let is_refused = |priority| {
        let answer = ask(door, priority).expect("an answer");
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.header("x-weft-cause"), Some("concurrency-limit"));
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    };
    hold("low");
    is_refused("low");
    hold("high");
    is_refused("high");
    shows(&web, "weft_proxy_concurrent_requests 2");
    shows(&web, "weft_proxy_shed_total{priority=\"low\"} 1");
    shows(&web, "weft_proxy_shed_total{priority=\"high\"} 1");
    held.release();
    for waiting in waiting {
        let answer = waiting.join().expect("it ends").expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    shows(&web, "weft_proxy_concurrent_requests 0");

    // A limit that is learnt.
    cluster.agent.configure(&json!({
        "Kind": "service-defaults", "Name": "web", "Protocol": "http",
        "AdaptiveConcurrency": { "MaxRequests": 50 },
    }));
    shows(&web, "weft_proxy_concurrency_limit 50");
    eventually(SPREAD_LIMIT, "it is known how long answers take", || {
        for _ in 0..25 {
            let answer = door.get("/")?;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        let metrics = web.admin().get("/metrics")?.body;
        match metrics.lines().any(|shown| shown == "weft_proxy_unloaded_latency_seconds 0") {
            true => Err("it is not".to_owned()),
            false => Ok(()),
        }
    });
}

#[test]
fn callers_come_anew_when_their_connections_have_lasted_long_enough() {
    let cluster = Cluster::start();
    cluster.agent.configure(&json!({
        "Kind": "service-defaults", "Name": "web", "Protocol": "http", "MaxConnectionDuration": "1s",
    }));
    let web = called(&cluster, "web", "web", "v1");
    cluster.agent.intend("shop", "web", "allow");
    let shop = Shop::open(&cluster, &["web"]);
    let door = shop.to("web");
    shop.wait_status("web", 200);
    let opened = || {
        let metrics = web.proxy.admin().get("/metrics").expect("an answer").body;
        let counts = metrics.lines().filter(|line| {
            line.starts_with("weft_proxy_connections_opened_total{direction=\"inbound\"")
        });
        let counts = counts.filter_map(|line| line.rsplit(' ').next());
        counts.filter_map(|count| count.parse::<u64>().ok()).sum::<u64>()
    };
    let before = opened();
    assert!(before > 0, "the caller has come");
    eventually(SPREAD_LIMIT, "another connection, and no request lost", || {
        let answer = door.get("/").expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        let now = opened();
        if now > before { Ok(()) } else { Err(format!("{now}")) }
    });
}
