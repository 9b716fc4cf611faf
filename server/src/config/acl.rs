//! The `acl` section of a server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_core::acl::DefaultPolicy;
use weft_proto::text::Fault;

use crate::acl::Secret;

/// The `acl` section: who may do what over the HTTP API.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AclSection {
    /// Whether tokens are asked for; `false` when left out.
    pub enabled: Option<bool>,
    /// What is done when no rule speaks of a thing: `allow` or `deny`; `deny` when left out.
    pub default_policy: Option<String>,
    /// Whether listing keys needs the right `list`; `false` when left out: lists show what may be
    /// read.
    pub enable_key_list_policy: Option<bool>,
    /// Tokens that the server is given.
    pub tokens: AclTokensSection,
}

/// The `acl.tokens` section of a server.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AclTokensSection {
    /// A file with the secret of the first management token, a UUID; `weft acl bootstrap` makes
    /// one when left out. The secret itself is no setting, as those are shown.
    pub initial_management_file: Option<PathBuf>,
}

/// Who may do what, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclConfig {
    /// Whether tokens are asked for.
    pub enabled: bool,
    /// What is done when no rule speaks of a thing.
    pub default_policy: DefaultPolicy,
    /// Whether listing keys needs the right `list`.
    pub enable_key_list_policy: bool,
    /// The secret of the first management token.
    pub initial_management: Option<Secret>,
}

impl AclConfig {
    /// Returns the secret of the management token that the leader is to make.
    pub(crate) fn first_token(&self) -> Option<Secret> {
        self.initial_management.clone().filter(|_| self.enabled)
    }
}

impl Default for AclConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            default_policy: DefaultPolicy::Deny,
            enable_key_list_policy: false,
            initial_management: None,
        }
    }
}

/// Checks the section; what is wrong is added to the faults.
pub(super) fn resolve(section: AclSection, faults: &mut Vec<Fault>) -> AclConfig {
    let default_policy = match section.default_policy.as_deref() {
        None | Some("deny") => DefaultPolicy::Deny,
        Some("allow") => DefaultPolicy::Allow,
        Some(other) => {
            let reason = format!("{other:?} is neither allow nor deny");
            faults.push(Fault::new("acl.default_policy", reason));
            DefaultPolicy::Deny
        }
    };
    let file = section.tokens.initial_management_file;
    AclConfig {
        enabled: section.enabled.unwrap_or_default(),
        default_policy,
        enable_key_list_policy: section.enable_key_list_policy.unwrap_or_default(),
        initial_management: file.and_then(|path| secret(path, faults)),
    }
}

fn secret(path: PathBuf, faults: &mut Vec<Fault>) -> Option<Secret> {
    const FIELD: &str = "acl.tokens.initial_management_file";
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            faults.push(Fault::new(FIELD, format!("cannot read {path:?}: {error}")));
            return None;
        }
    };
    // A secret that can be guessed is none; the form of a UUID makes that unlikely.
    if weft_core::acl::AccessorId::parse(text.trim()).is_err() {
        let reason = format!("{path:?} must hold a UUID, as `uuidgen` writes one");
        faults.push(Fault::new(FIELD, reason));
        return None;
    }
    Secret::new(&text)
}
