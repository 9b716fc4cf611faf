//! Counts of QUIC between proxies, and what is spoken with each endpoint.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::metrics::{Count, Pick};

/// Counts of one worker's QUIC connections, on one side.
#[derive(Debug, Default)]
pub(crate) struct QuicCounts {
    pub(crate) connections_opened: Count,
    pub(crate) connections_closed: Count,
    pub(crate) streams_opened: Count,
    pub(crate) streams_closed: Count,
    pub(crate) bytes_sent: Count,
    pub(crate) bytes_received: Count,
    /// Outbound the connections that did not come about; inbound handshakes that failed.
    pub(crate) attempts_failed: Count,
    /// Calls that waited for QUIC and went by TCP.
    pub(crate) fallbacks: Count,
    /// Endpoints that answer again.
    pub(crate) returns: Count,
    /// Streams that said what is not spoken here.
    pub(crate) violations: Count,
    /// Datagrams of which nobody knows a session.
    pub(crate) datagrams_stray: Count,
}

/// Name, help and place of each.
pub(super) const QUIC_COUNTS: [(&str, &str, Pick<QuicCounts>); 11] = [
    ("weft_proxy_quic_connections_opened_total", "QUIC connections opened.", |q| {
        &q.connections_opened
    }),
    ("weft_proxy_quic_connections_closed_total", "QUIC connections closed.", |q| {
        &q.connections_closed
    }),
    ("weft_proxy_quic_streams_opened_total", "Streams opened.", |q| &q.streams_opened),
    ("weft_proxy_quic_streams_closed_total", "Streams closed.", |q| &q.streams_closed),
    ("weft_proxy_quic_sent_bytes_total", "Bytes of streams sent.", |q| &q.bytes_sent),
    ("weft_proxy_quic_received_bytes_total", "Bytes of streams received.", |q| &q.bytes_received),
    (
        "weft_proxy_quic_attempts_failed_total",
        "QUIC connections that did not come about: no answer, or a handshake that failed.",
        |q| &q.attempts_failed,
    ),
    ("weft_proxy_quic_fallbacks_total", "Calls that waited for QUIC and went by TCP.", |q| {
        &q.fallbacks
    }),
    ("weft_proxy_quic_returns_total", "Endpoints that have answered over QUIC again.", |q| {
        &q.returns
    }),
    ("weft_proxy_quic_violations_total", "Streams that said what is not spoken here.", |q| {
        &q.violations
    }),
    (
        "weft_proxy_quic_datagrams_stray_total",
        "Datagrams that came for sessions that are not there.",
        |q| &q.datagrams_stray,
    ),
];

/// What the workers speak with each endpoint. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Mutex<Places>>);

#[derive(Debug, Default)]
struct Places {
    next: u64,
    by_endpoint: BTreeMap<SocketAddr, BTreeMap<u64, &'static str>>,
}

/// One place on the board, until this is dropped. It is written when something changes, not with
/// each call.
#[derive(Debug)]
pub(crate) struct Slot {
    board: Board,
    address: SocketAddr,
    number: u64,
}

impl Board {
    /// Takes a place for an endpoint.
    pub(crate) fn slot(&self, address: SocketAddr) -> Slot {
        let number = {
            let mut places = self.lock();
            places.next += 1;
            places.next
        };
        let slot = Slot { board: self.clone(), address, number };
        slot.say("tcp");
        slot
    }

    /// Returns what is spoken with an endpoint, each once.
    pub(crate) fn spoken(&self, address: SocketAddr) -> Vec<&'static str> {
        let places = self.lock();
        let words = places.by_endpoint.get(&address).into_iter().flat_map(BTreeMap::values);
        let mut words: Vec<&str> = words.copied().collect();
        words.sort_unstable();
        words.dedup();
        words
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Returns whose it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes what is spoken.
    pub(crate) fn say(&self, word: &'static str) {
        self.board.lock().by_endpoint.entry(self.address).or_default().insert(self.number, word);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut places = self.board.lock();
        if let Some(words) = places.by_endpoint.get_mut(&self.address) {
            words.remove(&self.number);
            if words.is_empty() {
                places.by_endpoint.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_is_shown_while_somebody_speaks_it() {
        let board = Board::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let (first, second) = (board.slot(address), board.slot(address));
        assert_eq!(board.spoken(address), ["tcp"]);
        first.say("quic");
        assert_eq!(board.spoken(address), ["quic", "tcp"]);
        drop(second);
        assert_eq!(board.spoken(address), ["quic"]);
        drop(first);
        assert!(board.spoken(address).is_empty() && board.lock().by_endpoint.is_empty());
    }
}
