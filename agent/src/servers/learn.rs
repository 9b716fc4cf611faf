//! Learns where the servers are: they come, go and move while the agent runs, and what its join
//! token said may be long out of date when it is needed.

use std::collections::BTreeSet;
use std::time::Duration;

use tonic::transport::Channel;
use tracing::{debug, info, warn};
use weft_proto::grpc::v1::ServersRequest;
use weft_proto::grpc::v1::catalog_client::CatalogClient;
use weft_runtime::clock;
use weft_runtime::rpc::channel_tls;
use weft_runtime::task::TaskTree;

use super::{Servers, reason, refusal};

/// Between two questions: servers change rarely, and one that is left tells of the others.
const INTERVAL: Duration = Duration::from_secs(10);
/// The pause after a question that got no answer.
const PAUSE: Duration = Duration::from_secs(5);
/// The silence after which a person is told: longer than an election or a restart takes.
const PATIENCE: Duration = Duration::from_secs(15);
/// The time for an answer.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn run(servers: Servers, tasks: TaskTree) {
    let mut connections = servers.connections();
    let (mut silent_since, mut has_told) = (None, false);
    loop {
        let asked = tokio::select! {
            () = tasks.cancelled() => return,
            // A question that is dropped is asked again at the next start.
            asked = ask(&servers, &tasks) => asked,
        };
        let pause = match asked {
            Ok(()) => {
                (silent_since, has_told) = (None, false);
                INTERVAL
            }
            Err(reason) => {
                debug!(%reason, "the servers did not say where they are");
                let since = *silent_since.get_or_insert_with(clock::instant);
                if !has_told && clock::instant() - since >= PATIENCE {
                    has_told = true;
                    tell(&servers, &reason);
                }
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

/// Says once what a person has to do when the servers do not come back by themselves.
fn tell(servers: &Servers, reason: &str) {
    warn!(
        servers = ?servers.list(),
        reason,
        "no server has answered for a while; what this host knows is kept. If all servers have \
         moved, name the new addresses in `servers` of this agent's configuration and restart it"
    );
}

impl Servers {
    /// Takes up the servers that the one at `host:port` names; it must belong to this mesh.
    ///
    /// # Errors
    /// In words, when it does not answer as a server of this mesh.
    pub(crate) async fn join(&self, address: &str, tasks: &TaskTree) -> Result<(), String> {
        ask_at(channel_tls(address, self.inner.tls.clone()), self, tasks).await
    }
}

async fn ask(servers: &Servers, tasks: &TaskTree) -> Result<(), String> {
    ask_at(servers.channel(), servers, tasks).await
}

async fn ask_at(channel: Channel, servers: &Servers, tasks: &TaskTree) -> Result<(), String> {
    let mut client = CatalogClient::new(channel);
    let reply = match tokio::time::timeout(LIMIT, client.servers(ServersRequest {})).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return Err(refusal(&status)),
        Err(_) => return Err(format!("no answer within {} s", LIMIT.as_secs())),
    };
    servers.note_clock(reply.time_ms);
    let reply = reply.servers;
    let told: BTreeSet<&String> = reply.iter().collect();
    let known = servers.list();
    if told.is_empty() || told == known.iter().collect() {
        return Ok(());
    }
    servers.set_list(reply.clone(), tasks).await.map_err(|error| reason(&error))?;
    info!(servers = ?reply, "the servers are found elsewhere now");
    Ok(())
}
