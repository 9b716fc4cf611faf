//! A stand-in for HashiCorp Vault: the part of its PKI engine and logins that a mesh uses, over real
//! HTTP and with real signatures, as Vault documents its answers.
//!
//! **Source**: Vault: api-docs/secret/pki, api-docs/auth/{approle,jwt,kubernetes,token}.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    SubjectPublicKeyInfo,
};
use serde_json::{Value, json};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;

/// The token that may do everything.
pub const TOKEN: &str = "hvs.root-of-the-test";
/// The namespace that every call must name.
pub const NAMESPACE: &str = "team-a";

/// A Vault with one empty PKI mount at `pki`.
#[derive(Debug)]
pub struct Vault {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when calls that are held may go on.
    is_let_go: Condvar,
}

#[derive(Debug, Default)]
struct State {
    root: Option<Root>,
    is_sealed: bool,
    /// Calls that were answered with 2xx, by path.
    calls: BTreeMap<String, u64>,
    /// Calls of this path beyond so many get no answer for now.
    hold: Option<(String, u64)>,
    /// Those that wait for theirs.
    held: u64,
    /// What a renewal of a token is worth, in seconds; an hour if nothing is said.
    lease_seconds: Option<u64>,
}

#[derive(Debug)]
struct Root {
    key_pem: String,
    certificate_pem: String,
}

/// A status with Vault's words.
type Refusal = (u16, String);

struct Call {
    method: String,
    path: String,
    token: String,
    namespace: String,
    body: Value,
}

impl Vault {
    /// Starts one on a free port of loopback.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        // Ends with the process: nothing waits for it.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                thread::spawn(move || {
                    let _ = serve(&stream, &shared);
                });
            }
        });
        Self { addr, shared }
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Seals it, or opens it again: a sealed one answers 503 to everything.
    pub fn seal(&self, is_sealed: bool) {
        lock(&self.shared.state).is_sealed = is_sealed;
    }

    /// Returns where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Renews tokens for so many seconds from now on.
    pub fn lease(&self, seconds: u64) {
        lock(&self.shared.state).lease_seconds = Some(seconds);
    }

    /// From now on calls of a path get no answer once so many have gone well.
    pub fn hold(&self, path: &str, calls: u64) {
        lock(&self.shared.state).hold = Some((path.to_owned(), calls));
    }

    /// Returns how many calls are held.
    pub fn held(&self) -> u64 {
        lock(&self.shared.state).held
    }

    /// Answers everything again, also those that are held.
    pub fn let_go(&self) {
        lock(&self.shared.state).hold = None;
        self.shared.is_let_go.notify_all();
    }

    /// Returns how many calls of a path went well.
    pub fn calls(&self, path: &str) -> u64 {
        lock(&self.shared.state).calls.get(path).copied().unwrap_or_default()
    }
}

impl Shared {
    /// Returns the state as soon as a call of this path may be answered.
    fn admit(&self, path: &str) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        state.held += 1;
        let mut state = self
            .is_let_go
            .wait_while(state, |state| {
                let calls = state.calls.get(path).copied().unwrap_or_default();
                state.hold.as_ref().is_some_and(|(held, max)| held == path && calls >= *max)
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.held -= 1;
        state
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let (token, namespace) = (header("x-vault-token"), header("x-vault-namespace"));
    let call = Call { method, path, token, namespace, body };
    let mut state = shared.admit(&call.path);
    let (status, answer) = match answer(&mut state, &call) {
        Ok(answer) => {
            *state.calls.entry(call.path.clone()).or_default() += 1;
            (200, answer)
        }
        Err((status, words)) if words.is_empty() => (status, json!({ "errors": [] })),
        Err((status, words)) => (status, json!({ "errors": [words] })),
    };
    drop(state);
    let text = answer.to_string();
    let mut writer = stream;
    write!(
        writer,
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{text}",
        text.len()
    )?;
    writer.flush()
}

fn answer(state: &mut State, call: &Call) -> Result<Value, Refusal> {
    if state.is_sealed {
        return Err((503, "Vault is sealed".to_owned()));
    }
    let path = call.path.strip_prefix("/v1/").unwrap_or_default();
    let denied = || (403, "permission denied".to_owned());
    if call.namespace != NAMESPACE {
        return Err(denied());
    }
    let text = |name: &str| call.body[name].as_str().unwrap_or_default();
    if path.starts_with("auth/") && path.ends_with("/login") {
        return login(path, &text);
    }
    if call.token != TOKEN && call.token != "hvs.of-a-login" {
        return Err(denied());
    }
    match (call.method.as_str(), path) {
        ("GET", "auth/token/lookup-self") => {
            Ok(json!({ "data": { "renewable": true, "ttl": 3600, "creation_ttl": 3600 } }))
        }
        ("POST", "auth/token/renew-self") => {
            let seconds = state.lease_seconds.unwrap_or(3600);
            Ok(json!({ "auth": { "lease_duration": seconds, "renewable": true } }))
        }
        ("GET", "pki/cert/ca") => {
            let root = state.root.as_ref().ok_or((404, String::new()))?;
            Ok(json!({ "data": { "certificate": root.certificate_pem.trim_end() } }))
        }
        ("POST", "pki/root/generate/internal") => {
            let root = make_root(text("common_name"), text("uri_sans"));
            let root = root.map_err(|error| (500, error.to_string()))?;
            let answer = json!({ "data": {
                "certificate": root.certificate_pem, "issuing_ca": root.certificate_pem,
            } });
            state.root = Some(root);
            Ok(answer)
        }
        ("POST", "pki/root/sign-intermediate") => {
            let root = state.root.as_ref().ok_or((500, "no default issuer".to_owned()))?;
            if call.body["use_csr_values"] != Value::Bool(true) {
                return Err((400, "the \"common_name\" field is required".to_owned()));
            }
            signed(root, text("csr"), text("ttl"))
                .map_err(|reason| (400, format!("csr contains bad PEM: {reason}")))
        }
        ("POST", "pki/root/sign-self-issued") => {
            let root = state.root.as_ref().ok_or((500, "no default issuer".to_owned()))?;
            cross_signed(root, text("certificate"))
                .map_err(|reason| (400, format!("given certificate is not usable: {reason}")))
        }
        _ => Err((404, "no handler for route".to_owned())),
    }
}

/// Checks what each method asks for; a real Vault has this from its own configuration.
fn login<'a>(path: &str, text: &impl Fn(&str) -> &'a str) -> Result<Value, Refusal> {
    let is_right = match path {
        "auth/approle/login" => text("role_id") == "weft" && text("secret_id") == "open sesame",
        "auth/jwt/login" | "auth/kubernetes/login" => {
            text("role") == "weft" && text("jwt") == "a.signed.token"
        }
        _ => return Err((404, "no handler for route".to_owned())),
    };
    if !is_right {
        return Err((400, "invalid role or secret ID".to_owned()));
    }
    Ok(json!({ "auth": {
        "client_token": "hvs.of-a-login", "lease_duration": 3600, "renewable": true,
    } }))
}

fn make_root(name: &str, uri: &str) -> Result<Root, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate_pem = params.self_signed(&key)?.pem();
    Ok(Root { key_pem: key.serialize_pem(), certificate_pem })
}

