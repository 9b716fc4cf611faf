//! Tokens in requests: found, verified by the provider's keys, and taken out of what goes on.
//!
//! What they are worth is judged by `core::intention`. Keys come from the agent; a token by a key
//! that is not among them waits a moment for newer ones.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use weft_core::acl::JwtAlgorithm;
use weft_core::config_entry::JwtProvider;
use weft_core::intention::{
    Carried, Place, Token, TokenFault, TokenState, carried, claim_text, judge_claims,
    without_cookie, without_parameter,
};
use weft_core::traffic::RequestView;
use weft_runtime::jwt::{self, SignatureError};
use weft_runtime::{clock, digest};

use crate::http::Edits;
use crate::listen::{Local, Worker};

/// How long a request waits for newer keys: an agent has them after one round trip to the
/// issuer.
const KEYS_LIMIT: Duration = Duration::from_secs(3);
/// Verified tokens remembered for a provider that does not say.
const CACHE_SIZE_DEFAULT: u32 = 1_024;

/// Tokens of which the signature was good, of one worker; by keys that are in force.
#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    /// Full ones are emptied by turns: what was used lately is in one of both.
    young: RefCell<HashMap<digest::Digest, Arc<Map<String, Value>>>>,
    old: RefCell<HashMap<digest::Digest, Arc<Map<String, Value>>>>,
}

impl TokenCache {
    fn find(&self, key: &digest::Digest) -> Option<Arc<Map<String, Value>>> {
        let found = self.young.borrow().get(key).cloned();
        found.or_else(|| self.old.borrow().get(key).cloned())
    }

    fn keep(&self, key: digest::Digest, claims: Arc<Map<String, Value>>, size: u32) {
        let mut young = self.young.borrow_mut();
        if young.len() >= size as usize / 2 {
            *self.old.borrow_mut() = std::mem::take(&mut *young);
        }
        if size > 1 {
            young.insert(key, claims);
        }
    }
}

/// What was found out about a request's tokens.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// As providers were given.
    pub(super) tokens: Rc<[Token]>,
    /// What of them goes on.
    pub(super) edits: Edits,
}

/// Looks at the tokens that a request carries for some providers.
pub(super) fn check<'a>(
    local: &Local,
    providers: impl Iterator<Item = &'a JwtProvider>,
    request: &dyn RequestView,
) -> Checked {
    let mut edits = Edits::default();
    let mut tokens = Vec::new();
    for provider in providers {
        // What only the mesh may say is taken away also when it says nothing.
        for header in &provider.claim_to_headers {
            edits.remove(&header.header_name);
        }
        if let Some(forwarding) = &provider.forwarding {
            edits.remove(&forwarding.header_name);
        }
        let state = match carried(provider, request) {
            Ok(None) => TokenState::Absent,
            Ok(Some(found)) => match verify(local, provider, &found.token) {
                Ok(claims) => {
                    pass_on(provider, &found, &claims, request, &mut edits);
                    TokenState::Verified(claims)
                }
                Err(fault) => TokenState::Refused(fault),
            },
            Err(fault) => TokenState::Refused(fault),
        };
        let (name, version) = (provider.name.clone(), provider.modify_index);
        tokens.push(Token { provider: name, version, state });
    }
    Checked { tokens: tokens.into(), edits }
}

