//! Collects what is wrong with a registration, so that all of it is told at once.

use std::fmt::Display;

use weft_proto::text::Fault;

/// The faults found so far, and where in the definition the search is.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<Fault>,
    at: String,
}

impl Faults {
    /// Notes that a field is wrong; an empty `field` means the whole of where we are.
    pub(super) fn add(&mut self, field: &str, reason: impl Display) {
        let path = match (self.at.is_empty(), field.is_empty()) {
            (true, _) => field.to_owned(),
            (false, true) => self.at.clone(),
            (false, false) => format!("{}.{field}", self.at),
        };
        self.list.push(Fault::new(path, reason.to_string()));
    }

    /// Returns the value, or notes why there is none.
    pub(super) fn take<T, E: Display>(&mut self, field: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.add(field, error)).ok()
    }

    /// Searches within a field.
    pub(super) fn within<T>(&mut self, field: &str, search: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.at.len();
        if outer > 0 {
            self.at.push('.');
        }
        self.at.push_str(field);
        let found = search(self);
        self.at.truncate(outer);
        found
    }

    /// Returns the value if nothing was wrong.
    pub(super) fn unless_any<T>(self, value: Option<T>) -> Result<T, Vec<Fault>> {
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => Err(self.list),
        }
    }
}
