//! A body that goes on slowly because its route says so.

use std::task::{Context, Poll};

use weft_core::traffic::{Pass, Throttle};
use weft_runtime::clock;

use crate::transport::Timer;

/// What keeps a body back.
#[derive(Debug)]
pub(crate) struct Slowed {
    throttle: Throttle,
    timer: Timer,
    passed: u64,
}

impl Slowed {
    /// Makes that of a body that has not begun.
    pub(super) fn new(throttle: Throttle) -> Self {
        Self { throttle, timer: Timer::default(), passed: 0 }
    }

    /// Ready with how many of so many bytes may go on.
    pub(super) fn poll_allowed(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<usize> {
        loop {
            match self.throttle.handle_asked(clock::instant()) {
                Pass::Bytes(allowed) => {
                    let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
                    return Poll::Ready(bytes.min(allowed));
                }
                Pass::NotBefore(at) => std::task::ready!(self.timer.poll_past(cx, at)),
            }
        }
    }

    /// Takes note that bytes have gone on.
    pub(super) fn pass(&mut self, bytes: usize) {
        self.throttle.handle_passed(bytes as u64);
        self.passed += bytes as u64;
    }

    /// Returns how many have.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }
}
