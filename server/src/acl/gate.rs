//! From a credential to rights, judged on one state and remembered until something that the
//! rights were made of changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use weft_core::acl::{AccessorId, Authorizer, DefaultPolicy, Token};
use weft_core::index::Index;
use weft_core::state::State;
use weft_core::watch::Topic;
use weft_runtime::clock;
use weft_runtime::telemetry::metrics::{Counter, Registry};

use super::{Credential, Rights};
use crate::config::AclConfig;

/// Authorizers that are remembered; past it the memory begins anew. Each is some kilobytes.
const REMEMBERED_MAX: usize = 8_192;

/// States that the secret shown is no token's, or that the token's time is over.
///
/// **Source**: Consul answers 403 `ACL not found`, which clients look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ACL not found")]
pub(crate) struct UnknownToken;

/// Knows the settings, and remembers what tokens may do.
#[derive(Debug)]
pub(crate) struct Gate {
    config: AclConfig,
    unrestricted: Rights,
    remembered: Mutex<BTreeMap<AccessorId, Remembered>>,
    counts: Counts,
}

/// What is counted of judging.
#[derive(Debug, Default)]
struct Counts {
    resolutions: Counter,
    compiled: Counter,
    unknown: Counter,
    denials: Counter,
}

#[derive(Debug)]
struct Remembered {
    made_of: Origin,
    authorizer: Arc<Authorizer>,
}

/// What an authorizer was made of: the token, and all policies and roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin {
    token: Index,
    policies: Index,
    roles: Index,
}

impl Gate {
    pub(crate) fn new(config: AclConfig) -> Self {
        let unrestricted = Rights::new(Arc::new(Authorizer::unrestricted()), None, false);
        Self { config, unrestricted, remembered: Mutex::default(), counts: Counts::default() }
    }

    /// Shows what is counted.
    pub(crate) fn register(&self, registry: &Registry) {
        let Counts { resolutions, compiled, unknown, denials } = &self.counts;
        for (name, help, counter) in [
            ("acl_resolutions", "Tokens of requests that were turned into rights", resolutions),
            ("acl_compilations", "Rights that were not remembered and made anew", compiled),
            ("acl_unknown_tokens", "Requests with a secret that is no token's", unknown),
            ("acl_denials", "Rights that were asked for and missing", denials),
        ] {
            registry.register(name, help, counter.clone());
        }
    }

    /// Whether there are ACLs.
    pub(crate) fn is_enabled(&self) -> bool {
        self.config.enabled
    }

    /// What `X-Consul-Default-ACL-Policy` says.
    pub(crate) fn default_policy(&self) -> DefaultPolicy {
        match self.config.enabled {
            true => self.config.default_policy,
            false => DefaultPolicy::Allow,
        }
    }

    /// Judges what a request may do.
    ///
    /// # Errors
    /// [`UnknownToken`] when the secret is no token's. A secret that is shown is never passed
    /// over, also not where the anonymous token might do the same.
    pub(crate) fn rights(
        &self,
        state: &State,
        credential: &Credential,
    ) -> Result<Rights, UnknownToken> {
        if !self.config.enabled {
            return Ok(self.unrestricted.clone());
        }
        self.counts.resolutions.inc();
        let token = token(state, credential).ok_or_else(|| {
            self.counts.unknown.inc();
            UnknownToken
        })?;
        let authorizer = self.authorizer(state, &token);
        let accessor = Some(token.accessor.clone());
        let rights = Rights::new(authorizer, accessor, self.config.enable_key_list_policy);
        Ok(rights.counting(self.counts.denials.clone()))
    }

    /// Returns what must be watched by who waits: a change to the token, or to what it was
    /// granted, may end the wait.
    pub(crate) fn topics(&self, state: &State, credential: &Credential) -> Vec<Topic> {
        if !self.config.enabled {
            return Vec::new();
        }
        let token = token(state, credential);
        token.map(|token| state.acl().topics_of(&token)).unwrap_or_default()
    }

    /// Returns how long the token is still good; `None` for one that does not end.
    pub(crate) fn time_left(&self, state: &State, credential: &Credential) -> Option<Duration> {
        if !self.config.enabled {
            return None;
        }
        let end = token(state, credential)?.expires?;
        Some(end.since(clock::wall()))
    }

    fn authorizer(&self, state: &State, token: &Token) -> Arc<Authorizer> {
        let acl = state.acl();
        let made_of = Origin {
            token: token.modify_index,
            policies: acl.policies_index(),
            roles: acl.roles_index(),
        };
        if let Some(known) = self.remembered.lock().get(&token.accessor)
            && known.made_of == made_of
        {
            return known.authorizer.clone();
        }
        // Only what is written through the log is judged, so the cluster has its identity.
        let Some(cluster) = state.cluster() else {
            return Arc::new(Authorizer::new(self.config.default_policy, []));
        };
        self.counts.compiled.inc();
        let made = acl.authorizer(token, &cluster.datacenter, self.config.default_policy);
        let authorizer = Arc::new(made);
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        let known = Remembered { made_of, authorizer: authorizer.clone() };
        remembered.insert(token.accessor.clone(), known);
        authorizer
    }
}

/// Returns the token that a request shows.
fn token(state: &State, credential: &Credential) -> Option<Arc<Token>> {
    match credential {
        Credential::None => state.acl().token(&AccessorId::anonymous()),
        Credential::Secret { hash, .. } => state.acl().token_of_secret(hash, clock::wall()),
    }
}
