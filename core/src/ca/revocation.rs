//! Whom nobody trusts any more although their certificates are good: one certificate, or all of
//! an identity.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::csr::BACKDATED;
use crate::identity::SpiffeId;
use crate::index::Index;
use crate::time::Timestamp;

/// The number of a certificate, in lower-case hex with a colon after each byte but the last.
///
/// **Source**: Spec: RFC 5280 §4.1.2.2: positive, 20 bytes at most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SerialNumber(String);

/// States that a text is not a serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no serial number: 1 to 20 bytes in hex are, like 5a:0b:…")]
pub struct InvalidSerialNumber {
    text: String,
}

impl SerialNumber {
    /// Takes the bytes, the most significant first; zeros in front do not count.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        let shown: Vec<String> = bytes[first..].iter().map(|byte| format!("{byte:02x}")).collect();
        Self(shown.join(":"))
    }

    /// Returns the bytes, the most significant first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let byte = |text: &str| u8::from_str_radix(text, 16).unwrap_or_default();
        self.0.split(':').map(byte).collect()
    }

    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SerialNumber {
    type Err = InvalidSerialNumber;

    /// Reads hex in any case, with or without colons.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSerialNumber { text: text.chars().take(80).collect() };
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || digits.len() % 2 == 1 || digits.len() > 42 {
            return Err(invalid());
        }
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_default();
        let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
        match Self::from_bytes(&bytes) {
            serial if serial.0.is_empty() || serial.to_bytes().len() > 20 => Err(invalid()),
            serial => Ok(serial),
        }
    }
}

impl TryFrom<String> for SerialNumber {
    type Error = InvalidSerialNumber;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SerialNumber> for String {
    fn from(serial: SerialNumber) -> Self {
        serial.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is trusted no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Revoked {
    /// One certificate; its holder gets another one.
    Certificate(SerialNumber),
    /// The certificates of an identity.
    Identity {
        /// Whose.
        id: SpiffeId,
        /// Only those signed before that; later ones are good. `None` is for all, and nothing is
        /// signed for it any more.
        issued_before: Option<Timestamp>,
    },
}

impl Revoked {
    /// Returns what it is found by: a serial number or a SPIFFE ID. There is one revocation of
    /// each.
    pub fn key(&self) -> String {
        match self {
            Self::Certificate(serial) => serial.to_string(),
            Self::Identity { id, .. } => id.to_string(),
        }
    }
}

/// A revocation as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What is trusted no more.
    pub what: Revoked,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
    /// Since when.
    pub revoked_at: Timestamp,
    /// When it was written.
    #[serde(default)]
    pub create_index: Index,
}

/// Revocations as they are looked through in a handshake.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RevocationSet {
    serials: BTreeSet<SerialNumber>,
    identities: BTreeMap<SpiffeId, Option<Timestamp>>,
}

impl RevocationSet {
    /// Puts revocations in order.
    pub fn new<'a>(revoked: impl IntoIterator<Item = &'a Revoked>) -> Self {
        let mut set = Self::default();
        for revoked in revoked {
            match revoked {
                Revoked::Certificate(serial) => {
                    set.serials.insert(serial.clone());
                }
                Revoked::Identity { id, issued_before } => {
                    set.identities.insert(id.clone(), *issued_before);
                }
            }
        }
        set
    }

    /// Whether a certificate is revoked, by whose it is, its number and the beginning of its
    /// validity, which lies [`BACKDATED`] before it was signed.
    pub fn has(&self, id: &SpiffeId, serial: &SerialNumber, valid_after: Timestamp) -> bool {
        let is_old = |before: &Option<Timestamp>| {
            before.is_none_or(|before| valid_after.saturating_add(BACKDATED) < before)
        };
        self.serials.contains(serial) || self.identities.get(id).is_some_and(is_old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(service: &str) -> SpiffeId {
        let uri = format!("spiffe://a1.mesh/ns/default/dc/dc1/svc/{service}");
        SpiffeId::parse(&uri).expect("an id")
    }

    #[test]
    fn serial_numbers_are_read_in_every_usual_spelling() {
        for (text, read) in [
            ("5a:0B:ff", Some("5a:0b:ff")),
            ("5A0BFF", Some("5a:0b:ff")),
            ("00:5a", Some("5a")),
            ("0000", None),
            ("", None),
            ("5a0", None),
            ("xy", None),
            (&"ab".repeat(20), Some(["ab"; 20].join(":").as_str())),
            (&format!("00{}", "ab".repeat(20)), Some(["ab"; 20].join(":").as_str())),
            (&"ab".repeat(21), None),
        ] {
            let found = text.parse::<SerialNumber>().ok();
            assert_eq!(found.as_ref().map(SerialNumber::as_str), read, "{text}");
        }
        let serial = SerialNumber::from_bytes(&[0, 90, 11]);
        assert_eq!((serial.as_str(), serial.to_bytes()), ("5a:0b", vec![90, 11]));
    }

    #[test]
    fn a_certificate_is_revoked_by_number_by_identity_or_by_when_it_was_signed() {
        let serial = |text: &str| text.parse::<SerialNumber>().expect("a number");
        let at = |seconds: u64| Timestamp(seconds * 1000);
        let set = RevocationSet::new(&[
            Revoked::Certificate(serial("aa")),
            Revoked::Identity { id: id("barred"), issued_before: None },
            Revoked::Identity { id: id("stolen"), issued_before: Some(at(1000)) },
        ]);
        for (service, number, signed, is_revoked) in [
            ("web", "bb", 5000, false),
            ("web", "aa", 5000, true),
            ("barred", "bb", 5000, true),
            ("barred", "bb", 9_000_000, true),
            ("stolen", "bb", 999, true),
            ("stolen", "bb", 1000, false),
            ("stolen", "aa", 1000, true),
        ] {
            let found = set.has(&id(service), &serial(number), at(signed - 60));
            assert_eq!(found, is_revoked, "{service} {number} {signed}");
        }
    }
}
