//! When a root takes the place of another, and when the other is trusted no more.
//!
//! Keys and certificates are made in `server::ca`; time comes with the command.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::root::{CaRoot, KeyKind, RootSource};
use super::settings::CaSettings;
use super::vault::VaultAccess;
use crate::index::Index;
use crate::time::{Span, Timestamp};

/// A change of the CA, decided on a state that must not have changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaChange {
    /// What [`crate::state::State::ca_index`] said when the change was decided.
    pub seen: Index,
    /// The settings from now on; their indexes are ignored.
    pub settings: CaSettings,
    /// The root from now on; `None` leaves the active one. One with the fingerprint of the active
    /// root only changes who signs under it.
    pub root: Option<CaRoot>,
    /// How long the root before stays trusted.
    pub overlap: Span,
}

/// Which root is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// One of an operator.
    Given {
        /// Its fingerprint.
        fingerprint: &'a str,
        /// The intermediate with its chain when the root's key is not given.
        chain_pem: Option<&'a str>,
    },
    /// One that we make or have made; any kind of key where none is named.
    Made(Option<KeyKind>),
    /// That of Vault.
    Vault {
        /// Its fingerprint.
        fingerprint: &'a str,
        /// How it is reached.
        access: &'a VaultAccess,
    },
}

/// What is to be done about the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// The root stays; who signs under it changes.
    Update,
    /// Another root takes its place.
    Replace,
}

/// Decides what is to be done about the active root.
pub fn step(active: &CaRoot, wanted: Wanted<'_>) -> Step {
    match wanted {
        // What was given before is not shown, and so is not written back: it stays.
        Wanted::Made(kind) => match &active.source {
            RootSource::Vault(_) => Step::Replace,
            RootSource::BuiltIn | RootSource::Given | RootSource::Intermediate { .. } => {
                if kind.is_none_or(|kind| kind == active.key_kind) {
                    Step::Keep
                } else {
                    Step::Replace
                }
            }
        },
        Wanted::Given { fingerprint, .. } | Wanted::Vault { fingerprint, .. }
            if fingerprint != active.fingerprint =>
        {
            Step::Replace
        }
        Wanted::Given { chain_pem, .. } => match (&active.source, chain_pem) {
            (RootSource::BuiltIn | RootSource::Given, None) => Step::Keep,
            (RootSource::Intermediate { chain_pem: present }, Some(chain)) if present == chain => {
                Step::Keep
            }
            (
                RootSource::BuiltIn
                | RootSource::Given
                | RootSource::Intermediate { .. }
                | RootSource::Vault(_),
                _,
            ) => Step::Update,
        },
        // The secret may be another one.
        Wanted::Vault { .. } => Step::Update,
    }
}

/// Decides whether a root can sign another one's key for those who do not know it yet.
///
/// # Errors
/// Why not, in words.
pub fn can_cross_sign(root: &CaRoot) -> Result<(), String> {
    match &root.source {
        RootSource::BuiltIn | RootSource::Given | RootSource::Vault(_)
            if root.sealed_key.is_empty() && !matches!(&root.source, RootSource::Vault(_)) =>
        {
            Err(format!("the key of root {:?} is not known", root.name))
        }
        RootSource::BuiltIn | RootSource::Given | RootSource::Vault(_) => Ok(()),
        RootSource::Intermediate { .. } => Err(format!(
            "only an intermediate of root {:?} was given, and the root's own key is needed",
            root.name
        )),
    }
}

/// Decides whether a root that we made is replaced because of its age: past two thirds of its
/// life, so that what is signed under it is never cut short.
pub fn is_root_due(root: &CaRoot, now: Timestamp) -> bool {
    let whole = root.valid_before.since(root.valid_after);
    match &root.source {
        RootSource::BuiltIn => root.valid_before.since(now) <= whole / 3,
        // Those of others are replaced by their owners.
        RootSource::Given | RootSource::Intermediate { .. } | RootSource::Vault(_) => false,
    }
}

/// Returns when the next root is trusted no more; `None` when all stay.
pub fn prune_due(roots: &[Arc<CaRoot>]) -> Option<Timestamp> {
    roots.iter().filter(|root| !root.active).filter_map(|root| root.trusted_until).min()
}

#[cfg(test)]
mod tests;
