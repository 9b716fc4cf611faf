//! Which signatures are good: by each algorithm, by the key that is named, and by no other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::sign;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use serde_json::json;

use super::*;

const ALL: [JwtAlgorithm; 9] = [
    JwtAlgorithm::ES256,
    JwtAlgorithm::ES384,
    JwtAlgorithm::EdDSA,
    JwtAlgorithm::PS256,
    JwtAlgorithm::PS384,
    JwtAlgorithm::PS512,
    JwtAlgorithm::RS256,
    JwtAlgorithm::RS384,
    JwtAlgorithm::RS512,
];

/// A key pair for some of the algorithms.
struct Pair {
    pem: String,
    private: EncodingKey,
    /// The public half for a key set, without a name.
    jwk: Value,
}

impl Pair {
    fn new(by: Algorithm) -> Self {
        let kind = match by {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_RSA_SHA256,
        };
        let pair = KeyPair::generate_for(kind).expect("a key pair");
        let pem = pair.serialize_pem();
        let private = match by.family() {
            AlgorithmFamily::Ec => EncodingKey::from_ec_pem(pem.as_bytes()),
            AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        let private = private.expect("a key that signs");
        let jwk = match by {
            // RFC 8037 §2.
            Algorithm::EdDSA => json!({ "kty": "OKP", "crv": "Ed25519",
                "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw()) }),
            _ => {
                let jwk = Jwk::from_encoding_key(&private, by).expect("a public key");
                let mut jwk = serde_json::to_value(jwk).expect("JSON");
                jwk.as_object_mut().expect("an object").remove("alg");
                jwk
            }
        };
        Self { pem: pair.public_key_pem(), private, jwk }
    }

    fn signed(&self, by: Algorithm, header: &Value, payload: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let message = format!("{}.{}", part(&header.to_string()), part(payload));
        let signature = sign(message.as_bytes(), &self.private, by).expect("it signs");
        format!("{message}.{signature}")
    }

    fn token(&self, by: Algorithm, id: Option<&str>) -> String {
        let mut header = json!({ "alg": format!("{by:?}") });
        if let Some(id) = id {
            header["kid"] = id.into();
        }
        self.signed(by, &header, r#"{"sub":"ada"}"#)
    }

    /// As it stands in a key set, with more said of it.
    fn said(&self, more: &Value) -> Value {
        let mut jwk = self.jwk.clone();
        for (field, value) in more.as_object().expect("fields") {
            jwk[field] = value.clone();
        }
        jwk
    }
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).expect("a key set")
}

fn of_set(keys: &[Value]) -> Keys {
    Keys::Set(Arc::new(set(keys)))
}

fn is_good(token: &str, keys: &Keys) -> bool {
    match verify(token, keys, &ALL) {
        Ok(claims) => {
            assert_eq!(Value::Object(claims), json!({ "sub": "ada" }));
            true
        }
        Err(error) => {
            assert_eq!(error, SignatureError::Unsigned);
            false
        }
    }
}

#[test]
fn each_algorithm_verifies_by_its_own_kind_of_key_and_where_it_is_accepted() {
    let kinds = [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256];
    let pairs: Vec<Pair> = kinds.into_iter().map(Pair::new).collect();
    for accepted in ALL {
        let by: Algorithm = format!("{accepted:?}").parse().expect("an algorithm");
        let kind = kinds.iter().position(|kind| *kind == by).unwrap_or(3);
        let token = pairs[kind].token(by, None);
        for (number, pair) in pairs.iter().enumerate() {
            for keys in [Keys::Pem(vec![pair.pem.clone()]), of_set(std::slice::from_ref(&pair.jwk))]
            {
                assert_eq!(is_good(&token, &keys), number == kind, "{by:?} by key {number}");
            }
        }
        let keys = Keys::Pem(pairs.iter().map(|pair| pair.pem.clone()).collect());
        assert!(is_good(&token, &keys), "{by:?} by one of several");
        for other in ALL {
            let is_accepted = verify(&token, &keys, &[other]);
            let refused = SignatureError::Algorithm { name: format!("{by:?}") };
            assert_eq!(is_accepted.err(), (other != accepted).then_some(refused), "{other:?}");
        }
    }
}

#[test]
fn a_key_verifies_what_names_it_and_what_it_is_for() {
    let (ours, other) = (Pair::new(Algorithm::RS256), Pair::new(Algorithm::RS256));
    for (said, id, wanted) in [
        (json!({ "kid": "a" }), Some("a"), true),
        (json!({ "kid": "a" }), None, true),
        (json!({ "kid": "a" }), Some("b"), false),
        (json!({}), Some("a"), false),
        (json!({}), None, true),
        (json!({ "use": "sig", "alg": "RS256" }), None, true),
        (json!({ "use": "enc" }), None, false),
        (json!({ "use": "enc", "alg": "RS256" }), None, false),
        (json!({ "use": "other" }), None, false),
        (json!({ "alg": "RS512" }), None, false),
        (json!({ "alg": "PS256" }), None, false),
        (json!({ "alg": "RSA-OAEP" }), None, false),
    ] {
        let token = ours.token(Algorithm::RS256, id);
        let keys = of_set(&[other.said(&json!({ "kid": "x" })), ours.said(&said)]);
        assert_eq!(is_good(&token, &keys), wanted, "{said} for {id:?}");
        assert!(!is_good(&token, &of_set(&[other.said(&said)])), "{said} of another key");
    }
}

#[test]
fn a_set_knows_its_keys_by_name_and_has_no_more_than_64() {
    let key = Pair::new(Algorithm::ES256);
    for (count, wanted) in [(0, 0), (1, 1), (64, 64), (65, 64)] {
        let named: Vec<Value> =
            (0..count).map(|id| key.said(&json!({ "kid": format!("k{id}") }))).collect();
        let set = set(&named);
        assert_eq!((set.len(), set.is_empty()), (wanted, wanted == 0));
        assert_eq!(set.has(Some("k0")), wanted > 0);
        assert!(set.has(None) && !set.has(Some("k64")) && !set.has(Some("")));
        let keys = Keys::Set(Arc::new(set));
        assert_eq!(keys.has(Some("k0")), wanted > 0);
        assert!(keys.has(None) && !keys.has(Some("k64")));
    }
    assert!(KeySet::default().is_empty());
    assert!(Keys::Pem(Vec::new()).has(Some("k0")), "keys in PEM have no names");
    assert!(KeySet::parse(b"{}").is_err() && KeySet::parse(b"").is_err());
}

#[test]
fn what_is_no_token_is_malformed() {
    let key = Pair::new(Algorithm::ES256);
    let keys = Keys::Pem(vec![key.pem.clone()]);
    let header = json!({ "alg": "ES256" });
    let signed = |header: &Value, payload: &str| key.signed(Algorithm::ES256, header, payload);
    let critical = json!({ "alg": "ES256", "crit": ["exp"] });
    for (token, wanted) in [
        ("", SignatureError::Malformed),
        ("a.b.c", SignatureError::Malformed),
        (&signed(&critical, "{}"), SignatureError::Malformed),
        (&signed(&json!({}), "{}"), SignatureError::Malformed),
        (&signed(&json!({ "alg": "none" }), "{}"), SignatureError::Malformed),
        (&signed(&header, "[]"), SignatureError::Unsigned),
        (&signed(&header, "x"), SignatureError::Unsigned),
        (&signed(&header, r#"{"a":1,"a":1}"#), SignatureError::Unsigned),
    ] {
        assert_eq!(verify(token, &keys, &ALL), Err(wanted), "{token}");
    }
    let nested = verify(&signed(&header, r#"{"a":{"b":[1]},"exp":1}"#), &keys, &ALL);
    assert_eq!(nested.map(Value::Object), Ok(json!({ "a": { "b": [1] }, "exp": 1 })));
    assert_eq!(key_id(&key.token(Algorithm::ES256, Some("k1"))), Ok(Some("k1".to_owned())));
    assert_eq!(key_id(&key.token(Algorithm::ES256, None)), Ok(None));
    assert_eq!(key_id("x"), Err(SignatureError::Malformed));
}

#[test]
fn claims_say_what_they_are_to_be() {
    let read = serde_json::from_str::<Claims>("[]").map(|_| ());
    let error = read.expect_err("it is no object").to_string();
    assert!(error.contains("an object with each claim once"), "{error}");
    let twice = serde_json::from_str::<Claims>(r#"{"a":1,"a":2}"#).map(|_| ());
    assert!(twice.expect_err("twice").to_string().contains("a claim is given twice"));
}

#[test]
fn public_keys_are_told_from_other_texts() {
    for by in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256] {
        assert!(is_public_key(&Pair::new(by).pem), "{by:?}");
    }
    let not_a_key = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    for text in ["", "x", not_a_key] {
        assert!(!is_public_key(text), "{text}");
    }
}
