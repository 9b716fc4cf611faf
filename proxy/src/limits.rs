//! What one caller may take of the proxy: time, connections, streams, bytes. Each limit can be
//! set, within a range whose ends keep the proxy working.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_core::time::Span;
use weft_proto::text::Fault;

/// Bytes that each request on its way may keep at most: more of them are no calls but uploads.
const RETRY_BODY_BYTES_MAX: usize = 16 << 20;

/// The `limits` section of a configuration file; each field left out takes its default.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsSection {
    /// From the first byte of a request's head to its last.
    pub head: Option<Span>,
    /// Without a request, also before the first.
    pub idle: Option<Span>,
    /// Without a byte of a body that is on its way.
    pub stall: Option<Span>,
    /// Without a byte either way, where bytes are carried.
    pub tcp_idle: Option<Span>,
    /// Without a byte, once one direction has ended.
    pub half_closed: Option<Span>,
    /// Without a datagram either way, in a session of UDP.
    pub udp_idle: Option<Span>,
    /// Sessions of UDP at once of one upstream, on each worker.
    pub udp_sessions: Option<u32>,
    /// A TLS handshake.
    pub handshake: Option<Span>,
    /// Streams at once on one connection of HTTP/2.
    pub streams: Option<u32>,
    /// Connections at once from callers, over all doors and workers; 0 for as many as there are
    /// descriptors.
    pub connections: Option<u32>,
    /// Bytes of the body of one request; 0 for any number.
    pub body_bytes: Option<u64>,
    /// Bytes of a request's body that are kept while it may have to be sent again; 0 for none.
    pub retry_body_bytes: Option<usize>,
    /// How long a worker may lag behind before it refuses requests; 0 for ever.
    pub overload_delay: Option<Span>,
}

/// The limits in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Without a request, also before the first.
    pub idle: Duration,
    /// Without a byte of a body that is on its way.
    pub stall: Duration,
    /// Without a byte either way, where bytes are carried.
    pub tcp_idle: Duration,
    /// Without a byte, once one direction has ended.
    pub half_closed: Duration,
    /// Without a datagram either way, in a session of UDP.
    pub udp_idle: Duration,
    /// Sessions of UDP at once of one upstream, on each worker.
    pub udp_sessions: u32,
    /// A TLS handshake.
    pub handshake: Duration,
    /// Streams at once on one connection of HTTP/2.
    pub streams: u32,
    /// Connections at once from callers; `u32::MAX` for any number.
    pub connections: u32,
    /// Bytes of the body of one request; `u64::MAX` for any number.
    pub body_bytes: u64,
    /// Bytes of a request's body that are kept while it may have to be sent again.
    pub retry_body_bytes: usize,
    /// How long a worker may lag behind before it refuses requests; zero for ever.
    pub overload_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            // A slow phone sends a head of 16 KiB in a second or two.
            head: seconds(15),
            // Longer than the usual pools of clients keep theirs (Go: 90 s), so that the client
            // closes first.
            idle: seconds(300),
            stall: seconds(300),
            // The usual keep-alive of long-lived protocols is shorter, and a host that is gone
            // without a word is noticed at last.
            tcp_idle: seconds(2 * 3600),
            // As above, but a half-closed connection is more often forgotten.
            half_closed: seconds(600),
            // RFC 4787 §4.3 allows no less without being asked.
            udp_idle: seconds(120),
            // Some kilobytes each: at most 64 MB for an upstream, whatever ports a client calls from.
            udp_sessions: 8_192,
            // One round trip and a millisecond of work, with patience for a loaded host.
            handshake: seconds(10),
            // Each may open a connection to the application. A caller with more in flight opens
            // a second connection.
            streams: 256,
            connections: u32::MAX,
            body_bytes: u64::MAX,
            // As Linkerd: nearly all calls of APIs, and 64 MiB for a thousand of them at once.
            retry_body_bytes: 64 << 10,
            // Ten times what a worker that is busy with a thousand connections needs for a turn.
            overload_delay: Duration::from_millis(250),
        }
    }
}

