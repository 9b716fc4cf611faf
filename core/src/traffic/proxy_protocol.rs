//! The PROXY protocol, versions 1 and 2: who was at the other end before a proxy stood between.
//! Reads and writes headers; nothing waits here.
//!
//! **Source**: HAProxy: doc/proxy-protocol.txt.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of a header that are read: certificates' names and custom fields fit ten times.
pub const HEADER_BYTES_MAX: usize = 4096;
/// Bytes of the longest header of version 1, its line end included (§2.1).
pub const V1_BYTES_MAX: usize = 107;
/// How version 2 begins (§2.2).
pub const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before the addresses.
pub const V2_FIXED_BYTES: usize = 16;
/// The field of our own that has the caller's SPIFFE ID, as text: the first of those for
/// applications (§2.2.7, `PP2_TYPE_MIN_CUSTOM`).
pub const SPIFFE_ID: u8 = 0xe0;

/// Bytes after the fixed ones that are written, without the checksum.
const FIELDS_BYTES_MAX: usize = HEADER_BYTES_MAX - V2_FIXED_BYTES - 7;

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;
/// The caller spoke TLS, and showed a certificate on this connection and in this session.
const SSL_CLIENT: u8 = 0x01 | 0x02 | 0x04;

/// What a header says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Header {
    /// Who called and where, as far as it is told; `None` for a connection that the proxy has
    /// made for itself, and for other kinds of addresses than those of TCP.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// What is spoken inside, such as `h2`; version 2 only, as all that follows.
    pub alpn: Option<Vec<u8>>,
    /// The name that the caller asked for in TLS.
    pub authority: Option<String>,
    /// The TLS that the caller spoke, with a certificate of its own.
    pub ssl: Option<Ssl>,
    /// Who called; see [`SPIFFE_ID`].
    pub spiffe_id: Option<String>,
}

/// TLS between the caller and the proxy.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ssl {
    /// Such as `TLSv1.3`.
    pub version: String,
    /// The common name in the caller's certificate.
    pub common_name: Option<String>,
}

/// States why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// They begin as neither version does.
    #[error("there is no PROXY header where one must be")]
    Absent,
    /// An address or port is none, or not of the family told.
    #[error("the PROXY header has an address that is none")]
    Address,
    /// The checksum is of other bytes.
    #[error("the PROXY header's checksum is wrong")]
    Checksum,
    /// The command or version is unknown.
    #[error("the PROXY header has an unknown version or command")]
    Command,
    /// A field does not fit in its place.
    #[error("the PROXY header has a field that is cut off, or of another form")]
    Field,
    /// It is longer than allowed.
    #[error("the PROXY header is longer than the {HEADER_BYTES_MAX} bytes that are read")]
    TooLong,
}

