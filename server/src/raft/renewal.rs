//! Renewals of sessions: told to the leader, who keeps their times; nothing is written.

use weft_core::session::SessionId;

use super::call::{Call, Said};
use super::consensus::Consensus;
use super::error::{MembersError, ProposeError};
use super::network::LEADER_LIMIT;
use crate::leader::Renewals;

impl Consensus {
    /// Gives a session its whole time again: here when this server leads, else at the leader.
    /// Returns whether it goes on.
    ///
    /// # Errors
    /// [`ProposeError`] when no leader took note.
    pub(crate) async fn renew(&self, session: SessionId) -> Result<bool, ProposeError> {
        match self.at_leader(Call::Renew(session)).await {
            Ok(Said::Renewed(goes_on)) => Ok(goes_on),
            Ok(other) => Err(ProposeError::Unanswered(format!("it said {other:?}"))),
            Err(MembersError::Consensus(error)) => Err(error),
            Err(error) => Err(ProposeError::Unanswered(error.to_string())),
        }
    }

    /// Renews a session, when this server leads for certain: another leader would keep other
    /// times.
    pub(super) async fn renew_here(&self, session: SessionId) -> Result<Said, ProposeError> {
        let standing = self.standing();
        if !standing.is_leader {
            return Err(ProposeError::NoLeader(standing.leader));
        }
        if !self.has_lease() {
            return Err(ProposeError::NoLeader(None));
        }
        match tokio::time::timeout(LEADER_LIMIT, self.renewals.ask(session)).await {
            Ok(Some(goes_on)) => Ok(Said::Renewed(goes_on)),
            // Who kept the times does so no more.
            Ok(None) => Err(ProposeError::NoLeader(None)),
            Err(_) => Err(ProposeError::Unanswered("in time".to_owned())),
        }
    }

    /// Returns the renewals that have come in.
    pub(crate) fn renewals(&self) -> &Renewals {
        &self.renewals
    }
}
