//! The one door for writes: authorise, hand to consensus, wait for the applied answer.

use std::time::Duration;

use weft_core::identity::{SpiffeId, Workload};
use weft_core::index::Index;
use weft_core::name::NodeName;
use weft_core::state::{Answer, Command, Refusal};
use weft_runtime::backoff::Backoff;
use weft_runtime::{clock, entropy};

use crate::raft::{Consensus, ProposeError};

/// How long a request is held while there is no leader.
///
/// **Source**: Consul: `rpc_hold_timeout`, 7 s.
pub(crate) const LEADERLESS_HOLD: Duration = Duration::from_secs(7);

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// A member, by its certificate.
    Member(SpiffeId),
    /// Someone at a door of the HTTP API, where nobody shows who they are: what they may do is
    /// what their token may do.
    Outsider,
    /// This server itself.
    Server,
}

impl Caller {
    /// Whether it is the agent that speaks for a node.
    pub(crate) fn is_agent_of(&self, node: &NodeName) -> bool {
        match self {
            Self::Member(SpiffeId { workload: Workload::Agent(own), .. }) => {
                own.as_str().eq_ignore_ascii_case(node.as_str())
            }
            Self::Member(_) | Self::Outsider | Self::Server => false,
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
}

impl Proposer {
    pub(crate) fn new(consensus: Consensus) -> Self {
        Self { consensus }
    }

    /// Writes a command and returns once it is applied at this server.
    ///
    /// While there is no leader the write is held and tried again. An entry of a leader that
    /// fell may still be committed by the next one: commands are such that a second time does
    /// no harm, it only finds done what it asks for.
    pub(crate) async fn write(
        &self,
        caller: &Caller,
        command: Command,
    ) -> Result<Written, WriteError> {
        authorise(caller, &command)?;
        let until = clock::instant() + LEADERLESS_HOLD;
        let mut backoff =
            Backoff::new(Duration::from_millis(20), Duration::from_millis(500), entropy::rng());
        loop {
            match self.consensus.propose(command.clone()).await {
                Err(ProposeError::NoLeader(_)) if clock::instant() < until => {
                    tokio::time::sleep(backoff.next()).await;
                }
                Err(error) => return Err(error.into()),
                Ok((index, Answer::Done { .. })) => return Ok(Written { index, matched: true }),
                Ok((index, Answer::CasMismatch)) => return Ok(Written { index, matched: false }),
                Ok((_, Answer::Refused(refusal))) => return Err(refusal.into()),
            }
        }
    }
}

/// Decides whether the caller may write. An agent speaks for its own node, and passes on what
/// operators write of hosts without one; tokens with finer rights come with ACLs.
fn authorise(caller: &Caller, command: &Command) -> Result<(), WriteError> {
    let own = match caller {
        Caller::Server => return Ok(()),
        Caller::Outsider => None,
        Caller::Member(id) => match &id.workload {
            Workload::Agent(node) => Some((id, node)),
            Workload::Server(_) => return Ok(()),
            Workload::Service(_) => {
                let reason = format!("{id} is a service; services do not write");
                return Err(WriteError::Denied { reason });
            }
        },
    };
    let node = match command {
        Command::Register(registration) => &registration.node.name,
        Command::Deregister(deregistration) => &deregistration.node,
        Command::Acl(_)
        | Command::DeleteEntry { .. }
        | Command::DeleteIntention { .. }
        | Command::DeregisterExternal(_)
        | Command::RegisterExternal(_)
        | Command::UpsertEntry { .. }
        | Command::UpsertIntention { .. } => return Ok(()),
        Command::ActivateCaRoot { .. }
        | Command::CreateJoinToken(_)
        | Command::InitCluster(_)
        | Command::RedeemJoinToken { .. }
        | Command::SetCaRoot(_) => {
            let reason = match own {
                Some((id, _)) => format!("{id} is an agent; only servers write this"),
                None => "only servers write this".to_owned(),
            };
            return Err(WriteError::Denied { reason });
        }
    };
    if caller.is_agent_of(node) {
        return Ok(());
    }
    let reason = match own {
        Some((id, own)) => {
            format!("{id} may write records of node {own:?} only, not of {node:?}")
        }
        None => format!("only the agent of node {node:?} writes this"),
    };
    Err(WriteError::Denied { reason })
}
