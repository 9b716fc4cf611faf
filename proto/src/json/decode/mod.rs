//! From a JSON value to a record, tolerant of spelling and thorough about faults.
//!
//! serde stops at the first error. Here the place of an error is noted, a stand-in value is put
//! there, and decoding runs again, until it passes or has found as many faults as anyone will
//! read. The record made with stand-ins is thrown away: it only served to find the next fault.

mod broken;
mod node;
mod place;
mod suggest;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::text::Fault;
use broken::BrokenKind;
pub(crate) use node::is_empty;
use node::{Node, Run};
use place::{Path, Place};
use suggest::folded;

/// What is done with a field that the record does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// It is passed over: clients of the API may know fields that we do not.
    Ignore,
    /// It is a fault: in a file it is a slip of the pen.
    Refuse,
}

/// How a value is decoded.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    unknown: Unknown,
    not_yet: &'static [&'static str],
    blocks: bool,
}

impl Options {
    /// Makes the options for the body of a request.
    pub fn new(unknown: Unknown) -> Self {
        Self { unknown, not_yet: &[], blocks: false }
    }

    /// Names fields that exist elsewhere and are not supported here: an empty value of one is
    /// passed over, any other is refused by name.
    pub fn not_yet(self, fields: &'static [&'static str]) -> Self {
        Self { not_yet: fields, ..self }
    }

    /// Accepts a single object where a list of objects is wanted, as a block in a file is.
    pub fn blocks(self) -> Self {
        Self { blocks: true, ..self }
    }
}

/// Faults that are reported at once.
const FAULTS_MAX: usize = 32;
/// Times that decoding starts anew; each of them finds a fault or gives up a value.
const ROUNDS_MAX: usize = 128;

pub(super) fn decode<T: DeserializeOwned>(
    value: &Value,
    options: &Options,
) -> Result<T, Vec<Fault>> {
    let faults = RefCell::new(Faults::default());
    let mut stand_ins = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let run = Run { options, stand_ins: &stand_ins, faults: &faults };
        let error = match T::deserialize(Node::given(value, &Path::ROOT, &run)) {
            Ok(record) if faults.borrow().0.is_empty() => return Ok(record),
            Ok(_) => break,
            Err(error) => error,
        };
        let place = error.place.unwrap_or_default();
        let (place, reason) = match error.kind {
            BrokenKind::Missing(field) => (place.field(field), "is missing".to_owned()),
            BrokenKind::Value(reason) => (place, reason),
        };
        let known = is_stand_in(&stand_ins, &place);
        if !known {
            faults.borrow_mut().add(&place, reason);
        }
        if faults.borrow().0.len() >= FAULTS_MAX || !stand_in(&mut stand_ins, place) {
            break;
        }
    }
    Err(faults.into_inner().0)
}

/// Whether a key spells a field.
pub(crate) fn is_key(key: &str, field: &str) -> bool {
    folded(key) == folded(field)
}

/// Whether the place or one above it holds a stand-in, so that its faults are not the writer's.
fn is_stand_in(stand_ins: &BTreeSet<Place>, place: &Place) -> bool {
    let mut at = Some(place.clone());
    while let Some(here) = at {
        if stand_ins.contains(&here) {
            return true;
        }
        at = here.parent();
    }
    false
}

/// Puts a stand-in at the place, or above it where one at the place did not help; `false` when
/// there is nothing above.
fn stand_in(stand_ins: &mut BTreeSet<Place>, place: Place) -> bool {
    let mut at = Some(place);
    while let Some(here) = at {
        if stand_ins.insert(here.clone()) {
            return true;
        }
        at = here.parent();
    }
    false
}

/// Faults in the order found, each once.
#[derive(Debug, Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, place: &Place, reason: String) {
        let fault = Fault::new(place.to_string(), reason);
        if self.0.len() < FAULTS_MAX && !self.0.contains(&fault) {
            self.0.push(fault);
        }
    }
}
