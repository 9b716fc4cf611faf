//! What the leader does and nobody else: started when this server begins to lead, told to end
//! when it leads no more.
//!
//! A duty is a task under the tree that it is given. It may run for a moment after another
//! server has begun to lead; so it writes through [`Office::write`], which refuses then.

mod autopilot;
mod ca;
mod leases;
mod rollout_hooks;
mod rollouts;
mod session_ttl;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use weft_core::index::Index;
use weft_core::lease::LeaseTimes;
use weft_core::state::{Answer, Command, State};
use weft_runtime::task::TaskTree;

pub(crate) use leases::LeaseBook;
pub(crate) use rollouts::RolloutBook;
pub(crate) use session_ttl::Renewals;

use crate::acl::Secret;
use crate::ca::Signer;
use crate::raft::{Consensus, ProposeError};
use crate::watch::{Hub, Mailbox};

/// How long duties may take to end once this server leads no more; they end at their next wait.
const END_LIMIT: Duration = Duration::from_secs(5);

/// What a duty works with, for as long as this server leads. Clones share it.
#[derive(Clone)]
pub(crate) struct Office {
    consensus: Consensus,
    hub: Arc<Hub>,
    initial_management: Option<Secret>,
    lease: LeaseTimes,
    /// This server's pen, with the lifetime of leaves where the CA's settings say none.
    authority: (Signer, Duration),
}

impl Office {
    /// Writes a command as the leader that this server is.
    ///
    /// # Errors
    /// [`ProposeError::NoLeader`] when this server leads no more: the command is never passed
    /// on to another leader, whose own duties see to it.
    pub(crate) async fn write(&self, command: Command) -> Result<(Index, Answer), ProposeError> {
        self.consensus.propose_here(command).await
    }

    /// Returns the newest state. It has every write that was acknowledged before this server
    /// began to lead.
    pub(crate) fn state(&self) -> Arc<State> {
        self.hub.state()
    }

    /// Returns the renewals of sessions that clients send.
    pub(crate) fn renewals(&self) -> &Renewals {
        self.consensus.renewals()
    }

    /// Opens a mailbox, to wait for changes of the state.
    pub(crate) fn mailbox(&self) -> Mailbox {
        self.hub.mailbox()
    }
}

/// Starts every duty, one line each.
fn take_up(office: &Office, tasks: &TaskTree) {
    autopilot::start(office.clone(), tasks);
    ca::start(office, tasks);
    if let Some(secret) = office.initial_management.clone() {
        tasks.spawn("initial management token", tokens::initial_management(office.clone(), secret));
    }
    tasks.spawn("reaping of tokens", tokens::reap(office.clone(), tasks.clone()));
    leases::start(office, tasks);
    rollouts::start(office, tasks);
    session_ttl::start(office, tasks);
}

/// Follows who leads, for as long as the server runs.
pub(crate) fn start(
    consensus: Consensus,
    hub: Arc<Hub>,
    (initial_management, lease): (Option<Secret>, LeaseTimes),
    authority: (Signer, Duration),
    tasks: &TaskTree,
) {
    let tree = tasks.child("leader");
    tasks.spawn("leadership", async move {
        let office =
            Office { consensus: consensus.clone(), hub, initial_management, lease, authority };
        let mut leadership = consensus.leadership();
        loop {
            tokio::select! {
                // Waits for a level: nothing is lost when the other branch is taken.
                term = leadership.gained() => match term {
                    Ok(term) => info!(term, "this server leads"),
                    Err(_) => return,
                },
                () = tree.cancelled() => return,
            }
            let duties = tree.child("duties");
            take_up(&office, &duties);
            tokio::select! {
                // As above. When consensus has ended, so has leadership.
                _ = leadership.lost() => info!("this server leads no more"),
                () = tree.cancelled() => {}
            }
            duties.cancel();
            if let Err(unfinished) = duties.join(END_LIMIT).await {
                warn!(%unfinished, "duties of the leader run on");
                duties.abort();
            }
        }
    });
}
