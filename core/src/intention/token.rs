//! Tokens that requests carry: what was found out about them, and whether a rule is content.
//!
//! Signatures are the proxy's to verify; everything that a token says is judged here.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::permission::Readings;
use crate::config_entry::{IntentionJwt, JwtProvider};
use crate::index::Index;
use crate::name::ServiceName;
use crate::time::{Span, Timestamp};

/// What is known of the token that a request carries for one provider.
#[derive(Debug, Clone)]
pub struct Token {
    /// Whose it is to be.
    pub provider: ServiceName,
    /// Of the provider's entry by which it was judged: by another one nothing is known of it.
    pub version: Index,
    /// What is known.
    pub state: TokenState,
}

/// How a token stands.
#[derive(Debug, Clone)]
pub enum TokenState {
    /// There is none.
    Absent,
    /// It is not believed.
    Refused(TokenFault),
    /// All that it says was said by the provider.
    Verified(Arc<Map<String, Value>>),
}

/// States why a token is not believed. The words say nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Its algorithm is none that is accepted.
    #[error("it is signed by an algorithm that is not accepted")]
    Algorithm,
    /// It is for others.
    #[error("it is not meant for this audience (aud)")]
    Audience,
    /// It stands in a header that some origins take for another.
    #[error("it stands in a header whose name reads as another to some")]
    Disguised,
    /// Its time is over.
    #[error("it has expired (exp)")]
    Expired,
    /// It is of another issuer.
    #[error("it is of another issuer (iss)")]
    Issuer,
    /// It is no token at all.
    #[error("it is not a JSON web token")]
    Malformed,
    /// It would be good for ever.
    #[error("it has no date at which it ends (exp)")]
    NoExpiry,
    /// None of the provider's keys is known yet.
    #[error("the provider's keys are not known")]
    NoKeys,
    /// The provider's entry is not there.
    #[error("there is no such jwt-provider")]
    NoProvider,
    /// Its time has not come.
    #[error("it is not valid yet (nbf)")]
    NotYet,
    /// There are several, and services differ in which they take.
    #[error("the request carries more than one")]
    Several,
    /// No key of the provider's has signed it.
    #[error("no key of the provider's has signed it")]
    Signature,
    /// It is longer than tokens are.
    #[error("it is too long")]
    TooLong,
    /// The key that it names is none of the provider's.
    #[error("it names a key that the provider does not have")]
    UnknownKey,
}

/// What a rule misses in the tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenWant {
    /// It does not say what is asked for.
    #[error("the token does not have the claims that are asked for")]
    Claims,
    /// There is none.
    #[error("the request carries no token")]
    Missing,
    /// It is not believed.
    #[error("the request's token is refused: {0}")]
    Refused(#[from] TokenFault),
}

/// Whether rules may take the token for one of this provider's: what is wrong with it, if
/// something is. The signature is good already.
///
/// **Source**: Spec: RFC 7519 §4.1. Differs: Consul takes tokens without `exp`, which are good
/// for ever.
///
/// # Errors
/// [`TokenFault`] with what is wrong.
pub fn judge_claims(
    provider: &JwtProvider,
    claims: &Map<String, Value>,
    now: Timestamp,
) -> Result<(), TokenFault> {
    let issuer = claims.get("iss").and_then(Value::as_str);
    if !provider.issuer.is_empty() && issuer != Some(provider.issuer.as_str()) {
        return Err(TokenFault::Issuer);
    }
    if !provider.audiences.is_empty() {
        let is_ours = |aud: &Value| {
            aud.as_str().is_some_and(|aud| provider.audiences.iter().any(|ours| ours == aud))
        };
        let holds = match claims.get("aud") {
            Some(Value::Array(several)) => several.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        if !holds {
            return Err(TokenFault::Audience);
        }
    }
    let skew = std::time::Duration::from_secs(provider.clock_skew_seconds.into());
    let ends = date(claims, "exp")?.ok_or(TokenFault::NoExpiry)?;
    if now >= ends.saturating_add(skew) {
        return Err(TokenFault::Expired);
    }
    match date(claims, "nbf")? {
        Some(begins) if now.saturating_add(skew) < begins => Err(TokenFault::NotYet),
        Some(_) | None => Ok(()),
    }
}

fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, TokenFault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    // Past the year 100,000 it is an error of the unit.
    let seconds = value.as_f64().filter(|seconds| (0.0..3.0e12).contains(seconds));
    let seconds = seconds.ok_or(TokenFault::Malformed)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded above")]
    let millis = (seconds * 1000.0) as u64;
    Ok(Some(Timestamp(millis)))
}

/// Returns the text of a claim that is text, number or truth value.
pub fn claim_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Finds what stands at the end of a way through claims.
fn look<'a>(claims: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.get(first)?, |value, name| value.get(name))
}

fn says(value: &Value, want: &str) -> bool {
    match value {
        Value::String(_) | Value::Bool(_) | Value::Number(_) => {
            claim_text(value).is_some_and(|text| text == want)
        }
        Value::Array(items) => items.iter().any(|item| !item.is_array() && says(item, want)),
        Value::Null | Value::Object(_) => false,
    }
}

/// Tells in which readings the tokens of a call are what is asked for, and what is missing.
///
/// A token that is not believed may be anything: it is good for no allowance, and keeps no
/// denial off.
pub(super) fn readings(
    asks: &IntentionJwt,
    tokens: &[Token],
    providers: &[JwtProvider],
) -> (Readings, Option<TokenWant>) {
    let mut readings = Readings::certain(false);
    let mut want = None;
    for asked in &asks.providers {
        let known = providers.iter().find(|provider| provider.name == asked.name);
        let token = known.and_then(|known| {
            let is_of = |token: &&Token| {
                token.provider == known.name && token.version == known.modify_index
            };
            tokens.iter().find(is_of)
        });
        let missing = match (known, token.map(|token| &token.state)) {
            (None, _) => TokenWant::Refused(TokenFault::NoProvider),
            // It was not looked at by this version of the provider.
            (Some(_), None) => TokenWant::Refused(TokenFault::NoKeys),
            (Some(_), Some(TokenState::Absent)) => TokenWant::Missing,
            (Some(_), Some(TokenState::Refused(fault))) => TokenWant::Refused(*fault),
            (Some(_), Some(TokenState::Verified(claims))) => {
                let holds = asked.verify_claims.iter().all(|claim| {
                    look(claims, &claim.path).is_some_and(|value| says(value, &claim.value))
                });
                if holds {
                    return (Readings::certain(true), None);
                }
                TokenWant::Claims
            }
        };
        readings.any |= match missing {
            TokenWant::Claims | TokenWant::Missing => false,
            TokenWant::Refused(TokenFault::Issuer) => false,
            TokenWant::Refused(_) => true,
        };
        // What is wrong with a token that is there says more than that another is not.
        want = match (want, missing) {
            (None | Some(TokenWant::Missing), _) => Some(missing),
            (Some(TokenWant::Refused(TokenFault::Issuer)), TokenWant::Refused(_)) => Some(missing),
            (want, _) => want,
        };
    }
    (readings, want)
}

/// How long fetched keys are in use when nothing is said (Consul and Envoy: 5 min).
const KEYS_KEPT_FOR_DEFAULT: std::time::Duration = std::time::Duration::from_secs(300);

/// Returns how long the fetched keys of a provider are in use before they are asked for again.
pub fn keys_kept_for(duration: Span) -> std::time::Duration {
    if duration.0.is_zero() { KEYS_KEPT_FOR_DEFAULT } else { duration.0 }
}
