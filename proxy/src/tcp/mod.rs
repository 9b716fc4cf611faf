//! Bytes both ways, with half-close and idle time.

mod copy;

pub(crate) use copy::{Tally, copy_both, tunnel};
