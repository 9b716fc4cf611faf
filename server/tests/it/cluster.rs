//! Three servers that joined by token: every one serves, and the loss of the leader is survived.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{LIMIT, TestHost, TestServer, config};
use serde_json::json;
use weft_core::ca::MemberRole;
use weft_proto::grpc::v1 as wire;
use weft_server::config::FileConfig;

fn registration(service: &str) -> serde_json::Value {
    json!({
        "node": { "ID": "id-1", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1" },
        "services": [{ "ID": service, "Service": service, "Port": 80 }],
    })
}

/// Registers through the server at an address.
async fn register(host: &TestHost, address: &str, service: &str) -> Result<u64, tonic::Status> {
    let registration: weft_core::catalog::CatalogRegistration =
        serde_json::from_value(registration(service)).expect("a registration");
    let request =
        wire::RegisterRequest { registration: weft_proto::envelope::encode(&registration) };
    let mut client = wire::catalog_client::CatalogClient::new(host.at(address));
    Ok(client.register(request).await?.into_inner().index)
}

/// Lists the services that the server at an address knows.
async fn services(host: &TestHost, server: &TestServer) -> Vec<String> {
    let answer = host.call(http::Method::GET, server, "/v1/catalog/services", "").await;
    let found: std::collections::BTreeMap<String, Vec<String>> =
        answer.json().unwrap_or_else(|_| panic!("{} {}", answer.status, answer.text()));
    found.into_keys().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_survive_the_loss_of_their_leader() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let first = TestServer::start(dirs[0].path()).await;
    let mut others = Vec::new();
    for (dir, node) in dirs[1..].iter().zip(["s2", "s3"]) {
        let token = first.handle.mint_single_join_token(MemberRole::Server).await;
        let join = Some(token.expect("a token").to_string());
        let file = FileConfig { join, ..config(dir.path(), node) };
        others.push(TestServer::start_with(file).await);
    }
    let host = TestHost::join(&first, "n1").await;
    assert_eq!(host.reply.servers.len(), 3, "{:?}", host.reply.servers);

    // A write through any server is read from any other at once.
    register(&host, &others[0].address(), "web").await.expect("forwarded to the leader");
    for server in [&first, &others[0], &others[1]] {
        assert_eq!(services(&host, server).await, ["web"]);
    }
    assert!(others.iter().all(|other| other.handle.cluster_id() == first.handle.cluster_id()));
    // Any server signs.
    for other in &others {
        let mut ca = wire::ca_client::CaClient::new(host.at(&other.address()));
        let csr_der = crate::support::csr(&crate::support::new_key()).into();
        let request = wire::SignLeafRequest { service: "web".to_owned(), csr_der };
        ca.sign_leaf(request).await.expect("signed");
    }

    let address: SocketAddr = first.handle.rpc_addr();
    first.stop().await;
    // Held at the door until there is a leader again; refused at most while the old one is asked.
    let written = tokio::time::timeout(LIMIT, async {
        while let Err(status) = register(&host, &others[1].address(), "api").await {
            assert_ne!(status.code(), tonic::Code::PermissionDenied, "{status:?}");
        }
    });
    written.await.expect("a new leader in time");
    for other in &others {
        assert_eq!(services(&host, other).await, ["api", "web"]);
    }

    let file = FileConfig { bind_addr: Some(address.to_string()), ..config(dirs[0].path(), "s1") };
    let first = TestServer::start_with(file).await;
    let caught_up = tokio::time::timeout(LIMIT, async {
        while services(&host, &first).await != ["api", "web"] {
            tokio::task::yield_now().await;
        }
    });
    caught_up.await.expect("the log in time");
    for server in others {
        server.stop().await;
    }
    // Alone it has no majority: what it had it still tells to those who take it stale.
    let answer = host.call(http::Method::GET, &first, "/v1/catalog/services?stale", "").await;
    assert_eq!(answer.status, http::StatusCode::OK);
    let limit = Duration::from_secs(1);
    let write = tokio::time::timeout(limit, register(&host, &first.address(), "db")).await;
    assert!(write.is_err() || write.is_ok_and(|write| write.is_err()), "no majority, no write");
    first.stop().await;
}
