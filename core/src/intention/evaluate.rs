//! May A call B: the first intention that matches decides.

use super::{Intention, IntentionSet};
use crate::config_entry::{IntentionAction, SourceName};
use crate::identity::{SpiffeId, Workload};
use crate::name::ServiceName;

/// What was decided about one caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// Whether the call is let through.
    pub allowed: bool,
    /// The intention that decided, `None` for the default and for callers that are no service.
    pub by: Option<&'a Intention>,
}

impl IntentionSet {
    /// Judges a call by a service as a whole: where requests are judged one by one, it is denied.
    pub fn evaluate(&self, source: &ServiceName) -> Verdict<'_> {
        let by = self.intentions.iter().find(|intention| match &intention.source {
            SourceName::Any => true,
            SourceName::Service(name) => name == source,
        });
        let action = by.map_or(self.default_action, |intention| match intention.jwt {
            Some(_) => IntentionAction::Deny,
            None => intention.action,
        });
        let is_dry_run = by.is_some_and(|intention| intention.dry_run);
        Verdict { allowed: action == IntentionAction::Allow || is_dry_run, by }
    }

    /// Judges a call by the holder of a certificate.
    ///
    /// Agents and servers call no services: they are refused whatever the default is. That the
    /// identity is of our mesh is for TLS to ensure.
    pub fn evaluate_identity(&self, source: &SpiffeId) -> Verdict<'_> {
        match &source.workload {
            Workload::Service(name) => self.evaluate(name),
            Workload::Agent(_) | Workload::Server(_) => Verdict { allowed: false, by: None },
        }
    }
}
