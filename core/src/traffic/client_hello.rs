//! The server name in the first message of TLS, which is in the clear. Nothing of the message is
//! changed, kept or believed beyond the name.
//!
//! With encrypted client hello (RFC 9849) the name is the public one of the outer message, as
//! for anybody else on the way.

use crate::limits::HOST_NAME_BYTES_MAX;

/// Bytes of the message with its records: one with post-quantum keys has two thousand, and a
/// caller that resumes shows its session as well.
pub const HELLO_BYTES_MAX: usize = 16 << 10;

/// The type of a record of the handshake, and of its first message.
///
/// **Source**: Spec: RFC 8446 §5.1, §4.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The extension with the server name, and the one kind of name in it.
///
/// **Source**: Spec: RFC 6066 §3.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// States why bytes are not the beginning of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHello {
    /// Something else is spoken.
    #[error("the connection does not begin with TLS")]
    NotTls,
    /// A length does not fit, or an extension comes twice.
    #[error("the first message of TLS is malformed")]
    Malformed,
    /// It is longer than allowed.
    #[error("the first message of TLS is longer than the {HELLO_BYTES_MAX} bytes that are read")]
    TooLong,
    /// The name is none.
    #[error("the server name in the first message of TLS is not a host name")]
    Name,
}

/// Reads the server name at the beginning of a connection; `None` while bytes are missing, else
/// the name in lower case, if there is one.
///
/// # Errors
/// [`InvalidHello`] as soon as the bytes cannot become a whole message.
pub fn server_name(bytes: &[u8]) -> Result<Option<Option<String>>, InvalidHello> {
    let mut message = Vec::new();
    let mut rest = bytes;
    // The message may be cut into records as its sender likes.
    let message = loop {
        let Some((&kind, after)) = rest.split_first() else { return missing(bytes) };
        if kind != HANDSHAKE || after.first().is_some_and(|major| *major != 3) {
            return Err(InvalidHello::NotTls);
        }
        let Some(head) = after.get(..4) else { return missing(bytes) };
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if length == 0 {
            return Err(InvalidHello::Malformed);
        }
        let part = &after[4..];
        message.extend_from_slice(&part[..length.min(part.len())]);
        if message.first().is_some_and(|first| *first != CLIENT_HELLO) {
            return Err(InvalidHello::NotTls);
        }
        if let Some(length) = message.get(1..4) {
            let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
            if length > HELLO_BYTES_MAX {
                return Err(InvalidHello::TooLong);
            }
            if let Some(whole) = message.get(4..4 + length) {
                break whole;
            }
        }
        if part.len() < length {
            return missing(bytes);
        }
        rest = &part[length..];
    };
    name_in(message).map(Some)
}

fn missing<T>(bytes: &[u8]) -> Result<Option<T>, InvalidHello> {
    if bytes.len() >= HELLO_BYTES_MAX { Err(InvalidHello::TooLong) } else { Ok(None) }
}

/// Bytes that are taken off from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], InvalidHello> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(InvalidHello::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, InvalidHello> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, InvalidHello> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Takes what has its length before it, in two bytes.
    fn vector(&mut self) -> Result<Self, InvalidHello> {
        let length = self.u16()?;
        self.take(length.into()).map(Self)
    }

    /// The same with one byte.
    fn short_vector(&mut self) -> Result<Self, InvalidHello> {
        let length = self.u8()?;
        self.take(length.into()).map(Self)
    }
}

/// Reads the name in a whole message.
///
/// **Source**: Spec: RFC 8446 §4.1.2.
fn name_in(message: &[u8]) -> Result<Option<String>, InvalidHello> {
    let mut hello = Reader(message);
    // The version, and what is random.
    hello.take(2 + 32)?;
    hello.short_vector()?;
    hello.vector()?;
    hello.short_vector()?;
    if hello.0.is_empty() {
        // TLS 1.2 and older may have no extensions.
        return Ok(None);
    }
    let mut extensions = hello.vector()?;
    if !hello.0.is_empty() {
        return Err(InvalidHello::Malformed);
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let (kind, content) = (extensions.u16()?, extensions.vector()?);
        if kind == SERVER_NAME && found.replace(name(content)?).is_some() {
            return Err(InvalidHello::Malformed);
        }
    }
    Ok(found)
}

fn name(mut extension: Reader<'_>) -> Result<String, InvalidHello> {
    let mut names = extension.vector()?;
    if !extension.0.is_empty() || names.u8()? != HOST_NAME {
        return Err(InvalidHello::Malformed);
    }
    let name = names.vector()?.0;
    if !names.0.is_empty() {
        return Err(InvalidHello::Malformed);
    }
    let text = std::str::from_utf8(name).map_err(|_| InvalidHello::Name)?;
    let text = text.strip_suffix('.').unwrap_or(text);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_name = (1..=HOST_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits);
    if is_name { Ok(text.to_ascii_lowercase()) } else { Err(InvalidHello::Name) }
}

#[cfg(test)]
mod tests;
