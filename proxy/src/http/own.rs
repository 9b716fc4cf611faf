//! What a request gets without any service, or before it goes to one, as its route says.

use std::time::Duration;

use super::refusal::Refusal;

/// The part of a request that is the proxy's own.
#[derive(Debug)]
pub(crate) struct Own {
    /// How long it waits first.
    pub(crate) delay: Option<Duration>,
    /// What it gets in place of an answer; `None` where it goes on.
    pub(crate) answer: Option<Refusal>,
}
