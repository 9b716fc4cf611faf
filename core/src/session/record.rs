//! A session, as the log holds it and as the API shows it.

use serde::{Deserialize, Serialize};

use super::SessionId;
use crate::index::Index;
use crate::name::{CheckId, NodeName};
use crate::time::Span;

/// A session: what holds locks, and ends when its node, its checks or its time do.
///
/// **Source**: Consul: api-docs/session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Session {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: SessionId,
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// The node that it belongs to.
    pub node: NodeName,
    /// How long nobody gets its locks after it was ended; nanoseconds in JSON.
    #[serde(with = "nanoseconds")]
    pub lock_delay: Span,
    /// What becomes of its locks.
    pub behavior: SessionBehavior,
    /// How long it lives without being renewed, at least; `None`, the empty text, for ever.
    #[serde(rename = "TTL", with = "empty_as_none")]
    pub ttl: Option<Span>,
    /// Checks of the node that must not be critical.
    pub node_checks: Vec<CheckId>,
    /// Checks of services on the node that must not be critical.
    pub service_checks: Vec<ServiceCheck>,
    /// When it was made.
    #[serde(default)]
    pub create_index: Index,
    /// When it last changed.
    #[serde(default)]
    pub modify_index: Index,
}

/// A check of a service, as a session names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceCheck {
    /// The check.
    #[serde(rename = "ID")]
    pub id: CheckId,
    /// Its namespace; kept as it was given.
    #[serde(default)]
    pub namespace: String,
}

/// What becomes of the entries that an ended session has locked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionBehavior {
    /// They are removed.
    Delete,
    /// They stay, free for others.
    #[default]
    Release,
}

impl Session {
    /// Returns every check that must not be critical.
    pub fn checks(&self) -> impl Iterator<Item = &CheckId> {
        self.node_checks.iter().chain(self.service_checks.iter().map(|check| &check.id))
    }
}

/// A duration as a whole number of nanoseconds.
mod nanoseconds {
    use super::{Deserialize, Span};

    pub(super) fn serialize<S: serde::Serializer>(
        span: &Span,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Span, D::Error> {
        Span::deserialize(deserializer)
    }
}

/// No duration is the empty text.
mod empty_as_none {
    use super::{Deserialize, Span};

    pub(super) fn serialize<S: serde::Serializer>(
        span: &Option<Span>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => serializer.collect_str(span),
            None => serializer.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Span>, D::Error> {
        let span = Span::deserialize(deserializer)?;
        Ok((!span.0.is_zero()).then_some(span))
    }
}
