//! Resource records as data, and the bytes they take.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What an answer says about the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseCode {
    /// The name exists; there may be no record of the type asked for.
    NoError,
    /// Such a query is not answered (zone transfers).
    NotImplemented,
    /// The name does not exist.
    NxDomain,
    /// Nothing is known yet.
    ServFail,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Whose record it is; lower-case, without the final dot.
    pub name: String,
    /// How long it may be kept.
    ///
    /// **Units**: seconds.
    pub ttl: u32,
    /// What it says.
    pub data: RecordData,
}

/// What a record says. Names are without the final dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordData {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// The name under which to ask on.
    Cname(String),
    /// A name server of the zone.
    Ns(String),
    /// The name that an address has.
    Ptr(String),
    /// The start of the zone.
    Soa(SoaData),
    /// Where a service listens.
    Srv {
        /// Lower is tried first.
        priority: u16,
        /// The share among those of one priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The host.
        target: String,
    },
    /// Texts.
    Txt(Vec<String>),
}

/// The start of a zone (RFC 1035 §3.3.13).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SoaData {
    /// The primary name server.
    pub mname: String,
    /// The mailbox of who is in charge, with the `@` as a dot.
    pub rname: String,
    /// The zone's version.
    pub serial: u32,
    /// Seconds.
    pub refresh: u32,
    /// Seconds.
    pub retry: u32,
    /// Seconds.
    pub expire: u32,
    /// Seconds for which a negative answer may be kept.
    pub minimum: u32,
}

/// Type, class, TTL and length of a record (RFC 1035 §4.1.3).
const FIXED_BYTES: usize = 10;
/// A pointer to a name given before (RFC 1035 §4.1.4).
const POINTER_BYTES: usize = 2;

/// Returns the bytes of a name without compression: a length before each label and the root.
pub(super) fn name_bytes(name: &str) -> usize {
    if name.is_empty() { 1 } else { name.len() + 2 }
}

impl Record {
    /// Returns the bytes that the record takes, without compression.
    pub fn bytes(&self) -> usize {
        name_bytes(&self.name) + FIXED_BYTES + self.data.bytes()
    }

    /// Returns the bytes that the record takes when its name, if it is the one asked for,
    /// points to the question.
    pub(super) fn bytes_compressed(&self, asked: &str) -> usize {
        let name = if self.name == asked { POINTER_BYTES } else { name_bytes(&self.name) };
        name + FIXED_BYTES + self.data.bytes()
    }
}

impl RecordData {
    fn bytes(&self) -> usize {
        match self {
            Self::A(_) => 4,
            Self::Aaaa(_) => 16,
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => name_bytes(name),
            Self::Soa(soa) => name_bytes(&soa.mname) + name_bytes(&soa.rname) + 20,
            Self::Srv { target, .. } => 6 + name_bytes(target),
            Self::Txt(texts) => texts.iter().map(|text| text.len() + 1).sum(),
        }
    }
}
