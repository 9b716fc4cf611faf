//! Names of other zones: the query goes on to a recursor, its answer comes back.
//!
//! **Source**: Consul: docs/agent/config/config-files#recursors; RFC 5452 §9 on what an answer
//! must match.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::Name;
use rand_core::RngCore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use weft_core::limits;
use weft_runtime::{entropy, net};

use crate::config::{Recursors, Strategy};

/// Bytes of the largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// How a query came, and goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// Asks recursors.
pub(super) struct Forwarder {
    recursors: Recursors,
    in_flight: Semaphore,
}

/// States why a recursor gave no answer.
#[derive(Debug, thiserror::Error)]
enum RecursorError {
    #[error("it answers with {0}")]
    Code(ResponseCode),
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("it does not answer")]
    Silent,
}

/// Returns those to ask about a name.
fn to_ask<'a>(recursors: &'a Recursors, name: &Name) -> &'a [SocketAddr] {
    let name = name.to_ascii().to_ascii_lowercase();
    let mut rest = name.trim_end_matches('.');
    loop {
        if let Some(found) = recursors.by_zone.get(rest) {
            return found;
        }
        match rest.split_once('.') {
            Some((_, above)) => rest = above,
            None => return &recursors.general,
        }
    }
}

impl Forwarder {
    /// Makes one that asks anybody but the addresses at which this server itself answers.
    pub(super) fn new(mut recursors: Recursors, own: &[SocketAddr]) -> Self {
        let Recursors { general, by_zone, .. } = &mut recursors;
        for list in std::iter::once(general).chain(by_zone.values_mut()) {
            list.retain(|recursor| {
                if own.contains(recursor) {
                    warn!(%recursor, "a recursor is this DNS server itself; it is left out");
                }
                !own.contains(recursor)
            });
        }
        let in_flight = Semaphore::new(limits::DNS_FORWARDED_QUERIES_MAX);
        Self { recursors, in_flight }
    }

    /// Whether there is anybody to ask.
    pub(super) fn is_on(&self) -> bool {
        let Recursors { general, by_zone, .. } = &self.recursors;
        !general.is_empty() || by_zone.values().any(|list| !list.is_empty())
    }

    /// Asks on a query as it came, over the transport on which it came; `None` when no recursor
    /// has an answer.
    pub(super) async fn forward(&self, query: &[u8], transport: Transport) -> Option<Message> {
        let asked = Message::from_vec(query).ok()?.queries.into_iter().next()?;
        let _permit = self.in_flight.try_acquire().ok()?;
        let recursors = to_ask(&self.recursors, asked.name());
        let first = match self.recursors.strategy {
            Strategy::Random if !recursors.is_empty() => {
                entropy::rng().next_u64() as usize % recursors.len()
            }
            Strategy::Random | Strategy::Sequential => 0,
        };
        let (before, from) = recursors.split_at(first);
        for recursor in from.iter().chain(before) {
            match ask(*recursor, query, (&asked, transport), self.recursors.limit).await {
                Ok(answer) => return Some(answer),
                Err(failure) => {
                    let error = &failure as &dyn std::error::Error;
                    debug!(%recursor, error, "a recursor gave no answer");
                }
            }
        }
        None
    }

    /// Asks for a name of our own accord.
    pub(super) async fn resolve(&self, asked: Query, transport: Transport) -> Option<Message> {
        let mut message = Message::new(0, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(asked);
        self.forward(&message.to_vec().ok()?, transport).await
    }
}

async fn ask(
    recursor: SocketAddr,
    query: &[u8],
    (asked, transport): (&Query, Transport),
    limit: Duration,
) -> Result<Message, RecursorError> {
    // An id of our own: the caller's is known to the caller.
    let mut query = query.to_vec();
    let mut id = [0; 2];
    entropy::fill(&mut id);
    if let Some(place) = query.get_mut(..2) {
        place.copy_from_slice(&id);
    }
    let id = u16::from_be_bytes(id);
    let exchange = async {
        match transport {
            Transport::Udp => ask_udp(recursor, &query, (id, asked)).await,
            Transport::Tcp => ask_tcp(recursor, &query, (id, asked), limit).await,
        }
    };
    let answer =
        tokio::time::timeout(limit, exchange).await.map_err(|_| RecursorError::Silent)??;
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
        code => Err(RecursorError::Code(code)),
    }
}

async fn ask_udp(
    recursor: SocketAddr,
    query: &[u8],
    expected: (u16, &Query),
) -> io::Result<Message> {
    let any: IpAddr = match recursor {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A fresh port for each query, which whoever wants to forge an answer has to guess.
    let socket = net::bind_udp(SocketAddr::new(any, 0)).await?;
    socket.connect(recursor).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = answer_to(expected, &buffer[..length]) {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(
    recursor: SocketAddr,
    query: &[u8],
    expected: (u16, &Query),
    limit: Duration,
) -> io::Result<Message> {
    let mut stream = net::connect_tcp(recursor, limit).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    answer_to(expected, &buffer).ok_or_else(|| io::Error::other("the answer is to another query"))
}

/// Reads an answer, if it is one to our query.
fn answer_to((id, asked): (u16, &Query), bytes: &[u8]) -> Option<Message> {
    let message = Message::from_vec(bytes).ok()?;
    let is_ours = message.metadata.id == id
        && message.metadata.message_type == MessageType::Response
        && message.queries.first() == Some(asked);
    is_ours.then_some(message)
}