fn verify(
    local: &Local,
    provider: &JwtProvider,
    token: &str,
) -> Result<Arc<Map<String, Value>>, TokenFault> {
    let known = local.workload.jwt_keys.get(&provider.name).ok_or(TokenFault::NoKeys)?;
    let keys = known.keys.as_ref().ok_or(TokenFault::NoKeys)?;
    let key = digest::of_list([
        digest::of_bytes(provider.name.as_str().as_bytes()),
        digest::of_bytes(token.as_bytes()),
    ]);
    let claims = match local.tokens.find(&key) {
        Some(claims) => claims,
        None => {
            let fault = |error| match error {
                SignatureError::Algorithm { .. } => TokenFault::Algorithm,
                SignatureError::Malformed => TokenFault::Malformed,
                SignatureError::Unsigned => TokenFault::Signature,
            };
            let id = jwt::key_id(token).map_err(fault)?;
            let verified = jwt::verify(token, keys, &JwtAlgorithm::ALL).map_err(fault);
            let claims = Arc::new(match verified {
                Err(TokenFault::Signature) if !keys.has(id.as_deref()) => {
                    return Err(TokenFault::UnknownKey);
                }
                verified => verified?,
            });
            let size = provider.cache_config.as_ref().map_or(0, |cache| cache.size);
            let size = if size == 0 { CACHE_SIZE_DEFAULT } else { size };
            local.tokens.keep(key, claims.clone(), size);
            claims
        }
    };
    judge_claims(provider, &claims, clock::wall())?;
    Ok(claims)
}

/// Says what of a verified token the local instance sees.
fn pass_on(
    provider: &JwtProvider,
    found: &Carried<'_>,
    claims: &Map<String, Value>,
    request: &dyn RequestView,
    edits: &mut Edits,
) {
    match found.place {
        Place::Header { name, forward: false, .. } => edits.remove(name),
        Place::Header { forward: true, .. } => {}
        Place::Query(name) => {
            let query = edits.query.take().unwrap_or_else(|| request.query().map(<[u8]>::to_vec));
            edits.query = Some(query.and_then(|query| without_parameter(&query, name)));
        }
        Place::Cookie(name) => {
            let mut left = Vec::new();
            request.each_header("cookie", &mut |value| left.extend(without_cookie(value, name)));
            edits.remove("cookie");
            if !left.is_empty() {
                edits.append("cookie", &left.join(&b"; "[..]));
            }
        }
    }
    if let Some(forwarding) = &provider.forwarding {
        // As it was signed; a token that was verified has its three parts.
        let payload = found.token.split('.').nth(1).unwrap_or_default();
        let padded = URL_SAFE_NO_PAD.decode(payload).map(|bytes| URL_SAFE.encode(bytes));
        match (forwarding.pad_forward_payload_header, padded) {
            (true, Ok(padded)) => edits.set(&forwarding.header_name, padded.as_bytes()),
            _ => edits.set(&forwarding.header_name, payload.as_bytes()),
        }
    }
    for header in &provider.claim_to_headers {
        let mut names = header.claim_name.split('.');
        // A claim's own name may have dots, as those of URLs do.
        let whole = claims.get(&header.claim_name);
        let nested = || {
            let first = names.next().and_then(|name| claims.get(name))?;
            names.try_fold(first, |value, name| value.get(name))
        };
        if let Some(value) = whole.or_else(nested) {
            let text =
                claim_text(value).unwrap_or_else(|| URL_SAFE_NO_PAD.encode(value.to_string()));
            edits.set(&header.header_name, text.as_bytes());
        }
    }
}

/// Waits for newer keys if a token in the request is by one that is not known; for a while.
pub(super) async fn wait_for_keys(
    worker: &Rc<Worker>,
    local: Rc<Local>,
    providers: Vec<JwtProvider>,
    request: &dyn RequestView,
) {
    for provider in &providers {
        let Ok(Some(found)) = carried(provider, request) else { continue };
        let Ok(id) = jwt::key_id(&found.token) else { continue };
        let known = |local: &Local| local.workload.jwt_keys.get(&provider.name).cloned();
        let has = |local: &Local| {
            let keys = known(local).and_then(|known| known.keys.clone());
            keys.is_some_and(|keys| keys.has(id.as_deref()))
        };
        if has(&local) {
            continue;
        }
        let answered = known(&local).map_or(0, |known| known.answered);
        if !worker.tenant.asker.ask(&provider.name, answered) {
            continue;
        }
        let come = async {
            loop {
                let changed = worker.changed.notified();
                let now = worker.current();
                if has(&now) || known(&now).is_some_and(|known| known.answered > answered) {
                    return;
                }
                changed.await;
            }
        };
        // What is not known by then is judged as it is.
        let _ = tokio::time::timeout(KEYS_LIMIT, come).await;
    }
}
