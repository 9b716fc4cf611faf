//! How a server takes its place in its cluster: as founder, as newcomer, or back again, perhaps
//! at another address; and what it does when it has none any more.

use std::time::Duration;

use tracing::{error, info, warn};
use weft_core::state::Command;
use weft_proto::join_token::JoinToken;
use weft_runtime::backoff::Backoff;
use weft_runtime::entropy;
use weft_runtime::task::TaskTree;

use crate::config::Config;
use crate::membership::Membership;
use crate::propose::{Caller, Proposer};
use crate::raft::{Consensus, Member, MembersError, ProposeError};
use crate::start::StartError;
use crate::watch::Hub;

/// How long a start waits for a leader; afterwards the server serves what needs none.
const LEADER_WAIT: Duration = Duration::from_secs(10);
/// The pauses before the cluster is told again where this server is.
const ADDRESS_PAUSE_MIN: Duration = Duration::from_millis(250);
const ADDRESS_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Takes this server's place in the cluster.
pub(crate) async fn enter(
    config: &Config,
    membership: &Membership,
    consensus: &Consensus,
    proposer: &Proposer,
    hub: &Hub,
    me: Member,
) -> Result<(), StartError> {
    if membership.founded_here {
        consensus.found(me.clone()).await?;
    } else if !consensus.is_member()
        && let Some(token) = &config.join
    {
        take_in(consensus, token, me).await?;
    }
    if let Err(error) = consensus.wait_for_leader(LEADER_WAIT).await {
        warn!(%error, "no leader yet; serving what needs none");
        return Ok(());
    }
    if membership.founded_here {
        // Written once; at a restart both are there already and nothing changes.
        for command in [
            Command::InitCluster(membership.cluster.clone()),
            Command::SetCaRoot(membership.root.clone()),
        ] {
            if hub.state().cluster().is_some() && hub.state().trust_bundle().is_some() {
                break;
            }
            proposer.write(&Caller::Server, command).await.map_err(StartError::NotFounded)?;
        }
    }
    match hub.state().cluster() {
        Some(cluster) if cluster.id != membership.cluster.id => Err(StartError::ForeignState {
            directory: membership.cluster.id.clone(),
            state: cluster.id.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

async fn take_in(consensus: &Consensus, token: &JoinToken, me: Member) -> Result<(), StartError> {
    let mut last = MembersError::from(ProposeError::NoLeader(None));
    for server in &token.servers {
        match consensus.join(server, me.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(StartError::NotTakenIn(last))
}

/// Tells the cluster where this server is found now, until it knows.
pub(crate) fn follow_address(consensus: Consensus, me: Member, tasks: &TaskTree) {
    let token = tasks.token();
    tasks.spawn("address", async move {
        let mut backoff = Backoff::new(ADDRESS_PAUSE_MIN, ADDRESS_PAUSE_MAX, entropy::rng());
        let mut has_failed = false;
        loop {
            let told = tokio::select! {
                told = consensus.readdress(me.clone()) => told,
                // Whoever takes it up is told at the next start.
                () = token.cancelled() => return,
            };
            match told {
                Ok(()) => return,
                Err(error) if !has_failed => {
                    info!(%error, "the cluster could not be told this server's address yet");
                    has_failed = true;
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = token.cancelled() => return,
            }
        }
    });
}

/// Ends the server when it learns that it was removed: nobody is to be answered from what it
/// had.
pub(crate) fn leave_when_removed(consensus: Consensus, tasks: &TaskTree) {
    let tree = tasks.clone();
    tasks.spawn("removal", async move {
        tokio::select! {
            () = consensus.removed() => {
                error!(
                    "this server was removed from its cluster and ends; to bring it back, move \
                     its data directory aside and join again with a new token"
                );
                tree.cancel();
            }
            () = tree.cancelled() => {}
        }
    });
}
