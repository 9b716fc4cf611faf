//! The one door for writes: authorise, hand to consensus, wait for the applied answer.

use std::sync::Arc;
use std::time::Duration;

use weft_core::acl::Denial;
use weft_core::identity::{SpiffeId, Workload};
use weft_core::index::Index;
use weft_core::name::NodeName;
use weft_core::session::SessionId;
use weft_core::state::{Answer, Command, Refusal, State};
use weft_runtime::backoff::Backoff;
use weft_runtime::{clock, entropy};

use crate::acl::{Forbidden, Rights, check_command};
use crate::raft::{Consensus, LEADERLESS_HOLD, ProposeError};
use crate::watch::Hub;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// A request of the HTTP API: what it may do is what its token may do.
    Client {
        /// What the token may do.
        rights: Rights,
        /// The member that passes it on, which gives it no right; `None` at the doors of the
        /// API, where nobody shows who they are.
        through: Option<SpiffeId>,
    },
    /// A member at a gRPC service, by its certificate.
    Member(SpiffeId),
    /// This server itself.
    Server,
}

impl Caller {
    /// Whether it is the agent that speaks for a node, or comes through it.
    pub(crate) fn is_agent_of(&self, node: &NodeName) -> bool {
        let member = match self {
            Self::Client { through, .. } => through.as_ref(),
            Self::Member(id) => Some(id),
            Self::Server => None,
        };
        match member.map(|id| &id.workload) {
            Some(Workload::Agent(own)) => own.as_str().eq_ignore_ascii_case(node.as_str()),
            Some(Workload::Server(_) | Workload::Service(_)) | None => false,
        }
    }
}

/// States why a write was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Consensus could not take it.
    #[error(transparent)]
    Consensus(#[from] ProposeError),
    /// The caller may not write this.
    #[error("Permission denied: {reason}")]
    Denied {
        /// Who asked for what, and what is missing.
        reason: String,
    },
    /// The caller's token lacks a right.
    #[error(transparent)]
    Lacks(#[from] Denial),
    /// The state refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A write that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Where in the log it stands.
    pub(crate) index: Index,
    /// Whether the compare-and-set index was right; always, when none was given.
    pub(crate) matched: bool,
}

/// The door.
#[derive(Clone)]
pub(crate) struct Proposer {
    consensus: Consensus,
    hub: Arc<Hub>,
}

impl Proposer {
    pub(crate) fn new(consensus: Consensus, hub: Arc<Hub>) -> Self {
        Self { consensus, hub }
    }

    /// Writes a command and returns once it is applied at this server.
    pub(crate) async fn write(
        &self,
        caller: &Caller,
        command: Command,
    ) -> Result<Written, WriteError> {
        let (index, answer) = self.ask(caller, command).await?;
        let matched = match answer {
            Answer::CasMismatch | Answer::TxnFailed(_) => false,
            Answer::Done { .. } | Answer::Txn(_) => true,
            Answer::Refused(refusal) => return Err(refusal.into()),
        };
        Ok(Written { index, matched })
    }

    /// Writes a command and returns its whole answer once it is applied at this server.
    ///
    /// While there is no leader the write is held. It is sent again when the leader falls, under
    /// its name, so that it is carried out once.
    pub(crate) async fn ask(
        &self,
        caller: &Caller,
        command: Command,
    ) -> Result<(Index, Answer), WriteError> {
        authorise(caller, &self.hub.state(), &command)?;
        let (kind, started) = (kind(&command), clock::instant());
        let proposed = self.consensus.propose(command).await;
        let took = clock::instant().duration_since(started);
        self.consensus.storage().gauges().written(kind, took);
        Ok(proposed?)
    }

    /// Gives a session its whole time again; the caller has been asked for its rights. Returns
    /// whether it goes on.
    pub(crate) async fn renew(&self, session: SessionId) -> Result<bool, ProposeError> {
        let until = clock::instant() + LEADERLESS_HOLD;
        let mut backoff =
            Backoff::new(Duration::from_millis(20), Duration::from_millis(500), entropy::rng());
        loop {
            match self.consensus.renew(session).await {
                Err(ProposeError::NoLeader(_)) if clock::instant() < until => {
                    tokio::time::sleep(backoff.next()).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Names what a command writes, for what is counted.
fn kind(command: &Command) -> &'static str {
    match command {
        Command::Acl(_) => "acl",
        Command::ActivateCaRoot { .. }
        | Command::ChangeCa(_)
        | Command::PruneCaRoots
        | Command::SetCaRoot(_)
        | Command::SetCaSettings(_) => "ca",
        Command::Coordinate(_) => "coordinate",
        Command::CreateJoinToken(_)
        | Command::RedeemJoinToken { .. }
        | Command::RevokeJoinToken { .. } => "join-token",
        Command::DeleteEntry { .. } | Command::Rollout(_) | Command::UpsertEntry { .. } => {
            "config-entry"
        }
        Command::DeleteIntention { .. }
        | Command::Intention(_)
        | Command::UpsertIntention { .. } => "intention",
        Command::Deregister(_)
        | Command::DeregisterExternal(_)
        | Command::Register(_)
        | Command::RegisterExternal(_)
        | Command::SetLiveness(_) => "catalog",
        Command::Event(_) => "event",
        Command::InitCluster(_) | Command::Operator(_) => "operator",
        Command::Kv(_) => "kv",
        Command::Query(_) => "query",
        Command::Restore(_) => "restore",
        Command::Session(_) => "session",
        Command::Txn(_) => "txn",
    }
}

/// Decides whether the caller may write.
///
/// A member writes by its certificate: an agent the records of its own node. Whoever comes by
/// the HTTP API writes by their token, whoever passes it on; but an agent's node is written
/// through that agent alone, which would undo anything else.
fn authorise(caller: &Caller, state: &State, command: &Command) -> Result<(), WriteError> {
    let denied = |reason: String| Err(WriteError::Denied { reason });
    match caller {
        Caller::Server => return Ok(()),
        Caller::Client { rights, .. } => match check_command(rights, state, command) {
            Ok(()) => {}
            Err(Forbidden::Denied(denial)) => return Err(denial.into()),
            Err(Forbidden::ServersOnly) => return denied("only servers write this".to_owned()),
        },
        Caller::Member(id) => match (&id.workload, command) {
            (Workload::Agent(_), Command::Register(_) | Command::Deregister(_)) => {}
            (Workload::Server(_), _) => return Ok(()),
            (Workload::Agent(_), _) => {
                return denied(format!("{id} is an agent; it writes its own node only"));
            }
            (Workload::Service(_), _) => {
                return denied(format!("{id} is a service; services do not write"));
            }
        },
    }
    let node = if let Command::Register(registration) = command {
        &registration.node.name
    } else if let Command::Deregister(deregistration) = command {
        &deregistration.node
    } else {
        return Ok(());
    };
    if caller.is_agent_of(node) {
        return Ok(());
    }
    match caller {
        Caller::Member(id) => denied(format!("{id} may not write the records of node {node:?}")),
        Caller::Client { .. } | Caller::Server => {
            denied(format!("only the agent of node {node:?} writes this"))
        }
    }
}
