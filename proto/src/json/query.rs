//! The bodies of `/v1/query`: prepared queries are records.
//!
//! **Source**: Consul: api-docs/query.

use serde_json::Value;
use weft_core::prepared_query::PreparedQuery;

use super::{Fault, Options, Unknown, from_value, is_key, parse};

/// Decodes and checks a prepared query.
///
/// # Errors
/// Every fault, by field.
pub fn decode(body: &[u8]) -> Result<PreparedQuery, Vec<Fault>> {
    let mut value = parse(body).map_err(|fault| vec![fault])?;
    // An empty template is how some clients write none.
    if let Value::Object(object) = &mut value {
        object.retain(|key, value| !(is_key(key, "Template") && super::is_empty(value)));
    }
    let query: PreparedQuery = from_value(&value, &Options::new(Unknown::Ignore))?;
    query.normalise().map_err(|faults| {
        faults.into_iter().map(|fault| Fault::new(fault.field, fault.reason)).collect()
    })
}
