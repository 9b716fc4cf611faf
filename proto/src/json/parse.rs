//! From bytes to a JSON value: strict about what no client means, such as a key given twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use weft_core::limits::API_BODY_BYTES_MAX;

use super::Fault;

/// Parses JSON.
///
/// An empty or blank text is the empty object, as bodies may be left out.
///
/// # Errors
/// One fault, with line and column: no JSON, more than [`API_BODY_BYTES_MAX`] bytes, nested
/// deeper than 128, or an object with the same key twice.
pub fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    parse_within(API_BODY_BYTES_MAX, bytes)
}

/// Parses JSON of at most so many bytes.
///
/// # Errors
/// As [`parse`].
pub fn parse_within(bytes_max: usize, bytes: &[u8]) -> Result<Value, Fault> {
    if bytes.len() > bytes_max {
        let length = bytes.len();
        let reason = format!("has {length} bytes, more than the {bytes_max} allowed");
        return Err(Fault::new("", reason));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_slice::<Strict>(bytes).map(|strict| strict.0).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
        Fault::new("", format!("line {line} column {column}: {reason}"))
    })
}

/// A JSON value whose objects have each key once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("key {key:?} is given twice")));
            }
            let Strict(value) = entries.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_errors_name_line_and_column() {
        for (text, wanted) in [
            ("{\n  \"a\": }", "line 2 column 8: expected value"),
            ("{\"a\":1", "line 1 column 6: EOF while parsing an object"),
            ("{\"a\":1,\"a\":2}", "line 1 column 10: key \"a\" is given twice"),
            ("{} x", "line 1 column 4: trailing characters"),
        ] {
            assert_eq!(parse(text.as_bytes()).expect_err(text).to_string(), wanted);
        }
    }

    #[test]
    fn a_missing_body_is_the_empty_object() {
        assert_eq!(parse(b" \n"), Ok(Value::Object(Map::new())));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = "[".repeat(100_000);
        let fault = parse(deep.as_bytes()).expect_err("too deep");
        assert!(fault.reason.contains("recursion limit"), "{fault}");
        assert!(parse(&vec![b' '; API_BODY_BYTES_MAX + 1]).is_err());
    }
}
