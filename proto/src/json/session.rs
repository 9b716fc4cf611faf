//! The bodies of `/v1/session/…`.
//!
//! **Source**: Consul: api-docs/session.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use weft_core::catalog::SERF_HEALTH;
use weft_core::limits;
use weft_core::name::{CheckId, NodeName};
use weft_core::session::{InvalidSessionId, ServiceCheck, Session, SessionBehavior, SessionId};
use weft_core::time::Span;

use super::{Fault, Unknown, from_slice};

/// The body of `PUT /v1/session/create`; all of it may be left out.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SessionCreate {
    /// A name for people.
    pub name: String,
    /// The node; empty means that of the agent that is asked.
    pub node: String,
    /// How long nobody gets its locks after it was ended.
    #[serde(deserialize_with = "lock_delay")]
    pub lock_delay: Option<Span>,
    /// What becomes of its locks.
    pub behavior: SessionBehavior,
    /// How long it lives without being renewed, as a text; empty means for ever.
    #[serde(rename = "TTL")]
    pub ttl: String,
    /// The checks in the form of old; as `node_checks`.
    pub checks: Option<Vec<CheckId>>,
    /// Checks of the node; the node's liveness when both are left out.
    pub node_checks: Option<Vec<CheckId>>,
    /// Checks of services on the node.
    pub service_checks: Vec<ServiceCheck>,
}

/// The answer of `PUT /v1/session/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCreated {
    /// The new session.
    #[serde(rename = "ID")]
    pub id: String,
}

