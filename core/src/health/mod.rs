//! What the results of a health check come to. Probing is `agent::checks`' affair.
//!
//! [`CheckState`] judges the runs of a probe, [`TtlState`] what an application reports of
//! itself; both tell status changes, and when a service has been critical for too long.

mod check_state;
mod retire;
mod shares;
mod ttl;

use crate::catalog::CheckStatus;

pub use check_state::{CheckPolicy, CheckState};
pub use shares::worker_of;
pub use ttl::{TtlPolicy, TtlState};

/// What the driver of a check has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckAction {
    /// Deregister the service that the check speaks of: it was critical for too long.
    Deregister,
    /// Set status and output of the check.
    Report {
        /// How it stands now.
        status: CheckStatus,
        /// What the last run said, cut to the policy's size.
        output: String,
    },
    /// Probe once and hand the result to `handle_result`.
    Run,
}

/// Cuts a text to at most `bytes_max`, at a character's border.
///
/// The end is kept, as that is where programs say why they failed.
pub fn cut_output(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let mut from = text.len() - bytes_max;
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text.drain(..from);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_at_a_characters_border() {
        for (text, bytes_max, kept) in [
            ("abcdef", 6, "abcdef"),
            ("abcdef", 3, "def"),
            ("aéé", 3, "é"),
            ("é", 1, ""),
            ("", 0, ""),
        ] {
            assert_eq!(cut_output(text.to_owned(), bytes_max), kept, "{text:?} at {bytes_max}");
        }
    }
}
