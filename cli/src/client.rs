//! The HTTP API as commands call it: where it is, who asks, and what a refusal says.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::de::DeserializeOwned;
use weft_runtime::http::{HttpClient, HttpResponse};
use weft_runtime::tls::{OutsideTrust, client_config_outside_with};

/// An answer takes milliseconds; one that waits for a leader some seconds.
const ASK_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of an answer: the whole catalog of a large estate.
const ANSWER_BYTES_MAX: usize = 1 << 30;
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-consul-token");
const DEFAULT_ADDR: &str = "127.0.0.1:8500";

/// Where the API is, and who asks.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "API")]
pub(crate) struct ApiArgs {
    /// The HTTP API: ip:port, http://…, https://… or unix:///path. Also WEFT_HTTP_ADDR or
    /// CONSUL_HTTP_ADDR [default: 127.0.0.1:8500]
    #[arg(long, value_name = "ADDR", global = true)]
    http_addr: Option<String>,
    /// The ACL token's secret. Also WEFT_HTTP_TOKEN or CONSUL_HTTP_TOKEN, which other users of
    /// the host do not see
    #[arg(long, value_name = "SECRET", global = true, hide_env_values = true)]
    token: Option<Secret>,
    /// A file with the secret. Also WEFT_HTTP_TOKEN_FILE or CONSUL_HTTP_TOKEN_FILE
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// The authorities that vouch for an https:// API, in PEM. Also WEFT_CACERT or CONSUL_CACERT
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// A certificate to show to the API, in PEM. Also WEFT_CLIENT_CERT or CONSUL_CLIENT_CERT
    #[arg(long, value_name = "FILE", global = true)]
    client_cert: Option<PathBuf>,
    /// Its key, in PEM. Also WEFT_CLIENT_KEY or CONSUL_CLIENT_KEY
    #[arg(long, value_name = "FILE", global = true)]
    client_key: Option<PathBuf>,
    /// The datacenter to ask; that of the agent when left out
    #[arg(long, value_name = "NAME", global = true)]
    datacenter: Option<String>,
    /// Take the answer of any server, also of one that lags behind
    #[arg(long, global = true)]
    stale: bool,
}

/// A text that is never shown.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl ApiArgs {
    /// Makes a caller of the API that gives up after half a minute.
    ///
    /// # Errors
    /// When an address, a token or a certificate cannot be used; each says where it came from.
    pub(crate) fn client(&self) -> anyhow::Result<ApiClient> {
        self.client_with(ASK_LIMIT)
    }

    /// Makes a caller that waits for an answer as long as is said, for blocking queries.
    ///
    /// # Errors
    /// As [`ApiArgs::client`].
    pub(crate) fn client_with(&self, limit: Duration) -> anyhow::Result<ApiClient> {
        let address = self.http_addr.clone().or_else(|| setting("HTTP_ADDR"));
        let address = address.unwrap_or_else(|| DEFAULT_ADDR.to_owned());
        let mut http = HttpClient::new(limit, ANSWER_BYTES_MAX);
        let base = if let Some(path) = address.strip_prefix("unix://") {
            http = http.over_unix(path);
            "http://localhost".to_owned()
        } else if let Some(host) = address.strip_prefix("https://") {
            http = http.with_tls(Arc::new(self.tls()?));
            format!("https://{}", host.trim_end_matches('/'))
        } else {
            let host = address.strip_prefix("http://").unwrap_or(&address);
            let is_tls = setting("HTTP_SSL").is_some_and(|it| it == "1" || it == "true");
            if is_tls && !address.starts_with("http://") {
                http = http.with_tls(Arc::new(self.tls()?));
                format!("https://{}", host.trim_end_matches('/'))
            } else {
                format!("http://{}", host.trim_end_matches('/'))
            }
        };
        let mut common = Vec::new();
        if let Some(datacenter) = &self.datacenter {
            common.push(format!("dc={}", encode(datacenter)));
        }
        if self.stale {
            common.push("stale=".to_owned());
        }
        Ok(ApiClient { http, base, address, token: self.token()?, common })
    }

    fn token(&self) -> anyhow::Result<Option<HeaderValue>> {
        let file = self.token_file.clone().or_else(|| path_setting("HTTP_TOKEN_FILE"));
        let secret = match (&self.token, file) {
            (Some(secret), _) => Some(secret.0.clone()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read the token file {}", path.display()))?;
                Some(text.trim().to_owned())
            }
            (None, None) => setting("HTTP_TOKEN"),
        };
        let Some(secret) = secret.filter(|secret| !secret.is_empty()) else { return Ok(None) };
        let mut value = HeaderValue::try_from(secret)
            .map_err(|_| anyhow!("the token has characters that no token has"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn tls(&self) -> anyhow::Result<weft_runtime::tls::rustls::ClientConfig> {
        let trust = match self.ca_file.clone().or_else(|| path_setting("CACERT")) {
            Some(path) => OutsideTrust::File(path),
            None => OutsideTrust::System,
        };
        let read = |path: PathBuf| {
            std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))
        };
        let cert = self.client_cert.clone().or_else(|| path_setting("CLIENT_CERT"));
        let key = self.client_key.clone().or_else(|| path_setting("CLIENT_KEY"));
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            (None, None) => None,
            (Some(_), None) => bail!("--client-cert needs --client-key"),
            (None, Some(_)) => bail!("--client-key needs --client-cert"),
        };
        let identity = identity.as_ref().map(|(cert, key)| (cert.as_str(), key.as_str()));
        client_config_outside_with(&trust, identity).context("cannot set up TLS")
    }
}

