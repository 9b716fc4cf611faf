//! HTTP mechanics: the HTTP/1.1 fast path and the general engine. Choosing a target is
//! `outbound`'s affair.

mod exchange;
pub(crate) mod general;
pub(crate) mod h1;
mod pump;
mod refusal;
mod session;

pub(crate) use exchange::chain;
pub(crate) use refusal::Refusal;
pub(crate) use session::{Hop, Outcome, Reuse, Session};
