//! Learns where the servers are: they come, go and move while the agent runs, and what its join
//! token said may be long out of date when it is needed.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{debug, info};
use weft_proto::grpc::v1::ServersRequest;
use weft_proto::grpc::v1::catalog_client::CatalogClient;
use weft_runtime::task::TaskTree;

use super::{Servers, reason, refusal};

/// Between two questions: servers change rarely, and one that is left tells of the others.
const INTERVAL: Duration = Duration::from_secs(10);
/// The pause after a question that got no answer.
const PAUSE: Duration = Duration::from_secs(5);
/// The time for an answer.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn run(servers: Servers, tasks: TaskTree) {
    let mut connections = servers.connections();
    loop {
        let asked = tokio::select! {
            () = tasks.cancelled() => return,
            // A question that is dropped is asked again at the next start.
            asked = ask(&servers, &tasks) => asked,
        };
        let pause = match asked {
            Ok(()) => INTERVAL,
            Err(reason) => {
                debug!(%reason, "the servers did not say where they are");
                PAUSE
            }
        };
        tokio::select! {
            () = tasks.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            // A new connection may be the way to servers that know more; a moment later, so
            // that it does not hold up what it was made for.
            Ok(()) = connections.changed() => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn ask(servers: &Servers, tasks: &TaskTree) -> Result<(), String> {
    let mut client = CatalogClient::new(servers.channel());
    let reply = match tokio::time::timeout(LIMIT, client.servers(ServersRequest {})).await {
        Ok(Ok(reply)) => reply.into_inner().servers,
        Ok(Err(status)) => return Err(refusal(&status)),
        Err(_) => return Err(format!("no answer within {} s", LIMIT.as_secs())),
    };
    let told: BTreeSet<&String> = reply.iter().collect();
    let known = servers.list();
    if told.is_empty() || told == known.iter().collect() {
        return Ok(());
    }
    servers.set_list(reply.clone(), tasks).await.map_err(|error| reason(&error))?;
    info!(servers = ?reply, "the servers are found elsewhere now");
    Ok(())
}
