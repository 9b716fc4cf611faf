//! Logging in: from a credential that somebody else vouches for to what is known of its holder.
//!
//! What that grants is decided in `core::login`; the token is written like any other.

mod jwt;
mod keys;
mod kubernetes;
#[cfg(feature = "sim")]
pub(crate) mod untrusted;

use std::time::Duration;

use http::{HeaderMap, Method};
use weft_core::acl::{AuthConfig, AuthMethod};
use weft_core::login::Subject;
use weft_core::time::Timestamp;
use weft_runtime::http::{HttpClient, HttpResponse};
use weft_runtime::jwt::SignatureError;
use weft_runtime::tls::{OutsideTrust, client_config_outside};

use crate::ca::{Purpose, SealKey};

use keys::KeyCache;

/// How long an issuer or a Kubernetes API server may take.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of an answer: key sets have some kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Bytes of a credential: those of service accounts have some two kilobytes.
const CREDENTIAL_BYTES_MAX: usize = 64 << 10;

/// States why somebody does not come in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginError {
    /// The credential is not accepted. The words say nothing of its content.
    #[error("{0}")]
    Refused(String),
    /// Who vouches for credentials could not be asked.
    #[error("cannot ask {whom}: {reason}")]
    Unreachable {
        /// Whom.
        whom: String,
        /// Why.
        reason: String,
    },
}

impl From<SignatureError> for LoginError {
    fn from(error: SignatureError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl LoginError {
    fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }

    fn unreachable(whom: &str, reason: impl ToString) -> Self {
        Self::Unreachable { whom: whom.to_owned(), reason: reason.to_string() }
    }
}

/// Checks credentials.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    keys: KeyCache,
}

impl Logins {
    /// Checks a credential by a method, and tells who its holder is.
    ///
    /// # Errors
    /// [`LoginError`].
    pub(crate) async fn check(
        &self,
        method: &AuthMethod,
        credential: &str,
        seal: &SealKey,
        now: Timestamp,
    ) -> Result<Subject, LoginError> {
        if credential.len() > CREDENTIAL_BYTES_MAX {
            let reason = format!("the credential has more than {CREDENTIAL_BYTES_MAX} bytes");
            return Err(LoginError::Refused(reason));
        }
        match &method.config {
            AuthConfig::Jwt(config) => {
                let key = weft_runtime::jwt::key_id(credential)?;
                let keys = self.keys.of(method, config, key.as_deref()).await?;
                jwt::check(config, &keys, credential, now)
            }
            AuthConfig::Kubernetes(config) => {
                let reviewer = open_reviewer(&config.reviewer_jwt, seal)
                    .ok_or_else(|| LoginError::refused("the reviewer's token cannot be opened"))?;
                kubernetes::check(config, &reviewer, credential).await
            }
        }
    }
}

/// Seals a reviewer's token for the replicated state.
pub(crate) fn seal_reviewer(token: &str, seal: &SealKey) -> String {
    use base64::Engine as _;
    let sealed = seal.seal(Purpose::ReviewerToken, token.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(sealed)
}

fn open_reviewer(sealed: &str, seal: &SealKey) -> Option<String> {
    use base64::Engine as _;
    let sealed = base64::engine::general_purpose::STANDARD.decode(sealed).ok()?;
    String::from_utf8(seal.open(Purpose::ReviewerToken, &sealed).ok()?).ok()
}

/// Asks somebody outside the mesh; anything but 2xx is an error.
async fn ask(
    method: Method,
    url: &str,
    ca_pem: &str,
    headers: HeaderMap,
    body: Vec<u8>,
) -> Result<HttpResponse, LoginError> {
    let mut client = HttpClient::new(ASK_LIMIT, ANSWER_BYTES_MAX);
    if url.starts_with("https://") {
        let trust = match ca_pem.is_empty() {
            true => OutsideTrust::System,
            false => OutsideTrust::Pem(ca_pem.to_owned()),
        };
        let config = client_config_outside(&trust);
        let config = config.map_err(|error| LoginError::unreachable(url, error))?;
        client = client.with_tls(std::sync::Arc::new(config));
    }
    let answer = client.request(method, url, headers, body.into()).await;
    let answer = answer.map_err(|error| LoginError::unreachable(url, error))?;
    if !answer.status.is_success() {
        return Err(LoginError::unreachable(url, format!("it answers {}", answer.status)));
    }
    Ok(answer)
}
