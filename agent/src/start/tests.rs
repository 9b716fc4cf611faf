//! A whole agent on real sockets, against a cluster of one server in this process.

mod cluster;

use std::net::SocketAddr;
use std::time::Duration;

use ::http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use weft_core::catalog::CheckStatus;
use weft_runtime::clock;
use weft_runtime::http::{HttpClient, HttpResponse};
use weft_runtime::net;

use super::*;
use crate::config::FileConfig;
use cluster::Cluster;

const LIMIT: Duration = Duration::from_secs(20);

/// An agent that is ended with the value.
struct Host {
    handle: AgentHandle,
    tasks: TaskTree,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

impl Host {
    /// Ends the agent and waits until it is gone, with its lock.
    async fn stop(self) {
        self.tasks.cancel();
        self.tasks.join(LIMIT).await.expect("all tasks end");
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> HttpResponse {
        self.ask_with(method, path, body, HeaderMap::new()).await
    }

    async fn ask_with(
        &self,
        method: Method,
        path: &str,
        body: &str,
        headers: HeaderMap,
    ) -> HttpResponse {
        let address = self.handle.http_addr().expect("the API is on");
        let client = HttpClient::new(LIMIT, 1 << 20);
        let url = format!("http://{address}{path}");
        let answer = client.request(method, &url, headers, body.to_owned().into()).await;
        answer.expect("the agent answers")
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.ask(Method::GET, path, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json().expect("JSON")
    }

    async fn put(&self, path: &str, body: &str) {
        let answer = self.ask(Method::PUT, path, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    }
}

fn config(data_dir: &Path, token: &str) -> Config {
    let mut file = FileConfig {
        node_name: Some("host-1".to_owned()),
        data_dir: Some(data_dir.display().to_string()),
        bind_addr: Some("127.0.0.1".to_owned()),
        join: (!token.is_empty()).then(|| token.to_owned()),
        ..FileConfig::default()
    };
    file.http.addr = Some("127.0.0.1:0".to_owned());
    file.dns.addr = Some("127.0.0.1:0".to_owned());
    Config::resolve(file).expect("a valid configuration")
}

async fn start(data_dir: &Path, token: &str) -> Result<Host, StartError> {
    start_with(config(data_dir, token)).await
}

async fn start_with(config: Config) -> Result<Host, StartError> {
    let tasks = TaskTree::root("agent");
    let handle = Agent::start(config, tasks.clone()).await;
    if handle.is_err() {
        tasks.cancel();
    }
    Ok(Host { handle: handle?, tasks })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_registered_checked_found_after_a_restart_and_leaves_nothing() {
    let (cluster, directory) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let listener = net::bind_tcp(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let host = start(directory.path(), &cluster.token().to_string()).await.expect("joins");
    let body = format!(
        r#"{{"name":"web","port":{},"unknown_field":1,"check":{{"tcp":"{address}","interval":"1s"}},
            "connect":{{"sidecar_service":{{}}}}}}"#,
        address.port()
    );
    host.put("/v1/agent/service/register", &body).await;
    let passes = |checks: &[weft_core::catalog::HealthCheck]| {
        let is_so = |c: &&weft_core::catalog::HealthCheck| c.id.as_str() == "service:web";
        checks.iter().find(is_so).is_some_and(|c| c.status == CheckStatus::Passing)
    };
    cluster
        .until("host-1", "web passes", |services, checks| services.len() == 2 && passes(checks))
        .await;
    cluster
        .until("host-1", "the lease check is there", |_, checks| {
            checks.iter().any(|check| check.id.as_str() == "serfHealth")
        })
        .await;
    let services = host.get("/v1/agent/services").await;
    assert_eq!(services["web"]["Port"], address.port());
    assert_eq!(services["web-sidecar-proxy"]["Kind"], "connect-proxy");
    let told = host.ask(Method::GET, "/v1/agent/health/service/id/web", "").await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.text());

    host.stop().await;
    let host = start(directory.path(), "").await.expect("needs no token any more");
    let checks = host.get("/v1/agent/checks").await;
    assert_eq!(checks["service:web"]["ServiceID"], "web");
    // Behind the agent's back the catalog gains a service and loses one.
    cluster.meddle(|nodes| {
        let held = nodes.get_mut("host-1").expect("registered");
        held.services.retain(|service| service.id.as_str() != "web");
        held.checks.retain(|check| check.service_id.is_none());
        held.services[0].id = "ghost".parse().expect("an id");
    });
    host.put("/v1/agent/service/register", r#"{"Name":"db"}"#).await;
    cluster.stop().await;
    host.put("/v1/agent/service/register", r#"{"Name":"cache"}"#).await;
    cluster.resume().await;
    cluster
        .until("host-1", "all is as on the host", |services, _| {
            let ids: Vec<&str> = services.iter().map(|service| service.id.as_str()).collect();
            ids == ["cache", "db", "web", "web-sidecar-proxy"]
        })
        .await;

    drop(listener);
    cluster.until("host-1", "web fails", |_, checks| !passes(checks)).await;
    for id in ["cache", "db", "web"] {
        host.put(&format!("/v1/agent/service/deregister/{id}"), "").await;
    }
    cluster
        .until("host-1", "nothing is left", |services, checks| {
            services.is_empty() && checks.len() == 1
        })
        .await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_answer_is_passed_on_and_503_without_one() {
    let (cluster, directory) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let host = start(directory.path(), &cluster.token().to_string()).await.expect("joins");
    let told = host.ask(Method::GET, "/v1/catalog/services?tag=a%20b&stale", "").await;
    let by = "by spiffe://t.mesh/agent/client/dc/dc1/id/host-1";
    assert!(told.text().contains("/v1/catalog/services?tag=a%20b&stale"), "{}", told.text());
    assert!(told.text().ends_with(by), "{}", told.text());
    let told = host.ask(Method::PUT, "/v1/config", "{}").await;
    assert!(told.text().starts_with("PUT "), "{}", told.text());

    cluster.stop().await;
    let told = host.ask(Method::GET, "/v1/catalog/services", "").await;
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(told.text().starts_with("no server can be reached: "), "{}", told.text());
    host.put("/v1/agent/service/register", r#"{"Name":"web"}"#).await;
    host.stop().await;
    let host = start(directory.path(), "").await.expect("starts without a server");
    assert_eq!(host.get("/v1/agent/services").await["web"]["Service"], "web");

    cluster.resume().await;
    let told = host.ask(Method::GET, "/v1/catalog/services", "").await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_passed_over() {
    let (cluster, directory) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let token = cluster.token();
    let host = start(directory.path(), &token.to_string()).await.expect("joins");
    host.stop().await;
    // The kernel takes the connection, and nobody ever says a word on it.
    let silent = net::bind_tcp(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let silent_address = silent.local_addr().expect("bound").to_string();
    let mut config = config(directory.path(), "");
    config.servers = vec![silent_address, token.servers[0].clone()];
    let host = start_with(config).await.expect("a member needs no server to start");
    let told = host.ask(Method::GET, "/v1/catalog/services", "").await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.text());
    cluster.until("host-1", "the node is there", |_, _| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_by_name_and_change_nothing() {
    let (cluster, directory) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let host = start(directory.path(), &cluster.token().to_string()).await.expect("joins");
    let huge = format!(r#"{{"Name":"{}"}}"#, "x".repeat(1 << 20));
    for (method, path, body, status, said) in [
        (Method::PUT, "/v1/agent/service/register", "{\"Name\":", 400, "line 1"),
        (Method::PUT, "/v1/agent/service/register", r#"{"Name":"a","Port":70000}"#, 400, "Port"),
        (Method::PUT, "/v1/agent/service/register", r#"{"Name":"a b"}"#, 400, "Name: "),
        (
            Method::PUT,
            "/v1/agent/service/register",
            r#"{"Name":"a","socket_path":"/x"}"#,
            400,
            "socket_path: is not supported yet",
        ),
        (Method::PUT, "/v1/agent/service/register", &huge, 413, "longer than"),
        (Method::PUT, "/v1/agent/service/deregister/x", "", 404, "Unknown service ID \"x\""),
        (Method::PUT, "/v1/agent/check/pass/x", "", 404, "Unknown check ID \"x\""),
        (Method::PUT, "/v1/agent/check/update/x", "{}", 400, "Status"),
        (Method::PUT, "/v1/agent/check/deregister/x", "", 404, "Unknown check ID \"x\""),
        (Method::GET, "/v1/agent/service/register", "", 405, "use PUT"),
        (Method::DELETE, "/v1/agent/services", "", 405, "use GET"),
        (Method::GET, "/v1/agent/nothing", "", 404, "nothing at /v1/agent/nothing"),
        (Method::GET, "/v2", "", 404, "nothing at /v2"),
        (Method::GET, "/v1/agent/service/x", "", 404, "unknown service ID: x"),
        (Method::GET, "/v1/agent/services?filter=Nope==1", "", 400, "Nope"),
        (Method::PUT, "/v1/agent/service/maintenance/x", "", 400, "enable"),
        (Method::GET, "/v1/agent/health/service/id/x", "", 404, "not found"),
        (Method::GET, "/v1/agent/connect/ca/leaf/x", "", 403, "not registered on this host"),
        (Method::PUT, "/v1/agent/connect/authorize", r#"{"Target":"a"}"#, 400, "ClientCertURI"),
    ] {
        let told = host.ask(method.clone(), path, body).await;
        assert_eq!(told.status.as_u16(), status, "{method} {path}: {}", told.text());
        assert!(told.text().contains(said), "{method} {path}: {}", told.text());
    }
    assert_eq!(host.get("/v1/agent/services").await, serde_json::json!({}));
    let wrong = host.ask(Method::GET, "/v1/agent/service/register", "").await;
    assert_eq!(wrong.headers["allow"], "PUT");
    for (name, value) in [("host", "evil.example"), ("origin", "http://evil.example")] {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a value"));
        let told = host.ask_with(Method::GET, "/v1/agent/self", "", headers).await;
        assert_eq!(told.status, StatusCode::FORBIDDEN, "{name}: {}", told.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_tells_of_itself() {
    let (cluster, directory) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let host = start(directory.path(), &cluster.token().to_string()).await.expect("joins");
    let told = host.get("/v1/agent/self?pretty").await;
    assert_eq!(told["Config"]["Datacenter"], "dc1");
    assert_eq!(told["Config"]["NodeName"], "host-1");
    assert_eq!(told["Member"]["Addr"], "127.0.0.1");
    let socket = host.handle.proxy_socket().to_str().expect("UTF-8");
    assert_eq!(told["Weft"]["ProxySocket"], socket);
    assert!(net::connect_unix(host.handle.proxy_socket()).await.is_ok(), "the socket is open");
    let metrics = host.ask(Method::GET, "/v1/agent/metrics?format=prometheus", "").await.text();
    for line in ["weft_agent_http_requests_total", "weft_agent_checks{status=\"passing\"} 0"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    host.put("/v1/agent/service/register", r#"{"Name":"web","Check":{"TTL":"1m"}}"#).await;
    host.put("/v1/agent/check/pass/service:web?note=all%20well", "").await;
    assert_eq!(host.get("/v1/agent/checks").await["service:web"]["Output"], "all well");
    host.put("/v1/agent/service/maintenance/web?enable=true&reason=upgrade", "").await;
    let told = host.ask(Method::GET, "/v1/agent/health/service/name/web", "").await;
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE, "{}", told.text());
    host.put("/v1/agent/service/maintenance/web?enable=false", "").await;
    let leaf = host.get("/v1/agent/connect/ca/leaf/web").await;
    assert_eq!(leaf["ServiceURI"], "spiffe://t.mesh/ns/default/dc/dc1/svc/web");

    let roots = host.get("/v1/agent/connect/ca/roots").await;
    assert_eq!(roots["Roots"][0]["ID"], roots["ActiveRootID"]);

    let answer = host.ask(Method::GET, "/v1/agent/service/web", "").await;
    let hash = answer.headers["x-consul-contenthash"].to_str().expect("ASCII").to_owned();
    let path = format!("/v1/agent/service/web?hash={hash}&wait=20s");
    let waiting = host.get(&path);
    let changing = host.put("/v1/agent/service/register", r#"{"Name":"web","Port":81}"#);
    let (changed, ()) = tokio::join!(waiting, changing);
    assert_eq!(changed["Port"], 81);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_own_certificate_is_renewed() {
    let cluster = Cluster::with_lifetime(Duration::from_secs(4)).await;
    let directory = tempfile::tempdir().expect("a folder");
    let host = start(directory.path(), &cluster.token().to_string()).await.expect("joins");
    let valid_before = async || {
        let told = host.get("/v1/agent/self").await;
        told["Weft"]["CertificateValidBefore"].as_str().expect("a date").to_owned()
    };
    let first = valid_before().await;
    let renewed = async {
        while valid_before().await == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, renewed).await.expect("renewed in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_services_reach_the_catalog_and_leave_it_with_the_agent() {
    let (cluster, directory) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let host = start(directory.path(), &cluster.token().to_string()).await.expect("joins");
    cluster.stop().await;
    for at in 0..150 {
        let body = format!(r#"{{"Name":"s-{at}","Check":{{"TTL":"1m","Status":"passing"}}}}"#);
        host.put("/v1/agent/service/register", &body).await;
    }
    cluster.resume().await;
    let all = |services: &[_], checks: &[_]| (services.len(), checks.len()) == (150, 151);
    cluster.until("host-1", "all services are there", all).await;
    let ended = host.tasks.cancelled();
    host.put("/v1/agent/leave", "").await;
    tokio::time::timeout(LIMIT, ended).await.expect("the agent ends");
    assert!(!cluster.knows("host-1"), "the node is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_is_refused_with_the_reason() {
    let (cluster, directory) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let good = cluster.token();
    let mut wrong_secret = good.clone();
    wrong_secret.secret = vec![8; 32];
    let mut expired = good.clone();
    expired.expires = clock::wall();
    let mut of_server = good.clone();
    of_server.role = weft_core::ca::MemberRole::Server;
    for (token, said) in [
        (String::new(), "not a member of a cluster yet: give a join token"),
        ("abc".to_owned(), "the join token is not usable: it does not start"),
        (wrong_secret.to_string(), "the server refuses the join token: no such join token"),
        (expired.to_string(), "the join token expired at 20"),
        (of_server.to_string(), "the join token is for a server, and this is an agent"),
    ] {
        let Err(error) = start(directory.path(), &token).await else { panic!("{said}: joined") };
        assert!(error.to_string().contains(said), "{error}");
        assert!(!directory.path().join("member.json").exists(), "{said}: papers were written");
    }
    let host = start(directory.path(), &good.to_string()).await.expect("joins");
    let in_use = start(directory.path(), "").await.err().expect("refused");
    assert!(matches!(in_use, StartError::DataDirInUse { .. }), "{in_use}");
    host.stop().await;
    let mut foreign = good.clone();
    foreign.root_fingerprint = "ab".repeat(32);
    let refused = start(directory.path(), &foreign.to_string()).await.err().expect("refused");
    assert!(refused.to_string().contains("belongs to cluster c1"), "{refused}");
    start(directory.path(), &expired.to_string()).await.expect("a member needs no token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_root_gets_no_secret() {
    let (cluster, directory) = (Cluster::start().await, tempfile::tempdir().expect("a folder"));
    let mut token = cluster.token();
    token.root_fingerprint = "ab".repeat(32);
    let tasks = TaskTree::root("agent");
    let config = config(directory.path(), &token.to_string());
    let joining = Agent::start(config, tasks.clone());
    // The search goes on for a while, so it is enough that it does not succeed.
    let joined = tokio::time::timeout(Duration::from_secs(1), joining).await;
    assert!(!matches!(joined, Ok(Ok(_))), "joined a foreign cluster");
    tasks.cancel();
}
