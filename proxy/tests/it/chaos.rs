//! Two proxies with a bad road between them: what arrives is whole and exact, or looks broken;
//! nothing is done twice that must not be; good weather brings everything back.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::pair::{LIMIT, Pair, Raw, eventually, localhost};
use crate::support::road::{Draws, Road, Weather};
use bytes::Bytes;
use futures::future::join_all;
use http::{Method, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::config_entry::Protocol;
use weft_core::proxycfg::ProxySnapshot;
use weft_proxy::config::Sharing;
use weft_runtime::http::{Body, HttpClient, ServeOptions, collect, full, serve, streamed};
use weft_runtime::net;
use weft_runtime::task::TaskTree;

/// How long a request may take in bad weather.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(800);
/// How long a caller waits: longer than for an answer, shorter than bodies may stand still.
const PATIENCE: Duration = Duration::from_secs(2);
const CLIENTS: usize = 10;
const REQUESTS: usize = 4;
const BODY_MAX: usize = 60_000;

/// Returns bytes that belong to one id.
fn pattern(id: usize, bytes: usize) -> Bytes {
    (0..bytes)
        .map(|at| u8::try_from((id * 31 + at * 7 + at / 251) % 251).expect("a byte"))
        .collect()
}

/// What the application got.
#[derive(Debug, Default)]
struct Ledger {
    /// Requests to change something that arrived whole, by id.
    done: HashMap<usize, usize>,
    faults: Vec<String>,
}

/// An application that is asked for `/ID/BYTES-SENT/BYTES-WANTED`.
async fn application(ledger: Arc<Mutex<Ledger>>) -> SocketAddr {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let service = tower::service_fn(move |request: Request<Body>| {
        let ledger = ledger.clone();
        async move { Ok::<_, Infallible>(answer(request, &ledger).await) }
    });
    tokio::spawn(async move {
        let tasks = TaskTree::root("application");
        serve(listener, None, service, ServeOptions::default(), &tasks).await;
    });
    address
}

async fn answer(request: Request<Body>, ledger: &Mutex<Ledger>) -> Response<Body> {
    let times = usize::from(request.method() == Method::POST);
    let path = request.uri().path().to_owned();
    let numbers: Vec<usize> = path.split('/').filter_map(|number| number.parse().ok()).collect();
    let [id, sent, wanted] = numbers[..] else { panic!("asked for {path}") };
    match collect(request.into_body(), 1 << 20).await {
        Ok(body) if body == pattern(id, sent) => {
            *ledger.lock().expect("not poisoned").done.entry(id).or_default() += times;
        }
        Ok(body) => {
            let fault = format!("{path}: {} other bytes taken for a whole body", body.len());
            ledger.lock().expect("not poisoned").faults.push(fault);
        }
        // Cut, and it shows.
        Err(_) => return Response::new(full("")),
    }
    let body = pattern(id, wanted);
    if id.is_multiple_of(2) {
        return Response::new(full(body));
    }
    let pieces: Vec<_> = body.chunks(5000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Response::new(streamed(futures::stream::iter(pieces)))
}

/// A pair whose connections go over a road, and what arrived behind it.
struct Scene {
    pair: Pair,
    road: Road,
    ledger: Arc<Mutex<Ledger>>,
    draws: Draws,
    next_id: usize,
}

impl Scene {
    async fn start(seed: u64, protocol: Protocol, sharing: Sharing) -> Self {
        let (ledger, draws) = (Arc::<Mutex<Ledger>>::default(), Draws::new(seed));
        let app = match protocol {
            Protocol::Tcp => mirror().await,
            _ => application(ledger.clone()).await,
        };
        let pair = Pair::start_with(protocol, app, [sharing; 2]).await;
        let road = Road::to(pair.server_door(), draws.clone()).await;
        let address = road.address;
        pair.client
            .change(|snapshot| {
                let mut value = serde_json::to_value(&*snapshot).expect("JSON");
                hasten(&mut value);
                *snapshot = serde_json::from_value::<ProxySnapshot>(value).expect("a snapshot");
                let all = snapshot.endpoints.values_mut().flatten();
                all.for_each(|endpoint| endpoint.address = address);
            })
            .await;
        Self { pair, road, ledger, draws, next_id: 0 }
    }

    /// Sends requests in this weather; all must be answered in time, rightly or not at all.
    async fn requests(&mut self, weather: Weather) {
        self.road.turns(weather);
        let first = self.next_id;
        self.next_id += CLIENTS * REQUESTS;
        let clients = (0..CLIENTS).map(|client| {
            let (call, draws) = (self.pair.call, self.draws.clone());
            tokio::spawn(async move {
                let http = HttpClient::new(PATIENCE, 1 << 20);
                for number in 0..REQUESTS {
                    let id = first + client * REQUESTS + number;
                    one_request(&http, call, id, &draws).await;
                }
            })
        });
        for client in join_all(clients).await {
            client.expect("answers that are right or none");
        }
    }

    /// Whether all is well again once the weather is; each request is answered then.
    async fn recovers(&mut self) {
        self.road.turns(Weather::Clear);
        eventually(|| async { self.pair.get("/1/0/1").await.status == 200 }).await;
        for id in 0..20 {
            let id = self.next_id + id;
            let answer = self.pair.get(&format!("/{id}/0/3000")).await;
            assert_eq!(
                (answer.status, &answer.body),
                (200.try_into().expect("a status"), &pattern(id, 3000))
            );
        }
        self.next_id += 20;
    }

    /// Ends both proxies; nothing holds them up.
    async fn ends(self) {
        for proxy in [&self.pair.client, &self.pair.server] {
            let metrics = proxy.admin("/metrics").await;
            let violations =
                metrics.lines().filter(|line| line.starts_with("weft_proxy_mux_violations"));
            assert!(violations.clone().all(|line| line.ends_with(" 0")), "{metrics}");
        }
        for proxy in [self.pair.client, self.pair.server] {
            proxy.tasks.cancel();
            proxy.tasks.join(LIMIT).await.expect("it ends");
        }
    }
}

/// Sets a short time-out for every request.
fn hasten(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "RequestTimeout" => {
                        let nanos = REQUEST_TIMEOUT.as_nanos();
                        *value = serde_json::json!({ "secs": 0, "nanos": nanos });
                    }
                    _ => hasten(value),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(hasten),
        _ => {}
    }
}

async fn one_request(http: &HttpClient, call: SocketAddr, id: usize, draws: &Draws) {
    let wanted = draws.below(BODY_MAX);
    let (method, sent) = match id % 3 {
        0 => (Method::GET, 0),
        _ => (Method::POST, draws.below(BODY_MAX)),
    };
    let url = format!("http://{call}/{id}/{sent}/{wanted}");
    let body = pattern(id, sent);
    let asked = http.request(method, &url, http::HeaderMap::new(), body);
    // The caller sees that an answer was cut, or gave up.
    let Ok(answer) = asked.await else { return };
    match answer.status.as_u16() {
        200 => assert_eq!(answer.body, pattern(id, wanted), "{url}"),
        502..=504 => {}
        other => panic!("{url}: {other}"),
    }
}

/// Each kind of weather once in every order of two, over HTTP.
async fn http_in_all_weathers(seed: u64, protocol: Protocol, sharing: Sharing) {
    let mut scene = Scene::start(seed, protocol, sharing).await;
    scene.requests(Weather::Clear).await;
    for weather in Weather::BAD {
        scene.requests(weather).await;
        scene.recovers().await;
    }
    // Straight from one to the next.
    for _ in 0..4 {
        let weather = Weather::BAD[scene.draws.below(Weather::BAD.len())];
        scene.requests(weather).await;
    }
    scene.recovers().await;
    {
        let ledger = scene.ledger.lock().expect("not poisoned");
        assert_eq!(ledger.faults, Vec::<String>::new());
        let twice = ledger.done.values().filter(|times| **times > 1);
        assert_eq!(twice.count(), 0, "a POST was done twice");
        assert!(ledger.done.len() > CLIENTS * REQUESTS, "the weather let nothing through");
    }
    scene.ends().await;
}

#[tokio::test]
async fn requests_on_shared_connections() {
    http_in_all_weathers(1, Protocol::Http, Sharing::Auto).await;
}

#[tokio::test]
async fn requests_on_connections_of_their_own() {
    http_in_all_weathers(2, Protocol::Http, Sharing::Off).await;
}

#[tokio::test]
async fn requests_over_http2() {
    http_in_all_weathers(3, Protocol::Http2, Sharing::Auto).await;
}

/// An application that sends back what it gets, and ends when its caller has said all.
async fn mirror() -> SocketAddr {
    let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                // What was cut is not mirrored, and ends as it came.
                match stream.read_to_end(&mut all).await {
                    Ok(_) => stream.write_all(&all).await,
                    Err(_) => stream.set_zero_linger(),
                }
            });
        }
    });
    address
}