impl Header {
    /// Reads the header at the beginning of a connection; `None` while bytes are missing, else
    /// what it says and its length.
    ///
    /// # Errors
    /// [`InvalidHeader`] as soon as the bytes cannot become a header.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, InvalidHeader> {
        let seen = bytes.len().min(V2_SIGNATURE.len());
        if bytes[..seen] == V2_SIGNATURE[..seen] {
            return match seen == V2_SIGNATURE.len() {
                true => parse_v2(bytes),
                false => Ok(None),
            };
        }
        let word = b"PROXY ";
        let seen = bytes.len().min(word.len());
        if bytes[..seen] != word[..seen] {
            return Err(InvalidHeader::Absent);
        }
        let within = &bytes[..bytes.len().min(V1_BYTES_MAX)];
        match within.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => parse_v1(&within[..end]).map(|header| Some((header, end + 2))),
            None if within.len() == V1_BYTES_MAX => Err(InvalidHeader::TooLong),
            None => Ok(None),
        }
    }

    /// Writes version 1, which tells the addresses alone.
    pub fn write_v1(&self) -> Vec<u8> {
        let line = match self.ends.map(same_family) {
            None => "PROXY UNKNOWN\r\n".to_owned(),
            Some((from, to)) => {
                let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
                let (source, destination) = (from.ip(), to.ip());
                let (from, to) = (from.port(), to.port());
                format!("PROXY {family} {source} {destination} {from} {to}\r\n")
            }
        };
        line.into_bytes()
    }

    /// Writes version 2, with a checksum.
    pub fn write_v2(&self) -> Vec<u8> {
        let mut out = V2_SIGNATURE.to_vec();
        let mut rest = Vec::new();
        let (command, family) = match self.ends.map(same_family) {
            None => (0x20, 0x00),
            Some((SocketAddr::V4(from), SocketAddr::V4(to))) => {
                rest.extend(from.ip().octets());
                rest.extend(to.ip().octets());
                rest.extend(from.port().to_be_bytes());
                rest.extend(to.port().to_be_bytes());
                (0x21, 0x11)
            }
            Some((from, to)) => {
                rest.extend(v6(from.ip()).octets());
                rest.extend(v6(to.ip()).octets());
                rest.extend(from.port().to_be_bytes());
                rest.extend(to.port().to_be_bytes());
                (0x21, 0x21)
            }
        };
        if let Some(alpn) = &self.alpn {
            field(&mut rest, ALPN, alpn);
        }
        if let Some(authority) = &self.authority {
            field(&mut rest, AUTHORITY, authority.as_bytes());
        }
        if let Some(ssl) = &self.ssl {
            // The flags, and that the certificate was verified.
            let mut inner = vec![SSL_CLIENT, 0, 0, 0, 0];
            field(&mut inner, SSL_VERSION, ssl.version.as_bytes());
            if let Some(name) = &ssl.common_name {
                field(&mut inner, SSL_CN, name.as_bytes());
            }
            field(&mut rest, SSL, &inner);
        }
        if let Some(id) = &self.spiffe_id {
            field(&mut rest, SPIFFE_ID, id.as_bytes());
        }
        rest.extend([CRC32C, 0, 4, 0, 0, 0, 0]);
        out.extend([command, family]);
        out.extend(u16::try_from(rest.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.append(&mut rest);
        let sum = crc32c(&out).to_be_bytes();
        let at = out.len() - sum.len();
        out[at..].copy_from_slice(&sum);
        out
    }
}

/// Appends a field; one for which there is no room is left out, as half a name is another one.
fn field(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if out.len() + 3 + value.len() <= FIELDS_BYTES_MAX {
        out.push(kind);
        out.extend((value.len() as u16).to_be_bytes());
        out.extend_from_slice(value);
    }
}

/// Writes both addresses in the same family, as the header has room for one.
fn same_family((from, to): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    let plain = |it: SocketAddr| SocketAddr::new(it.ip().to_canonical(), it.port());
    let (from, to) = (plain(from), plain(to));
    if from.is_ipv4() == to.is_ipv4() {
        return (from, to);
    }
    let mapped = |it: SocketAddr| SocketAddr::new(IpAddr::V6(v6(it.ip())), it.port());
    (mapped(from), mapped(to))
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Reads the line of version 1, without its end.
fn parse_v1(line: &[u8]) -> Result<Header, InvalidHeader> {
    let line = std::str::from_utf8(line).map_err(|_| InvalidHeader::Address)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        // What follows must not be read (§2.1).
        return Ok(Header::default());
    }
    let mut word = || words.next().ok_or(InvalidHeader::Field);
    let (source, destination, from, to) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(InvalidHeader::Field);
    }
    let ip = |text: &str| -> Option<IpAddr> {
        match family {
            Some("TCP4") => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            Some("TCP6") => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            Some(_) | None => None,
        }
    };
    let port = |text: &str| -> Option<u16> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let is_plain = is_plain && (text == "0" || !text.starts_with('0'));
        is_plain.then(|| text.parse().ok()).flatten()
    };
    let end = |address, text| Some(SocketAddr::new(ip(address)?, port(text)?));
    let ends = end(source, from).zip(end(destination, to)).ok_or(InvalidHeader::Address)?;
    Ok(Header { ends: Some(ends), ..Header::default() })
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Header, usize)>, InvalidHeader> {
    let Some(fixed) = bytes.get(12..V2_FIXED_BYTES) else { return Ok(None) };
    let (command, family) = (fixed[0], fixed[1]);
    if !matches!(command, 0x20 | 0x21) {
        return Err(InvalidHeader::Command);
    }
    let total = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if total > HEADER_BYTES_MAX {
        return Err(InvalidHeader::TooLong);
    }
    let Some(header) = bytes.get(..total) else { return Ok(None) };
    let rest = &header[V2_FIXED_BYTES..];
    // Of a proxy's own connection nothing counts (§2.2); so of kinds that we do not know.
    let length = match family {
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        0x00 => 0,
        _ => return Err(InvalidHeader::Address),
    };
    let (addresses, fields) = rest.split_at_checked(length).ok_or(InvalidHeader::Address)?;
    let mut read = Header::default();
    read.take_fields(fields, header)?;
    if command == 0x20 {
        return Ok(Some((Header::default(), total)));
    }
    read.ends = match family {
        0x11 => ends::<4>(addresses),
        0x21 => ends::<16>(addresses),
        _ => None,
    };
    Ok(Some((read, total)))
}

