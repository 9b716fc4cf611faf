//! Counts of UDP: sessions, and datagrams that were carried or lost.

use super::metrics::{Count, Pick};

/// Why a datagram was lost here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The connection to the other proxy had no room.
    HopFull,
    /// The system had no room for it.
    NoRoom,
    /// Its client's last session was refused or failed less than a second ago.
    Paused,
    /// As much waited in its session, or in all of them, as may.
    QueueFull,
    /// There were as many sessions as are allowed, all in use.
    SessionsFull,
    /// It is longer than the way bears.
    TooLong,
    /// Nobody was there, as the network said (ICMP).
    Unreachable,
    /// Its session ended before it was sent.
    Unsent,
}

/// Of [`Lost`].
const REASONS: usize = 8;

/// Counts of one worker's sessions, on one side.
#[derive(Debug, Default)]
pub(crate) struct UdpCounts {
    pub(crate) opened: Count,
    pub(crate) closed: Count,
    /// Datagrams towards the service.
    pub(crate) sent: Count,
    /// Datagrams back from it.
    pub(crate) received: Count,
    lost: [Count; REASONS],
}

impl UdpCounts {
    /// Counts datagrams that were lost.
    pub(crate) fn lost(&self, why: Lost, count: u64) {
        if count > 0 {
            self.lost[why as usize].add(count);
        }
    }
}

/// Name, help and place of each.
pub(super) const UDP_COUNTS: [(&str, &str, Pick<UdpCounts>); 4] = [
    ("weft_proxy_udp_sessions_opened_total", "Sessions of UDP opened.", |u| &u.opened),
    ("weft_proxy_udp_sessions_closed_total", "Sessions of UDP that have ended.", |u| &u.closed),
    ("weft_proxy_udp_datagrams_sent_total", "Datagrams towards the service.", |u| &u.sent),
    ("weft_proxy_udp_datagrams_received_total", "Datagrams back from the service.", |u| {
        &u.received
    }),
];

/// The word and place of each reason, in the order of [`Lost`].
pub(super) const LOST: [(&str, Pick<UdpCounts>); REASONS] = [
    ("hop-full", |u| &u.lost[Lost::HopFull as usize]),
    ("no-room", |u| &u.lost[Lost::NoRoom as usize]),
    ("paused", |u| &u.lost[Lost::Paused as usize]),
    ("queue-full", |u| &u.lost[Lost::QueueFull as usize]),
    ("sessions-full", |u| &u.lost[Lost::SessionsFull as usize]),
    ("too-long", |u| &u.lost[Lost::TooLong as usize]),
    ("unreachable", |u| &u.lost[Lost::Unreachable as usize]),
    ("unsent", |u| &u.lost[Lost::Unsent as usize]),
];

/// Counts a session while it is open.
#[derive(Debug)]
pub(crate) struct OpenSession<'a>(&'a UdpCounts);

impl<'a> OpenSession<'a> {
    /// Counts it as opened.
    pub(crate) fn new(counts: &'a UdpCounts) -> Self {
        counts.opened.add(1);
        Self(counts)
    }
}

impl Drop for OpenSession<'_> {
    fn drop(&mut self) {
        self.0.closed.add(1);
    }
}
