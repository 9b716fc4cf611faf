//! Changes to headers as routes and legs want them, prepared when the table is compiled.

use crate::config_entry::HeaderChanges;
use crate::log_format::{HeaderForm, HeaderSide};

/// Changes to the headers of requests, or of answers.
///
/// **Shape**: names in lower case; what is removed is removed before the rest is added.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct HeaderEdits {
    removed: Vec<Box<str>>,
    added: Vec<(Box<str>, HeaderForm)>,
}

impl HeaderEdits {
    /// Prepares several changes, the later ones to what the earlier ones leave. What no entry may
    /// change is passed over.
    pub fn compile<'a>(
        side: HeaderSide,
        changes: impl IntoIterator<Item = &'a HeaderChanges>,
    ) -> Self {
        let mut edits = Self::default();
        for changes in changes {
            changes.remove.iter().for_each(|name| edits.remove(name));
            for (name, value) in &changes.set {
                edits.remove(name);
                edits.add(side, name, value);
            }
            changes.add.iter().for_each(|(name, value)| edits.add(side, name, value));
        }
        edits
    }

    fn remove(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        self.added.retain(|(added, _)| **added != *name);
        if HeaderChanges::may_change(&name) && !self.removes(name.as_bytes()) {
            self.removed.push(name.into());
        }
    }

    fn add(&mut self, side: HeaderSide, name: &str, value: &str) {
        if let Ok(form) = HeaderForm::parse(side, value)
            && HeaderChanges::may_change(name)
        {
            self.added.push((name.to_ascii_lowercase().into(), form));
        }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    fn removes(&self, name: &[u8]) -> bool {
        self.removed.iter().any(|removed| removed.as_bytes().eq_ignore_ascii_case(name))
    }
}

/// What becomes of the headers of one message: what the route changes, and then the leg.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct HeaderPlan<'a> {
    route: Option<&'a HeaderEdits>,
    leg: Option<&'a HeaderEdits>,
}

impl<'a> HeaderPlan<'a> {
    pub(super) fn new(route: Option<&'a HeaderEdits>, leg: Option<&'a HeaderEdits>) -> Self {
        let some = |edits: Option<&'a HeaderEdits>| edits.filter(|edits| !edits.is_empty());
        Self { route: some(route), leg: some(leg) }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.route.is_none() && self.leg.is_none()
    }

    /// Whether a header that came does not go on.
    pub fn removes(&self, name: &[u8]) -> bool {
        self.edits().any(|edits| edits.removes(name))
    }

    /// Returns what is added: names in lower case, and values.
    pub fn added(&self) -> impl Iterator<Item = (&'a str, &'a HeaderForm)> + use<'a> {
        let leg = self.leg;
        let is_kept = move |name: &str| leg.is_none_or(|leg| !leg.removes(name.as_bytes()));
        let of_route = self.route.into_iter().flat_map(|edits| &edits.added);
        let of_route = of_route.filter(move |(name, _)| is_kept(name));
        let all = of_route.chain(leg.into_iter().flat_map(|edits| &edits.added));
        all.map(|(name, form)| (&**name, form))
    }

    /// Whether a value depends on the message.
    pub fn has_operators(&self) -> bool {
        self.edits().flat_map(|edits| &edits.added).any(|(_, form)| form.literal().is_none())
    }

    fn edits(&self) -> impl Iterator<Item = &'a HeaderEdits> + use<'a> {
        self.route.into_iter().chain(self.leg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(changes: &[serde_json::Value]) -> HeaderEdits {
        let read =
            |json: &serde_json::Value| serde_json::from_value(json.clone()).expect("changes");
        let changes: Vec<HeaderChanges> = changes.iter().map(read).collect();
        HeaderEdits::compile(HeaderSide::Request, &changes)
    }

    fn added(plan: HeaderPlan<'_>) -> Vec<String> {
        let shown =
            |(name, form): (&str, &HeaderForm)| format!("{name}={}", form.literal().unwrap_or("%"));
        plan.added().map(shown).collect()
    }

    #[test]
    fn later_changes_are_made_to_what_earlier_ones_leave() {
        use serde_json::json;
        let route = edits(&[json!({
            "Add": { "X-List": "a" }, "Set": { "X-One": "route", "x-two": "route" },
            "Remove": ["X-Gone"],
        })]);
        let leg = edits(&[
            json!({ "Set": { "x-one": "outer" }, "Add": { "x-list": "b" } }),
            json!({ "Set": { "X-ONE": "inner" }, "Remove": ["x-two"], "Add": { "x-list": "c" } }),
        ]);
        let plan = HeaderPlan::new(Some(&route), None);
        assert_eq!(added(plan), ["x-one=route", "x-two=route", "x-list=a"]);
        assert!(plan.removes(b"X-ONE") && plan.removes(b"x-gone") && !plan.removes(b"x-list"));
        let plan = HeaderPlan::new(Some(&route), Some(&leg));
        assert_eq!(added(plan), ["x-list=a", "x-list=b", "x-one=inner", "x-list=c"]);
        assert!(plan.removes(b"x-two") && plan.removes(b"x-gone"));
        assert!(!plan.has_operators() && !plan.is_empty());
        assert!(HeaderPlan::new(Some(&edits(&[])), None).is_empty());
    }

    #[test]
    fn what_no_entry_may_change_is_passed_over() {
        let edits = edits(&[serde_json::json!({
            "Set": { "Host": "other", "x_forwarded_client_cert": "me", "x-fine": "1" },
            "Add": { "transfer-encoding": "chunked", "x-bad": "50%" },
            "Remove": ["connection", "X-Weft-Cause"],
        })]);
        let plan = HeaderPlan::new(Some(&edits), None);
        assert_eq!(added(plan), ["x-fine=1"]);
        assert!(!plan.removes(b"host") && !plan.removes(b"connection"));
    }
}
