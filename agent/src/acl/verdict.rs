//! Questions about rights, and what comes of them.

use weft_core::acl::{Access, Resource};
use weft_proto::json::acl::{AuthorizeAnswer, AuthorizeQuestion};

/// May the caller do this?
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Question {
    resource: Resource,
    access: Access,
    segment: Box<str>,
}

impl Question {
    /// Asks to read one thing; `on` is empty for the cluster as a whole.
    pub(crate) fn read(resource: Resource, on: &str) -> Self {
        Self { resource, access: Access::Read, segment: on.into() }
    }

    /// Asks to write one thing.
    pub(crate) fn write(resource: Resource, on: &str) -> Self {
        Self { resource, access: Access::Write, segment: on.into() }
    }

    pub(super) fn body(&self) -> AuthorizeQuestion {
        AuthorizeQuestion {
            resource: self.resource.as_str().to_owned(),
            access: self.access.as_str().to_owned(),
            segment: self.segment.clone().into(),
        }
    }
}

/// Allowed, or in whose words it is refused.
pub(crate) type Verdict = Result<(), String>;

/// Reads what a server said.
pub(super) fn of(answer: AuthorizeAnswer) -> Verdict {
    match answer.allow {
        true => Ok(()),
        false if answer.reason.is_empty() => Err("Permission denied".to_owned()),
        false => Err(answer.reason),
    }
}

/// States why a caller may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// A right is missing.
    #[error("{0}")]
    Denied(String),
    /// No server answers, and nothing is remembered.
    #[error("Permission denied: nobody can judge the caller at the moment: {reason}")]
    NobodyJudges {
        /// What the attempt came to.
        reason: String,
    },
    /// The token is none.
    #[error("ACL not found")]
    UnknownToken,
}

impl From<String> for Refusal {
    fn from(denial: String) -> Self {
        Self::Denied(denial)
    }
}
