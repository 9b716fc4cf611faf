//! Why a value could not become the record: serde's errors, in words for the writer.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use super::place::{Path, Place, shortened};
use super::suggest::suggestion;

/// One failure of decoding.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) kind: BrokenKind,
    /// Known once the innermost value around the failure has passed it on.
    pub(super) place: Option<Place>,
}

#[derive(Debug)]
pub(super) enum BrokenKind {
    /// A field that must be there is not.
    Missing(&'static str),
    /// The value is not acceptable, with the reason.
    Value(String),
}

impl Broken {
    pub(super) fn at(mut self, path: &Path<'_>) -> Self {
        if self.place.is_none() {
            self.place = Some(path.place());
        }
        self
    }

    fn value(reason: String) -> Self {
        Self { kind: BrokenKind::Value(reason), place: None }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            BrokenKind::Missing(field) => write!(f, "{field} is missing"),
            BrokenKind::Value(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Broken {}

impl Error for Broken {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::value(reason.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::value(format!("is {}, but must be {}", shown(found), expected(wanted)))
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(found, wanted)
    }

    fn unknown_variant(word: &str, words: &'static [&'static str]) -> Self {
        let hint = suggestion(word, words).map(|near| format!("; did you mean {near:?}?"));
        let list: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        let word = shortened(word);
        let list = list.join(", ");
        Self::value(format!("is {word:?}, but must be one of {list}{}", hint.unwrap_or_default()))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { kind: BrokenKind::Missing(field), place: None }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::value(format!("{field} is given twice under different names"))
    }
}

fn shown(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => format!("the text {:?}", shortened(text)),
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        other => other.to_string(),
    }
}

/// Puts what serde's own visitors expect into the words of the public API.
fn expected(wanted: &dyn Expected) -> String {
    let text = wanted.to_string();
    let words = match text.as_str() {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text in quotes",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    words.to_owned()
}