/// Sends bytes to the mirror; what comes back in good order must be all of them.
async fn reflection(call: SocketAddr, id: usize, bytes: usize) -> bool {
    let Ok(mut stream) = net::connect_tcp(call, LIMIT).await else { return false };
    let sent = pattern(id, bytes);
    let speaking = async {
        stream.write_all(&sent).await?;
        stream.shutdown().await?;
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await?;
        Ok::<_, std::io::Error>(back)
    };
    match tokio::time::timeout(LIMIT, speaking).await.expect("an end in time") {
        Ok(back) => {
            assert_eq!(Bytes::from(back), sent, "cut, and looks whole");
            true
        }
        Err(_) => false,
    }
}

async fn bytes_in_all_weathers(seed: u64, sharing: Sharing) {
    let scene = Scene::start(seed, Protocol::Tcp, sharing).await;
    let mut whole = 0;
    for (number, weather) in Weather::BAD.into_iter().cycle().take(15).enumerate() {
        let streams = (0..12).map(|stream| {
            let bytes = scene.draws.below(BODY_MAX);
            tokio::spawn(reflection(scene.pair.call, number * 12 + stream, bytes))
        });
        let streams: Vec<_> = streams.collect();
        // Somewhere amid them.
        tokio::task::yield_now().await;
        scene.road.turns(weather);
        if weather == Weather::Frozen {
            // Nothing ends connections that wait, so the weather has to.
            let mut probe = Raw::connect(scene.pair.call).await;
            probe.send("held up").await;
        }
        scene.road.turns(match weather {
            Weather::Frozen => Weather::Clear,
            other => other,
        });
        for stream in join_all(streams).await {
            whole += usize::from(stream.expect("whole or broken"));
        }
        scene.road.turns(Weather::Clear);
        eventually(|| reflection(scene.pair.call, number, 1000)).await;
    }
    assert!(whole > 0, "nothing got through");
    scene.ends().await;
}

#[tokio::test]
async fn bytes_on_shared_connections() {
    bytes_in_all_weathers(4, Sharing::Auto).await;
}

#[tokio::test]
async fn bytes_on_connections_of_their_own() {
    bytes_in_all_weathers(5, Sharing::Off).await;
}
