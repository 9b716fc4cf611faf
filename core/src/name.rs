//! The names of things: parsed once at the border, then trusted.
//!
//! Every identifier that could be mistaken for another has a type of its own. What a name
//! refers to is looked up elsewhere (`catalog`, `config_entry`).

use std::borrow::Borrow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::text_type::text_type;

/// States why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The text was empty.
    #[error("{kind} must not be empty")]
    Empty {
        /// What was being named, in words.
        kind: &'static str,
    },
    /// The text was longer than the limit of its kind.
    #[error("{kind} has {length} bytes, more than the {limit} allowed")]
    TooLong {
        /// What was being named, in words.
        kind: &'static str,
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A character is outside the allowed set.
    #[error("{kind} {text:?} has {character:?}, but only {allowed} are allowed")]
    WrongCharacter {
        /// What was being named, in words.
        kind: &'static str,
        /// The whole text.
        text: String,
        /// The first character that is not allowed.
        character: char,
        /// The allowed set, in words.
        allowed: &'static str,
    },
}

/// Checks one character of a name; the index is 0 for the first.
type CharacterRule = fn(usize, char) -> bool;

fn check(
    kind: &'static str,
    text: &str,
    limit: usize,
    allowed: &'static str,
    rule: CharacterRule,
) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty { kind });
    }
    if text.len() > limit {
        return Err(InvalidName::TooLong { kind, length: text.len(), limit });
    }
    match text.chars().enumerate().find(|(at, c)| !rule(*at, *c)) {
        Some((_, character)) => {
            Err(InvalidName::WrongCharacter { kind, text: text.to_owned(), character, allowed })
        }
        None => Ok(()),
    }
}

fn word(at: usize, c: char) -> bool {
    c.is_ascii_alphanumeric() || (at > 0 && matches!(c, '.' | '_' | '-'))
}

fn printable(_: usize, c: char) -> bool {
    !c.is_control()
}

fn label(at: usize, c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || (at > 0 && matches!(c, '_' | '-'))
}

fn domain(_: usize, c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $limit:expr, $allowed:literal, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses the text.
            ///
            /// # Errors
            /// [`InvalidName`] when the text is empty, too long or has a character that is not
            /// allowed.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                check($kind, text, $limit, $allowed, $rule)?;
                Ok(Self(text.into()))
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        text_type!($name, InvalidName);
    };
}

name_type!(
    /// Names a service, as callers know it.
    ///
    /// **Shape**: 1 to 128 of `A-Z a-z 0-9 . _ -`, starting with a letter or digit, so that it
    /// can stand unescaped in a SPIFFE ID path segment (Spec: SPIFFE-ID §2.2).
    ServiceName, "service name", limits::NAME_BYTES_MAX,
    "letters, digits, '.', '_' and '-' after a letter or digit", word
);
name_type!(
    /// Names a host.
    ///
    /// **Shape**: as [`ServiceName`].
    NodeName, "node name", limits::NAME_BYTES_MAX,
    "letters, digits, '.', '_' and '-' after a letter or digit", word
);
name_type!(
    /// Identifies one instance of a service; unique on its node.
    ///
    /// **Shape**: 1 to 256 printable characters.
    InstanceId, "service ID", limits::ID_BYTES_MAX, "printable characters", printable
);
name_type!(
    /// Identifies a health check; unique on its node.
    ///
    /// **Shape**: 1 to 256 printable characters.
    CheckId, "check ID", limits::ID_BYTES_MAX, "printable characters", printable
);
name_type!(
    /// Names a datacenter.
    ///
    /// **Shape**: 1 to 64 of `a-z 0-9 _ -`, starting with a letter or digit.
    /// **Source**: Consul: docs/agent/config#datacenter.
    Datacenter, "datacenter", limits::DATACENTER_BYTES_MAX,
    "lower-case letters, digits, '_' and '-' after a letter or digit", label
);
name_type!(
    /// Names a trust domain.
    ///
    /// **Shape**: 1 to 255 of `a-z 0-9 . _ -`.
    /// **Source**: Spec: SPIFFE-ID §2.1.
    TrustDomain, "trust domain", limits::TRUST_DOMAIN_BYTES_MAX,
    "lower-case letters, digits, '.', '_' and '-'", domain
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_keep_to_the_characters_of_a_spiffe_path_segment() {
        for good in ["web", "Web-1", "a.b_c", "0"] {
            assert_eq!(ServiceName::parse(good).map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", "-web", ".web", "we b", "web/1", "wéb", "web%20", "*", &"x".repeat(129)] {
            assert!(ServiceName::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_error_names_the_kind_the_text_and_the_character() {
        let error = ServiceName::parse("we b").expect_err("a blank is not allowed");
        assert_eq!(
            error.to_string(),
            "service name \"we b\" has ' ', but only letters, digits, '.', '_' and '-' after a \
             letter or digit are allowed"
        );
    }

    #[test]
    fn trust_domains_are_lower_case() {
        assert!(TrustDomain::parse("a1.mesh").is_ok());
        assert!(TrustDomain::parse("A1.mesh").is_err());
    }
}
