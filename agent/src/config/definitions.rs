//! Services and checks that stand in configuration files, each read for itself: one that is wrong
//! does not keep the others from being registered.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_proto::json::Unknown;
use weft_proto::text::{self, Fault};

use super::FileConfig;
use crate::local::{Definitions, Placed};

/// Definitions in the files of one agent: each becomes a record of the catalog.
const DEFINITIONS_MAX: usize = 16_384;

/// Reads the definitions of files.
///
/// `lists` has, file by file, the values of the fields `services` and `checks`: one definition or
/// a list of them. What cannot be read is told in [`Definitions::faults`].
pub fn read_definitions(lists: &[(String, &'static str, Value)]) -> Definitions {
    let mut read = Definitions::default();
    for (file, field, value) in lists {
        match *field {
            "services" => append((file, field), value, &mut read.services, &mut read.faults),
            _ => append((file, field), value, &mut read.checks, &mut read.faults),
        }
    }
    read
}

fn append<T: DeserializeOwned>(
    (file, field): (&str, &str),
    value: &Value,
    definitions: &mut Vec<Placed<T>>,
    faults: &mut Vec<Fault>,
) {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    for (at, item) in items.iter().enumerate() {
        let place = format!("{file}: {field}[{at}]");
        if definitions.len() >= DEFINITIONS_MAX {
            let reason = format!("is one more than the {DEFINITIONS_MAX} definitions allowed");
            faults.push(Fault::new(place, reason));
            return;
        }
        match text::decode(item, Unknown::Refuse) {
            Ok(definition) => definitions.push(Placed { place, definition }),
            Err(found) => {
                faults.extend(found.into_iter().map(|fault| Fault::new(&place, fault.to_string())))
            }
        }
    }
}

/// What reading the files again came to: the settings and the definitions.
type Read = Result<(FileConfig, Definitions), Vec<Fault>>;

/// Reads the agent's files again. Blocks its thread.
#[derive(Clone)]
pub struct Reread(Arc<dyn Fn() -> Read + Send + Sync>);

impl Reread {
    /// Keeps how files are read.
    pub fn new(read: impl Fn() -> Read + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Reads them.
    ///
    /// # Errors
    /// Every fault, when the settings are not clear; faults of definitions are told with them.
    pub fn read(&self) -> Read {
        self.0()
    }
}

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reread(…)")
    }
}
