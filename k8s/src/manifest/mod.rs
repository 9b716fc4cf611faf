//! Files of manifests: pods found in any workload, sidecars added, all else as it was.
//!
//! A document that is not changed is passed on to the byte. One that is changed is written again
//! from a tree that keeps order and the form of each scalar; comments inside it are lost.

mod document;
mod file;
mod kinds;
mod read;
mod scalar;
mod tree;
mod write;

use serde_json::Value;

pub use file::{Done, Injection, ManifestError, Outcome, Report, inject_file};

/// Writes an object as YAML, without the line that begins a document.
pub fn yaml(object: &Value) -> String {
    write::write(&tree::Node::from_json(object))
}

#[cfg(test)]
mod tests;