fn issuer(root: &Root) -> Result<Issuer<'static, KeyPair>, String> {
    let key = KeyPair::from_pem(&root.key_pem).map_err(|error| error.to_string())?;
    Issuer::from_ca_cert_pem(&root.certificate_pem, key).map_err(|error| error.to_string())
}

/// Signs a request for an intermediate; the request's own signature is checked on reading.
fn signed(root: &Root, csr: &str, ttl: &str) -> Result<Value, String> {
    let words = |error: rcgen::Error| error.to_string();
    let ttl: weft_core::time::Span = ttl.parse().map_err(|_| format!("no ttl: {ttl:?}"))?;
    let request = CertificateSigningRequestParams::from_pem(csr).map_err(words)?;
    let mut params = request.params;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = weft_runtime::clock::wall().unix_seconds();
    let at =
        |seconds: u64| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds);
    // Vault's `not_before_duration` is 30 s where nobody says otherwise.
    (params.not_before, params.not_after) = (at(now - 30), at(now + ttl.0.as_secs()));
    let made = params.signed_by(&request.public_key, &issuer(root)?).map_err(words)?;
    let (pem, above) = (made.pem(), root.certificate_pem.trim_end());
    Ok(json!({ "data": {
        "certificate": pem.trim_end(), "issuing_ca": above, "ca_chain": [above],
    } }))
}

/// Signs another root's key under that root's own name.
fn cross_signed(root: &Root, pem: &str) -> Result<Value, String> {
    let words = |error: rcgen::Error| error.to_string();
    let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
    let given = block.parse_x509().map_err(|error| error.to_string())?;
    if !given.is_ca() || given.subject().as_raw() != given.issuer().as_raw() {
        return Err("it is not a self-issued certificate of an authority".to_owned());
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // Names with anything but a common name in UTF-8 are not what a mesh has.
    let name = given.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    params.distinguished_name.push(DnType::CommonName, name.unwrap_or_default());
    if let Ok(Some(names)) = given.subject_alternative_name() {
        for name in &names.value.general_names {
            if let GeneralName::URI(uri) = name {
                let uri = (*uri).try_into().map_err(words)?;
                params.subject_alt_names.push(SanType::URI(uri));
            }
        }
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    for extension in given.extensions() {
        if let ParsedExtension::SubjectKeyIdentifier(identifier) = extension.parsed_extension() {
            params.key_identifier_method = KeyIdMethod::PreSpecified(identifier.0.to_vec());
        }
    }
    let key = SubjectPublicKeyInfo::from_der(given.public_key().raw).map_err(words)?;
    let made = params.signed_by(&key, &issuer(root)?).map_err(words)?;
    Ok(json!({ "data": {
        "certificate": made.pem().trim_end(), "issuing_ca": root.certificate_pem.trim_end(),
    } }))
}