fn ends<const N: usize>(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let (to, _) = rest.split_first_chunk::<2>()?;
    let end = |ip: [u8; N], port: [u8; 2]| SocketAddr::new(ip.into(), u16::from_be_bytes(port));
    Some((end(*source, *from), end(*destination, *to)))
}

/// Takes the first field off; `None` at the end.
fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, InvalidHeader> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (head, after) = rest.split_first_chunk::<3>().ok_or(InvalidHeader::Field)?;
    let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
    let (value, after) = after.split_at_checked(length).ok_or(InvalidHeader::Field)?;
    *rest = after;
    Ok(Some((head[0], value)))
}

fn text(value: &[u8]) -> Result<String, InvalidHeader> {
    let text = std::str::from_utf8(value).map_err(|_| InvalidHeader::Field)?;
    if text.chars().any(char::is_control) { Err(InvalidHeader::Field) } else { Ok(text.to_owned()) }
}

impl Header {
    fn take_fields(&mut self, mut fields: &[u8], whole: &[u8]) -> Result<(), InvalidHeader> {
        while let Some((kind, value)) = next_field(&mut fields)? {
            match kind {
                ALPN => self.alpn = Some(value.to_vec()),
                AUTHORITY => self.authority = Some(text(value)?),
                CRC32C => {
                    let told = value.try_into().map_err(|_| InvalidHeader::Field)?;
                    // It is that of the header with zeros in its place.
                    let at = whole.len() - fields.len() - value.len();
                    let mut zeroed = whole.to_vec();
                    zeroed[at..at + value.len()].fill(0);
                    if crc32c(&zeroed) != u32::from_be_bytes(told) {
                        return Err(InvalidHeader::Checksum);
                    }
                }
                SPIFFE_ID => self.spiffe_id = Some(text(value)?),
                SSL => {
                    let (flags, mut inner) =
                        value.split_at_checked(5).ok_or(InvalidHeader::Field)?;
                    let mut ssl = Ssl::default();
                    while let Some((kind, value)) = next_field(&mut inner)? {
                        match kind {
                            SSL_VERSION => ssl.version = text(value)?,
                            SSL_CN => ssl.common_name = Some(text(value)?),
                            _ => {}
                        }
                    }
                    self.ssl = (flags[0] & 1 != 0).then_some(ssl);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// **Source**: Spec: RFC 9260 Appendix A. Headers are short, so a table is not worth it.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |mut sum: u32, byte: &u8| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
        }
        sum
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests;
