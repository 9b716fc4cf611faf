//! May this caller do that? Asked when a connection comes in and again for each request; a
//! verdict is kept until the workload changes.

use weft_core::identity::SpiffeId;
use weft_core::intention::IntentionSet;
use weft_core::name::ServiceName;

use crate::http::Refusal;

/// Whether a caller may call the local instance.
pub(crate) fn is_allowed(intentions: &IntentionSet, caller: &ServiceName) -> bool {
    intentions.evaluate(caller).allowed
}

/// Explains a refusal to the caller: who asked for what, which rule refused, and what to do.
pub(super) fn refusal(
    intentions: &IntentionSet,
    caller: &SpiffeId,
    service: &ServiceName,
) -> Refusal {
    let name = caller.service_name().map_or("", ServiceName::as_str);
    let why = intentions.explain_identity(caller, service);
    let message = format!(
        "{caller} must not call {service}. {why}. To allow it, write a service-intentions entry \
         for {service} with the source {name} and the action allow."
    );
    Refusal::new(403, "intention-denied", message)
}
