//! Join tokens: used as often as they may be, for as long, by whom, and no oftener by anybody at
//! once.

use std::time::Duration;

use crate::support::{LIMIT, TestHost, TestServer, config, csr, new_key};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use weft_core::ca::MemberRole;
use weft_proto::grpc::v1 as wire;
use weft_proto::join_token::JoinToken;
use weft_runtime::http::{HttpClient, HttpResponse};
use weft_server::config::{FileConfig, HttpSection};

/// Asks the server at an address to take a host in.
async fn join_as(
    token: &JoinToken,
    address: &str,
    role: MemberRole,
    node: &str,
    request: &[u8],
) -> Result<wire::JoinReply, tonic::Status> {
    let token = JoinToken { servers: vec![address.to_owned()], ..token.clone() };
    crate::support::redeem(&token, role, node, request.to_vec()).await
}

async fn join(token: &JoinToken, address: &str, node: &str) -> Result<(), tonic::Status> {
    join_as(token, address, MemberRole::Agent, node, &csr(&new_key())).await.map(|_| ())
}

/// Calls the API at a server's own door on loopback.
async fn on_host(server: &TestServer, method: Method, path: &str, body: &str) -> HttpResponse {
    let url = format!("http://{}{path}", server.handle.http_addr().expect("a door"));
    let client = HttpClient::new(LIMIT, 1 << 20);
    let body = bytes::Bytes::copy_from_slice(body.as_bytes());
    client.request(method, &url, HeaderMap::new(), body).await.expect("answered")
}

