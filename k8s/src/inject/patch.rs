//! A JSON patch that only adds and replaces.
//!
//! **Source**: RFC 6902 §4.1, §4.3; RFC 6901.

use serde::Serialize;
use serde_json::Value;

/// One step of a patch.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Adds a field, or inserts an element before the one named; `-` names the end.
    Add {
        /// A JSON pointer.
        path: String,
        /// What is added.
        value: Value,
    },
    /// Puts another value in the place of one that is there.
    Replace {
        /// A JSON pointer.
        path: String,
        /// What takes its place.
        value: Value,
    },
}

/// Steps, in the order in which they are taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Patch {
    /// The steps.
    pub operations: Vec<Operation>,
}

impl Patch {
    pub(super) fn add(&mut self, path: &str, value: Value) {
        self.operations.push(Operation::Add { path: path.to_owned(), value });
    }

    pub(super) fn replace(&mut self, path: String, value: Value) {
        self.operations.push(Operation::Replace { path, value });
    }

    /// Adds elements to the end of a list that may be missing.
    pub(super) fn append(&mut self, pod: &Value, path: &str, elements: Vec<Value>) {
        if elements.is_empty() {
            return;
        }
        if pod.pointer(path).is_some_and(Value::is_array) {
            for element in elements {
                self.add(&format!("{path}/-"), element);
            }
        } else {
            self.add(path, Value::Array(elements));
        }
    }

    /// Puts elements before all others of a list that may be missing.
    pub(super) fn prepend(&mut self, pod: &Value, path: &str, elements: Vec<Value>) {
        if elements.is_empty() {
            return;
        }
        if pod.pointer(path).is_some_and(Value::is_array) {
            for element in elements.into_iter().rev() {
                self.add(&format!("{path}/0"), element);
            }
        } else {
            self.add(path, Value::Array(elements));
        }
    }
}

/// Writes a key as a part of a JSON pointer.
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
