//! Reports of who has a stream to which server: told to the leader, who judges leases; nothing is
//! written.

use weft_core::lease::{Heard, Presence};

use super::call::{Call, Said};
use super::consensus::Consensus;
use super::error::{MembersError, ProposeError};
use super::types::NodeId;
use crate::leader::LeaseBook;

impl Consensus {
    /// Tells the leader, which may be this server, who has a stream to this one.
    ///
    /// # Errors
    /// [`MembersError`] when no leader has answered.
    pub(crate) async fn attend(&self, presence: Presence) -> Result<Heard, MembersError> {
        match self.at_leader(Call::Attend(self.id, presence)).await? {
            Said::Heard(heard) => Ok(heard),
            other => Err(ProposeError::Unanswered(format!("it said {other:?}")).into()),
        }
    }

    /// Takes a report, when this server leads.
    pub(super) fn attend_here(
        &self,
        server: NodeId,
        presence: Presence,
    ) -> Result<Said, ProposeError> {
        let standing = self.standing();
        let heard = self.leases.handle_report(server, presence);
        match heard {
            Some(heard) if standing.is_leader => Ok(Said::Heard(heard)),
            // One that has just begun to lead opens its book in a moment.
            _ => Err(ProposeError::NoLeader(standing.leader.filter(|_| !standing.is_leader))),
        }
    }

    /// Returns the book of leases, open while this server leads.
    pub(crate) fn leases(&self) -> &LeaseBook {
        &self.leases
    }
}