/// Says why a session cannot be made as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSession {
    /// The id is none.
    #[error(transparent)]
    Id(#[from] InvalidSessionId),
    /// The name is too long.
    #[error("Name: has {0} bytes, more than the {max} allowed", max = limits::SESSION_NAME_BYTES_MAX)]
    Name(usize),
    /// The node has no name.
    #[error("Node: {0}")]
    Node(#[from] weft_core::name::InvalidName),
    /// The TTL is no duration, or outside its bounds. Clients look for the first words.
    #[error("Invalid Session TTL '{ttl}', must be between [{min}, {max}]")]
    Ttl {
        /// What was given.
        ttl: String,
        /// The shortest.
        min: Span,
        /// The longest.
        max: Span,
    },
}

/// Decodes the body of `PUT /v1/session/create`.
///
/// # Errors
/// Every fault, by field.
pub fn decode_create(body: &[u8]) -> Result<SessionCreate, Vec<Fault>> {
    from_slice(body, Unknown::Ignore)
}

impl SessionCreate {
    /// Makes the session.
    ///
    /// # Errors
    /// [`InvalidSession`] names the first field that is not as it must be.
    pub fn session(self, id: &str, ttl_min: Duration) -> Result<Session, InvalidSession> {
        let id: SessionId = id.parse()?;
        if self.name.len() > limits::SESSION_NAME_BYTES_MAX {
            return Err(InvalidSession::Name(self.name.len()));
        }
        let ttl = match self.ttl.as_str() {
            "" => Span::default(),
            text => text.parse().unwrap_or(Span(Duration::MAX)),
        };
        let allowed = ttl_min..=limits::SESSION_TTL_MAX;
        if !ttl.0.is_zero() && !allowed.contains(&ttl.0) {
            return Err(InvalidSession::Ttl {
                ttl: self.ttl,
                min: Span(ttl_min),
                max: Span(limits::SESSION_TTL_MAX),
            });
        }
        let liveness = || CheckId::parse(SERF_HEALTH).into_iter().collect();
        let delay = self.lock_delay.unwrap_or(Span(limits::SESSION_LOCK_DELAY_DEFAULT));
        Ok(Session {
            id,
            name: self.name,
            node: NodeName::parse(&self.node)?,
            // As Consul: more is taken for the most.
            lock_delay: Span(delay.0.min(limits::SESSION_LOCK_DELAY_MAX)),
            behavior: self.behavior,
            ttl: (!ttl.0.is_zero()).then_some(ttl),
            node_checks: self.node_checks.or(self.checks).unwrap_or_else(liveness),
            service_checks: self.service_checks,
            create_index: Default::default(),
            modify_index: Default::default(),
        })
    }
}

/// Reads a lock delay: a text with a unit, or a number, which below 1000 means seconds and else
/// nanoseconds.
///
/// **Source**: Consul: clients of old sent seconds.
fn lock_delay<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Span>, D::Error> {
    struct DelayVisitor;
    impl<'de> Visitor<'de> for DelayVisitor {
        type Value = Option<Span>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as \"15s\", or a number")
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
            inner.deserialize_any(self)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(E::custom) }
        }
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
            Ok(Some(match number {
                0..1_000 => Span::seconds(number),
                _ => Span(Duration::from_nanos(number)),
            }))
        }
        fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
            Err(E::custom("a duration must not be negative"))
        }
        fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
            match number {
                0.0..1_000.0 => Ok(Some(Span(Duration::from_secs_f64(number)))),
                1_000.0..1.8e19 => Ok(Some(Span(Duration::from_nanos(number as u64)))),
                _ => Err(E::custom("a duration must not be negative")),
            }
        }
    }
    deserializer.deserialize_any(DelayVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "adf4238a-882b-9ddc-4a9d-5b6758e4159e";

    fn made(body: &str) -> Result<Session, InvalidSession> {
        let mut create = decode_create(body.as_bytes()).expect("a body");
        create.node = "n1".to_owned();
        create.session(ID, Duration::from_secs(10))
    }

    #[test]
    fn what_is_left_out_is_as_in_consul() {
        let session = serde_json::to_value(made("").expect("a session")).expect("JSON");
        assert_eq!(
            session,
            serde_json::json!({
                "ID": ID, "Name": "", "Node": "n1", "LockDelay": 15_000_000_000u64,
                "Behavior": "release", "TTL": "", "NodeChecks": ["serfHealth"],
                "ServiceChecks": [], "CreateIndex": 0, "ModifyIndex": 0,
            })
        );
    }

    #[test]
    fn clients_of_every_age_are_understood() {
        for (body, delay_ms, checks) in [
            (r#"{"lockdelay":"0.001s","checks":[],"ttl":"15s","behavior":"delete"}"#, 1, 0),
            (r#"{"LockDelay":5,"NodeChecks":["a","b"]}"#, 5_000, 2),
            (r#"{"lock_delay":2000000000}"#, 2_000, 1),
            (r#"{"LockDelay":0.5}"#, 500, 1),
            (r#"{"LockDelay":"5m","NodeChecks":[]}"#, 60_000, 0),
            (r#"{"LockDelay":null,"Checks":["x"]}"#, 15_000, 1),
        ] {
            let session = made(body).expect(body);
            assert_eq!(session.lock_delay.0.as_millis(), delay_ms, "{body}");
            assert_eq!(session.node_checks.len(), checks, "{body}");
        }
    }

    #[test]
    fn a_ttl_outside_its_bounds_is_refused_in_the_words_that_clients_look_for() {
        for ttl in ["9s", "24h1s", "soon", "-5s"] {
            let told = made(&format!(r#"{{"TTL":"{ttl}"}}"#)).expect_err(ttl).to_string();
            assert!(told.starts_with("Invalid Session TTL"), "{told}");
        }
        assert_eq!(made(r#"{"TTL":"0s"}"#).map(|it| it.ttl), Ok(None));
        assert_eq!(made(r#"{"TTL":"10s"}"#).map(|it| it.ttl), Ok(Some(Span::seconds(10))));
        assert!(decode_create(br#"{"Behavior":"keep"}"#).is_err());
        assert!(decode_create(br#"{"LockDelay":-1}"#).is_err());
    }
}
