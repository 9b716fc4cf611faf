//! The cluster's API server, as far as the webhook needs it: read an object, write it back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use serde_json::Value;
use weft_runtime::http::{CallError, HttpClient};
use weft_runtime::tls::{OutsideTrust, TlsError, client_config_outside};

/// The time for one call.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// The largest object: etcd holds 1.5 MiB.
const OBJECT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Where a pod finds its own account.
const ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why an object was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server did not answer.
    #[error("{method} {path}: the API server does not answer")]
    Call {
        /// What was tried.
        method: Method,
        /// On what.
        path: String,
        /// Why not.
        #[source]
        source: CallError,
    },
    /// Somebody else has written in between; it is tried again.
    #[error("{path} was written by somebody else at the same time")]
    Conflict {
        /// The object.
        path: String,
    },
    /// A file of the pod's account is missing.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// This is no pod.
    #[error(
        "there is no KUBERNETES_SERVICE_HOST: run it in a pod, or name an API server on loopback \
         with --api-server, as `kubectl proxy` makes one"
    )]
    NoCluster,
    /// The server says no.
    #[error("{method} {path}: the API server answers {status}: {message}")]
    Refused {
        /// What was tried.
        method: Method,
        /// On what.
        path: String,
        /// Its answer.
        status: StatusCode,
        /// Its reason.
        message: String,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS towards the API server")]
    Tls(#[from] TlsError),
    /// The URL would send secrets in the clear.
    #[error("--api-server {0:?}: write http:// with an address on loopback, or leave it out")]
    Url(String),
}

/// A client of the API server, with the account of the pod it runs in.
#[derive(Debug, Clone)]
pub struct ApiServer {
    client: HttpClient,
    url: String,
    /// Read for each call: a kubelet renews it. `None` where a proxy on loopback adds it.
    token: Option<PathBuf>,
}

impl ApiServer {
    /// Finds the API server as a pod does.
    ///
    /// # Errors
    /// [`ApiError`] outside of a pod.
    pub fn of_pod() -> Result<Self, ApiError> {
        let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let host = variable("KUBERNETES_SERVICE_HOST").ok_or(ApiError::NoCluster)?;
        let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let authority = Path::new(ACCOUNT_FOLDER).join("ca.crt");
        let pem = std::fs::read_to_string(&authority)
            .map_err(|source| ApiError::File { path: authority, source })?;
        let config = client_config_outside(&OutsideTrust::Pem(pem))?;
        Ok(Self {
            client: HttpClient::new(CALL_LIMIT, OBJECT_BYTES_MAX).with_tls(Arc::new(config)),
            url: format!("https://{host}:{port}"),
            token: Some(Path::new(ACCOUNT_FOLDER).join("token")),
        })
    }

    /// Takes a proxy on loopback for it, which adds the credentials.
    ///
    /// # Errors
    /// [`ApiError::Url`] for any other place: what is sent are keys.
    pub fn on_loopback(url: &str) -> Result<Self, ApiError> {
        let address = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let address = address.and_then(|text| text.parse::<std::net::SocketAddr>().ok());
        let address = address.filter(|address| address.ip().is_loopback());
        let address = address.ok_or_else(|| ApiError::Url(url.to_owned()))?;
        let client = HttpClient::new(CALL_LIMIT, OBJECT_BYTES_MAX);
        Ok(Self { client, url: format!("http://{address}"), token: None })
    }

    /// Reads an object; `None` when there is none.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Value>, ApiError> {
        match self.call(Method::GET, path, None).await {
            Ok(object) => Ok(Some(object)),
            Err(ApiError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an object below the path of its kind.
    pub(super) async fn create(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        self.call(Method::POST, path, Some(object)).await
    }

    /// Writes an object back, unless somebody else has written since it was read.
    pub(super) async fn replace(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        self.call(Method::PUT, path, Some(object)).await
    }

    /// Returns the version of the cluster, major and minor.
    ///
    /// # Errors
    /// [`ApiError`] when the server does not tell.
    pub async fn version(&self) -> Result<(String, String), ApiError> {
        let version = self.call(Method::GET, "/version", None).await?;
        let part = |name: &str| version[name].as_str().unwrap_or_default().to_owned();
        Ok((part("major"), part("minor")))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        object: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = &self.token {
            // A small file in memory.
            let text = std::fs::read_to_string(token)
                .map_err(|source| ApiError::File { path: token.clone(), source })?;
            if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", text.trim())) {
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
        }
        let body = object.map(|object| Bytes::from(object.to_string())).unwrap_or_default();
        let url = format!("{}{path}", self.url);
        let answer = self.client.request(method.clone(), &url, headers, body).await;
        let answer = answer.map_err(|source| ApiError::Call {
            method: method.clone(),
            path: path.to_owned(),
            source,
        })?;
        let told: Value = answer.json().unwrap_or_default();
        match answer.status {
            status if status.is_success() => Ok(told),
            StatusCode::CONFLICT => Err(ApiError::Conflict { path: path.to_owned() }),
            status => {
                let message = told["message"].as_str().unwrap_or("no reason given").to_owned();
                Err(ApiError::Refused { method, path: path.to_owned(), status, message })
            }
        }
    }
}
