//! Where the proxy stands in its life, for those who ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// It serves, or will once it has a configuration.
const SERVES: u8 = 0;
/// It was told to end, and takes nobody new.
const DRAINS: u8 = 1;
/// Another process serves in its place.
const REPLACED: u8 = 2;

/// Where the proxy stands. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: AtomicU8,
    generation: AtomicU64,
}

impl Standing {
    /// Notes that it was told to end. A process that was replaced stays so.
    pub(crate) fn drain(&self) {
        let state = &self.0.state;
        let _ = state.compare_exchange(SERVES, DRAINS, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Notes that another process serves now.
    pub(crate) fn replace(&self) {
        self.0.state.store(REPLACED, Ordering::SeqCst);
    }

    /// Whether it was told to end, or replaced.
    pub(crate) fn is_ending(&self) -> bool {
        self.0.state.load(Ordering::SeqCst) != SERVES
    }

    /// Whether another process serves in its place.
    pub(crate) fn is_replaced(&self) -> bool {
        self.0.state.load(Ordering::SeqCst) == REPLACED
    }

    /// Notes how many processes had these listeners before.
    pub(crate) fn follows(&self, generation: u64) {
        self.0.generation.store(generation, Ordering::SeqCst);
    }

    /// Returns how many processes had these listeners before.
    pub(crate) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::SeqCst)
    }

    /// Returns it in a word, for people.
    pub(crate) fn word(&self) -> &'static str {
        match self.0.state.load(Ordering::SeqCst) {
            SERVES => "serving",
            DRAINS => "draining",
            _ => "replaced",
        }
    }
}
