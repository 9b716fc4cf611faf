//! Where something listens on its own host: an address and port, or the path of a unix socket.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits::SOCKET_PATH_BYTES_MAX;
use crate::text_type::text_type;

/// What stands before the path of a unix socket in text.
const UNIX: &str = "unix:";

/// The path of a unix socket: absolute, without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SocketPath(Arc<str>);

/// States why a text is not the path of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSocketPath {
    /// It depends on where a process runs.
    #[error("{0:?} is not an absolute path")]
    Relative(String),
    /// The kernel has no room for it.
    #[error("has {0} bytes, more than the {SOCKET_PATH_BYTES_MAX} that a socket's path may have")]
    TooLong(usize),
    /// It has a control character in it.
    #[error("{0:?} has a control character")]
    Control(String),
}

impl SocketPath {
    /// Reads a path.
    ///
    /// # Errors
    /// [`InvalidSocketPath`] with the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidSocketPath> {
        if !text.starts_with('/') || text.ends_with('/') {
            Err(InvalidSocketPath::Relative(text.chars().take(SOCKET_PATH_BYTES_MAX).collect()))
        } else if text.len() > SOCKET_PATH_BYTES_MAX {
            Err(InvalidSocketPath::TooLong(text.len()))
        } else if text.chars().any(char::is_control) {
            Err(InvalidSocketPath::Control(text.to_owned()))
        } else {
            Ok(Self(text.into()))
        }
    }
}

text_type!(SocketPath, InvalidSocketPath);

/// Where something listens on its own host.
///
/// As text `127.0.0.1:80`, `[::1]:80` or `unix:/run/app.sock`. In binary form a TCP address is
/// written as one alone is, which releases before this type read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LocalAddress {
    /// An address and port of TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(SocketPath),
}

/// Reads the mode of a socket's file: octal, such as `0660`; `None` for a text that is no mode.
pub fn file_mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal = digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777);
    mode.filter(|_| is_octal)
}

impl LocalAddress {
    /// Returns the address of TCP; `None` for a unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Returns the port; `None` for a unix socket, which has none.
    pub fn port(&self) -> Option<u16> {
        self.tcp().map(|address| address.port())
    }
}

impl From<SocketAddr> for LocalAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{path}"),
        }
    }
}

/// The binary form: that of `SocketAddr`, with one more variant.
#[derive(Serialize, Deserialize)]
#[serde(rename = "SocketAddr")]
enum Binary {
    V4(SocketAddrV4),
    V6(SocketAddrV6),
    Unix(SocketPath),
}

impl Serialize for LocalAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        let binary = match self {
            Self::Tcp(SocketAddr::V4(address)) => Binary::V4(*address),
            Self::Tcp(SocketAddr::V6(address)) => Binary::V6(*address),
            Self::Unix(path) => Binary::Unix(path.clone()),
        };
        binary.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LocalAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return match text.strip_prefix(UNIX) {
                Some(path) => SocketPath::parse(path).map(Self::Unix).map_err(de::Error::custom),
                None => text.parse().map(Self::Tcp).map_err(de::Error::custom),
            };
        }
        Ok(match Binary::deserialize(deserializer)? {
            Binary::V4(address) => Self::Tcp(address.into()),
            Binary::V6(address) => Self::Tcp(address.into()),
            Binary::Unix(path) => Self::Unix(path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal_and_of_a_file() {
        for (text, mode) in [
            ("0660", Some(0o660)),
            ("0o600", Some(0o600)),
            ("777", Some(0o777)),
            ("1777", None),
            ("+600", None),
            ("0o+6", None),
            ("rw", None),
            ("", None),
        ] {
            assert_eq!(file_mode(text), mode, "{text:?}");
        }
    }

    #[test]
    fn a_path_is_absolute_short_and_clean() {
        assert_eq!(SocketPath::parse("/run/a b.sock").expect("a path").as_str(), "/run/a b.sock");
        let longest = format!("/{}", "x".repeat(SOCKET_PATH_BYTES_MAX - 1));
        SocketPath::parse(&longest).expect("the longest");
        for (text, reason) in [
            ("", "\"\" is not an absolute path"),
            ("run/a", "\"run/a\" is not an absolute path"),
            ("@abstract", "\"@abstract\" is not an absolute path"),
            ("/run/", "\"/run/\" is not an absolute path"),
            ("/a\0b", "\"/a\\0b\" has a control character"),
            (
                &format!("{longest}x"),
                "has 108 bytes, more than the 107 that a socket's path may have",
            ),
        ] {
            assert_eq!(SocketPath::parse(text).expect_err(text).to_string(), reason);
        }
    }

    #[test]
    fn a_tcp_address_is_in_binary_what_it_is_alone() {
        for text in ["127.0.0.1:80", "[2001:db8::1]:8443"] {
            let alone: SocketAddr = text.parse().expect("an address");
            let bytes = rmp_serde::to_vec_named(&alone).expect("bytes");
            let address = LocalAddress::from(alone);
            assert_eq!(rmp_serde::to_vec_named(&address).expect("bytes"), bytes);
            assert_eq!(rmp_serde::from_slice::<LocalAddress>(&bytes).expect("read"), address);
        }
        let unix = LocalAddress::Unix(SocketPath::parse("/run/a.sock").expect("a path"));
        let bytes = rmp_serde::to_vec_named(&unix).expect("bytes");
        assert_eq!(rmp_serde::from_slice::<LocalAddress>(&bytes).expect("read"), unix);
        rmp_serde::from_slice::<SocketAddr>(&bytes).expect_err("an older release refuses it");
    }

    #[test]
    fn text_tells_the_two_kinds_apart() {
        for text in ["127.0.0.1:80", "[::1]:80", "unix:/run/a.sock"] {
            let address: LocalAddress = serde_json::from_value(text.into()).expect(text);
            assert_eq!(address.to_string(), text);
            assert_eq!(serde_json::to_value(&address).expect("text"), text);
            assert_eq!(address.port().is_none(), text.starts_with(UNIX));
        }
        for text in ["", "/run/a.sock", "unix:run", "localhost:80", "127.0.0.1"] {
            serde_json::from_value::<LocalAddress>(text.into()).expect_err(text);
        }
    }
}
