//! The only mapping from our errors to gRPC status codes.

use tonic::Status;
use weft_core::state::Refusal;

use crate::ca::{CaError, SignerError};
use crate::join::JoinError;
use crate::propose::WriteError;
use crate::raft::ProposeError;

/// Maps a failed write.
pub(super) fn of_write(error: &WriteError) -> Status {
    match error {
        WriteError::Consensus(error) => of_consensus(error),
        WriteError::Denied { .. } | WriteError::Lacks(_) => {
            Status::permission_denied(error.to_string())
        }
        WriteError::Refused(refusal) => of_refusal(refusal),
    }
}

/// Maps a failure of consensus.
pub(super) fn of_consensus(error: &ProposeError) -> Status {
    match error {
        ProposeError::DiskFull { .. }
        | ProposeError::NoLeader(_)
        | ProposeError::NoQuorum
        | ProposeError::Stopped
        | ProposeError::StorageFailed { .. } => Status::unavailable(error.to_string()),
        ProposeError::TooLarge { .. } => Status::invalid_argument(error.to_string()),
        ProposeError::Unanswered(_) => Status::deadline_exceeded(error.to_string()),
    }
}

/// Maps a failure to sign.
pub(super) fn of_signer(error: &SignerError) -> Status {
    match error {
        SignerError::Ca(CaError::BadRequest | CaError::KeyKind) => {
            Status::invalid_argument(error.to_string())
        }
        SignerError::Ca(CaError::Refused(_)) => Status::permission_denied(error.to_string()),
        SignerError::Ca(
            CaError::Library(_) | CaError::RootKey | CaError::Sealed(_) | CaError::Unfit { .. },
        )
        | SignerError::Tls(_) => Status::internal(error.to_string()),
        SignerError::Ca(CaError::Interrupted(_) | CaError::Vault(_))
        | SignerError::Interrupted(_) => Status::unavailable(error.to_string()),
    }
}

/// Maps a refused host.
pub(super) fn of_join(error: &JoinError) -> Status {
    match error {
        JoinError::Name(_) => Status::invalid_argument(error.to_string()),
        JoinError::NotReady => Status::unavailable(error.to_string()),
        JoinError::Sign(error) => of_signer(error),
        JoinError::Write(error) => of_write(error),
    }
}

fn of_refusal(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::JoinTokenExpired
        | Refusal::JoinTokenNode { .. }
        | Refusal::JoinTokenRevoked
        | Refusal::JoinTokenRole { .. }
        | Refusal::JoinTokenSpent
        | Refusal::JoinTokenUnknown
        | Refusal::NotExternal { .. } => Status::permission_denied(refusal.to_string()),
        Refusal::Acl(_)
        | Refusal::BrokenChain { .. }
        | Refusal::ClusterExists { .. }
        | Refusal::DuplicateIntention { .. }
        | Refusal::InvalidSession(_)
        | Refusal::NodeIdTaken { .. }
        | Refusal::QueryNameTaken { .. }
        | Refusal::Restore { .. }
        | Refusal::RolloutSignal { .. }
        | Refusal::SessionCheckCritical(_)
        | Refusal::SessionCheckMissing(_)
        | Refusal::SessionNodeMissing
        | Refusal::UnknownIntention { .. }
        | Refusal::UnknownJoinToken { .. }
        | Refusal::UnknownQuery { .. }
        | Refusal::UnknownRollout { .. }
        | Refusal::UnknownRoot(_)
        | Refusal::UnknownService { .. } => Status::failed_precondition(refusal.to_string()),
        Refusal::InvalidEntry(_) | Refusal::InvalidQuery(_) | Refusal::Limit { .. } => {
            Status::invalid_argument(refusal.to_string())
        }
    }
}
