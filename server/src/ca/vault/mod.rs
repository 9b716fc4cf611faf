//! HashiCorp Vault's PKI engine as the keeper of the root: its HTTP API as documented.
//!
//! The keys of intermediates are made here and never leave this server; Vault only signs.
//! **Source**: Vault: api-docs/secret/pki, api-docs/auth.

mod login;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use weft_core::ca::VaultAccess;
use weft_core::time::Span;
use weft_runtime::http::{CallError, HttpClient};
use weft_runtime::task::TaskTree;
use weft_runtime::tls::{OutsideTrust, TlsError, client_config_outside};

/// The time for one call: Vault may wait for hardware that signs.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// The longest answer: a certificate with its chain has some 10 KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How much of Vault's own words are repeated, in characters.
const WORDS_MAX: usize = 300;

/// States why Vault was of no help.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file with the authorities cannot be used.
    #[error("Config.CAFile: {path:?} has no certificate of an authority on this server")]
    CaFile {
        /// The file.
        path: String,
        /// The reason.
        #[source]
        source: TlsError,
    },
    /// The file with the credential cannot be read.
    #[error("Config.AuthMethod: {path:?} cannot be read on this server")]
    Credential {
        /// The file.
        path: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The answer is not what Vault documents.
    #[error("Vault's answer to {what} has no {missing}")]
    Malformed {
        /// What was asked for.
        what: &'static str,
        /// What is not there.
        missing: &'static str,
    },
    /// Vault said no.
    #[error("Vault refuses {what} with {status}: {words}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Its status.
        status: StatusCode,
        /// Its own words.
        words: String,
    },
    /// The secret cannot be opened, or is none.
    #[error(
        "Config.Token: the secret for Vault is missing or damaged; write the configuration again"
    )]
    Secret,
    /// Vault did not answer.
    #[error("Vault is not reached")]
    Unreachable(#[from] CallError),
}

/// What Vault signed.
#[derive(Debug, Clone)]
pub(super) struct SignedByVault {
    /// The certificate and what stands between it and the root, as PEM.
    pub(super) chain_pem: String,
}

/// A login that is used for a few calls.
pub(super) struct Vault {
    access: VaultAccess,
    http: HttpClient,
    token: String,
}

impl Vault {
    /// Logs in.
    ///
    /// # Errors
    /// [`VaultError`] that says what to mend.
    pub(super) async fn log_in(
        access: &VaultAccess,
        secret: Option<String>,
        tasks: &TaskTree,
    ) -> Result<Self, VaultError> {
        let http = client(access)?;
        let mut vault = Self { access: access.clone(), http, token: String::new() };
        vault.token = login::token(&vault, secret, tasks).await?;
        Ok(vault)
    }

    /// Returns the certificate of the mount, as PEM; `None` when it has none yet.
    pub(super) async fn root(&self) -> Result<Option<String>, VaultError> {
        let what = "the root's certificate";
        let path = format!("{}/cert/ca", self.access.root_path);
        let answer = match self.call(what, Method::GET, &path, None).await {
            Err(VaultError::Refused { status: StatusCode::NOT_FOUND, .. }) => return Ok(None),
            other => other?,
        };
        let pem = answer["data"]["certificate"].as_str().map(str::trim).unwrap_or_default();
        Ok((!pem.is_empty()).then(|| format!("{pem}\n")))
    }

    /// Has the mount make a root whose key never leaves Vault, and returns its certificate.
    pub(super) async fn make_root(
        &self,
        name: &str,
        uri: &str,
        lifetime: Duration,
        (key_type, key_bits): (&str, u32),
    ) -> Result<String, VaultError> {
        let what = "a new root";
        let path = format!("{}/root/generate/internal", self.access.root_path);
        let body = json!({
            "common_name": name, "uri_sans": uri, "ttl": seconds(lifetime),
            "key_type": key_type, "key_bits": key_bits,
        });
        let answer = self.call(what, Method::POST, &path, Some(body)).await?;
        certificate(what, &answer)
    }

