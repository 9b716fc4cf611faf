//! A YAML document as a tree that remembers how it was written.

use serde_json::Value;

use super::scalar;
use crate::inject::Operation;

/// How a scalar was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A block, kept with its line breaks.
    Block,
    DoubleQuoted,
    Plain,
    SingleQuoted,
}

/// A node of the tree. Aliases are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// In the order of the file.
    Map(Vec<(Node, Node)>),
    Scalar {
        text: String,
        style: Style,
        /// A tag such as `!!binary`, as it is written.
        tag: Option<String>,
    },
    Sequence(Vec<Node>),
}

/// The step of a patch does not fit the tree: ours would be wrong then.
#[derive(Debug, thiserror::Error)]
#[error("the change at {0:?} does not fit the document")]
pub(super) struct Misfit(String);

impl Node {
    /// A text as it is best written.
    fn text(text: &str) -> Self {
        let style = if scalar::is_plain_text(text) { Style::Plain } else { Style::DoubleQuoted };
        Self::Scalar { text: text.to_owned(), style, tag: None }
    }

    fn plain(text: String) -> Self {
        Self::Scalar { text, style: Style::Plain, tag: None }
    }

    /// Makes a tree of JSON; a field `name` comes first, as people write it.
    pub(super) fn from_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::plain("null".to_owned()),
            Value::Bool(yes) => Self::plain(yes.to_string()),
            Value::Number(number) => Self::plain(number.to_string()),
            Value::String(text) => Self::text(text),
            Value::Array(elements) => {
                Self::Sequence(elements.iter().map(Self::from_json).collect())
            }
            Value::Object(fields) => {
                let (first, rest): (Vec<_>, Vec<_>) =
                    fields.iter().partition(|(key, _)| *key == "name");
                let fields = first.into_iter().chain(rest);
                Self::Map(fields.map(|(key, it)| (Self::text(key), Self::from_json(it))).collect())
            }
        }
    }

    /// Reads it as Kubernetes does.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Map(fields) => {
                let fields = fields.iter().map(|(key, it)| (key.key().to_owned(), it.to_json()));
                Value::Object(fields.collect())
            }
            Self::Scalar { text, style: Style::Plain, tag: None } => scalar::resolve(text),
            Self::Scalar { text, .. } => Value::String(text.clone()),
            Self::Sequence(elements) => Value::Array(elements.iter().map(Self::to_json).collect()),
        }
    }

    /// The text of a key; keys of maps are scalars, which reading has seen to.
    fn key(&self) -> &str {
        match self {
            Self::Scalar { text, .. } => text,
            Self::Map(_) | Self::Sequence(_) => "",
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => fields.iter().find(|(own, _)| own.key() == key).map(|(_, it)| it),
            Self::Scalar { .. } | Self::Sequence(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match self {
            Self::Map(fields) => {
                fields.iter_mut().find(|(own, _)| own.key() == key).map(|(_, it)| it)
            }
            Self::Scalar { .. } => None,
            Self::Sequence(elements) => elements.get_mut(key.parse::<usize>().ok()?),
        }
    }

    /// Takes one step of a patch.
    pub(super) fn apply(&mut self, operation: &Operation) -> Result<(), Misfit> {
        let (path, value) = match operation {
            Operation::Add { path, value } | Operation::Replace { path, value } => (path, value),
        };
        let misfit = || Misfit(path.clone());
        let (above, last) = path.rsplit_once('/').ok_or_else(misfit)?;
        let mut node = self;
        for part in above.split('/').skip(1) {
            node = node.get_mut(&unescaped(part)).ok_or_else(misfit)?;
        }
        let (last, new) = (unescaped(last), Self::from_json(value));
        match (node, operation) {
            (Self::Sequence(elements), Operation::Add { .. }) => {
                let at = if last == "-" { Some(elements.len()) } else { last.parse().ok() };
                let at = at.filter(|at| *at <= elements.len()).ok_or_else(misfit)?;
                elements.insert(at, new);
            }
            (node, _) => match node.get_mut(&last) {
                Some(old) => *old = new,
                None => node.add_field(&last, new).ok_or_else(misfit)?,
            },
        }
        Ok(())
    }

    fn add_field(&mut self, key: &str, value: Self) -> Option<()> {
        match self {
            Self::Map(fields) => {
                fields.push((Self::text(key), value));
                Some(())
            }
            Self::Scalar { .. } | Self::Sequence(_) => None,
        }
    }
}

/// **Source**: RFC 6901 §4.
fn unescaped(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}
