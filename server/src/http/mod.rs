//! The JSON API for requests that agents pass on.

use std::convert::Infallible;
use std::task::{Context, Poll};

use ::http::{Request, Response, StatusCode};
use futures::future::BoxFuture;
use tower::Service;
use weft_runtime::http::{Body, full};

use crate::config::Config;
use crate::propose::Proposer;
use crate::read::Reader;

/// The API as a service.
#[derive(Clone)]
pub(crate) struct Api;

impl Api {
    pub(crate) fn new(_proposer: Proposer, _reader: Reader, _config: &Config) -> Self {
        Self
    }
}

impl Service<Request<Body>> for Api {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Body>) -> Self::Future {
        let mut answer = Response::new(full("not found"));
        *answer.status_mut() = StatusCode::NOT_FOUND;
        Box::pin(std::future::ready(Ok(answer)))
    }
}
