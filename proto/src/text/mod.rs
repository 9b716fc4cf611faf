//! What people write: configuration files and what is wrong with them.
//!
//! Every form ends as a JSON value and goes through the decoder of `json`.

mod audit;
mod fault;
mod hcl;
mod https;
mod merge;
mod rules;
mod spread;
#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use weft_core::limits::API_BODY_BYTES_MAX;

pub use crate::json::Unknown;
use crate::json::{Options, from_value};
pub use audit::{AuditConfig, AuditSection};
pub use fault::Fault;
pub use https::{HttpsConfig, HttpsSection};
pub use merge::merge;
pub use rules::parse_rules;

/// Parses a file: JSON when its name ends in `.json` or its first character is `{`, else HCL.
///
/// **Shape**: an empty file is the empty object.
///
/// # Errors
/// One fault, whose path is the file (and, where it is known, the field).
pub fn parse(file: &str, text: &str) -> Result<Value, Fault> {
    let in_file = |fault: Fault| Fault::new(file, fault.to_string());
    if text.len() > API_BODY_BYTES_MAX {
        let length = text.len();
        let reason = format!("has {length} bytes, more than the {API_BODY_BYTES_MAX} allowed");
        return Err(Fault::new(file, reason));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let json =
        file.ends_with(".json") || (!file.ends_with(".hcl") && text.trim_start().starts_with('{'));
    if text.trim().is_empty() {
        Ok(Value::Object(Map::new()))
    } else if json {
        crate::json::parse(text.as_bytes()).map_err(in_file)
    } else {
        hcl::parse(text).map_err(in_file)
    }
}

/// Decodes what was parsed. A single block is accepted where a list of them is wanted.
///
/// # Errors
/// Every fault that was found, by field.
pub fn decode<T: DeserializeOwned>(value: &Value, unknown: Unknown) -> Result<T, Vec<Fault>> {
    from_value(value, &Options::new(unknown).blocks())
}
