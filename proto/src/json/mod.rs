//! The bodies of the public HTTP API.
//!
//! Records of `core` are their own output form: a config entry, and a list of them, is written
//! as it is. Input is decoded tolerantly: field names match
//! without regard to case and underscores, and all faults are found at once. One file per page
//! of the API for the bodies that are not records.
//!
//! **Source**: Consul: api-docs/api-structure#formatted-json-output; clients write `ServiceID`,
//! `service_id` and `serviceid` alike.

pub mod acl;
pub mod agent_check;
pub mod catalog;
pub mod config_entry;
pub mod coordinate;
pub mod discovery;
pub mod event;
pub mod flows;
pub mod intention;
pub mod join_token;
pub mod kv;
pub mod login;
pub mod mtls;
pub mod proxies;
pub mod query;
pub mod registration;
pub mod revocation;
pub mod rollout;
pub mod root;
pub mod session;
pub mod txn;

mod decode;
mod parse;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use crate::text::Fault;
pub use decode::{Options, Unknown};
pub(crate) use decode::{is_empty, is_key};
pub use parse::{parse, parse_within};

/// Decodes a request body.
///
/// # Errors
/// Every fault that was found, at least one: a syntax error alone with line and column, else
/// fields by path.
pub fn from_slice<T: DeserializeOwned>(body: &[u8], unknown: Unknown) -> Result<T, Vec<Fault>> {
    let value = parse(body).map_err(|fault| vec![fault])?;
    from_value(&value, &Options::new(unknown))
}

/// Decodes a value that was already parsed.
///
/// # Errors
/// Every fault that was found, at least one.
pub fn from_value<T: DeserializeOwned>(value: &Value, options: &Options) -> Result<T, Vec<Fault>> {
    decode::decode(value, options)
}
