//! The PROXY header before a connection: read where it is asked for, from those who are believed.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use weft_core::config_entry::ProxyProtocol;
use weft_core::traffic::proxy_protocol::{
    HEADER_BYTES_MAX, Header, V1_BYTES_MAX, V2_FIXED_BYTES, V2_SIGNATURE,
};
use weft_runtime::net::TcpStream;

use crate::http::chain;
use crate::workload::Workload;

/// How long a header may take: who sends one has it ready when it connects.
const LIMIT: Duration = Duration::from_secs(5);

/// Reads the header that a connection begins with, if it comes from where one is to be expected;
/// `None` when there is to be none.
///
/// # Errors
/// When there is to be one and it does not come whole, in time and in order.
pub(crate) async fn preamble(
    workload: &Workload,
    stream: &mut TcpStream,
) -> io::Result<Option<Box<Header>>> {
    let networks = &workload.snapshot.proxy_protocol_from;
    if networks.is_empty() {
        return Ok(None);
    }
    // A unix socket has no address, and so is in no network.
    let Ok(peer) = stream.peer_addr() else { return Ok(None) };
    let ip: IpAddr = peer.ip().to_canonical();
    if !networks.iter().any(|network| network.contains(&ip)) {
        return Ok(None);
    }
    let reading = Box::pin(read(stream));
    let read = tokio::time::timeout(LIMIT, reading).await;
    let read = read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    read.map(|header| Some(Box::new(header))).map_err(|error| {
        let reason = format!("from {peer}: {}", chain(&error));
        io::Error::new(error.kind(), reason)
    })
}

/// Writes a header in the version that is wanted.
pub(crate) fn write_header(version: ProxyProtocol, header: &Header) -> Vec<u8> {
    match version {
        ProxyProtocol::V1 => header.write_v1(),
        ProxyProtocol::V2 => header.write_v2(),
    }
}

/// Reads a header and not a byte more.
async fn read(stream: &mut TcpStream) -> io::Result<Header> {
    let mut bytes = Vec::with_capacity(V1_BYTES_MAX);
    let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    loop {
        if let Some((header, _)) = Header::parse(&bytes).map_err(wrong)? {
            return Ok(header);
        }
        let known = bytes.len();
        let wanted = known + missing(&bytes).min(HEADER_BYTES_MAX);
        bytes.resize(wanted, 0);
        stream.read_exact(&mut bytes[known..]).await?;
    }
}

/// Returns how many bytes are missing at least; what has come is the start of a header.
fn missing(bytes: &[u8]) -> usize {
    if bytes.len() < V2_SIGNATURE.len() {
        // Neither version has a shorter header: `PROXY UNKNOWN` and a line end are longer.
        return V2_SIGNATURE.len() - bytes.len();
    }
    if !bytes.starts_with(&V2_SIGNATURE) {
        // The line ends with two bytes, and the first of them may have come.
        return if bytes.ends_with(b"\r") { 1 } else { 2 };
    }
    match bytes.get(V2_FIXED_BYTES - 2..V2_FIXED_BYTES) {
        None => V2_FIXED_BYTES - bytes.len(),
        Some(length) => {
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            (V2_FIXED_BYTES + length).saturating_sub(bytes.len()).max(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use weft_runtime::net;

    use super::*;

    async fn ends() -> (TcpStream, TcpStream) {
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = net::bind_tcp(any).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let connecting = net::connect_tcp(address, LIMIT);
        let (client, server) = tokio::join!(connecting, listener.accept());
        (client.expect("a connection"), server.expect("a connection").0)
    }

    #[tokio::test]
    async fn a_header_is_read_to_its_end_and_no_further() {
        let full = Header {
            ends: Some((
                "192.0.2.1:1000".parse().expect("an address"),
                "192.0.2.2:80".parse().expect("an address"),
            )),
            ..Header::default()
        };
        for (bytes, want) in [
            (full.write_v1(), full.clone()),
            (full.write_v2(), full.clone()),
            (Header::default().write_v1(), Header::default()),
            (Header::default().write_v2(), Header::default()),
        ] {
            for piece in [1, 7, bytes.len()] {
                let (mut client, mut server) = ends().await;
                let sending = async {
                    for part in bytes.chunks(piece) {
                        client.write_all(part).await.expect("sent");
                        client.flush().await.expect("sent");
                        tokio::task::yield_now().await;
                    }
                    client.write_all(b"body").await.expect("sent");
                };
                let (header, ()) = tokio::join!(read(&mut server), sending);
                assert_eq!(header.expect("a header"), want);
                let mut rest = [0; 4];
                server.read_exact(&mut rest).await.expect("what follows");
                assert_eq!(&rest, b"body");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_or_ends_early_is_an_error() {
        for (bytes, kind) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], io::ErrorKind::InvalidData),
            (b"PROXY TCP4 1.1.1.1", io::ErrorKind::UnexpectedEof),
            (b"PROXY TCP4 x y 1 2\r\n", io::ErrorKind::InvalidData),
            (b"", io::ErrorKind::UnexpectedEof),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", io::ErrorKind::InvalidData),
        ] {
            let (mut client, mut server) = ends().await;
            client.write_all(bytes).await.expect("sent");
            client.shutdown().await.expect("ended");
            let error = read(&mut server).await.expect_err("no header");
            assert_eq!(error.kind(), kind, "{bytes:?}: {error}");
        }
    }
}
