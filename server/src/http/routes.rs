//! The table of pages. Each page's file adds its own routes.

use ::http::{Method, Response};
use futures::future::BoxFuture;
use weft_core::limits;
use weft_runtime::http::{Body, Found, Router};

use super::Context;
use super::error::ApiError;
use super::request::ApiRequest;

/// Answers a request.
pub(super) type Handler =
    for<'a> fn(&'a Context, &'a ApiRequest) -> BoxFuture<'a, Result<Response<Body>, ApiError>>;

/// What is known of a route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) handler: Handler,
    /// A longer body is refused before the handler is asked.
    pub(super) body_bytes_max: usize,
    /// Its place among the routes.
    pub(super) at: usize,
}

/// Every route of the API.
#[derive(Debug, Default)]
pub(super) struct Routes {
    router: Router<Route>,
    names: Vec<(Method, String)>,
}

impl Routes {
    pub(super) fn get(self, pattern: &str, handler: Handler) -> Self {
        self.with_body(Method::GET, pattern, limits::API_BODY_BYTES_MAX, handler)
    }

    pub(super) fn put(self, pattern: &str, handler: Handler) -> Self {
        self.with_body(Method::PUT, pattern, limits::API_BODY_BYTES_MAX, handler)
    }

    pub(super) fn post(self, pattern: &str, handler: Handler) -> Self {
        self.with_body(Method::POST, pattern, limits::API_BODY_BYTES_MAX, handler)
    }

    pub(super) fn delete(self, pattern: &str, handler: Handler) -> Self {
        self.with_body(Method::DELETE, pattern, limits::API_BODY_BYTES_MAX, handler)
    }

    /// Adds a route with a bound of its own on the request's body, in bytes.
    pub(super) fn with_body(
        mut self,
        method: Method,
        pattern: &str,
        body_bytes_max: usize,
        handler: Handler,
    ) -> Self {
        let route = Route { handler, body_bytes_max, at: self.names.len() };
        self.names.push((method.clone(), pattern.to_owned()));
        Self { router: self.router.route(method, pattern, route), ..self }
    }

    /// Returns every method and pattern, in the order of their places.
    pub(super) fn all(&self) -> Vec<(Method, String)> {
        self.names.clone()
    }

    /// Returns a request's place among the routes; `None` when it is for none of them.
    pub(super) fn place(&self, method: &Method, path: &str) -> Option<usize> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        match self.router.find(method, path) {
            Found::Handler { handler, .. } => Some(handler.at),
            Found::NotFound | Found::WrongMethod { .. } => None,
        }
    }

    /// Looks up a request's method and path.
    pub(super) fn find(&self, method: &Method, path: &str) -> Found<'_, Route> {
        self.router.find(method, path)
    }
}