impl LimitsSection {
    /// Checks the section and fills in what it leaves out.
    pub(crate) fn resolve(&self, faults: &mut Vec<Fault>) -> Limits {
        let or = Limits::default();
        let mut time = |name: &str, given: Option<Span>, default: Duration, range: (&str, u64)| {
            let Some(Span(given)) = given else { return default };
            let (max_text, max_seconds) = range;
            if !(Duration::from_secs(1)..=Duration::from_secs(max_seconds)).contains(&given) {
                let reason = format!("{given:?} is not from 1s to {max_text}");
                faults.push(Fault::new(format!("limits.{name}"), reason));
            }
            given
        };
        let day = ("24h", 24 * 3600);
        let week = ("168h", 7 * 24 * 3600);
        let limits = Limits {
            head: time("head", self.head, or.head, ("10m", 600)),
            idle: time("idle", self.idle, or.idle, day),
            stall: time("stall", self.stall, or.stall, day),
            tcp_idle: time("tcp_idle", self.tcp_idle, or.tcp_idle, week),
            half_closed: time("half_closed", self.half_closed, or.half_closed, week),
            udp_idle: time("udp_idle", self.udp_idle, or.udp_idle, day),
            udp_sessions: self.udp_sessions.unwrap_or(or.udp_sessions),
            handshake: time("handshake", self.handshake, or.handshake, ("5m", 300)),
            streams: self.streams.unwrap_or(or.streams),
            connections: self.connections.filter(|count| *count > 0).unwrap_or(or.connections),
            body_bytes: self.body_bytes.filter(|count| *count > 0).unwrap_or(or.body_bytes),
            retry_body_bytes: self.retry_body_bytes.unwrap_or(or.retry_body_bytes),
            overload_delay: self.overload_delay.map_or(or.overload_delay, |delay| delay.0),
        };
        if !(1..=65_536).contains(&limits.streams) {
            let reason = format!("{} is not from 1 to 65536", limits.streams);
            faults.push(Fault::new("limits.streams", reason));
        }
        if !(1..=1_048_576).contains(&limits.udp_sessions) {
            let reason = format!("{} is not from 1 to 1048576", limits.udp_sessions);
            faults.push(Fault::new("limits.udp_sessions", reason));
        }
        if limits.retry_body_bytes > RETRY_BODY_BYTES_MAX {
            let reason = format!("{} is more than {RETRY_BODY_BYTES_MAX}", limits.retry_body_bytes);
            faults.push(Fault::new("limits.retry_body_bytes", reason));
        }
        let delay = limits.overload_delay;
        let range = Duration::from_millis(1)..=Duration::from_secs(10);
        if !delay.is_zero() && !range.contains(&delay) {
            let reason = format!("{delay:?} is neither 0s nor from 1ms to 10s");
            faults.push(Fault::new("limits.overload_delay", reason));
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_every_fault_is_told() {
        let mut faults = Vec::new();
        assert_eq!(LimitsSection::default().resolve(&mut faults), Limits::default());
        let off = LimitsSection {
            connections: Some(0),
            body_bytes: Some(0),
            overload_delay: Some(Span(Duration::ZERO)),
            ..LimitsSection::default()
        };
        let off = off.resolve(&mut faults);
        assert_eq!((off.connections, off.body_bytes), (u32::MAX, u64::MAX));
        assert!(off.overload_delay.is_zero() && faults.is_empty(), "{faults:?}");
        let span = |ms| Some(Span(Duration::from_millis(ms)));
        let wrong = LimitsSection {
            head: span(10),
            idle: span(90_000_000),
            handshake: span(0),
            streams: Some(0),
            overload_delay: span(11_000),
            ..LimitsSection::default()
        };
        wrong.resolve(&mut faults);
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        let want = ["head", "idle", "handshake", "streams", "overload_delay"];
        assert_eq!(paths, want.map(|name| format!("limits.{name}")));
    }
}
