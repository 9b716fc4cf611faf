//! The keys that JSON web tokens are signed with, fetched where they are published and kept for
//! a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use parking_lot::Mutex;
use serde::Deserialize;
use weft_core::acl::{AuthMethod, JwtConfig, JwtKeys};
use weft_core::index::Index;
use weft_runtime::clock;
use weft_runtime::jwt::{KeySet, Keys};

use super::{LoginError, ask};

/// How long fetched keys are used; issuers announce new ones well before they use them.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// How soon they are fetched again for a token whose key is not among them.
const FETCHED_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Fetched keys, by method.
#[derive(Debug, Default)]
pub(super) struct KeyCache {
    fetched: Mutex<BTreeMap<String, Fetched>>,
}

#[derive(Debug, Clone)]
struct Fetched {
    /// Of the method that they were fetched for: another configuration is another method.
    version: Index,
    at: Instant,
    keys: Arc<KeySet>,
}

/// The part of a discovery document that is read.
///
/// **Source**: OpenID Connect Discovery 1.0 §3.
#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl KeyCache {
    /// Returns the keys of a method, fetched anew when they are old or lack the one named.
    pub(super) async fn of(
        &self,
        method: &AuthMethod,
        config: &JwtConfig,
        id: Option<&str>,
    ) -> Result<Keys, LoginError> {
        if let JwtKeys::Pem(keys) = &config.keys {
            return Ok(Keys::Pem(keys.clone()));
        }
        let (name, version) = (method.name.as_str().to_owned(), method.modify_index);
        let now = clock::instant();
        let known = self.fetched.lock().get(&name).filter(|it| it.version == version).cloned();
        if let Some(known) = known {
            let age = now.saturating_duration_since(known.at);
            let keys = Keys::Set(known.keys);
            let is_enough = if keys.has(id) { KEPT_FOR } else { FETCHED_AGAIN_AFTER };
            if age < is_enough {
                return Ok(keys);
            }
        }
        let keys = Arc::new(fetch(&config.keys).await?);
        let fetched = Fetched { version, at: now, keys: keys.clone() };
        self.fetched.lock().insert(name, fetched);
        Ok(Keys::Set(keys))
    }
}

async fn fetch(keys: &JwtKeys) -> Result<KeySet, LoginError> {
    let get = |url: String, ca_pem: String| async move {
        let answer = ask(Method::GET, &url, &ca_pem, HeaderMap::new(), Vec::new()).await?;
        Ok::<_, LoginError>((answer, url))
    };
    let (answer, url) = match keys {
        JwtKeys::Pem(_) => return Ok(KeySet::default()),
        JwtKeys::KeySet { url, ca_pem } => get(url.clone(), ca_pem.clone()).await?,
        JwtKeys::Discovery { url, ca_pem } => {
            let document = format!("{url}/.well-known/openid-configuration");
            let (answer, document) = get(document, ca_pem.clone()).await?;
            let found: Discovery =
                answer.json().map_err(|error| LoginError::unreachable(&document, error))?;
            if found.issuer.trim_end_matches('/') != url {
                let reason = format!("it speaks for another issuer, {:?}", found.issuer);
                return Err(LoginError::unreachable(&document, reason));
            }
            get(found.jwks_uri, ca_pem.clone()).await?
        }
    };
    KeySet::parse(&answer.body).map_err(|error| LoginError::unreachable(&url, error))
}
