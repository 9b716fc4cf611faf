//! May this caller do that? Asked when a connection comes in and again for each request; a
//! verdict is kept until the workload changes.

use weft_core::config_entry::IntentionAction;
use weft_core::config_entry::SourceName;
use weft_core::identity::SpiffeId;
use weft_core::intention::IntentionSet;
use weft_core::name::ServiceName;

use crate::http::Refusal;

/// What intentions say about one caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) is_allowed: bool,
    /// The rule that decided, in words.
    pub(crate) by: String,
}

/// Judges a caller.
pub(crate) fn judge(intentions: &IntentionSet, caller: &ServiceName) -> Verdict {
    let matching = intentions.intentions.iter().find(|intention| match &intention.source {
        SourceName::Any => true,
        SourceName::Service(name) => name == caller,
    });
    match matching {
        Some(rule) => Verdict {
            is_allowed: rule.action == IntentionAction::Allow,
            by: format!(
                "intention {} => {} (precedence {})",
                rule.source, rule.destination, rule.precedence
            ),
        },
        None => Verdict {
            is_allowed: intentions.default_action == IntentionAction::Allow,
            by: "the default, as no intention names the caller".to_owned(),
        },
    }
}

/// Explains a refusal to the caller: who asked for what, which rule refused, and what to do.
pub(super) fn refusal(caller: &SpiffeId, service: &ServiceName, verdict: &Verdict) -> Refusal {
    let name = caller.service_name().map_or("", ServiceName::as_str);
    let message = format!(
        "{caller} must not call {service}: denied by {}. To allow it, write a service-intentions \
         entry for {service} with the source {name} and the action allow.",
        verdict.by
    );
    Refusal::new(403, "intention-denied", message)
}
