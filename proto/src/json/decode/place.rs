//! Where in a value the decoder stands: borrowed on the way down, owned once it is a fault's.

use std::fmt;

/// The way from the root to the value being decoded, as a list through the call stack.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Option<StepRef<'a>>,
}

/// One step of a [`Path`].
#[derive(Clone, Copy)]
pub(super) enum StepRef<'a> {
    /// A field of a record, as the record spells it.
    Field(&'a str),
    /// An element of a list.
    Index(usize),
    /// An entry of a free map.
    Key(&'a str),
}

impl<'a> StepRef<'a> {
    /// Returns the step as a key; the elements of lists have none.
    pub(super) fn text(self) -> &'a str {
        match self {
            Self::Field(text) | Self::Key(text) => text,
            Self::Index(_) => "",
        }
    }
}

impl<'a> Path<'a> {
    pub(super) const ROOT: Path<'static> = Path { parent: None, step: None };

    pub(super) fn then(&'a self, step: StepRef<'a>) -> Path<'a> {
        Path { parent: Some(self), step: Some(step) }
    }

    pub(super) fn place(&self) -> Place {
        let mut steps = Vec::new();
        let mut at = Some(self);
        while let Some(path) = at {
            steps.extend(path.step.map(|step| match step {
                StepRef::Field(name) => Step::Field(name.to_owned()),
                StepRef::Index(index) => Step::Index(index),
                StepRef::Key(key) => Step::Key(key.to_owned()),
            }));
            at = path.parent;
        }
        steps.reverse();
        Place(steps)
    }
}

/// A place in a value.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Field(String),
    Index(usize),
    Key(String),
}

impl Place {
    pub(super) fn field(mut self, name: &str) -> Self {
        self.0.push(Step::Field(name.to_owned()));
        self
    }

    /// Returns the place one step up, `None` at the root.
    pub(super) fn parent(mut self) -> Option<Self> {
        self.0.pop().map(|_| self)
    }
}

impl fmt::Display for Place {
    /// Writes `Splits[0].Weight`, `Subsets.v1.Filter`, `Meta["two words"]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |key: &str| {
            !key.is_empty()
                && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        };
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if !plain(key) => write!(f, "[{:?}]", shortened(key))?,
                Step::Field(name) | Step::Key(name) if at == 0 => f.write_str(name)?,
                Step::Field(name) | Step::Key(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

/// Returns the text, cut to what fits a message.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Characters of a wrong value that a message repeats: enough to find it by.
const SHOWN_CHARS_MAX: usize = 64;
