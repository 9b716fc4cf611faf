//! The way in: from another service's proxy to the local instance.
//!
//! In the order of a request: `accept` → `authorize` → `forward`.

mod accept;
mod authorize;
mod certificate;
mod datagrams;
mod exposed;
mod ext_authz;
mod forward;
mod own_app;
mod passes;
mod plaintext;
mod quic;
mod rates;
mod stream;
mod streams;
mod token;
mod under_way;

pub(crate) use accept::accept;
pub(crate) use authorize::judge_again;
pub(crate) use exposed::{ExposedPools, accept_exposed};
pub(crate) use ext_authz::Authoriser;
pub(crate) use quic::accept_quic;
pub(crate) use token::TokenCache;
pub(crate) use under_way::{Cut, UnderWay, WholeRequest};
