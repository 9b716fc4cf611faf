//! Which of many rules a path can meet at all, found without asking each: permissions of an intention,
//! routes of a router.

/// With fewer rules each is asked: finding out which would take longer. In tests of this
/// crate nearly all sets of rules have an index, so that it is held against the reference evaluators.
const WORTH: usize = if cfg!(test) { 2 } else { 16 };

/// Rules by what they want of paths.
#[derive(Debug)]
pub(crate) struct PathIndex {
    /// Those that say nothing of the path, or want what cannot be looked up.
    open: Vec<usize>,
    /// Those that want a path, by that.
    exact: Vec<(Box<[u8]>, Vec<usize>)>,
    /// Those that want a beginning, by that.
    prefixes: Vec<Prefix>,
}

#[derive(Debug)]
struct Prefix {
    text: Box<[u8]>,
    /// The place of the longest other one that this one begins with.
    within: Option<usize>,
    rules: Vec<usize>,
}

/// What a rule wants of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// Nothing, or what cannot be looked up: a pattern, a text in any case.
    Any,
    /// This path.
    Exact(&'a [u8]),
    /// A path that begins so.
    Prefix(&'a [u8]),
}

impl PathIndex {
    /// Makes an index of rules, in their order, if there are enough for one.
    pub(crate) fn of<'a>(rules: impl ExactSizeIterator<Item = Wanted<'a>>) -> Option<Self> {
        if rules.len() < WORTH {
            return None;
        }
        let (mut open, mut exact, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
        for (number, wanted) in rules.enumerate() {
            match wanted {
                Wanted::Any => open.push(number),
                Wanted::Exact(text) => exact.push((text, number)),
                Wanted::Prefix(text) => prefixes.push((text, number)),
            }
        }
        let exact = grouped(exact);
        let mut ordered: Vec<Prefix> = Vec::new();
        for (text, rules) in grouped(prefixes) {
            // All that this one begins with lie on the way from the one before it upwards.
            let mut within = ordered.len().checked_sub(1);
            while let Some(at) = within.filter(|at| !text.starts_with(&ordered[*at].text)) {
                within = ordered[at].within;
            }
            ordered.push(Prefix { text, within, rules });
        }
        Some(Self { open, exact, prefixes: ordered })
    }

    /// Returns the numbers of the rules that some reading of a path can meet, in order.
    pub(crate) fn candidates<'a>(&self, readings: impl Iterator<Item = &'a [u8]>) -> Vec<usize> {
        let mut found = self.open.clone();
        for path in readings {
            if let Ok(at) = self.exact.binary_search_by(|(text, _)| (**text).cmp(path)) {
                found.extend(&self.exact[at].1);
            }
            // What the path begins with is what its predecessor is or begins with.
            let after = self.prefixes.partition_point(|prefix| *prefix.text <= *path);
            let mut at = after.checked_sub(1);
            while let Some(prefix) = at.map(|at| &self.prefixes[at]) {
                if path.starts_with(&prefix.text) {
                    found.extend(&prefix.rules);
                }
                at = prefix.within;
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Puts numbers under their texts, in the order of the texts.
fn grouped(mut all: Vec<(&[u8], usize)>) -> Vec<(Box<[u8]>, Vec<usize>)> {
    all.sort_unstable();
    let groups = all.chunk_by(|one, other| one.0 == other.0);
    groups
        .map(|group| (group[0].0.into(), group.iter().map(|(_, number)| *number).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted<'a>(kind: &str, text: &'a str) -> Wanted<'a> {
        match kind {
            "exact" => Wanted::Exact(text.as_bytes()),
            "prefix" => Wanted::Prefix(text.as_bytes()),
            _ => Wanted::Any,
        }
    }

    #[test]
    fn few_rules_need_no_index_and_more_have_one() {
        let those = |count| (0..count).map(|_| Wanted::Exact(b"/a"));
        assert!(PathIndex::of(those(WORTH - 1)).is_none());
        assert!(PathIndex::of(those(WORTH)).is_some());
    }

    proptest! {
        /// Nothing that could be met is left out, and nothing but that is asked.
        #[test]
        fn candidates_are_those_whose_path_condition_some_reading_meets(
            rules in prop::collection::vec(
                ("(exact|prefix|any)", "(/[ab;]{0,2}){1,4}"), WORTH..60,
            ),
            readings in prop::collection::vec("(/[ab;]{0,2}){1,5}", 1..3),
        ) {
            let index = PathIndex::of(rules.iter().map(|(kind, text)| wanted(kind, text)));
            let index = index.expect("enough rules");
            let is_met = |(kind, text): &(String, String)| {
                readings.iter().any(|path| match wanted(kind, text) {
                    Wanted::Exact(text) => path.as_bytes() == text,
                    Wanted::Prefix(text) => path.as_bytes().starts_with(text),
                    Wanted::Any => true,
                })
            };
            let numbers = rules.iter().enumerate().filter(|(_, one)| is_met(one));
            let expected: Vec<usize> = numbers.map(|(number, _)| number).collect();
            prop_assert_eq!(index.candidates(readings.iter().map(String::as_bytes)), expected);
        }
    }
}
