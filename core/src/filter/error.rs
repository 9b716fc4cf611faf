//! Why a text is not a filter.

/// States what is wrong with a filter expression, and where.
///
/// **Units**: `column` counts characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filter, column {column}: {reason}")]
pub struct FilterError {
    /// Where.
    pub column: usize,
    /// Why, and what to write instead.
    pub reason: String,
}

impl FilterError {
    pub(super) fn new(column: usize, reason: impl Into<String>) -> Self {
        Self { column, reason: reason.into() }
    }
}
