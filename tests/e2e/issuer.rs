//! An issuer of JSON web tokens: keys, tokens of every sort, and the server where its public keys
//! are published.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};

/// A key pair with its id.
pub(crate) struct SigningKey {
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    key: EncodingKey,
    /// The public half, PEM.
    pub(crate) public_pem: String,
    public_raw: Vec<u8>,
}

impl SigningKey {
    /// Makes a new key.
    pub(crate) fn new(id: &str, algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_RSA_SHA256,
        };
        let pair = KeyPair::generate_for(kind).expect("a key pair");
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        let key = key.expect("a key that signs");
        Self {
            id: id.to_owned(),
            algorithm,
            key,
            public_pem: pair.public_key_pem(),
            public_raw: pair.public_key_raw().to_vec(),
        }
    }

    /// The public half as it stands in a key set.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match self.algorithm {
            // RFC 8037 §2.
            Algorithm::EdDSA => json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA",
                "x": URL_SAFE_NO_PAD.encode(&self.public_raw) }),
            _ => {
                let jwk = Jwk::from_encoding_key(&self.key, self.algorithm);
                serde_json::to_value(jwk.expect("a public key")).expect("JSON")
            }
        };
        jwk["kid"] = self.id.as_str().into();
        jwk
    }

    /// A token with the usual header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let header =
            json!({ "alg": format!("{:?}", self.algorithm), "typ": "JWT", "kid": self.id });
        self.signed(&header.to_string(), &claims.to_string())
    }

    /// A token with any header and payload, by this key.
    pub(crate) fn signed(&self, header: &str, payload: &str) -> String {
        let message = unsigned(header, payload);
        let signature = sign(message.as_bytes(), &self.key, self.algorithm).expect("signed");
        format!("{message}.{signature}")
    }
}

/// Signs with a shared secret, as somebody does who has only the public key.
pub(crate) fn by_secret(header: &str, payload: &str, secret: &[u8], how: Algorithm) -> String {
    let message = unsigned(header, payload);
    let key = EncodingKey::from_secret(secret);
    format!("{message}.{}", sign(message.as_bytes(), &key, how).expect("signed"))
}

/// Header and payload, encoded.
pub(crate) fn unsigned(header: &str, payload: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs()
}

/// The server where the public keys are.
pub(crate) struct KeyServer {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    keys: Mutex<String>,
    is_broken: AtomicBool,
    fetches: AtomicU64,
    has_ended: AtomicBool,
}

impl KeyServer {
    /// Publishes some keys.
    pub(crate) fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            keys: Mutex::default(),
            is_broken: AtomicBool::new(false),
            fetches: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
        });
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.has_ended.load(Ordering::SeqCst) {
                    return;
                }
                let _ = shared.answer(&stream);
            }
        });
        let server = Self { address, state };
        server.publish(keys);
        server
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where they are published.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// Publishes these keys and no others.
    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        *self.state.keys.lock().expect("no holder panics") = json!({ "keys": keys }).to_string();
    }

    /// Answers with an error from now on, or no longer.
    pub(crate) fn set_broken(&self, is_broken: bool) {
        self.state.is_broken.store(is_broken, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub(crate) fn fetches(&self) -> u64 {
        self.state.fetches.load(Ordering::SeqCst)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.state.has_ended.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn answer(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let body = self.keys.lock().expect("no holder panics").clone();
        let status = if self.is_broken.load(Ordering::SeqCst) { 503 } else { 200 };
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}")
    }
}
