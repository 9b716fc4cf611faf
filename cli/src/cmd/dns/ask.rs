//! One question for the addresses of a name, asked as a resolver asks.
//!
//! **Source**: RFC 1035 §4.1, §4.2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_runtime::{entropy, net};

/// How long an answer is waited for.
const LIMIT: Duration = Duration::from_secs(3);
/// Bytes of a message's head.
const HEAD_BYTES: usize = 12;
/// Bytes of an answer that is read.
const ANSWER_BYTES_MAX: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) code: u8,
    pub(super) addresses: Vec<IpAddr>,
}

impl Asked {
    /// The code's name, as tools print it.
    pub(super) fn code_name(&self) -> String {
        match self.code {
            1 => "FORMERR".to_owned(),
            2 => "SERVFAIL".to_owned(),
            3 => "NXDOMAIN (it does not know this zone)".to_owned(),
            4 => "NOTIMP".to_owned(),
            5 => "REFUSED".to_owned(),
            other => format!("code {other}"),
        }
    }
}

/// Asks for the IPv4 addresses of a name, then for the IPv6 ones if it has none.
///
/// # Errors
/// What went wrong, for people.
pub(super) async fn ask(
    server: SocketAddr,
    name: &str,
    transport: Transport,
) -> Result<Asked, String> {
    let first = ask_for(server, (name, 1), transport).await?;
    if first.code != 0 || !first.addresses.is_empty() {
        return Ok(first);
    }
    ask_for(server, (name, 28), transport).await
}

async fn ask_for(
    server: SocketAddr,
    (name, kind): (&str, u16),
    transport: Transport,
) -> Result<Asked, String> {
    let mut id = [0; 2];
    entropy::fill(&mut id);
    let query = query(id, name, kind);
    let exchange = async {
        match transport {
            Transport::Tcp => over_tcp(server, &query).await,
            Transport::Udp => over_udp(server, &query).await,
        }
    };
    match tokio::time::timeout(LIMIT, exchange).await {
        Err(_) => Err("does not answer".to_owned()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err("nobody listens there".to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(answer)) => read(&answer, id, kind).ok_or("sends nonsense".to_owned()),
    }
}

fn query(id: [u8; 2], name: &str, kind: u16) -> Vec<u8> {
    let mut query = id.to_vec();
    // Recursion is wanted; one question.
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        // The zone's labels were checked with the agent's configuration.
        query.push(label.len().min(63) as u8);
        query.extend(label.bytes().take(63));
    }
    query.push(0);
    query.extend(kind.to_be_bytes());
    query.extend([0, 1]);
    query
}

async fn over_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = net::bind_udp(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answer[..length].starts_with(&query[..2]) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = net::connect_tcp(server, LIMIT).await?;
    stream.write_u16(query.len() as u16).await?;
    stream.write_all(query).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Reads code and addresses; `None` for what is no answer to that.
fn read(answer: &[u8], id: [u8; 2], kind: u16) -> Option<Asked> {
    let head: &[u8; HEAD_BYTES] = answer.first_chunk()?;
    if head[..2] != id || head[2] & 0x80 == 0 {
        return None;
    }
    let count = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let mut rest = &answer[HEAD_BYTES..];
    for _ in 0..count(4) {
        rest = past_name(rest)?.get(4..)?;
    }
    let mut addresses = Vec::new();
    for _ in 0..count(6) {
        rest = past_name(rest)?;
        let (fixed, after) = rest.split_first_chunk::<10>()?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let (data, after) = after.split_at_checked(length)?;
        if u16::from_be_bytes([fixed[0], fixed[1]]) == kind {
            let v4 = <[u8; 4]>::try_from(data).map(IpAddr::from).ok();
            addresses.extend(v4.or_else(|| <[u8; 16]>::try_from(data).map(IpAddr::from).ok()));
        }
        rest = after;
    }
    Some(Asked { code: head[3] & 0x0f, addresses })
}

fn past_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, rest) = bytes.split_first()?;
        match length {
            0 => return Some(rest),
            0xc0.. => return rest.get(1..),
            length => bytes = rest.get(usize::from(*length)..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_whatever_names_stand_before_them() {
        let mut answer = query([1, 2], "ns.mesh", 1);
        (answer[2], answer[7]) = (0x84, 2);
        answer.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\0\0\x02\xc0\x0c");
        answer.extend(b"\x01a\x04mesh\0\0\x01\0\x01\0\0\0\0\0\x04\x0a\0\0\x01");
        let asked = read(&answer, [1, 2], 1).expect("an answer");
        assert_eq!(asked, Asked { code: 0, addresses: vec![[10, 0, 0, 1].into()] });
        assert_eq!(read(&answer, [1, 3], 1), None);
        for length in 0..answer.len() {
            assert_eq!(read(&answer[..length], [1, 2], 1), None, "{length}");
        }
    }
}
