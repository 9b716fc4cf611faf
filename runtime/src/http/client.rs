//! Calling an HTTP API: checks, the operator's command, tests. One connection per request, no
//! redirects followed, every call with a deadline and a bounded answer.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::collect_start;
use super::{Body, BodyError, BoxError, body, collect, full};
use crate::net;
use crate::tls::rustls::ClientConfig;
use crate::tls::rustls::pki_types::ServerName;
use crate::tls::tokio_rustls::TlsConnector;

/// A caller of HTTP APIs.
#[derive(Debug, Clone)]
pub struct HttpClient {
    deadline: Duration,
    body_bytes_max: usize,
    cuts_bodies: bool,
    tls: Option<Arc<ClientConfig>>,
    server_name: Option<String>,
    unix: Option<PathBuf>,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// States why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The answer's body could not be read.
    #[error("cannot read the answer of {url}")]
    Body {
        /// What was called.
        url: String,
        /// Why.
        #[source]
        source: BodyError,
    },
    /// No connection was made.
    #[error("cannot reach {url}: {source}")]
    Connect {
        /// What was called.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The peer does not speak HTTP, or broke off.
    #[error("{url} does not answer as an HTTP server: {source}")]
    Protocol {
        /// What was called.
        url: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The answer did not come in time.
    #[error("{url} did not answer within {} ms", limit.as_millis())]
    Slow {
        /// What was called.
        url: String,
        /// The time allowed.
        limit: Duration,
    },
    /// The URL is not one that can be called.
    #[error("{url:?} is not a URL that can be called: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl HttpClient {
    /// Makes a caller whose calls take at most `deadline`, whole answers included.
    pub fn new(deadline: Duration, body_bytes_max: usize) -> Self {
        Self {
            deadline,
            body_bytes_max,
            cuts_bodies: false,
            tls: None,
            server_name: None,
            unix: None,
        }
    }

    /// Uses a TLS configuration for `https` URLs.
    #[must_use]
    pub fn with_tls(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Has certificates of `https` URLs stand for this name instead of the URL's host.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Takes an answer with a longer body for the start of it, and leaves the rest unread.
    #[must_use]
    pub fn cutting_bodies(mut self) -> Self {
        self.cuts_bodies = true;
        self
    }

    /// Sends every request to a unix socket; URLs then only give path and `Host`.
    #[must_use]
    pub fn over_unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.unix = Some(path.into());
        self
    }

    /// Calls `GET`.
    ///
    /// # Errors
    /// [`CallError`]; a status of 4xx or 5xx is an answer.
    pub async fn get(&self, url: &str) -> Result<HttpResponse, CallError> {
        self.request(Method::GET, url, HeaderMap::new(), Bytes::new()).await
    }

    /// Calls `PUT` with a body.
    ///
    /// # Errors
    /// As [`HttpClient::get`].
    pub async fn put(&self, url: &str, body: impl Into<Bytes>) -> Result<HttpResponse, CallError> {
        self.request(Method::PUT, url, HeaderMap::new(), body.into()).await
    }

    /// Calls any method. `Host` is set from the URL unless given.
    ///
    /// # Errors
    /// As [`HttpClient::get`].
    /// # Cancel safety
    /// Dropping it closes the connection; the request may have been served.
    pub async fn request(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<HttpResponse, CallError> {
        let nobody = &mut None;
        // Callers hold this for long in futures of their own, which are to stay small.
        let call = Box::pin(self.call(method, (url, headers), body, nobody));
        match tokio::time::timeout(self.deadline, call).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Slow { url: url.to_owned(), limit: self.deadline }),
        }
    }

    /// Calls `GET` and hands the body over as it comes, until it ends or `take` says that it is
    /// enough; the answer has no body then. That of a status other than 2xx is in the answer, as
    /// with [`HttpClient::request`]. There is no deadline.
    ///
    /// # Errors
    /// As [`HttpClient::get`], also when the body breaks off.
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub async fn follow(
        &self,
        url: &str,
        headers: HeaderMap,
        take: &mut (dyn FnMut(Bytes) -> ControlFlow<()> + Send),
    ) -> Result<HttpResponse, CallError> {
        self.call(Method::GET, (url, headers), Bytes::new(), &mut Some(take)).await
    }

    async fn call(
        &self,
        method: Method,
        (url, headers): (&str, HeaderMap),
        body: Bytes,
        take: &mut Option<Take<'_>>,
    ) -> Result<HttpResponse, CallError> {
        let wrong = |reason| CallError::Url { url: url.to_owned(), reason };
        let uri: Uri = url.parse().map_err(|_| wrong("it cannot be parsed"))?;
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(full(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| wrong("its path cannot be parsed"))?;
        *request.headers_mut() = headers;
        if !request.headers().contains_key(header::HOST) {
            let host = authority.as_str().rsplit('@').next().unwrap_or_default();
            let host = host.parse().map_err(|_| wrong("its host cannot be a header"))?;
            request.headers_mut().insert(header::HOST, host);
        }
        let connect = |source| CallError::Connect { url: url.to_owned(), source };
        if let Some(path) = &self.unix {
            let stream = net::connect_unix(path).await.map_err(connect)?;
            return self.send(url, stream, request, take).await;
        }
        let (port, is_https) = match uri.scheme_str() {
            Some("http") => (80, false),
            Some("https") => (443, true),
            Some(_) | None => return Err(wrong("it must start with http:// or https://")),
        };
        let host_port = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(port));
        let stream = net::connect_host(&host_port, self.deadline).await.map_err(connect)?;
        if !is_https {
            return self.send(url, stream, request, take).await;
        }
        let config = self.tls.clone().ok_or_else(|| wrong("no TLS configuration was given"))?;
        let host = self.server_name.as_deref().unwrap_or(authority.host());
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|_| wrong("its host is not a name"))?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(connect)?;
        self.send(url, stream, request, take).await
    }

