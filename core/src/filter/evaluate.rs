//! Whether a record is taken.

use std::borrow::Cow;

use serde_json::Value;

use super::{Absent, Condition, Expression, FieldKind, Test};

/// Finds the field of a record at a path.
type Find<'f, 'v> = dyn Fn(&[String]) -> Option<Cow<'v, Value>> + 'f;

impl Expression {
    pub(super) fn holds(&self, find: &Find<'_, '_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(find)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(find)),
            Self::Condition(condition) => condition.holds(find),
            Self::Not(inner) => !inner.holds(find),
        }
    }
}

impl Condition {
    fn holds(&self, find: &Find<'_, '_>) -> bool {
        let outcome = match (find(&self.selector), self.absent) {
            (Some(value), _) => self.test.holds(&value),
            (None, Absent::Empty(kind)) => self.test.holds_for_empty(kind),
            (None, Absent::Nothing) => matches!(self.test, Test::Empty),
        };
        outcome != self.negated
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Contains(wanted) => match value {
                Value::Array(list) => list.iter().any(|item| equals(item, wanted)),
                Value::Object(object) => object.contains_key(wanted),
                Value::String(text) => text.contains(wanted.as_str()),
                Value::Bool(_) | Value::Null | Value::Number(_) => false,
            },
            Self::Empty => match value {
                Value::Array(list) => list.is_empty(),
                Value::Object(object) => object.is_empty(),
                Value::String(text) => text.is_empty(),
                Value::Null => true,
                Value::Bool(_) | Value::Number(_) => false,
            },
            Self::Equals(wanted) => equals(value, wanted),
            Self::Matches(regex) => value.as_str().is_some_and(|text| regex.is_match(text)),
        }
    }

    /// Whether the test holds for the empty value of a kind of field.
    fn holds_for_empty(&self, kind: FieldKind) -> bool {
        match (kind, self) {
            (FieldKind::Text, Self::Contains(wanted) | Self::Equals(wanted)) => wanted.is_empty(),
            (FieldKind::Text, Self::Matches(regex)) => regex.is_match(""),
            (FieldKind::Number, Self::Equals(wanted)) => number(wanted) == Some(0.0),
            (FieldKind::Bool, Self::Equals(wanted)) => truth(wanted) == Some(false),
            (FieldKind::List | FieldKind::Map | FieldKind::Text, Self::Empty) => true,
            (FieldKind::List | FieldKind::Map, _) => false,
            (FieldKind::Bool | FieldKind::Number, _) => false,
        }
    }
}

fn equals(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Number(have) => have.as_f64().is_some() && have.as_f64() == number(wanted),
        Value::Bool(have) => truth(wanted) == Some(*have),
        Value::Null => wanted.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// Reads a number as it may stand in a filter.
pub(super) fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Reads a truth value in the spellings of Go's `strconv.ParseBool`.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
