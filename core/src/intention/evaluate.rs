//! May A call B: the first intention that matches decides, or one that denies.

use super::{Intention, IntentionSet};
use crate::config_entry::IntentionAction;
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
        let mut matching = self.matching(source).peekable();
        let first = matching.peek().copied();
        let (mut outright, mut by_request) = (None, None);
        for intention in matching.filter(|intention| !intention.dry_run) {
            if intention.denies_all() {
                outright = outright.or(Some(intention));
            } else if intention.permissions.iter().any(|it| it.action == IntentionAction::Deny) {
                by_request = by_request.or(Some(intention));
            }
        }
        let by = outright.or_else(|| match first {
            // What it would refuse itself comes before what others may refuse of it.
            Some(first) if !first.dry_run && first.is_by_request() => Some(first),
            _ => by_request.or(first),
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

impl Intention {
    /// Whether it denies all calls of its source.
    pub(super) fn denies_all(&self) -> bool {
        self.action == IntentionAction::Deny && self.permissions.is_empty()
    }

    /// Whether what it does depends on the request.
    fn is_by_request(&self) -> bool {
        self.jwt.is_some() || !self.permissions.is_empty()
    }
}