    async fn send<I>(
        &self,
        url: &str,
        stream: I,
        request: Request<Body>,
        take: &mut Option<Take<'_>>,
    ) -> Result<HttpResponse, CallError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let protocol =
            |error: hyper::Error| CallError::Protocol { url: url.to_owned(), source: error.into() };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(protocol)?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(protocol)?;
            let (head, incoming) = answer.into_parts();
            let body = match take {
                Some(take) if head.status.is_success() => hand_over(incoming, take).await,
                Some(_) | None if self.cuts_bodies => {
                    collect_start(incoming, self.body_bytes_max).await
                }
                Some(_) | None => collect(incoming, self.body_bytes_max).await,
            };
            let body = body.map_err(|source| CallError::Body { url: url.to_owned(), source })?;
            Ok(HttpResponse { status: head.status, headers: head.headers, body })
        };
        tokio::pin!(exchange, connection);
        tokio::select! {
            // Neither is dropped before the answer is whole, or will never be.
            answer = exchange.as_mut() => answer,
            ended = connection.as_mut() => match ended {
                // The last bytes of the answer may still be on their way inside hyper.
                Ok(()) => exchange.await,
                Err(error) => Err(protocol(error)),
            },
        }
    }
}

/// Who takes a body piece by piece, and says when it is enough.
type Take<'a> = &'a mut (dyn FnMut(Bytes) -> ControlFlow<()> + Send);

async fn hand_over(mut incoming: Incoming, take: &mut Take<'_>) -> Result<Bytes, BodyError> {
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.into()))?;
        // What is no data are trailers, which nobody asked for.
        if let Ok(piece) = frame.into_data()
            && take(piece).is_break()
        {
            break;
        }
    }
    Ok(Bytes::new())
}

impl HttpResponse {
    /// Returns the body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// Those of the parser.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

impl From<HttpResponse> for http::Response<Body> {
    fn from(answer: HttpResponse) -> Self {
        let mut response = http::Response::new(body::full(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response
    }
}
