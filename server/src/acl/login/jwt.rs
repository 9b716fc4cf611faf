//! JSON web tokens of logins: dates, issuer, audience, claims. Signatures are `runtime::jwt`'s.
//!
//! **Source**: RFC 7519 (claims), RFC 8725 (algorithms are fixed by configuration); Consul:
//! docs/security/acl/auth-methods/jwt.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use weft_core::acl::JwtConfig;
use weft_core::login::Subject;
use weft_core::time::Timestamp;
use weft_runtime::jwt::{self, Keys};

use super::LoginError;

/// Checks a token and reads its claims.
pub(super) fn check(
    config: &JwtConfig,
    keys: &Keys,
    token: &str,
    now: Timestamp,
) -> Result<Subject, LoginError> {
    let claims = jwt::verify(token, keys, &config.algorithms)?;
    judge(config, claims, now)
}

/// Judges the claims of a token whose signature was good, and reads those that are asked for.
pub(super) fn judge(
    config: &JwtConfig,
    claims: Map<String, Value>,
    now: Timestamp,
) -> Result<Subject, LoginError> {
    check_dates(config, &claims, now)?;
    let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    if !config.issuer.is_empty() && issuer != config.issuer {
        return Err(LoginError::refused("the token's issuer (iss) is not the bound one"));
    }
    check_audience(config, &claims)?;
    let claims = Value::Object(claims);
    let mut values = BTreeMap::new();
    for (claim, name) in &config.claims {
        let Some(found) = look(&claims, claim) else { continue };
        let text = match found {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => found.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                let reason = format!("the claim {claim:?} is neither text, number nor truth value");
                return Err(LoginError::Refused(reason));
            }
        };
        values.insert(name.clone(), text);
    }
    let mut lists = BTreeMap::new();
    for (claim, name) in &config.list_claims {
        let Some(found) = look(&claims, claim) else { continue };
        let items = match found {
            Value::Array(items) => items.clone(),
            // One value alone is often written without the list around it.
            other => vec![other.clone()],
        };
        let text = |item: Value| match item {
            Value::String(text) => Some(text),
            Value::Bool(_) | Value::Number(_) => Some(item.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        let list: Option<Vec<String>> = items.into_iter().map(text).collect();
        let list = list.ok_or_else(|| {
            LoginError::Refused(format!("the claim {claim:?} is not a list of texts"))
        })?;
        lists.insert(name.clone(), list);
    }
    Ok(Subject::jwt(values, lists))
}

fn check_dates(
    config: &JwtConfig,
    claims: &Map<String, Value>,
    now: Timestamp,
) -> Result<(), LoginError> {
    let date = |name: &str| -> Result<Option<Timestamp>, LoginError> {
        let Some(value) = claims.get(name) else { return Ok(None) };
        let wrong = || LoginError::Refused(format!("the claim {name} is not a date"));
        let seconds = value.as_f64().filter(|it| it.is_finite() && *it >= 0.0).ok_or_else(wrong)?;
        // Past the year 100,000 it is an error of the unit.
        let seconds = (seconds < 3.0e12).then_some(seconds).ok_or_else(wrong)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded")]
        Ok(Some(Timestamp((seconds * 1000.0) as u64)))
    };
    let (issued, begins, ends) = (date("iat")?, date("nbf")?, date("exp")?);
    let begin = match (begins, issued, ends) {
        (Some(begins), _, _) => begins,
        (None, Some(issued), _) => issued,
        (None, None, Some(ends)) => ends.saturating_sub(config.not_before_leeway),
        (None, None, None) => {
            return Err(LoginError::refused("the token has none of the dates exp, nbf and iat"));
        }
    };
    let end = ends.unwrap_or_else(|| {
        begin.max(issued.unwrap_or_default()).saturating_add(config.expiration_leeway)
    });
    if now >= end.saturating_add(config.clock_skew) {
        return Err(LoginError::refused("the token has expired"));
    }
    if now.saturating_add(config.clock_skew) < begin.max(issued.unwrap_or_default()) {
        return Err(LoginError::refused("the token is not valid yet"));
    }
    Ok(())
}

fn check_audience(config: &JwtConfig, claims: &Map<String, Value>) -> Result<(), LoginError> {
    let shown: Vec<&str> = match claims.get("aud") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        Some(_) => return Err(LoginError::refused("the claim aud is neither text nor a list")),
    };
    match (config.audiences.is_empty(), shown.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(LoginError::refused(
            "the token is meant for an audience (aud), and the method has no BoundAudiences",
        )),
        (false, _) if shown.iter().any(|it| config.audiences.iter().any(|bound| bound == it)) => {
            Ok(())
        }
        (false, _) => Err(LoginError::refused("the token is not meant for this audience (aud)")),
    }
}

/// Finds a claim by its name, or by a JSON pointer (RFC 6901).
fn look<'a>(claims: &'a Value, claim: &str) -> Option<&'a Value> {
    if claim.starts_with('/') { claims.pointer(claim) } else { claims.get(claim) }
}
