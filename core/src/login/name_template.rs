//! Names with `${…}` in them.

use super::{Subject, Variables};
use crate::limits;

/// A text with places that are filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTemplate(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

/// States why a text is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameTemplateFault {
    /// There is nothing in it.
    #[error("is empty")]
    Empty,
    /// It is too long.
    #[error("has {length} bytes, more than the {limit} allowed")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A `${` has no `}`.
    #[error("has a ${{ without a }}")]
    Unclosed,
    /// The method says nothing of that name.
    #[error("names ${{{name}}}, which the auth method does not know; it knows {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
}

impl NameTemplate {
    /// Parses a text whose variables the method must know.
    ///
    /// # Errors
    /// [`NameTemplateFault`].
    pub fn parse(text: &str, variables: &Variables) -> Result<Self, NameTemplateFault> {
        let (length, limit) = (text.len(), limits::ACL_BIND_NAME_BYTES_MAX);
        if length > limit {
            return Err(NameTemplateFault::TooLong { length, limit });
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or(NameTemplateFault::Unclosed)?;
            let name = name.trim();
            if !variables.names.contains(name) {
                let known: Vec<&str> = variables.names.iter().map(String::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(NameTemplateFault::Unknown { name: name.to_owned(), known });
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Variable(name.to_owned()));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        if parts.is_empty() { Err(NameTemplateFault::Empty) } else { Ok(Self(parts)) }
    }

    /// Fills in what is known of somebody; `None` when something is not known of them.
    pub fn fill(&self, subject: &Subject) -> Option<String> {
        let text = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Variable(name) => subject.variable(name).map(str::to_owned),
        };
        self.0.iter().map(text).collect()
    }
}
