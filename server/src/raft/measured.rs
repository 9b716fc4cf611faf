//! What proxies have measured of versions that are rolled out: told to the leader, who judges them;
//! nothing is written.

use weft_core::rollout::RolloutReport;

use super::call::{Call, Said};
use super::consensus::Consensus;
use super::error::{MembersError, ProposeError};
use crate::leader::RolloutBook;

impl Consensus {
    /// Tells the leader, which may be this server, what was measured.
    ///
    /// # Errors
    /// [`MembersError`] when no leader has answered.
    pub(crate) async fn measured(&self, reports: Vec<RolloutReport>) -> Result<(), MembersError> {
        match self.at_leader(Call::Measured(reports)).await? {
            Said::Done => Ok(()),
            other => Err(ProposeError::Unanswered(format!("it said {other:?}")).into()),
        }
    }

    /// Takes a report, when this server leads.
    pub(super) fn measured_here(&self, reports: Vec<RolloutReport>) -> Result<Said, ProposeError> {
        let standing = self.standing();
        match standing.is_leader && self.rollouts.handle_reports(reports) {
            true => Ok(Said::Done),
            // One that has just begun to lead opens its book in a moment.
            false => Err(ProposeError::NoLeader(standing.leader.filter(|_| !standing.is_leader))),
        }
    }

    /// Returns what was measured, kept while this server leads.
    pub(crate) fn rollouts(&self) -> &RolloutBook {
        &self.rollouts
    }
}
