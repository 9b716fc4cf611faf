//! What comes with a login, and what issuers answer, for fuzzing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use weft_core::acl::{JwtAlgorithm, JwtConfig, JwtKeys};
use weft_core::time::Timestamp;
use weft_runtime::jwt::{KeySet, Keys, is_public_key, key_id, verify};

use super::jwt;

/// 2026-01-01.
const NOW: Timestamp = Timestamp(1_767_225_600_000);

/// Public keys of both usual families; whose they are does not matter.
///
/// **Source**: RFC 7517 §A.1.
const KEYS: &str = r#"{"keys":[
    {"kty":"EC","crv":"P-256","kid":"1",
     "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
     "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"},
    {"kty":"RSA","kid":"2","e":"AQAB",
     "n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}
]}"#;

/// Tokens of each family that nobody has signed: `{"alg":"RS256"}`, `{"alg":"ES256"}` and
/// `{"alg":"EdDSA"}` before `{}`.
const TOKENS: [&str; 3] =
    ["eyJhbGciOiJSUzI1NiJ9.e30.", "eyJhbGciOiJFUzI1NiJ9.e30.", "eyJhbGciOiJFZERTQSJ9.e30."];

fn config() -> JwtConfig {
    let named = |claims: &[&str]| -> BTreeMap<String, String> {
        claims.iter().enumerate().map(|(at, it)| ((*it).to_owned(), format!("v{at}"))).collect()
    };
    JwtConfig {
        keys: JwtKeys::Pem(Vec::new()),
        algorithms: JwtAlgorithm::ALL.to_vec(),
        issuer: "issuer".to_owned(),
        audiences: vec!["weft".to_owned()],
        claims: named(&["sub", "/deep/er", "/list/0"]),
        list_claims: named(&["groups", "/deep/list"]),
        expiration_leeway: Duration::from_secs(150),
        not_before_leeway: Duration::from_secs(150),
        clock_skew: Duration::from_secs(60),
    }
}

/// Reads bytes as a JSON web token, as the claims of one whose signature was good, as a key set
/// of an issuer, and as a key that an operator gives.
///
/// # Panics
/// When a token is believed that nobody has signed.
pub fn login(bytes: &[u8]) {
    let config = config();
    if let Ok(claims) = serde_json::from_slice::<Map<String, Value>>(bytes) {
        let _ = jwt::judge(&config, claims, NOW);
    }
    if let Ok(set) = KeySet::parse(bytes) {
        let keys = Keys::Set(Arc::new(set));
        for token in TOKENS {
            assert!(verify(token, &keys, &JwtAlgorithm::ALL).is_err(), "its signature is empty");
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = is_public_key(text);
    let _ = key_id(text);
    let keys = KeySet::parse(KEYS.as_bytes()).expect("a key set");
    let checked = jwt::check(&config, &Keys::Set(Arc::new(keys)), text, NOW);
    assert!(checked.is_err(), "nobody has the private keys");
}
