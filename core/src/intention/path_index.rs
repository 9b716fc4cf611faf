//! Which of many permissions a path can meet at all, found without asking each.

use super::permission::Permission;
use crate::canonical_path::CanonicalPath;

/// With fewer permissions each is asked: finding out which would take longer. In tests of this
/// crate nearly all rule sets have an index, so that it is held against the reference evaluator.
const WORTH: usize = if cfg!(test) { 2 } else { 16 };

/// The permissions of one intention by what they want of paths.
#[derive(Debug)]
pub(super) struct PathIndex {
    /// Those that say nothing of the path, or want a pattern.
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
    permissions: Vec<usize>,
}

impl PathIndex {
    /// Makes an index if there are enough permissions for one.
    pub(super) fn of(permissions: &[Permission]) -> Option<Self> {
        if permissions.len() < WORTH {
            return None;
        }
        let (mut open, mut exact, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
        for (number, permission) in permissions.iter().enumerate() {
            match permission.path() {
                Wanted::Any => open.push(number),
                Wanted::Exact(text) => exact.push((text, number)),
                Wanted::Prefix(text) => prefixes.push((text, number)),
            }
        }
        let exact = grouped(exact);
        let mut ordered: Vec<Prefix> = Vec::new();
        for (text, permissions) in grouped(prefixes) {
            // All that this one begins with lie on the way from the one before it upwards.
            let mut within = ordered.len().checked_sub(1);
            while let Some(at) = within.filter(|at| !text.starts_with(&ordered[*at].text)) {
                within = ordered[at].within;
            }
            ordered.push(Prefix { text, within, permissions });
        }
        Some(Self { open, exact, prefixes: ordered })
    }

    /// Returns the numbers of the permissions that some reading of the path can meet, in order.
    pub(super) fn candidates(&self, path: &CanonicalPath) -> Vec<usize> {
        let mut found = self.open.clone();
        for path in path.readings() {
            if let Ok(at) = self.exact.binary_search_by(|(text, _)| (**text).cmp(path)) {
                found.extend(&self.exact[at].1);
            }
            // What the path begins with is what its predecessor is or begins with.
            let after = self.prefixes.partition_point(|prefix| *prefix.text <= *path);
            let mut at = after.checked_sub(1);
            while let Some(prefix) = at.map(|at| &self.prefixes[at]) {
                if path.starts_with(&prefix.text) {
                    found.extend(&prefix.permissions);
                }
                at = prefix.within;
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// What a permission wants of a path.
pub(super) enum Wanted<'a> {
    Any,
    Exact(&'a [u8]),
    Prefix(&'a [u8]),
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
    use crate::config_entry::IntentionPermission;

    fn permission(kind: &str, path: &str) -> Permission {
        let http = match kind {
            "exact" => serde_json::json!({ "PathExact": path }),
            "prefix" => serde_json::json!({ "PathPrefix": path }),
            "regex" => serde_json::json!({ "PathRegex": format!("{path}.*") }),
            _ => serde_json::json!({ "Methods": ["GET"] }),
        };
        let permission = serde_json::json!({ "Action": "allow", "HTTP": http });
        let permission: IntentionPermission =
            serde_json::from_value(permission).expect("a permission");
        Permission::compile(&permission).unwrap_or_else(|_| panic!("it compiles"))
    }

    #[test]
    fn few_permissions_need_no_index_and_more_have_one() {
        let those = |count| (0..count).map(|_| permission("exact", "/a")).collect::<Vec<_>>();
        assert!(PathIndex::of(&those(WORTH - 1)).is_none());
        assert!(PathIndex::of(&those(WORTH)).is_some());
    }

    proptest! {
        /// Nothing that could be met is left out, and nothing but that is asked.
        #[test]
        fn candidates_are_those_whose_path_condition_some_reading_meets(
            wanted in prop::collection::vec(
                ("(exact|prefix|regex|none)", "(/[ab;]{0,2}){1,4}"), WORTH..60,
            ),
            path in "(/[ab;]{0,2}){1,5}",
        ) {
            let Ok(path) = CanonicalPath::parse(path.as_bytes()) else { return Ok(()) };
            let texts = |text: &str| crate::canonical_path::pattern(text).ok();
            let wanted: Vec<_> =
                wanted.into_iter().filter(|(_, text)| texts(text).is_some()).collect();
            let all: Vec<_> = wanted.iter().map(|(kind, text)| permission(kind, text)).collect();
            let Some(index) = PathIndex::of(&all) else { return Ok(()) };
            let is_met = |(kind, text): &(String, String)| {
                let text = texts(text).unwrap_or_default();
                path.readings().any(|path| match kind.as_str() {
                    "exact" => path == text,
                    "prefix" => path.starts_with(&text),
                    _ => true,
                })
            };
            let numbers = wanted.iter().enumerate().filter(|(_, one)| is_met(one));
            let expected: Vec<usize> = numbers.map(|(number, _)| number).collect();
            prop_assert_eq!(index.candidates(&path), expected);
        }
    }
}
