//! Checks run against applications on real sockets of this host.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::catalog::{HealthCheck, ServiceDefinition};
use weft_proto::json::{self, Unknown};
use weft_runtime::net;

use super::*;
use crate::config::Scripts;
use crate::local::{ExistingChecks, LocalServices, Place};

struct Host {
    local: Local,
    checks: Checks,
    _directory: tempfile::TempDir,
    tasks: TaskTree,
}

fn means(directory: &tempfile::TempDir) -> Means {
    let ask: Ask = Arc::new(|_| Box::pin(async { Err("there is no server".to_owned()) }));
    Means { ask, docker_socket: directory.path().join("docker.sock") }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

impl Host {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let place = Place::of_test(directory.path(), Scripts::Everyone);
        let tasks = TaskTree::root("test");
        let local = Local::open(place, &tasks).expect("a directory to write in");
        let checks = Checks::start(local.clone(), means(&directory), &tasks);
        Self { local, checks, _directory: directory, tasks }
    }

    async fn register(&self, body: &str) {
        let definition: ServiceDefinition =
            json::from_slice(body.as_bytes(), Unknown::Ignore).expect("a definition");
        self.local.register(definition, ExistingChecks::Replaced).await.expect(body);
    }

    /// Waits until what is registered meets the condition.
    async fn until(&self, what: &str, met: impl Fn(&LocalServices) -> bool) -> Arc<LocalServices> {
        let mut seen = self.local.subscribe();
        let waiting = seen.wait_for(|services| met(services));
        match tokio::time::timeout(Duration::from_secs(20), waiting).await {
            Ok(services) => services.expect("the store is open").clone(),
            Err(_) => panic!("not met: {what}; now {:?}", self.local.current()),
        }
    }

    async fn until_check(&self, status: CheckStatus) -> HealthCheck {
        let is_so = |check: &HealthCheck| check.status == status && !check.output.is_empty();
        let services = self
            .until(status.as_str(), |services| {
                services.checks.get("service:web").is_some_and(is_so)
            })
            .await;
        services.checks["service:web"].clone()
    }
}

/// Answers each request with what `answer` holds at the time; the answer lists the requests.
async fn application(answer: watch::Receiver<&'static str>, tasks: &TaskTree) -> SocketAddr {
    let listener = net::bind_tcp(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tasks.spawn("application", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap_or_default();
            let request = String::from_utf8_lossy(&head[..length]).into_owned();
            let status = *answer.borrow();
            let text = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{request}",
                request.len()
            );
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn an_http_check_follows_the_answers_of_its_application() {
    let host = Host::start();
    let (answer, answers) = watch::channel("200 OK");
    let address = application(answers, &host.tasks).await;
    host.register(&format!(
        r#"{{"Name":"web","Check":{{"HTTP":"http://{address}/health?x=1","Interval":"1s",
            "Header":{{"X-Probe":["yes"]}}}}}}"#
    ))
    .await;
    let passing = host.until_check(CheckStatus::Passing).await;
    let start = format!("HTTP GET http://{address}/health?x=1: 200 OK Output: GET /health?x=1 ");
    assert!(passing.output.starts_with(&start), "{}", passing.output);
    assert!(passing.output.contains("x-probe: yes"), "{}", passing.output);
    assert!(passing.output.contains("user-agent: Weft Health Check"), "{}", passing.output);
    answer.send_replace("429 Too Many Requests");
    host.until_check(CheckStatus::Warning).await;
    answer.send_replace("302 Found\r\nlocation: /elsewhere");
    let critical = host.until_check(CheckStatus::Critical).await;
    assert!(critical.output.contains("302 Found"), "{}", critical.output);
}

#[tokio::test]
async fn a_tcp_check_tells_whether_the_port_is_open() {
    let host = Host::start();
    let listener = net::bind_tcp(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let body = format!(r#"{{"Name":"web","Check":{{"TCP":"{address}","Interval":"1s"}}}}"#);
    host.register(&body).await;
    let passing = host.until_check(CheckStatus::Passing).await;
    assert_eq!(passing.output, format!("TCP connect {address}: Success"));
    drop(listener);
    host.until_check(CheckStatus::Critical).await;
}

#[tokio::test]
async fn an_application_reports_on_itself_by_ttl() {
    let host = Host::start();
    host.register(r#"{"Name":"web","Check":{"TTL":"1s"}}"#).await;
    let report = |status, output: &str| {
        host.checks.report("service:web".to_owned(), status, output.to_owned())
    };
    report(CheckStatus::Passing, "fine").await.expect("a ttl check");
    assert_eq!(host.local.current().checks["service:web"].status, CheckStatus::Passing);
    let expired = host.until_check(CheckStatus::Critical).await;
    assert_eq!(expired.output, "TTL expired (last output before timeout follows): fine");
    let unknown = host.checks.report("x".to_owned(), CheckStatus::Passing, String::new()).await;
    assert_eq!(unknown, Err(ReportError::Unknown("x".to_owned())));
    host.register(r#"{"Name":"web","Check":{"TCP":"127.0.0.1:1","Interval":"1h"}}"#).await;
    let probed = report(CheckStatus::Passing, "fine").await;
    assert_eq!(probed, Err(ReportError::NotTtl("service:web".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stays_critical_is_deregistered() {
    let host = Host::start();
    host.register(
        r#"{"Name":"web","Check":{"TTL":"1s","DeregisterCriticalServiceAfter":"1m"},
            "Connect":{"SidecarService":{}}}"#,
    )
    .await;
    let mut seen = host.local.subscribe();
    let gone = seen.wait_for(|services| services.services.is_empty());
    let gone = tokio::time::timeout(Duration::from_secs(120), gone).await;
    assert!(gone.is_ok(), "still there: {:?}", host.local.current());
}
