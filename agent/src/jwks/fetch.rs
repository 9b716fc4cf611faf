//! One look at where a provider's keys are published: a URL, a file, or the entry itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use http::{HeaderMap, Method};
use tokio::io::AsyncReadExt;
use weft_core::config_entry::{JwksTrustedCa, JwtKeySet, JwtRemoteKeys};
use weft_core::limits;
use weft_runtime::backoff::Backoff;
use weft_runtime::entropy;
use weft_runtime::http::{CallError, HttpClient};
use weft_runtime::jwt::{KeySet, NoKeySet};
use weft_runtime::tls::{OutsideTrust, TlsError, client_config_outside};

/// How long one attempt may take when nothing is said.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);
/// Further attempts of one look at most; the next look comes soon enough.
const RETRIES_MAX: u32 = 5;
/// The pauses between attempts when nothing is said (Envoy: 1 s and 10 s).
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// States why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{path} cannot be read")]
    File {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("it has no keys")]
    Empty,
    #[error(transparent)]
    NoKeySet(#[from] NoKeySet),
    #[error("it is not base64")]
    Spelling,
    #[error("{0} answers {1}")]
    Status(String, u16),
    #[error("it has more than {} bytes", limits::OPAQUE_TEXT_BYTES_MAX)]
    TooLarge,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the environment has no {0}")]
    Unset(String),
}

/// Gets a key set, checked: a JSON text.
pub(super) async fn fetch(source: &JwtKeySet) -> Result<String, FetchError> {
    let bytes = match (&source.local, &source.remote) {
        (Some(local), _) if !local.jwks.is_empty() => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(&local.jwks);
            decoded.map_err(|_| FetchError::Spelling)?
        }
        (Some(local), _) => {
            let path = &local.filename;
            let fail = |source| FetchError::File { path: path.clone(), source };
            read(path).await.map_err(fail)?
        }
        (None, Some(remote)) => call_patiently(remote).await?,
        (None, None) => return Err(FetchError::Empty),
    };
    if bytes.len() > limits::OPAQUE_TEXT_BYTES_MAX {
        return Err(FetchError::TooLarge);
    }
    // A set without keys would lock everybody out, and is what a broken issuer says.
    if KeySet::parse(&bytes)?.is_empty() {
        return Err(FetchError::Empty);
    }
    String::from_utf8(bytes).map_err(|_| FetchError::Spelling)
}

/// Reads a file, but no further than one byte beyond the bound: it may have no end.
async fn read(path: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bound = limits::OPAQUE_TEXT_BYTES_MAX as u64 + 1;
    tokio::fs::File::open(path).await?.take(bound).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

async fn call_patiently(remote: &JwtRemoteKeys) -> Result<Vec<u8>, FetchError> {
    let retries = remote.retry_policy.as_ref();
    let pauses = retries.and_then(|it| it.retry_policy_back_off.as_ref());
    let or = |said: Option<Duration>, default| said.filter(|it| !it.is_zero()).unwrap_or(default);
    let min = or(pauses.map(|it| it.base_interval.0), PAUSE_MIN);
    let max = or(pauses.map(|it| it.max_interval.0), PAUSE_MAX).max(min);
    let mut backoff = Backoff::new(min, max, entropy::rng());
    let mut left = retries.map_or(0, |it| it.num_retries).min(RETRIES_MAX);
    loop {
        match call(remote).await {
            Err(_) if left > 0 => left -= 1,
            done => return done,
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn call(remote: &JwtRemoteKeys) -> Result<Vec<u8>, FetchError> {
    let limit = match remote.request_timeout_ms {
        0 => ATTEMPT_LIMIT,
        ms => Duration::from_millis(ms.into()),
    };
    let mut client = HttpClient::new(limit, limits::OPAQUE_TEXT_BYTES_MAX);
    if remote.uri.starts_with("https://") {
        let trusted = remote.jwks_cluster.as_ref().and_then(|it| it.tls_certificates.as_ref());
        let trust = match trusted.and_then(|it| it.trusted_ca.as_ref()) {
            Some(ca) => trust(ca)?,
            None => OutsideTrust::System,
        };
        client = client.with_tls(Arc::new(client_config_outside(&trust)?));
    }
    let call = client.request(Method::GET, &remote.uri, HeaderMap::new(), Vec::new().into());
    let answer = call.await?;
    match answer.status.as_u16() {
        200 => Ok(answer.body.into()),
        status => Err(FetchError::Status(remote.uri.clone(), status)),
    }
}

fn trust(ca: &JwksTrustedCa) -> Result<OutsideTrust, FetchError> {
    if !ca.filename.is_empty() {
        return Ok(OutsideTrust::File(PathBuf::from(&ca.filename)));
    }
    let pem = match (&*ca.environment_variable, &*ca.inline_string) {
        ("", "") => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(&ca.inline_bytes);
            let decoded = decoded.map_err(|_| FetchError::Spelling)?;
            String::from_utf8(decoded).map_err(|_| FetchError::Spelling)?
        }
        ("", pem) => pem.to_owned(),
        (name, _) => std::env::var(name).map_err(|_| FetchError::Unset(name.to_owned()))?,
    };
    Ok(OutsideTrust::Pem(pem))
}
