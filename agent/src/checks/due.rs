//! Which check is due when: the one timer of all checks.

use std::collections::BTreeSet;
use std::time::Instant;

use weft_core::name::CheckId;

/// The moments at which checks want to be called, soonest first.
///
/// **Shape**: at most one moment for each check; who changes it hands in the one before.
#[derive(Debug, Default)]
pub(super) struct Due(BTreeSet<(Instant, CheckId)>);

impl Due {
    /// Moves a check from the moment it had to the one it wants now.
    pub(super) fn replace(
        &mut self,
        id: &CheckId,
        before: &mut Option<Instant>,
        now_wanted: Option<Instant>,
    ) {
        if *before == now_wanted {
            return;
        }
        if let Some(at) = before.take() {
            self.0.remove(&(at, id.clone()));
        }
        if let Some(at) = now_wanted {
            self.0.insert((at, id.clone()));
        }
        *before = now_wanted;
    }

    /// Returns the soonest moment.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Returns a check whose moment has come.
    pub(super) fn take(&self, now: Instant) -> Option<CheckId> {
        self.0.first().filter(|(at, _)| *at <= now).map(|(_, id)| id.clone())
    }
}
