//! Where a setting was made: in which file, or by which flag. So that a fault found after
//! merging can be told where to mend it.

use serde_json::Value;
use weft_proto::text::Fault;

/// The makers of all settings, in the order in which they were merged.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    files: Vec<(String, Value)>,
    flags: Vec<(&'static str, &'static str)>,
}

impl Origins {
    /// Notes what a file says.
    pub(super) fn add(&mut self, file: &str, settings: &Value) {
        self.files.push((file.to_owned(), settings.clone()));
    }

    /// Sets a field from a flag that was given, and notes it.
    pub(crate) fn set<T>(
        &mut self,
        (flag, field): (&'static str, &'static str),
        given: Option<T>,
        setting: &mut Option<T>,
    ) {
        if given.is_some() {
            *setting = given;
            self.flags.push((flag, field));
        }
    }

    /// Sets a list from a flag that was given at least once, and notes it.
    pub(crate) fn set_list<T>(
        &mut self,
        (flag, field): (&'static str, &'static str),
        given: Vec<T>,
        setting: &mut Vec<T>,
    ) {
        if !given.is_empty() {
            *setting = given;
            self.flags.push((flag, field));
        }
    }

    /// Puts the flag or the file before each fault whose field was set by one.
    pub(crate) fn name(&self, faults: Vec<Fault>) -> Vec<Fault> {
        faults.into_iter().map(|fault| self.name_one(fault)).collect()
    }

    fn name_one(&self, fault: Fault) -> Fault {
        if let Some((flag, _)) = self.flags.iter().find(|(_, field)| *field == fault.path) {
            return Fault::new(*flag, fault.reason);
        }
        match self.files.iter().rev().find(|(_, settings)| says(settings, &fault.path)) {
            Some((file, _)) => Fault::new(file, fault.to_string()),
            None => fault,
        }
    }
}

/// Whether the value has something at the path; a place in a list counts as the list.
fn says(value: &Value, path: &str) -> bool {
    let mut here = value;
    for segment in path.split('.') {
        let (name, is_in_list) = match segment.split_once('[') {
            Some((name, _)) => (name, true),
            None => (segment, false),
        };
        let found = here
            .as_object()
            .and_then(|fields| fields.iter().find(|(key, _)| folded(key) == folded(name)));
        match found {
            Some(_) if is_in_list => return true,
            Some((_, value)) => here = value,
            None => return false,
        }
    }
    true
}

/// A field's name without regard to case and underscores, as files may spell it.
fn folded(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}
