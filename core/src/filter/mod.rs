//! Filter expressions over records: `Service.Meta.version == v1 and "a" in Service.Tags`.
//!
//! Used by `?filter=` of the API and by the subsets of a service-resolver. A filter is parsed
//! once, checked once against the fields of the record ([`Schema`]), and then answers for any
//! number of records without failing.
//!
//! **Source**: Consul: api-docs/features/filtering. Differs: `-` may stand in names and bare
//! values, and texts may be tested for being empty; neither has another meaning there.

mod error;
mod evaluate;
mod lex;
mod parse;
mod pick;
mod schema;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;

use regex::Regex;
use serde::Serialize;
use serde_json::Value;

pub use error::FilterError;
pub use schema::{
    CATALOG_SERVICE, CHECK, FieldKind, INTENTION, MEMBER, NODE, NODE_DUMP, SERVICE,
    SERVICE_INSTANCE, SERVICE_SUMMARY, Schema,
};

/// A parsed filter expression.
#[derive(Debug, Clone)]
pub struct Filter(Expression);

#[derive(Debug, Clone)]
enum Expression {
    /// All of them hold.
    All(Vec<Expression>),
    /// One of them holds.
    Any(Vec<Expression>),
    Condition(Condition),
    Not(Box<Expression>),
}

/// One test of one field.
#[derive(Debug, Clone)]
struct Condition {
    selector: Vec<String>,
    /// Where the selector stands, for messages.
    column: usize,
    test: Test,
    /// Whether the outcome is turned round: `!=`, `not in`, …
    negated: bool,
    absent: Absent,
}

#[derive(Debug, Clone)]
enum Test {
    Contains(String),
    Empty,
    Equals(String),
    Matches(Regex),
}

/// What a field that is not there stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// The empty value: a field of the record that is left out of the JSON while it is empty.
    Empty(FieldKind),
    /// Nothing: a key that the map does not have. No test of it holds, but that it is empty.
    Nothing,
}

impl Expression {
    fn add_selectors(&self, found: &mut BTreeSet<String>) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.add_selectors(found));
            }
            Self::Condition(condition) => {
                found.insert(condition.selector.join("."));
            }
            Self::Not(inner) => inner.add_selectors(found),
        }
    }
}

impl Filter {
    /// Parses an expression.
    ///
    /// # Errors
    /// [`FilterError`] with the column: the text is empty, too long, nested too deep, not in the
    /// grammar, or has a regular expression that is not usable.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::parse(text).map(Self)
    }

    /// Parses an expression and checks it against the fields of a record.
    ///
    /// # Errors
    /// As [`Filter::parse`] and [`Filter::checked`].
    pub fn parse_for(text: &str, schema: &Schema) -> Result<Self, FilterError> {
        Self::parse(text)?.checked(schema)
    }

    /// Checks that every selector names a field of the record and that the test and its value
    /// suit the field.
    ///
    /// # Errors
    /// [`FilterError`] at the first selector that does not.
    pub fn checked(mut self, schema: &Schema) -> Result<Self, FilterError> {
        self.0.check(schema)?;
        Ok(self)
    }

    /// Returns the fields that it looks at, their steps joined by dots, each once.
    pub fn selectors(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.0.add_selectors(&mut found);
        found
    }

    /// Whether the record, as its JSON, is taken by the filter.
    ///
    /// A test that does not suit the field's value, which [`Filter::checked`] would have found,
    /// does not hold.
    pub fn matches(&self, record: &Value) -> bool {
        let find = |path: &[String]| {
            path.iter().try_fold(record, |value, step| value.get(step)).map(Cow::Borrowed)
        };
        self.0.holds(&find)
    }

    /// Whether the record is taken by the filter.
    ///
    /// Only the fields that the filter names are looked at, so this costs far less than making
    /// JSON of the record first.
    pub fn matches_record<T: Serialize>(&self, record: &T) -> bool {
        // A path into a list, which has no fields, finds nothing.
        self.0.holds(&|path: &[String]| pick::pick(record, path).ok().flatten().map(Cow::Owned))
    }
}
