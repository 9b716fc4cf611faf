//! Signatures of JSON web tokens, the one door to the library that verifies them.
//!
//! What a signed token says is judged by those who ask: `core::intention` for requests, the
//! servers' `acl::login` for logins. Algorithms come from configuration and keys, never from
//! the token alone (RFC 8725 §3.1).

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation, decode};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};
use weft_core::acl::JwtAlgorithm;

/// Keys tried on one token, and keys of one set that are looked at.
const KEYS_MAX: usize = 64;

/// States why a token's signature is not good. The words say nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Its algorithm is not accepted.
    #[error("the token is signed by {name}, which is not accepted")]
    Algorithm {
        /// Its name.
        name: String,
    },
    /// It is none.
    #[error("the credential is not a JSON web token")]
    Malformed,
    /// None of the keys has signed it.
    #[error("the token is not signed by a key that is known")]
    Unsigned,
}

/// States that a text is no key set.
#[derive(Debug, thiserror::Error)]
#[error("this is not a JSON web key set")]
pub struct NoKeySet(#[from] serde_json::Error);

/// Public keys that tokens may be signed with.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Single keys, PEM.
    Pem(Vec<String>),
    /// A JSON web key set (RFC 7517).
    Set(Arc<KeySet>),
}

/// A JSON web key set.
#[derive(Debug, Clone)]
pub struct KeySet(JwkSet);

impl Default for KeySet {
    fn default() -> Self {
        Self(JwkSet { keys: Vec::new() })
    }
}

impl KeySet {
    /// Reads a set; keys past the first 64 are left out.
    ///
    /// # Errors
    /// [`NoKeySet`].
    pub fn parse(json: &[u8]) -> Result<Self, NoKeySet> {
        let mut set: JwkSet = serde_json::from_slice(json)?;
        set.keys.truncate(KEYS_MAX);
        Ok(Self(set))
    }

    /// Whether the set may have the key that a token names; one without a name may be by any.
    pub fn has(&self, id: Option<&str>) -> bool {
        id.is_none_or(|id| self.0.find(id).is_some())
    }

    /// Returns how many keys it has.
    pub fn len(&self) -> usize {
        self.0.keys.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.keys.is_empty()
    }
}

impl Keys {
    /// Whether they may include the key that a token names.
    pub fn has(&self, id: Option<&str>) -> bool {
        match self {
            Self::Pem(_) => true,
            Self::Set(set) => set.has(id),
        }
    }

    /// Returns the keys that may have signed a token: the one that it names, or all that could.
    fn suiting(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<DecodingKey> {
        let family = algorithm.family();
        let keys: Vec<DecodingKey> = match self {
            Self::Pem(keys) => keys.iter().filter_map(|pem| of_pem(pem, family)).collect(),
            Self::Set(set) => {
                let keys = set.0.keys.iter();
                let named = keys.filter(|key| id.is_none() || key.common.key_id.as_deref() == id);
                let fitting = named.filter(|key| is_for(key, algorithm));
                fitting.filter_map(|key| DecodingKey::from_jwk(key).ok()).collect()
            }
        };
        keys.into_iter().filter(|key| key.family() == family).take(KEYS_MAX).collect()
    }
}

/// Whether a key is for signatures by this algorithm, as far as it says.
fn is_for(key: &Jwk, algorithm: Algorithm) -> bool {
    let common = &key.common;
    let signs = match &common.public_key_use {
        None | Some(PublicKeyUse::Signature) => true,
        Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)) => false,
    };
    let said = common.key_algorithm.map(|said| said.to_string());
    signs && said.is_none_or(|said| said.parse::<Algorithm>().is_ok_and(|said| said == algorithm))
}

fn of_pem(pem: &str, family: AlgorithmFamily) -> Option<DecodingKey> {
    let pem = pem.as_bytes();
    match family {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem).ok(),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem).ok(),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem).ok(),
        _ => None,
    }
}

/// Whether a text is a public key in PEM that some algorithm can use.
pub fn is_public_key(pem: &str) -> bool {
    [AlgorithmFamily::Rsa, AlgorithmFamily::Ec, AlgorithmFamily::Ed]
        .into_iter()
        .any(|family| of_pem(pem, family).is_some())
}

/// Returns which key a token says it was signed with.
///
/// # Errors
/// [`SignatureError::Malformed`].
pub fn key_id(token: &str) -> Result<Option<String>, SignatureError> {
    header(token).map(|header| header.kid)
}

/// Checks a token's signature and reads its claims; dates and the rest are not looked at.
///
/// A token with extensions that must be understood (`crit`, RFC 7515 §4.1.11), or with a claim
/// given twice, is malformed.
///
/// # Errors
/// [`SignatureError`].
pub fn verify(
    token: &str,
    keys: &Keys,
    accepted: &[JwtAlgorithm],
) -> Result<Map<String, Value>, SignatureError> {
    let header = header(token)?;
    if !accepted.iter().any(|accepted| algorithm(*accepted) == header.alg) {
        return Err(SignatureError::Algorithm { name: format!("{:?}", header.alg) });
    }
    let mut validation = Validation::new(header.alg);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let keys = keys.suiting(header.kid.as_deref(), header.alg);
    let mut read = keys.iter().filter_map(|key| decode::<Claims>(token, key, &validation).ok());
    read.next().map(|read| read.claims.0).ok_or(SignatureError::Unsigned)
}

fn header(token: &str) -> Result<Header, SignatureError> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| SignatureError::Malformed)?;
    if header.crit.is_some() { Err(SignatureError::Malformed) } else { Ok(header) }
}

/// Returns the library's word for an algorithm.
fn algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::ES384 => Algorithm::ES384,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
        JwtAlgorithm::PS256 => Algorithm::PS256,
        JwtAlgorithm::PS384 => Algorithm::PS384,
        JwtAlgorithm::PS512 => Algorithm::PS512,
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::RS384 => Algorithm::RS384,
        JwtAlgorithm::RS512 => Algorithm::RS512,
    }
}

/// Claims, each given once: services differ in which of two they would take.
struct Claims(Map<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;
        impl<'de> Visitor<'de> for Unique {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with each claim once")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Claims, M::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(M::Error::custom("a claim is given twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(Unique)
    }
}

#[cfg(test)]
mod tests;
