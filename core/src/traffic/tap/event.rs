//! What is shown of one request or connection.

use serde::{Deserialize, Serialize};

use crate::log_format::{LatencySplit, LogRecord};
use crate::time::Timestamp;

/// One thing that somebody sees.
///
/// **Shape**: texts of callers are bounded, and secrets in them hidden, as in access logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TapEvent {
    /// What happened.
    pub kind: TapKind,
    /// When the request or connection came, as in RFC 3339.
    pub time: String,
    /// The service whose proxy saw it.
    pub service: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The SPIFFE ID of the caller; empty where it has none.
    pub source: String,
    /// That of the called service; empty where there was none to call.
    pub destination: String,
    /// `HTTP/1.1` and the like, or `UDP`; empty for bytes.
    pub protocol: String,
    /// The method; empty for bytes.
    pub method: String,
    /// The host that was asked for.
    pub authority: String,
    /// The path with its query, secrets hidden.
    pub path: String,
    /// Which route it took, as `web#2`.
    pub route: String,
    /// Zero for bytes, and where there was no answer.
    pub status: u16,
    /// Of gRPC.
    pub grpc_status: Option<u16>,
    /// Envoy's word for what went wrong; empty when nothing did.
    pub flags: String,
    /// The cause, when the proxy answered itself or it broke off.
    pub cause: String,
    /// From the caller.
    pub request_bytes: u64,
    /// To the caller.
    pub response_bytes: u64,
    /// **Units**: microseconds, in all. Zero for a connection that has just been opened.
    pub duration_us: u64,
    /// Where the time until the head of the answer went.
    pub latency: Option<TapLatency>,
    /// Where it was sent to: an instance's proxy, or the local instance.
    pub endpoint: String,
    /// The caller's address.
    pub remote: String,
    /// The trace that it belongs to.
    pub trace: String,
    /// A number that no other connection of the proxy has.
    pub connection: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TapKind {
    /// A connection of bytes has ended.
    ConnectionClosed,
    /// A connection of bytes was opened.
    ConnectionOpened,
    /// A request has ended.
    Request,
}

/// Where the time of a request went.
///
/// **Units**: microseconds; `None` for what is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TapLatency {
    /// In the application that was called.
    pub application_us: Option<u64>,
    /// Between both proxies.
    pub network_us: Option<u64>,
    /// In the proxy that saw it.
    pub proxy_us: u64,
    /// In the called proxy.
    pub remote_proxy_us: Option<u64>,
}

impl TapEvent {
    /// Shows what a proxy has put down; `service` and `identity` are its own.
    pub fn of(kind: TapKind, record: &LogRecord, (service, identity): (&str, &str)) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let own = || identity.to_owned();
        let (source, destination) = match record.direction {
            "inbound" => (text(record.peer.as_deref()), own()),
            _ => (own(), text(record.upstream_peer.as_deref())),
        };
        let path = match &record.query {
            Some(query) => format!("{}?{query}", record.path),
            None => record.path.to_string(),
        };
        Self {
            kind,
            time: Timestamp(record.start_ns / 1_000_000).rfc3339(),
            service: service.to_owned(),
            direction: record.direction.to_owned(),
            source,
            destination,
            protocol: text(record.protocol.or(record.datagrams.map(|_| "UDP"))),
            method: record.method.to_string(),
            authority: record.authority.to_string(),
            path,
            route: text(record.route.as_deref()),
            status: record.status,
            grpc_status: record.grpc_status,
            flags: text(record.flag()),
            cause: text(record.cause),
            request_bytes: record.bytes_received,
            response_bytes: record.bytes_sent,
            duration_us: micros(record.duration),
            latency: record.latency.map(TapLatency::from),
            endpoint: record.upstream.as_ref().map(ToString::to_string).unwrap_or_default(),
            remote: record.remote.map(|remote| remote.to_string()).unwrap_or_default(),
            trace: record.trace.map(|trace| format!("{trace:032x}")).unwrap_or_default(),
            connection: record.connection,
        }
    }
}

impl From<LatencySplit> for TapLatency {
    fn from(split: LatencySplit) -> Self {
        Self {
            application_us: split.application.map(micros),
            network_us: split.network.map(micros),
            proxy_us: micros(split.proxy),
            remote_proxy_us: split.remote_proxy.map(micros),
        }
    }
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_side_shows_itself_and_the_other() {
        let record = |direction: &'static str| LogRecord {
            direction,
            start_ns: 1_700_000_000_123_456_789,
            path: "/a".into(),
            query: Some("token=(hidden)".into()),
            peer: Some("spiffe://caller".into()),
            upstream_peer: Some("spiffe://called".into()),
            cause: Some("no-endpoint"),
            latency: Some(LatencySplit::called(
                Duration::from_micros(3),
                Duration::from_micros(40),
            )),
            ..LogRecord::default()
        };
        let own = ("web", "spiffe://own");
        let inbound = TapEvent::of(TapKind::Request, &record("inbound"), own);
        let between = |event: &TapEvent| (event.source.clone(), event.destination.clone());
        assert_eq!(between(&inbound), ("spiffe://caller".to_owned(), "spiffe://own".to_owned()));
        let outbound = TapEvent::of(TapKind::Request, &record("outbound"), own);
        assert_eq!(between(&outbound), ("spiffe://own".to_owned(), "spiffe://called".to_owned()));
        assert_eq!((&*inbound.path, &*inbound.flags), ("/a?token=(hidden)", "UH"));
        assert!(inbound.time.ends_with(".123Z"), "{}", inbound.time);
        let latency = inbound.latency.expect("it was measured");
        assert_eq!((latency.proxy_us, latency.application_us), (3, Some(40)));
        assert_eq!(latency.network_us, None);
    }
}
