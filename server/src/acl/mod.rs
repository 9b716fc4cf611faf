//! Whose request it is, and what it may do: from the secret that was shown to [`Rights`].
//!
//! Every request of the HTTP API has rights; every page asks them. What an agent's certificate
//! opens (`grpc`) is apart: it gives an agent its own node's records and what its proxies and
//! DNS need, and no right to anything that it passes on for others.

mod command;
mod entry;
mod gate;
mod login;
mod rights;
mod secret;
mod see;
#[cfg(test)]
mod tests;
mod txn;

pub(crate) use command::{Forbidden, check_command};
pub(crate) use entry::read_entry;
pub(crate) use gate::{Gate, UnknownToken};
#[cfg(feature = "sim")]
pub(crate) use login::untrusted;
pub(crate) use login::{LoginError, Logins, seal_reviewer};
pub(crate) use rights::Rights;
pub(crate) use secret::Credential;
pub use secret::Secret;
pub(crate) use txn::denied_ops;
