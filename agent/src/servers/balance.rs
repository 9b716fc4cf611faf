//! Keeps the load of many agents spread over the servers: after a server was away, all who fled
//! from it would stay with the others.
//!
//! **Source**: Consul: agents rebalance over servers every few minutes, at random.

use std::time::Duration;

use rand_core::RngCore;
use tracing::{debug, info};
use weft_proto::grpc::v1::ServersRequest;
use weft_proto::grpc::v1::catalog_client::CatalogClient;
use weft_runtime::entropy;
use weft_runtime::rpc::{Hosts, channel_tls_any};
use weft_runtime::task::TaskTree;

use super::Servers;

/// Between two draws: a move costs a server a handshake and the agent's watches, which the agent
/// takes up again where they were.
const INTERVAL_MIN: Duration = Duration::from_secs(120);
/// Added at random, so that agents that were started together do not move together.
const JITTER_MS: u64 = 120_000;
/// The time for the server that was drawn to say that it serves.
const LIMIT: Duration = Duration::from_secs(3);

pub(super) async fn run(servers: Servers, tasks: TaskTree) {
    loop {
        let jitter = Duration::from_millis(entropy::rng().next_u64() % JITTER_MS);
        tokio::select! {
            () = tasks.cancelled() => return,
            // A sleep loses nothing when it is dropped.
            () = tokio::time::sleep(INTERVAL_MIN + jitter) => {}
        }
        tokio::select! {
            () = tasks.cancelled() => return,
            // A draw that is dropped has moved nobody yet.
            () = draw(&servers) => {}
        }
    }
}

/// Draws a server, and moves there if it is another one than now and serves.
async fn draw(servers: &Servers) {
    let hosts = &servers.inner.hosts;
    let Some(drawn) = hosts.any().filter(|drawn| hosts.current().as_ref() != Some(drawn)) else {
        return;
    };
    let channel = channel_tls_any(Hosts::new(vec![drawn.clone()]), servers.inner.tls.clone());
    let mut client = CatalogClient::new(channel);
    match tokio::time::timeout(LIMIT, client.servers(ServersRequest {})).await {
        Ok(Ok(_)) => {
            info!(server = drawn, "moving to another server, to spread the load");
            servers.move_to(&drawn);
        }
        Ok(Err(_)) | Err(_) => debug!(server = drawn, "the server that was drawn does not serve"),
    }
}
