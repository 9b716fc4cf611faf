//! Those who wait, against a real server: differences and resumption over its restart, and
//! blocking queries that share their answer.

use std::time::Duration;

use crate::support::{LIMIT, TestHost, TestServer, config};
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use weft_core::catalog::ServiceInstance;
use weft_core::watch::Delta;
use weft_proto::envelope;
use weft_proto::grpc::v1 as wire;
use weft_proto::grpc::v1::watch_event::Answer;
use weft_runtime::digest;
use weft_runtime::http::HttpClient;
use weft_server::config::FileConfig;

fn web(ports: &[u16]) -> Value {
    let services: Vec<Value> = ports
        .iter()
        .map(|port| json!({ "ID": format!("web-{port}"), "Service": "web", "Port": port }))
        .collect();
    json!({
        "node": { "ID": "id-n1", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1" },
        "services": services,
    })
}

struct Watching {
    requests: mpsc::Sender<wire::WatchRequest>,
    events: Streaming<wire::WatchEvent>,
}

impl Watching {
    /// Watches `web` from what is there already.
    async fn open(channel: Channel, (index, has): (u64, &[ServiceInstance])) -> Self {
        let (requests, stream) = mpsc::channel(8);
        let of = |instance| digest::of_bytes(&envelope::encode(instance));
        let known = digest::of_list(has.iter().map(of));
        let start = wire::WatchStart {
            id: 1,
            topic: wire::Topic::Service.into(),
            key: "web".to_owned(),
            known_index: index,
            known_digest: if index > 0 { known.to_vec().into() } else { Bytes::new() },
            takes_deltas: true,
        };
        let request = Some(wire::watch_request::Request::Start(start));
        requests.send(wire::WatchRequest { request }).await.expect("open");
        let mut client = wire::watch_client::WatchClient::new(channel);
        let events = client.watch(ReceiverStream::new(stream)).await.expect("a stream");
        Self { requests, events: events.into_inner() }
    }

    async fn next(&mut self) -> (u64, Answer) {
        let next = tokio::time::timeout(LIMIT, self.events.message()).await.expect("in time");
        let event = next.expect("a good stream").expect("an event");
        assert!(!self.requests.is_closed());
        (event.index, event.answer.expect("an answer"))
    }
}

#[tokio::test]
async fn a_watch_goes_on_over_a_restart_of_the_server() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = TestServer::start(dir.path()).await;
    let host = TestHost::join(&server, "n1").await;
    host.register(web(&[1, 2, 3])).await.expect("written");
    let mut watching = Watching::open(host.channel.clone(), (0, &[])).await;
    let (index, Answer::Value(value)) = watching.next().await else { panic!("the value first") };
    let mut has: Vec<ServiceInstance> = envelope::decode(&value).expect("instances");
    assert_eq!(has.len(), 3);
    server.stop().await;

    let server = TestServer::start(dir.path()).await;
    let channel = host.at(&server.address());
    let mut watching = Watching::open(channel.clone(), (index, &has)).await;
    let (index, answer) = watching.next().await;
    assert!(matches!(answer, Answer::Unchanged(_)), "{answer:?}");
    let mut catalog = wire::catalog_client::CatalogClient::new(channel);
    let registration: weft_core::catalog::CatalogRegistration =
        serde_json::from_value(web(&[4])).expect("a registration");
    let request = wire::RegisterRequest { registration: envelope::encode(&registration) };
    catalog.register(request).await.expect("written");
    let (newer, Answer::Delta(delta)) = watching.next().await else { panic!("a difference") };
    assert!(newer > index && delta.from_index == index);
    let changed: Vec<ServiceInstance> = envelope::decode(&delta.changed).expect("instances");
    assert_eq!(changed.len(), 1);
    let removed = envelope::decode(&delta.removed).expect("places");
    Delta { changed, removed }.apply(&mut has).expect("it fits");
    let ports: Vec<u16> = has.iter().map(|instance| instance.service.port).collect();
    assert_eq!(ports, [1, 2, 3, 4]);
    server.stop().await;
}

async fn figure(address: std::net::SocketAddr, name: &str) -> f64 {
    let client = HttpClient::new(LIMIT, 1 << 20);
    let url = format!("http://{address}/metrics");
    let answer = client.request(Method::GET, &url, HeaderMap::new(), Bytes::new()).await;
    let text = String::from_utf8(answer.expect("answered").body.to_vec()).expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[tokio::test]
async fn who_asks_the_same_shares_one_answer_and_others_sleep_on() {
    const WAITERS: u32 = 40;
    let dir = tempfile::tempdir().expect("a directory");
    let telemetry_addr = Some("127.0.0.1:0".to_owned());
    let server =
        TestServer::start_with(FileConfig { telemetry_addr, ..config(dir.path(), "s1") }).await;
    let telemetry = server.handle.telemetry_addr().expect("an address");
    let host = TestHost::join(&server, "n1").await;
    host.register(web(&[1])).await.expect("written");
    let path = "/v1/health/service/web";
    let first = host.call(Method::GET, &server, path, "").await;
    let index: u64 = first.headers["x-consul-index"].to_str().expect("text").parse().expect("one");

    let waiting = format!("{path}?index={index}&wait=60s");
    let idle = format!("/v1/health/service/nobody?index={index}&wait=60s");
    let sleeping = host.call(Method::GET, &server, &idle, "");
    let all = async {
        let calls = (0..WAITERS).map(|_| host.call(Method::GET, &server, &waiting, ""));
        futures::future::join_all(calls).await
    };
    let changing = async {
        let all_wait = async {
            while figure(telemetry, "weft_server_blocking_waiters").await < f64::from(WAITERS + 1) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, all_wait).await.expect("they wait");
        assert_eq!(figure(telemetry, "weft_server_blocking_questions").await, 2.0);
        let before = figure(telemetry, "weft_server_blocking_answers_total").await;
        host.register(web(&[1, 2])).await.expect("written");
        before
    };
    let (answers, before) = tokio::select! {
        both = futures::future::join(all, changing) => both,
        answer = sleeping => panic!("answered without a change: {}", answer.status),
    };
    for answer in &answers {
        assert_eq!(answer.body, answers[0].body);
        let newer: u64 =
            answer.headers["x-consul-index"].to_str().expect("text").parse().expect("one");
        assert!(newer > index, "an index goes up with the answer");
    }
    let instances: Vec<Value> = serde_json::from_slice(&answers[0].body).expect("JSON");
    assert_eq!(instances.len(), 2);
    let figure = async |name: &str| figure(telemetry, name).await;
    assert_eq!(figure("weft_server_blocking_answers_total").await - before, 1.0);
    assert_eq!(figure("weft_server_blocking_wakeups_total").await, f64::from(WAITERS));
    assert_eq!(figure("weft_server_blocking_wakeups_in_vain_total").await, 0.0);
    // Given up, they leave nothing behind.
    let gone = async {
        while figure("weft_server_blocking_waiters").await > 0.0
            || figure("weft_server_blocking_questions").await > 0.0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("they are gone");
    server.stop().await;
}
