//! Several files as one configuration.

use serde_json::{Map, Value};

use super::Fault;
use crate::json::is_key;

/// Merges files into one value, in the order given.
///
/// Objects are merged, lists are joined, and of two single values the later one stands. The
/// names in `lists` are lists at the top of a file: one block of that name counts as a list of
/// one, so that a `service` block in each of two files makes two services.
///
/// # Errors
/// One fault for each file that is not an object.
pub fn merge(files: Vec<(String, Value)>, lists: &[&str]) -> Result<Value, Vec<Fault>> {
    let mut merged = Map::new();
    let mut faults = Vec::new();
    for (source, value) in files {
        let Value::Object(file) = value else {
            faults.push(Fault::new(source, "must be an object at the top"));
            continue;
        };
        for (key, mut value) in file {
            if value.is_object() && lists.iter().any(|list| is_key(&key, list)) {
                value = Value::Array(vec![value]);
            }
            // `data_dir` in one file and `DataDir` in another are the same setting.
            let known = merged.keys().find(|known| is_key(known, &key)).cloned();
            merge_into(merged.entry(known.unwrap_or(key)).or_insert(Value::Null), value);
        }
    }
    if faults.is_empty() { Ok(Value::Object(merged)) } else { Err(faults) }
}

fn merge_into(into: &mut Value, value: Value) {
    match (into, value) {
        (Value::Object(into), Value::Object(value)) => {
            for (key, value) in value {
                merge_into(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(value)) => into.extend(value),
        (into, value) => *into = value,
    }
}
