//! The beginning of a request's body, held back until somebody who is shown it has answered. It goes
//! on as it came.

/// How much is held back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holding {
    pub(crate) bytes_max: usize,
    /// Whether the beginning of a longer one will do.
    pub(crate) allows_partial: bool,
}

/// What was held back, without framing.
#[derive(Debug, Default, Clone)]
pub(crate) struct Held {
    pub(crate) content: Vec<u8>,
    pub(crate) extent: Extent,
}

/// How much of a body that is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Its beginning.
    Partial,
    /// Not all of it, where all was wanted.
    TooLong,
    /// All of it.
    #[default]
    Whole,
}

impl Holding {
    /// Whether more of a body must be waited for, of which this much has come.
    pub(crate) fn wants_more(self, length: usize, is_whole: bool) -> bool {
        let is_full = match self.allows_partial {
            true => length >= self.bytes_max,
            false => length > self.bytes_max,
        };
        !is_whole && !is_full
    }

    /// Takes what has come once no more is waited for.
    pub(crate) fn held(self, mut content: Vec<u8>, is_whole: bool) -> Held {
        let fits = content.len() <= self.bytes_max;
        let extent = match (is_whole && fits, self.allows_partial) {
            (true, _) => Extent::Whole,
            (false, true) => Extent::Partial,
            (false, false) => Extent::TooLong,
        };
        content.truncate(self.bytes_max);
        Held { content, extent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_held_to_its_end_or_to_the_bound() {
        use Extent::{Partial, TooLong, Whole};
        for (allows_partial, came, is_whole, waits, extent) in [
            (false, 3, false, true, TooLong),
            (false, 4, false, true, TooLong),
            (false, 4, true, false, Whole),
            (false, 5, false, false, TooLong),
            (false, 5, true, false, TooLong),
            (true, 3, false, true, Partial),
            (true, 4, false, false, Partial),
            (true, 4, true, false, Whole),
            (true, 9, true, false, Partial),
        ] {
            let holding = Holding { bytes_max: 4, allows_partial };
            assert_eq!(holding.wants_more(came, is_whole), waits, "{allows_partial} {came}");
            let held = holding.held(vec![1; came], is_whole);
            assert_eq!((held.extent, held.content.len()), (extent, came.min(4)), "{came}");
        }
    }
}
