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
    /// Fields at the top that are no settings: each member is read for itself, and a fault in one
    /// is no fault of the others.
    pub(crate) apart: &'static [&'static str],
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
    /// What is no setting, by file and field.
    pub(crate) apart: Vec<(String, &'static str, Value)>,
}

/// What of the files of a process is right.
#[derive(Debug)]
pub(crate) struct Readable<T> {
    /// The settings; `None` when they are not clear.
    pub(crate) settings: Option<T>,
    /// What is no setting, by file and field.
    pub(crate) apart: Vec<(String, &'static str, Value)>,
    /// What is wrong.
    pub(crate) faults: Vec<Fault>,
}

/// One file, read and taken apart.
struct Part {
    file: String,
    settings: Value,
    log: Value,
    apart: Vec<(String, &'static str, Value)>,
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
    let parts = read_all::<T>(paths, form, &mut faults);
    if !faults.is_empty() {
        return Err(Failure::Config(faults));
    }
    merged(parts, form).map_err(Failure::Config)
}

/// As [`load`], but goes on with the files that are right.
pub(crate) fn load_what_is_right<T: DeserializeOwned>(
    paths: &[PathBuf],
    form: Form,
) -> Readable<T> {
    let mut faults = Vec::new();
    let parts = read_all::<T>(paths, form, &mut faults);
    let apart = parts.iter().flat_map(|part| part.apart.clone()).collect();
    let is_whole = faults.is_empty();
    let settings = match merged::<T>(parts, form) {
        Ok(loaded) => is_whole.then_some(loaded.settings),
        Err(found) => {
            faults.extend(found);
            None
        }
    };
    Readable { settings, apart, faults }
}

fn read_all<T: DeserializeOwned>(
    paths: &[PathBuf],
    form: Form,
    faults: &mut Vec<Fault>,
) -> Vec<Part> {
    let mut parts = Vec::new();
    for file in files::find(paths, faults) {
        let Some(part) = read(&file, form, faults) else { continue };
        // Each file is decoded alone, so that its faults carry its name.
        for fault in text::decode::<T>(&part.settings, Unknown::Refuse).err().unwrap_or_default() {
            faults.push(Fault::new(&file, fault.to_string()));
        }
        let log = text::decode::<LogSection>(&part.log, Unknown::Refuse);
        for fault in log.err().unwrap_or_default() {
            faults.push(Fault::new(&file, Fault::new("log", fault.to_string()).to_string()));
        }
        parts.push(part);
    }
    parts
}

fn merged<T: DeserializeOwned>(parts: Vec<Part>, form: Form) -> Result<Loaded<T>, Vec<Fault>> {
    let mut origins = Origins::default();
    let (mut settings, mut logs, mut apart) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        origins.add(&part.file, &part.settings);
        settings.push((part.file.clone(), part.settings));
        logs.push((part.file, part.log));
        apart.extend(part.apart);
    }
    let merged = text::merge(settings, form.lists)?;
    let merged_log = text::merge(logs, &[])?;
    Ok(Loaded {
        settings: text::decode(&merged, Unknown::Refuse)?,
        log: text::decode(&merged_log, Unknown::Refuse)?,
        origins,
        apart,
    })
}

/// Reads one file and takes it apart into the process's settings, the `log` section, and what is
/// no setting.
fn read(file: &str, form: Form, faults: &mut Vec<Fault>) -> Option<Part> {
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
    let apart = form.apart.iter();
    let apart = apart.filter_map(|field| Some((file.to_owned(), *field, fields.remove(*field)?)));
    let apart = apart.collect();
    Some(Part { file: file.to_owned(), settings: value, log, apart })
}
