//! Who may call whom: intentions of one destination, in the order in which they decide.
//!
//! Enforcement on connections is the proxy's.

mod call;
mod carried;
mod compile;
mod evaluate;
mod explain;
mod lint;
mod permission;
#[cfg(test)]
mod permission_tests;
#[cfg(test)]
mod precedence_tests;
pub(crate) mod server_name;
#[cfg(test)]
mod tests;
mod token;
#[cfg(test)]
mod token_tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use call::{Asked, Call};
pub use carried::{Carried, Place, carried, without_cookie, without_parameter};
pub use compile::{Cause, Judge, Judgement, Standing};
pub use evaluate::Verdict;
pub use explain::in_words;
pub use lint::{IntentionFinding, Surroundings, lint};
pub use permission::Unreadable;
pub use token::{
    Token, TokenFault, TokenState, TokenWant, claim_text, judge_claims, keys_kept_for,
};

use crate::config_entry::{
    EntryKey, EntryKind, IntentionAction, IntentionJwt, IntentionPermission, IntentionPrecedence,
    JwtProvider, Mesh, ServiceIntentions, SourceName, precedence,
};
use crate::name::ServiceName;

/// All intentions that concern one destination, and what happens when none does.
///
/// **Shape**: by falling precedence, so that the first one that matches decides; each source
/// once, unless denials override.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentionSet {
    /// The intentions.
    pub intentions: Vec<Intention>,
    /// What is done when none matches.
    pub default_action: IntentionAction,
    /// Which one decides where several match.
    #[serde(default, skip_serializing_if = "is_first_match")]
    pub precedence: IntentionPrecedence,
    /// The providers of the tokens that they ask for, by name; those that are not there are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<JwtProvider>,
}

/// One source's standing with one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intention {
    /// The caller.
    pub source: SourceName,
    /// The destination as written: the service itself or `*`.
    pub destination: SourceName,
    /// What is done, as far as that does not depend on the request: with permissions, deny.
    pub action: IntentionAction,
    /// What is done by the content of a call; empty when `action` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<IntentionPermission>,
    /// A token without which nothing is let through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<IntentionJwt>,
    /// Whether what would be refused is let through, and only counted and logged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// From 9 to 5.
    ///
    /// **Source**: Consul: docs/connect/intentions#precedence-and-match-order.
    pub precedence: u8,
}

fn is_first_match(precedence: &IntentionPrecedence) -> bool {
    *precedence == IntentionPrecedence::FirstMatch
}

impl IntentionSet {
    /// Returns the keys of the entries that concern a destination: its own and the wildcard's,
    /// and the one that says which of their intentions decides.
    pub fn reads(destination: &ServiceName) -> [EntryKey; 3] {
        let of = |name| EntryKey::new(EntryKind::ServiceIntentions, name);
        let mesh = EntryKey::new(EntryKind::Mesh, Mesh::NAME);
        [of(destination.as_str()), of("*"), mesh]
    }

    /// Puts together what concerns a destination; entries of other destinations are passed over.
    ///
    /// An intention hides those of lower precedence with the same source, unless denials override;
    /// intentions of equal precedence stand by the names of their sources.
    ///
    /// **Source**: Consul: docs/connect/intentions#precedence-and-match-order.
    pub fn for_destination<'a>(
        destination: &ServiceName,
        entries: impl IntoIterator<Item = &'a ServiceIntentions>,
        (precedes, default_action): (IntentionPrecedence, IntentionAction),
    ) -> Self {
        let concerns = |entry: &&ServiceIntentions| match &entry.name {
            SourceName::Any => true,
            SourceName::Service(name) => name == destination,
        };
        let of_entry = |entry: &'a ServiceIntentions| {
            entry.sources.iter().map(|source| Intention {
                source: source.name.clone(),
                destination: entry.name.clone(),
                action: match source.permissions.is_empty() {
                    true => source.action.unwrap_or(IntentionAction::Deny),
                    false => IntentionAction::Deny,
                },
                permissions: source.permissions.clone(),
                jwt: entry.jwt.clone(),
                dry_run: source.dry_run,
                precedence: precedence(&source.name, &entry.name),
            })
        };
        let mut intentions: Vec<Intention> =
            entries.into_iter().filter(concerns).flat_map(of_entry).collect();
        // The same source by falling precedence, so that the first one hides the others; a
        // source given twice in one entry, which no stored entry has, counts as its denial.
        intentions.sort_by(|a, b| {
            (&a.source, b.precedence, b.action).cmp(&(&b.source, a.precedence, a.action))
        });
        match precedes {
            IntentionPrecedence::DenyOverrides => {}
            IntentionPrecedence::FirstMatch => {
                intentions.dedup_by(|lower, higher| lower.source == higher.source);
            }
        }
        intentions.sort_by(|a, b| (b.precedence, &a.source).cmp(&(a.precedence, &b.source)));
        Self { intentions, default_action, precedence: precedes, providers: Vec::new() }
    }

    /// Adds the providers of the tokens that its intentions ask for.
    #[must_use]
    pub fn with_providers<'a>(
        mut self,
        find: impl Fn(&ServiceName) -> Option<&'a JwtProvider>,
    ) -> Self {
        let names: BTreeSet<&ServiceName> =
            self.intentions.iter().flat_map(Intention::asks_tokens_of).collect();
        self.providers = names.into_iter().filter_map(find).cloned().collect();
        self
    }

    /// Returns those that are for a caller, in order; where the first decides, only that one.
    pub(crate) fn matching(&self, source: &ServiceName) -> impl Iterator<Item = &Intention> {
        let count = match self.precedence {
            IntentionPrecedence::DenyOverrides => usize::MAX,
            IntentionPrecedence::FirstMatch => 1,
        };
        let is_for = move |intention: &&Intention| match &intention.source {
            SourceName::Any => true,
            SourceName::Service(name) => name == source,
        };
        self.intentions.iter().filter(is_for).take(count)
    }
}

impl Intention {
    /// Returns the providers of whom it asks for tokens, some of them several times.
    pub fn asks_tokens_of(&self) -> impl Iterator<Item = &ServiceName> {
        let of_permissions = self.permissions.iter().filter_map(|it| it.jwt.as_ref());
        let asked = self.jwt.iter().chain(of_permissions).flat_map(|jwt| &jwt.providers);
        asked.map(|provider| &provider.name)
    }
}
