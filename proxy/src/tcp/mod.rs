//! Bytes both ways, with half-close and idle time.

mod copy;

pub(crate) use copy::{copy_both, tunnel};
