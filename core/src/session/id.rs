//! The id of a session.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A UUID, drawn when the session is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u128);

impl SessionId {
    /// The first of all ids in their order; no session has it.
    pub const SMALLEST: Self = Self(0);
}

/// States that a text is not a session's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of a session: write a UUID")]
pub struct InvalidSessionId(String);

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    fn from_str(text: &str) -> Result<Self, InvalidSessionId> {
        let fail = || InvalidSessionId(text.chars().take(64).collect());
        let is_hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
        if text.len() != 36 {
            return Err(fail());
        }
        let mut value = 0u128;
        for (at, character) in text.char_indices() {
            match (is_hyphen(at), character.to_digit(16)) {
                (true, _) if character == '-' => {}
                (false, Some(digit)) => value = value << 4 | u128::from(digit),
                _ => return Err(fail()),
            }
        }
        Ok(Self(value))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |shift: u32, bits: u32| (self.0 >> shift) & ((1 << bits) - 1);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            part(96, 32),
            part(80, 16),
            part(64, 16),
            part(48, 16),
            part(0, 48)
        )
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_in_lower_case() {
        let text = "adf4238a-882b-9ddc-4a9d-5b6758e4159e";
        let id: SessionId = text.to_uppercase().parse().expect("an id");
        assert_eq!(id.to_string(), text);
        for bad in [
            "",
            "x",
            "adf4238a-882b-9ddc-4a9d-5b6758e4159",
            "adf4238a-882b-9ddc-4a9d-5b6758e4159g",
            "adf4238a0882b-9ddc-4a9d-5b6758e4159e",
            "adf4238é-882b-9ddc-4a9d-5b6758e4159",
            "+df4238a-882b-9ddc-4a9d-5b6758e4159e",
        ] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad:?} was accepted");
        }
    }
}
