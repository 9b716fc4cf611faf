//! Bodies of requests that are copied while they go on.

use std::fmt;

/// Takes a copy of one body. Dropped before its end, it makes nothing of it.
pub(crate) trait BodyCopy: fmt::Debug {
    /// Takes a piece of the content.
    fn take(&mut self, content: &[u8]);

    /// That was all of it.
    fn end(self: Box<Self>);
}
