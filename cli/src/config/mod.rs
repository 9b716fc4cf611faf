//! From configuration files to what they say: reading, merging, and naming every fault with its
//! file and field. What the settings mean is decided by the processes.

mod files;
mod origin;
#[cfg(test)]
mod shipped;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_proto::text::{self, Fault, Unknown};
use weft_runtime::telemetry::log::LogFormat;

use crate::failure::Failure;
pub(crate) use origin::Origins;

/// What the files of one process may contain besides its own settings.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogSection {
    /// The level or filter; [`weft_runtime::telemetry::log::ENVIRONMENT`] beats it.
    pub(crate) level: Option<String>,
    /// The form of lines.
    pub(crate) format: Option<LogFormat>,
}

/// How the files of a process are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// Fields at the top of which each file may add members.
    pub(crate) lists: &'static [&'static str],
    /// Other names of fields at the top: what is written, what is meant.
    pub(crate) aliases: &'static [(&'static str, &'static str)],
}

/// The files of a process, read and merged.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    /// The process's own settings.
    pub(crate) settings: T,
    /// The `log` section.
    pub(crate) log: LogSection,
    /// Which file said what.
    pub(crate) origins: Origins,
}

/// Reads and merges files and folders, in the order given.
///
/// # Errors
/// Every fault of every file: what cannot be read or parsed, unknown fields, wrong values.
pub(crate) fn load<T: DeserializeOwned>(
    paths: &[PathBuf],
    form: Form,
) -> Result<Loaded<T>, Failure> {
    let mut faults = Vec::new();
    let mut parts = Vec::new();
    let mut origins = Origins::default();
    for file in files::find(paths, &mut faults) {
        let Some((settings, log)) = read(&file, form, &mut faults) else { continue };
        // Each file is decoded alone, so that its faults carry its name.
        for fault in text::decode::<T>(&settings, Unknown::Refuse).err().unwrap_or_default() {
            faults.push(Fault::new(&file, fault.to_string()));
        }
        for fault in text::decode::<LogSection>(&log, Unknown::Refuse).err().unwrap_or_default() {
            faults.push(Fault::new(&file, Fault::new("log", fault.to_string()).to_string()));
        }
        origins.add(&file, &settings);
        parts.push((file, settings, log));
    }
    if !faults.is_empty() {
        return Err(Failure::Config(faults));
    }
    let logs = parts.iter().map(|(file, _, log)| (file.clone(), log.clone())).collect();
    let settings = parts.into_iter().map(|(file, settings, _)| (file, settings)).collect();
    let merged = text::merge(settings, form.lists).map_err(Failure::Config)?;
    let merged_log = text::merge(logs, &[]).map_err(Failure::Config)?;
    Ok(Loaded {
        settings: text::decode(&merged, Unknown::Refuse).map_err(Failure::Config)?,
        log: text::decode(&merged_log, Unknown::Refuse).map_err(Failure::Config)?,
        origins,
    })
}

/// Reads one file and takes it apart into the process's settings and the `log` section.
fn read(file: &str, form: Form, faults: &mut Vec<Fault>) -> Option<(Value, Value)> {
    let content = match std::fs::read_to_string(file) {
        Ok(content) => content,
        Err(error) => {
            faults.push(Fault::new(file, format!("cannot be read: {error}")));
            return None;
        }
    };
    let mut value = match text::parse(file, &content) {
        Ok(value) => value,
        Err(fault) => {
            faults.push(fault);
            return None;
        }
    };
    let Some(fields) = value.as_object_mut() else {
        faults.push(Fault::new(file, "must be an object at the top"));
        return None;
    };
    for (written, meant) in form.aliases {
        if let Some(aliased) = fields.remove(*written) {
            let list = fields.entry(*meant).or_insert_with(|| Value::Array(Vec::new()));
            match (list, aliased) {
                (Value::Array(list), Value::Array(more)) => list.extend(more),
                (Value::Array(list), one) => list.push(one),
                (other, one) => *other = Value::Array(vec![std::mem::take(other), one]),
            }
        }
    }
    let log = fields.remove("log").unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    Some((value, log))
}
