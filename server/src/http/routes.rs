//! The table of pages. Each page's file adds its own routes.

use ::http::{Method, Response};
use futures::future::BoxFuture;
use weft_core::limits;
use weft_runtime::http::{Body, Found, Router};

use super::Context;
use super::error::ApiError;
use super::request::ApiRequest;
use crate::acl::Rights;
use crate::config::Limits;

/// Answers a request.
pub(super) type Handler =
    for<'a> fn(&'a Context, &'a ApiRequest) -> BoxFuture<'a, Result<Response<Body>, ApiError>>;

/// What is known of a route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) handler: Handler,
    /// A longer body is refused before the handler is asked.
    pub(super) body: BodyBound,
    /// Whose body is not even read.
    pub(super) admits: Admits,
    /// Its place among the routes.
    pub(super) at: usize,
}

/// How long a request's body may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum BodyBound {
    /// As most are.
    Plain,
    /// A whole state.
    Snapshot,
    /// As many operations as are configured.
    Transaction,
    /// A value, as long as is configured.
    Value,
}

impl BodyBound {
    /// Returns the number of bytes.
    pub(super) fn bytes(self, configured: &Limits) -> usize {
        match self {
            Self::Plain => limits::API_BODY_BYTES_MAX,
            Self::Snapshot => usize::try_from(limits::SNAPSHOT_BYTES_MAX).unwrap_or(usize::MAX),
            Self::Transaction => configured.txn_body_bytes_max(),
            // The handler says how long a value is that is too long, if it is not far too long.
            Self::Value => configured.kv_value_bytes_max.max(limits::API_BODY_BYTES_MAX),
        }
    }
}

/// Refuses those whose body must not be read.
pub(super) type Admits = fn(&Rights) -> Result<(), ApiError>;

/// Every route of the API.
#[derive(Debug, Default)]
pub(super) struct Routes {
    router: Router<Route>,
    names: Vec<(Method, String)>,
}

impl Routes {
    pub(super) fn get(self, pattern: &str, handler: Handler) -> Self {
        self.with_body(Method::GET, pattern, BodyBound::Plain, handler)
    }

    pub(super) fn put(self, pattern: &str, handler: Handler) -> Self {
        self.with_body(Method::PUT, pattern, BodyBound::Plain, handler)
    }

    pub(super) fn post(self, pattern: &str, handler: Handler) -> Self {
        self.with_body(Method::POST, pattern, BodyBound::Plain, handler)
    }

    pub(super) fn delete(self, pattern: &str, handler: Handler) -> Self {
        self.with_body(Method::DELETE, pattern, BodyBound::Plain, handler)
    }

    /// Adds a route with a bound of its own on the request's body.
    pub(super) fn with_body(
        self,
        method: Method,
        pattern: &str,
        body: BodyBound,
        handler: Handler,
    ) -> Self {
        let admits: Admits = |_| Ok(());
        self.route(method, pattern, (body, admits), handler)
    }

    /// Adds a `PUT` route with a bound of its own on the body, which is read of those alone who
    /// are admitted.
    pub(super) fn put_admitted(
        self,
        pattern: &str,
        body: BodyBound,
        admits: Admits,
        handler: Handler,
    ) -> Self {
        self.route(Method::PUT, pattern, (body, admits), handler)
    }

    fn route(
        mut self,
        method: Method,
        pattern: &str,
        (body, admits): (BodyBound, Admits),
        handler: Handler,
    ) -> Self {
        let route = Route { handler, body, admits, at: self.names.len() };
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

    /// Returns the table itself.
    pub(super) fn router(&self) -> &Router<Route> {
        &self.router
    }

    /// Looks up a request's method and path.
    pub(super) fn find(&self, method: &Method, path: &str) -> Found<'_, Route> {
        self.router.find(method, path)
    }
}
