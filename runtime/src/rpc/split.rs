//! One port for gRPC and the JSON API.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use http::{Request, Response, header};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tonic::service::Routes;
use tower::Service;

use crate::http::{Body, BoxError};

/// Passes gRPC requests, known by their content type, to one service and the rest to another.
#[derive(Debug, Clone)]
pub struct GrpcOrApi<S> {
    grpc: Routes,
    api: S,
}

impl<S> GrpcOrApi<S> {
    /// Joins the two.
    pub fn new(grpc: Routes, api: S) -> Self {
        Self { grpc, api }
    }
}

impl<S, B> Service<Request<Body>> for GrpcOrApi<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // tonic's routes are always ready.
        self.api.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if is_grpc {
            self.grpc.call(request).map_ok(boxed).boxed()
        } else {
            self.api.call(request).map_ok(boxed).boxed()
        }
    }
}

fn boxed<B>(answer: Response<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    answer.map(|body| body.map_err(Into::into).boxed_unsync())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::http::{HttpClient, PeerIdentity, ServeOptions, empty, full, serve};
    use crate::net;
    use crate::rpc::{Hosts, channel_tls_any, channel_unix};
    use crate::task::TaskTree;
    use crate::tls::test_authority::TestAuthority;
    use crate::tls::{
        ClientAuth, ClientTlsCell, PeerCheck, ServerTlsCell, client_config, server_config,
    };

    const LIMIT: Duration = Duration::from_secs(10);

    fn service() -> GrpcOrApi<
        impl Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send,
        > + Clone
        + Send,
    > {
        let api = tower::service_fn(async |request: Request<Body>| {
            let peer = request.extensions().get::<PeerIdentity>().cloned().expect("inserted");
            Ok::<_, Infallible>(Response::new(full(format!("{:?}", peer.0.is_some()))))
        });
        GrpcOrApi::new(Routes::default(), api)
    }

    /// Calls a method that does not exist: the answer is gRPC's.
    async fn call_unknown(channel: tonic::transport::Channel) -> tonic::Code {
        let mut request = Request::post("http://weft/weft.v1.Nothing/Nothing")
            .body(tonic::body::Body::new(empty()))
            .expect("a request");
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
        let mut channel = channel;
        futures::future::poll_fn(|context| channel.poll_ready(context)).await.expect("connected");
        let answer = channel.call(request).await.expect("answered");
        tonic::Status::from_header_map(answer.headers()).expect("a gRPC status").code()
    }

    #[tokio::test]
    async fn one_mtls_port_serves_both() {
        let authority = TestAuthority::new("a1.mesh");
        let trust = authority.trust();
        let server = authority.identity("agent/server/dc/dc1/id/s1");
        let agent = authority.identity("agent/client/dc/dc1/id/n1");
        let config = server_config(&server, &trust, ClientAuth::Required, &["h2", "http/1.1"]);
        let cell = ServerTlsCell::new(Arc::new(config.expect("a server")));
        let tasks = TaskTree::root("test");
        let listener =
            net::bind_tcp("127.0.0.1:0".parse().expect("an address")).await.expect("free");
        let address = listener.local_addr().expect("bound").to_string();
        let tree = tasks.clone();
        tasks.spawn("accept", async move {
            serve(listener, Some(cell), service(), ServeOptions::default(), &tree).await;
        });
        let config = |alpn: &str| {
            let config = client_config(&agent, &trust, PeerCheck::AnyServer, &[alpn]);
            Arc::new(config.expect("a client"))
        };
        // Nobody listens on port 1: the channel goes on to the next host and stays there.
        let hosts = Hosts::new(vec!["127.0.0.1:1".to_owned(), address.clone()]);
        let channel = channel_tls_any(hosts.clone(), ClientTlsCell::new(config("h2")));
        assert_eq!(call_unknown(channel).await, tonic::Code::Unimplemented);
        assert_eq!(hosts.current(), Some(address.clone()));
        let caller = HttpClient::new(LIMIT, 1 << 20).with_tls(config("http/1.1"));
        let answer = caller.get(&format!("https://{address}/v1/x")).await.expect("served");
        assert_eq!(answer.text(), "true");
        tasks.cancel();
        tasks.join(LIMIT).await.expect("all ended");
    }

    #[tokio::test]
    async fn a_unix_channel_reconnects_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let channel = channel_unix(&path);
        for _ in 0..2 {
            let listener = net::bind_unix(&path, 0o600).expect("a socket");
            let tasks = TaskTree::root("test");
            let tree = tasks.clone();
            tasks.spawn("accept", async move {
                serve(listener, None, service(), ServeOptions::default(), &tree).await;
            });
            assert_eq!(call_unknown(channel.clone()).await, tonic::Code::Unimplemented);
            tasks.cancel();
            tasks.join(LIMIT).await.expect("all ended");
        }
    }
}
