//! Renewals of sessions: told to the leader, who keeps their times; nothing is written.

use weft_core::session::SessionId;

use super::call::{Call, Said};
use super::consensus::Consensus;
use super::error::{MembersError, ProposeError};
use crate::leader::Renewals;

impl Consensus {
    /// Gives a session its whole time again: here when this server leads, else at the leader.
    ///
    /// # Errors
    /// [`ProposeError`] when no leader took note.
    pub(crate) async fn renew(&self, session: SessionId) -> Result<(), ProposeError> {
        match self.at_leader(Call::Renew(session)).await {
            Ok(_) => Ok(()),
            Err(MembersError::Consensus(error)) => Err(error),
            Err(error) => Err(ProposeError::Unanswered(error.to_string())),
        }
    }

    /// Takes note of a renewal, when this server leads.
    pub(super) fn renew_here(&self, session: SessionId) -> Result<Said, ProposeError> {
        let standing = self.standing();
        if !standing.is_leader {
            return Err(ProposeError::NoLeader(standing.leader));
        }
        self.renewals.note(session);
        Ok(Said::Done)
    }

    /// Returns the renewals that have come in.
    pub(crate) fn renewals(&self) -> &Renewals {
        &self.renewals
    }
}