async fn three_servers(dirs: &[tempfile::TempDir]) -> Vec<TestServer> {
    let http = HttpSection { addr: Some("127.0.0.1:0".to_owned()), ..HttpSection::default() };
    let mut file = FileConfig { http: http.clone(), ..config(dirs[0].path(), "s1") };
    let mut servers = Vec::new();
    for (dir, node) in dirs.iter().zip(["s1", "s2", "s3"]) {
        if let Some(first) = servers.first() {
            let first: &TestServer = first;
            let token = first.handle.mint_single_join_token(MemberRole::Server).await;
            let join = Some(token.expect("a token").to_string());
            file = FileConfig { join, http: http.clone(), ..config(dir.path(), node) };
        }
        servers.push(TestServer::start_with(file.clone()).await);
    }
    servers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_hosts_at_once_use_a_token_for_five_exactly_five_times() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let servers = three_servers(&dirs).await;
    let day = Duration::from_secs(86_400);
    let token = servers[1].handle.mint_join_tokens(MemberRole::Agent, 5, day).await;
    let token = token.expect("a token");
    let mut hosts = tokio::task::JoinSet::new();
    for number in 0..50 {
        let (token, address) = (token.clone(), servers[number % 3].address());
        hosts.spawn(async move { join(&token, &address, &format!("host{number}")).await });
    }
    let outcomes = hosts.join_all().await;
    let joined = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(joined, 5, "{outcomes:?}");
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused:?}");
        assert!(refused.message().contains("has been used up"), "{refused:?}");
    }
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_for_whom_it_says_and_says_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = TestServer::start(dir.path()).await;
    let day = Duration::from_secs(86_400);
    let once = server.handle.mint_join_tokens(MemberRole::Agent, 1, day).await.expect("a token");
    let (at, request) = (server.address(), csr(&new_key()));
    // Of an agent's token no server comes about, and the attempt uses nothing up.
    let refused = join_as(&once, &at, MemberRole::Server, "n1", &request).await;
    let refused = refused.expect_err("an agent's token");
    assert_eq!(refused.message(), "the join token is for the role agent, not server");
    // An answer that was lost is asked for again with the same request: that is one use.
    for _ in 0..2 {
        let reply = join_as(&once, &at, MemberRole::Agent, "n1", &request).await;
        let reply = reply.expect("joined");
        assert!(reply.seal_key.is_empty() && reply.ca_root.is_empty(), "no server's secrets");
    }
    for (node, request) in [("n2", request.clone()), ("n1", csr(&new_key()))] {
        let refused = join_as(&once, &at, MemberRole::Agent, node, &request).await;
        let refused = refused.expect_err("used up");
        assert_eq!(refused.message(), "the join token has been used up; ask for a new one");
    }

    let over = server.handle.mint_join_tokens(MemberRole::Agent, 9, Duration::ZERO).await;
    let over = over.expect("a token");
    let refused = join(&over, &at, "n3").await.expect_err("over");
    assert_eq!(refused.message(), "the join token has expired; ask for a new one");

    // Whom another cluster's token leads here is not even told what is wrong with it.
    let other = JoinToken { root_fingerprint: "ab".repeat(32), ..once };
    assert!(join(&other, &at, "n5").await.is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_make_list_and_revoke_tokens_and_no_agent_gets_one_for_servers() {
    let dir = tempfile::tempdir().expect("a directory");
    let http = HttpSection { addr: Some("127.0.0.1:0".to_owned()), ..HttpSection::default() };
    let file = FileConfig { http, ..config(dir.path(), "s1") };
    let server = TestServer::start_with(file).await;
    let host = TestHost::join(&server, "n1").await;

    // Without ACLs every caller is an operator; but not one that comes by an agent becomes a
    // server.
    let path = "/v1/operator/join-token";
    let asked = json!({ "Role": "server", "Uses": 1 }).to_string();
    let answer = host.call(Method::POST, &server, path, &asked).await;
    assert_eq!(answer.status, http::StatusCode::FORBIDDEN, "{}", answer.text());
    assert!(answer.text().contains("server-join-token"), "{}", answer.text());
    let at_home = on_host(&server, Method::POST, path, &asked).await;
    assert_eq!(at_home.status, http::StatusCode::OK, "{}", at_home.text());

    for (asked, fault) in [
        (json!({ "Uses": 1, "TTL": "1s" }), "TTL: must be 10s to 2160h"),
        (json!({ "Role": "server", "TTL": "48h" }), "TTL: must be 10s to 24h"),
        (json!({ "Role": "server", "Uses": 0 }), "Uses: "),
        (json!({ "Node": "a b" }), "Node: "),
        (json!({ "Rolle": "agent" }), "Rolle"),
        (json!({ "Description": "x".repeat(600) }), "Description: "),
    ] {
        let answer = on_host(&server, Method::POST, path, &asked.to_string()).await;
        assert_eq!(answer.status, http::StatusCode::BAD_REQUEST, "{asked}");
        assert!(answer.text().contains(fault), "{asked}: {}", answer.text());
    }

    let asked = json!({ "Uses": 2, "TTL": "10m", "Node": "n7", "Description": "for n7" });
    let made: Value =
        host.call(Method::POST, &server, path, &asked.to_string()).await.json().expect("a token");
    let token: JoinToken = made["Token"].as_str().expect("a text").parse().expect("a token");
    let refused = join(&token, &server.address(), "n8").await.expect_err("for n7");
    assert_eq!(refused.message(), "the join token is for the node \"n7\", not \"n8\"");
    join(&token, &server.address(), "N7").await.expect("whatever the case of its letters");

    let list = "/v1/operator/join-tokens";
    let answer = host.call(Method::GET, &server, list, "").await;
    assert!(!answer.text().contains("weft1-"), "{}", answer.text());
    let all: Vec<Value> = answer.json().expect("a list");
    let shown = all.iter().find(|it| it["ID"] == made["ID"]).expect("it is listed");
    assert_eq!((&shown["UsesLeft"], &shown["Status"]), (&json!(1), &json!("active")));
    assert_eq!(shown["Redeemed"][0]["Node"], "N7");

    let revoke = format!("{path}/{}", made["ID"].as_str().expect("an id"));
    let answer = host.call(Method::DELETE, &server, &revoke, "").await;
    assert_eq!(answer.status, http::StatusCode::OK, "{}", answer.text());
    let refused = join(&token, &server.address(), "n7").await.expect_err("revoked");
    assert_eq!(refused.message(), "the join token has been revoked; ask for a new one");
    let answer = host.call(Method::DELETE, &server, &format!("{path}/0"), "").await;
    assert_eq!(answer.status, http::StatusCode::NOT_FOUND, "{}", answer.text());
    server.stop().await;
}