    /// Has a request for an intermediate signed.
    ///
    /// **Source**: Vault: api-docs/secret/pki#sign-intermediate.
    pub(super) async fn sign_intermediate(
        &self,
        csr_pem: &str,
        lifetime: Duration,
    ) -> Result<SignedByVault, VaultError> {
        let what = "to sign an intermediate";
        let path = format!("{}/root/sign-intermediate", self.access.root_path);
        let body = json!({
            "csr": csr_pem, "use_csr_values": true, "format": "pem",
            "ttl": seconds(lifetime), "max_path_length": 0,
        });
        let answer = self.call(what, Method::POST, &path, Some(body)).await?;
        Ok(SignedByVault { chain_pem: certificate(what, &answer)? })
    }

    /// Has another root's certificate signed by this one's key.
    ///
    /// **Source**: Vault: api-docs/secret/pki#sign-self-issued; needs the capability `sudo`.
    pub(super) async fn sign_self_issued(&self, pem: &str) -> Result<String, VaultError> {
        let what = "to cross-sign a root";
        let path = format!("{}/root/sign-self-issued", self.access.root_path);
        let body = json!({ "certificate": pem });
        let answer = self.call(what, Method::POST, &path, Some(body)).await?;
        certificate(what, &answer)
    }

    /// Lengthens the life of the token. Returns for how long; `None` when it lives for ever or
    /// cannot be renewed.
    pub(super) async fn renew_self(&self) -> Result<Option<Duration>, VaultError> {
        let found = "the token's own record";
        let answer = self.call(found, Method::GET, "auth/token/lookup-self", None).await?;
        let is_renewable = answer["data"]["renewable"].as_bool().unwrap_or(false);
        if !is_renewable {
            return Ok(None);
        }
        let what = "to renew the token";
        let answer =
            self.call(what, Method::POST, "auth/token/renew-self", Some(json!({}))).await?;
        let seconds = answer["auth"]["lease_duration"].as_u64();
        let seconds = seconds.ok_or(VaultError::Malformed { what, missing: "lease_duration" })?;
        Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
    }

    async fn call(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, VaultError> {
        let address = self.access.address.trim_end_matches('/');
        let url = format!("{address}/v1/{}", path.trim_matches('/'));
        let mut headers = HeaderMap::new();
        // Vault's own clients send it, so that a page in a browser cannot.
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        for (name, value) in
            [("x-vault-token", &self.token), ("x-vault-namespace", &self.access.namespace)]
        {
            if !value.is_empty() {
                let mut value = HeaderValue::from_str(value).map_err(|_| VaultError::Secret)?;
                value.set_sensitive(true);
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let answer = self.http.request(method, &url, headers, body).await?;
        if !answer.status.is_success() {
            let words = words(&answer.body);
            return Err(VaultError::Refused { what, status: answer.status, words });
        }
        answer.json().map_err(|_| VaultError::Malformed { what, missing: "JSON" })
    }
}

fn client(access: &VaultAccess) -> Result<HttpClient, VaultError> {
    let client = HttpClient::new(CALL_LIMIT, ANSWER_BYTES_MAX);
    if !access.address.starts_with("https://") {
        return Ok(client);
    }
    let trust = match access.ca_file.is_empty() {
        true => OutsideTrust::System,
        false => OutsideTrust::File(access.ca_file.clone().into()),
    };
    let config = client_config_outside(&trust)
        .map_err(|source| VaultError::CaFile { path: access.ca_file.clone(), source })?;
    Ok(client.with_tls(std::sync::Arc::new(config)))
}

fn certificate(what: &'static str, answer: &Value) -> Result<String, VaultError> {
    let pem = answer["data"]["certificate"].as_str().map(str::trim).unwrap_or_default();
    if pem.is_empty() {
        return Err(VaultError::Malformed { what, missing: "certificate" });
    }
    Ok(format!("{pem}\n"))
}

/// Returns Vault's own words: a list of texts under `errors`.
fn words(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let list = body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let list: Vec<&str> = list.iter().filter_map(Value::as_str).map(str::trim).collect();
    let text: String = list.join("; ").chars().take(WORDS_MAX).collect();
    if text.is_empty() { "it gives no reason".to_owned() } else { text }
}

fn seconds(span: Duration) -> String {
    Span(Duration::from_secs(span.as_secs())).to_string()
}
