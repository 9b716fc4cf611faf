//! The `acl` section of an agent.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use weft_proto::text::Fault;

/// Bytes of a token's secret: ours have 36, those of logins some more.
const TOKEN_BYTES_MAX: usize = 1_024;

/// The `acl` section.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AclSection {
    /// Whether the mesh has ACLs. Agents learn it from servers; `true` closes the time before
    /// they have.
    pub enabled: Option<bool>,
    /// What counts while no server answers: `extend-cache`, which is the default, or `deny`.
    pub down_policy: Option<String>,
    /// Whether tokens that are set while the agent runs are kept over restarts, in a file of the
    /// data directory that its owner alone reads.
    pub enable_token_persistence: Option<bool>,
    /// Tokens that the agent is given.
    pub tokens: AclTokensSection,
}

/// The `acl.tokens` section: files that hold secrets. The secrets themselves are no settings, as
/// those are shown.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AclTokensSection {
    /// The token of callers who show none.
    pub default_file: Option<String>,
    /// The token for what the agent asks servers itself; the default one when left out.
    pub agent_file: Option<String>,
    /// The token with whose rights DNS is answered; the default one when left out.
    pub dns_file: Option<String>,
}

/// What counts while no server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownPolicy {
    /// Nothing is allowed.
    Deny,
    /// What servers said last.
    ExtendCache,
}

/// How callers of this host's API are judged.
#[derive(Debug, Clone)]
pub struct AclConfig {
    /// Whether the mesh is known to have ACLs.
    pub enabled: bool,
    /// What counts while no server answers.
    pub down_policy: DownPolicy,
    /// The token of callers who show none.
    pub default_token: Option<TokenText>,
    /// The token for what the agent asks itself.
    pub agent_token: Option<TokenText>,
    /// The token with whose rights DNS is answered.
    pub dns_token: Option<TokenText>,
    /// Whether tokens that are set while the agent runs are kept over restarts.
    pub keeps_tokens: bool,
}

/// The secret of a token; printed by nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenText(Arc<str>);

impl TokenText {
    /// The header in which a token is passed on.
    pub const HEADER: HeaderName = HeaderName::from_static("x-consul-token");

    /// Takes a secret as it was written; `None` when there is none.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// Whether it can be a token at all.
    pub(crate) fn is_usable(&self) -> bool {
        self.0.len() <= TOKEN_BYTES_MAX && self.header().is_some()
    }

    /// Returns the secret itself, to be kept.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    /// Returns what tells it from other tokens and does not give it away.
    pub(crate) fn fingerprint(&self) -> String {
        let digest = weft_runtime::digest::of_bytes(self.0.as_bytes());
        let head: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{head}")
    }

    /// Returns it as the value of a header; `None` when it cannot be one, and so is no token.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_bytes(self.0.as_bytes()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(…)")
    }
}

/// Checks the section; what is wrong is added to the faults.
pub(super) fn resolve(section: &AclSection, faults: &mut Vec<Fault>) -> AclConfig {
    let down_policy = match section.down_policy.as_deref() {
        None | Some("extend-cache") => DownPolicy::ExtendCache,
        Some("deny") => DownPolicy::Deny,
        Some(other) => {
            let reason = format!("{other:?} is neither extend-cache nor deny");
            faults.push(Fault::new("acl.down_policy", reason));
            DownPolicy::ExtendCache
        }
    };
    let tokens = &section.tokens;
    let default_token = token(&tokens.default_file, "acl.tokens.default_file", faults);
    let agent_token = token(&tokens.agent_file, "acl.tokens.agent_file", faults);
    let dns_token = token(&tokens.dns_file, "acl.tokens.dns_file", faults);
    let enabled = section.enabled.unwrap_or_default();
    let keeps_tokens = section.enable_token_persistence.unwrap_or_default();
    AclConfig { enabled, down_policy, default_token, agent_token, dns_token, keeps_tokens }
}

fn token(file: &Option<String>, field: &str, faults: &mut Vec<Fault>) -> Option<TokenText> {
    let path = Path::new(file.as_deref()?);
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let token = TokenText::new(&text).filter(TokenText::is_usable);
            if token.is_none() {
                faults.push(Fault::new(field, format!("{path:?} holds no token")));
            }
            token
        }
        Err(error) => {
            faults.push(Fault::new(field, format!("cannot read {path:?}: {error}")));
            None
        }
    }
}
