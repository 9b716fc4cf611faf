//! HTTP mechanics: the HTTP/1.1 fast path and the general engine. Choosing a target is
//! `outbound`'s affair.

mod body_copy;
mod changes;
mod edits;
mod exchange;
mod forwarded;
pub(crate) mod general;
pub(crate) mod h1;
mod held;
mod kept;
pub(crate) mod messages;
mod own;
mod pump;
mod refusal;
mod scripted;
mod session;
mod slowed;
mod watch;

pub(crate) use body_copy::BodyCopy;
pub(crate) use changes::Changes;
pub(crate) use edits::Edits;
pub(crate) use forwarded::{MADE_FIELDS_MAX, PROTO_HTTP, PROTO_HTTPS, from_outside};
pub(crate) use held::{Extent, Held, Holding};
pub(crate) use kept::{ATTEMPT_FIELD, CAUSE_FIELD, Told, UNREACHED_FIELD, answered, says_overload};
pub(crate) use own::Own;
pub(crate) use refusal::Refusal;
pub(crate) use scripted::Scripted;
pub(crate) use session::{Hop, Outcome, Reuse, Session};
pub(crate) use weft_runtime::telemetry::chain;
