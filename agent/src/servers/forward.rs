//! Requests that a server answers, passed on and their answers streamed back unchanged.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use tonic::transport::Channel;
use weft_runtime::backoff::Backoff;
use weft_runtime::entropy;
use weft_runtime::http::{Body, empty};

use super::{Servers, reason};

/// Attempts at a request that only reads, before the caller is told that no server answers: the
/// first may meet a connection that broke unnoticed, the second a server that restarts.
const READ_ATTEMPTS: usize = 3;
/// The pauses between them.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// Headers that speak of one connection and are not passed on.
///
/// **Source**: Spec: RFC 9110 §7.6.1. `grpc-timeout` would be obeyed by our own channel.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("grpc-timeout"),
];

/// Says why a request got no answer from a server.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The request is not one of the API.
    #[error("only paths below /v1/ are answered by servers")]
    NotApi,
    /// No server could be reached, or the connection broke before it answered.
    #[error("no server can be reached: {reason}")]
    NoServer {
        /// What the last attempt came to.
        reason: String,
    },
}

impl Servers {
    /// Passes a request of the HTTP API on to a server.
    ///
    /// A request that only reads is tried again when a connection breaks. The answer's body is
    /// streamed; it may break off later.
    ///
    /// # Errors
    /// [`ForwardError`]; a server's refusal is an answer.
    pub async fn forward(&self, request: Request<Body>) -> Result<Response<Body>, ForwardError> {
        let (mut head, body) = request.into_parts();
        let target = head.uri.path_and_query().filter(|target| is_api(target));
        let target = target.cloned().ok_or(ForwardError::NotApi)?;
        remove_hop_by_hop(&mut head.headers);
        let mut fresh = Request::new(());
        *fresh.method_mut() = head.method;
        // tonic's channel adds scheme and authority.
        *fresh.uri_mut() = Uri::from(target);
        *fresh.version_mut() = Version::HTTP_2;
        *fresh.headers_mut() = head.headers;
        let only_reads = matches!(*fresh.method(), Method::GET | Method::HEAD);
        if !only_reads || !body.is_end_stream() {
            return self.attempt(fresh.map(|()| body)).await;
        }
        let mut pauses = Backoff::new(PAUSE_MIN, PAUSE_MAX, entropy::rng());
        for _ in 1..READ_ATTEMPTS {
            match self.attempt(fresh.clone().map(|()| empty())).await {
                Ok(answer) => return Ok(answer),
                Err(_) => tokio::time::sleep(pauses.next()).await,
            }
        }
        self.attempt(fresh.map(|()| empty())).await
    }

    async fn attempt(&self, request: Request<Body>) -> Result<Response<Body>, ForwardError> {
        let request = request.map(tonic::body::Body::new);
        let answer = send(self.forwarding.clone(), request).await;
        let mut answer =
            answer.map_err(|error| ForwardError::NoServer { reason: reason(&error) })?;
        remove_hop_by_hop(answer.headers_mut());
        *answer.version_mut() = Version::default();
        Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

async fn send(
    mut channel: Channel,
    request: Request<tonic::body::Body>,
) -> Result<Response<tonic::body::Body>, tonic::transport::Error> {
    use tonic::codegen::Service;
    std::future::poll_fn(|context| channel.poll_ready(context)).await?;
    channel.call(request).await
}

fn is_api(target: &PathAndQuery) -> bool {
    target.path().starts_with("/v1/")
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    // It would lead the request to the server's gRPC door, in the agent's name.
    let is_grpc = |value: &http::HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if headers.get(header::CONTENT_TYPE).is_some_and(is_grpc) {
        headers.remove(header::CONTENT_TYPE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_connection_are_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("host", "localhost:8500"),
            ("grpc-timeout", "1S"),
            ("content-type", "application/grpc+proto"),
            ("x-consul-token", "t"),
            ("accept", "*/*"),
        ] {
            headers.insert(HeaderName::from_static(name), value.parse().expect("a value"));
        }
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-consul-token"]);
    }
}
