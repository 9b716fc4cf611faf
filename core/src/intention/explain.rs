//! Verdicts in words, for refusals, logs and `intention check`.

use super::{IntentionSet, Verdict};
use crate::config_entry::IntentionAction;
use crate::identity::{SpiffeId, Workload};
use crate::name::ServiceName;

impl IntentionSet {
    /// Says in one line what is decided about a call between two services, and why.
    pub fn explain(&self, source: &ServiceName, destination: &ServiceName) -> String {
        match self.evaluate(source) {
            Verdict { allowed, by: Some(by) } => {
                let (from, to, precedence) = (&by.source, &by.destination, by.precedence);
                let (outcome, word) = match allowed {
                    true => ("allowed", "allows"),
                    false => ("denied", "denies"),
                };
                let rule = format!("intention {from} → {to} {word} it (precedence {precedence})");
                match from.as_str() == source.as_str() && to.as_str() == destination.as_str() {
                    true => format!("{outcome}: {rule}"),
                    false => format!("{outcome}: {rule}, asked for {source} → {destination}"),
                }
            }
            Verdict { allowed, by: None } => {
                let outcome = if allowed { "allowed" } else { "denied" };
                let default = match self.default_action {
                    IntentionAction::Allow => "allow",
                    IntentionAction::Deny => "deny",
                };
                format!(
                    "{outcome}: no intention matches {source} → {destination} and the default is \
                     {default}"
                )
            }
        }
    }

    /// Says in one line what is decided about a call by the holder of a certificate, and why.
    pub fn explain_identity(&self, source: &SpiffeId, destination: &ServiceName) -> String {
        match &source.workload {
            Workload::Service(name) => self.explain(name, destination),
            Workload::Agent(_) | Workload::Server(_) => {
                format!("denied: {source} is not a service, and only services call {destination}")
            }
        }
    }
}