/// Reads an environment variable under our name, or else under Consul's.
fn setting(name: &str) -> Option<String> {
    ["WEFT", "CONSUL"]
        .into_iter()
        .filter_map(|prefix| std::env::var(format!("{prefix}_{name}")).ok())
        .find(|value| !value.is_empty())
}

fn path_setting(name: &str) -> Option<PathBuf> {
    setting(name).map(PathBuf::from)
}

/// A caller of the API.
#[derive(Debug, Clone)]
pub(crate) struct ApiClient {
    http: HttpClient,
    base: String,
    /// As it was given, for what is printed.
    address: String,
    token: Option<HeaderValue>,
    /// Query parameters of every call.
    common: Vec<String>,
}

/// What the API answered.
#[derive(Debug, Clone)]
pub(crate) struct ApiAnswer {
    what: String,
    response: HttpResponse,
}

impl ApiClient {
    /// Calls `GET` on a path with its query, such as `/v1/catalog/nodes?near=_agent`.
    ///
    /// # Errors
    /// When no answer comes; a refusal is an answer.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<ApiAnswer> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// Calls `GET` on a path and hands the body over as it comes, until it ends or `take` says that
    /// it is enough; a refusal is an answer with its text.
    ///
    /// # Errors
    /// As [`ApiClient::get`], also when the body breaks off.
    pub(crate) async fn follow(
        &self,
        path: &str,
        take: &mut (dyn FnMut(Bytes) -> ControlFlow<()> + Send),
    ) -> anyhow::Result<ApiAnswer> {
        let response = self.http.follow(&self.url(path), self.headers(), take).await;
        let response = response.with_context(|| self.hint())?;
        Ok(ApiAnswer { what: format!("GET {path}"), response })
    }

    /// Calls any method with a body.
    ///
    /// # Errors
    /// As [`ApiClient::get`].
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<ApiAnswer> {
        let what = format!("{method} {path}");
        let url = self.url(path);
        let response = self.http.request(method, &url, self.headers(), body.into()).await;
        let response = response.with_context(|| self.hint())?;
        Ok(ApiAnswer { what, response })
    }

    fn url(&self, path: &str) -> String {
        let mut url = format!("{}{path}", self.base);
        for pair in &self.common {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(pair);
        }
        url
    }

    fn headers(&self) -> HeaderMap {
        let token = self.token.iter().map(|token| (TOKEN_HEADER, token.clone()));
        token.collect()
    }

    fn hint(&self) -> String {
        format!(
            "is an agent or a server there? Name another one with --http-addr or \
             WEFT_HTTP_ADDR, not {}",
            self.address
        )
    }
}

impl ApiAnswer {
    /// Refuses every status but 2xx, with the API's own words.
    ///
    /// # Errors
    /// The status and the words.
    pub(crate) fn ok(self) -> anyhow::Result<Self> {
        let status = self.response.status;
        if status.is_success() {
            return Ok(self);
        }
        let text = self.response.text();
        let hint = match status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                " (give a token with --token-file or WEFT_HTTP_TOKEN)"
            }
            _ => "",
        };
        bail!("{}: {}: {}{hint}", self.what, status.as_u16(), text.trim())
    }

    /// Refuses every status but 2xx and 404; `None` is 404.
    ///
    /// # Errors
    /// As [`ApiAnswer::ok`].
    pub(crate) fn found(self) -> anyhow::Result<Option<Self>> {
        match self.response.status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => self.ok().map(Some),
        }
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        self.response.json().with_context(|| format!("{} did not answer as expected", self.what))
    }

    /// Returns the body.
    pub(crate) fn body(&self) -> &Bytes {
        &self.response.body
    }

    /// Returns the values of a header that may stand more than once.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.response.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// Returns the hash that an agent's own pages have instead of an index.
    pub(crate) fn content_hash(&self) -> Option<String> {
        let header = self.response.headers.get("x-consul-contenthash")?;
        header.to_str().ok().map(str::to_owned)
    }

    /// Returns the index for a blocking query; 0 when the answer has none.
    pub(crate) fn index(&self) -> u64 {
        let header = self.response.headers.get("x-consul-index");
        header.and_then(|it| it.to_str().ok()?.parse().ok()).unwrap_or(0)
    }
}

/// Writes a text so that it is one segment of a path, or one value of a query (RFC 3986 §2.1).
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_unreserved_is_escaped() {
        assert_eq!(encode("web-1_a.b~c"), "web-1_a.b~c");
        assert_eq!(encode("a/b c&é"), "a%2Fb%20c%26%C3%A9");
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::from("abc")), "(secret)");
    }
}
