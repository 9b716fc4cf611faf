//! Files and sockets that the process may have open, and what happens at the last of them.
//!
//! The kernel gives each new one the lowest number that is free, so a number tells how many are
//! in use, without counting. Some are kept free: for connections onwards, for the admin
//! interface and for the agent.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsRawFd;

/// The part that is kept free of callers, one in this many, for connections onwards.
const ONWARDS_SHARE: u64 = 4;
/// But no more than this.
const ONWARDS_MAX: u64 = 1024;
/// Kept free of callers and connections onwards: for those who look after the proxy.
const OTHERS: u64 = 32;

/// What one worker knows about descriptors.
#[derive(Debug)]
pub(crate) struct Descriptors {
    callers_below: u64,
    onwards_below: u64,
    /// Given up for a moment to refuse a caller when there are none left at all.
    reserve: RefCell<Option<File>>,
}

impl Descriptors {
    /// Shares out as many as the process may have.
    pub(super) fn new(max: u64) -> Self {
        let onwards_below = max.saturating_sub(OTHERS).max(max / 2);
        let callers_below = onwards_below - (onwards_below / ONWARDS_SHARE).min(ONWARDS_MAX);
        Self { callers_below, onwards_below, reserve: RefCell::new(open_reserve()) }
    }

    /// Whether there is room for a caller who has come with this socket.
    pub(super) fn has_room_for_caller(&self, socket: &impl AsRawFd) -> bool {
        is_below(socket, self.callers_below)
    }

    /// Whether there is room for a connection onwards, which is this socket.
    pub(crate) fn has_room_onwards(&self, socket: &impl AsRawFd) -> bool {
        is_below(socket, self.onwards_below)
    }

    /// Gives up the reserve, so that one caller can be told.
    pub(super) fn give_up_reserve(&self) {
        self.reserve.borrow_mut().take();
    }

    /// Takes the reserve back.
    pub(super) fn take_reserve(&self) {
        let mut reserve = self.reserve.borrow_mut();
        if reserve.is_none() {
            *reserve = open_reserve();
        }
    }
}

fn is_below(socket: &impl AsRawFd, limit: u64) -> bool {
    u64::try_from(socket.as_raw_fd()).is_ok_and(|number| number < limit)
}

fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_kept_for_connections_onwards_and_some_for_others() {
        for (max, callers, onwards) in [
            (64, 24, 32),
            (256, 168, 224),
            (1024, 744, 992),
            (65_536, 64_480, 65_504),
            (u64::MAX, u64::MAX - 32 - 1024, u64::MAX - 32),
        ] {
            let descriptors = Descriptors::new(max);
            assert_eq!(
                (descriptors.callers_below, descriptors.onwards_below),
                (callers, onwards),
                "{max}"
            );
        }
    }
}
