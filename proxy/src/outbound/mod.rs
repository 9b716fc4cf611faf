//! The way out: from the local instance to another service's proxy.
//!
//! In the order of a request: `accept` → `protocol` → `route` → `endpoint` → `connect`.

mod accept;
mod breaker;
mod captured;
mod connect;
mod datagrams;
mod endpoint;
mod health;
mod hello;
mod mirror;
mod outside;
mod own;
mod protocol;
mod retry;
mod route;
mod stream;

pub(crate) use accept::accept;
pub(crate) use breaker::Breaker;
pub(crate) use captured::{Onward, accept_captured};
pub(crate) use datagrams::session;
pub(crate) use health::Health;
pub(crate) use outside::Outside;
