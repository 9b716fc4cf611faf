//! What a line can tell, and how each operator tells it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use super::captured::Captured;
use super::latency::{LatencyPart, LatencySplit};
use super::operator::{Header, Operator};
use crate::local_address::LocalAddress;

/// What all lines of one proxy have in common.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LogScope {
    /// The id of the proxy's registration.
    pub proxy_id: String,
    /// The service that the proxy speaks for.
    pub service: String,
    /// Its identity.
    pub identity: String,
    /// The name of the host.
    pub hostname: String,
}

/// One request, one connection that carried bytes, or one session of datagrams.
#[derive(Debug, Default, Clone)]
pub struct LogRecord {
    /// When it came.
    ///
    /// **Units**: nanoseconds since 1970.
    pub start_ns: u64,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// `HTTP/1.1` and the like; `None` for bytes.
    pub protocol: Option<&'static str>,
    /// The method; empty for bytes.
    pub method: Box<str>,
    /// The host that was asked for.
    pub authority: Box<str>,
    /// Without query.
    pub path: Box<str>,
    /// With secrets left out.
    pub query: Option<Box<str>>,
    /// The headers that the form names.
    pub request_headers: Captured,
    /// Those of the answer.
    pub response_headers: Captured,
    /// Those after the answer's body.
    pub trailers: Captured,
    /// Zero when there was no answer.
    pub status: u16,
    /// The cause, when the proxy answered itself or it broke off.
    pub cause: Option<&'static str>,
    /// How often it was tried to send it on.
    pub attempts: u32,
    /// Envoy's word for why it was not tried again, where it would have been.
    pub attempts_flag: Option<&'static str>,
    /// Of gRPC.
    pub grpc_status: Option<u16>,
    /// From the caller.
    pub bytes_received: u64,
    /// To the caller.
    pub bytes_sent: u64,
    /// Datagrams from the caller and to it; `None` where it carries none.
    pub datagrams: Option<(u64, u64)>,
    /// From the head's arrival to the last byte.
    pub duration: Duration,
    /// Until the request was sent on.
    pub request_duration: Option<Duration>,
    /// Until the head of the answer came.
    pub response_duration: Option<Duration>,
    /// Where that time went, if somebody wants to know.
    pub latency: Option<LatencySplit>,
    /// The caller's address.
    pub remote: Option<SocketAddr>,
    /// Where it came in.
    pub local: Option<LocalAddress>,
    /// The caller's identity.
    pub peer: Option<Box<str>>,
    /// With which TLS it came.
    pub tls_version: Option<&'static str>,
    /// The name that it gave in TLS.
    pub server_name: Option<Box<str>>,
    /// Where it was sent to.
    pub upstream: Option<LocalAddress>,
    /// Whom that address belongs to.
    pub upstream_peer: Option<Box<str>>,
    /// The name of whom it was sent to.
    pub cluster: Box<str>,
    /// Which route it took.
    pub route: Option<Box<str>>,
    /// Why there is no connection to where it should have gone, or none from the caller.
    pub transport_failure: Option<Box<str>>,
    /// The trace that it belongs to.
    pub trace: Option<u128>,
    /// Its place in it.
    pub span: Option<u64>,
    /// A number that no other connection of the process has.
    pub connection: u64,
}

/// What part of an address is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressPart {
    Ip,
    Port,
    Whole,
}

/// An operator without parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    BytesReceived,
    BytesSent,
    ConnectionId,
    ConnectionTerminationDetails,
    DatagramsReceived,
    DatagramsSent,
    Direction,
    DownstreamLocal(AddressPart),
    DownstreamLocalUriSan,
    DownstreamPeerUriSan,
    DownstreamRemote(AddressPart),
    DownstreamTlsVersion,
    DownstreamTransportFailure,
    Duration,
    GrpcStatus,
    GrpcStatusNumber,
    GrpcStatusSnake,
    Hostname,
    Latency(LatencyPart),
    Protocol,
    RequestDuration,
    RequestTxDuration,
    RequestedServerName,
    ResponseCode,
    ResponseCodeDetails,
    ResponseDuration,
    ResponseFlags,
    ResponseTxDuration,
    RouteName,
    Service,
    TraceId,
    UpstreamCluster,
    UpstreamHost(AddressPart),
    UpstreamLocal,
    UpstreamPeerUriSan,
    UpstreamRequestAttemptCount,
    UpstreamTransportFailure,
}

/// What stands in an operator's place.
pub(super) enum Value<'a> {
    Nothing,
    Number(u64),
    Text(Cow<'a, str>),
}

impl<'a> Value<'a> {
    fn text(text: &'a str) -> Self {
        if text.is_empty() { Self::Nothing } else { Self::Text(text.into()) }
    }

    fn maybe(text: Option<&'a str>) -> Self {
        text.map_or(Self::Nothing, Self::text)
    }

    fn millis(duration: Option<Duration>) -> Self {
        duration.map_or(Self::Nothing, |duration| {
            Self::Number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
        })
    }

    fn micros(duration: Duration) -> Self {
        Self::Number(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }

    /// A unix socket has neither address nor port: its path stands for the whole.
    fn place(place: Option<&LocalAddress>, part: AddressPart) -> Self {
        match (place, part) {
            (None, _) | (Some(LocalAddress::Unix(_)), AddressPart::Port) => Self::Nothing,
            (Some(LocalAddress::Tcp(address)), _) => Self::address(Some(*address), part),
            (Some(place @ LocalAddress::Unix(_)), _) => Self::Text(place.to_string().into()),
        }
    }

    fn address(address: Option<SocketAddr>, part: AddressPart) -> Self {
        match (address, part) {
            (None, _) => Self::Nothing,
            (Some(address), AddressPart::Ip) => Self::Text(address.ip().to_string().into()),
            (Some(address), AddressPart::Port) => Self::Number(address.port().into()),
            (Some(address), AddressPart::Whole) => Self::Text(address.to_string().into()),
        }
    }
}

impl LogRecord {
    /// Returns Envoy's word for what went wrong, `None` when nothing did.
    pub fn flag(&self) -> Option<&'static str> {
        self.cause.and_then(flag_of)
    }

    pub(super) fn value<'a>(&'a self, operator: &Operator, scope: &'a LogScope) -> Value<'a> {
        match operator {
            Operator::Path { has_query } => self.path(*has_query),
            Operator::Plain(plain) => self.plain(*plain, scope),
            Operator::Request(main, other) => {
                self.either(main, other.as_ref(), &self.request_headers)
            }
            Operator::Response(main, other) => {
                self.either(main, other.as_ref(), &self.response_headers)
            }
            Operator::StartTime(form) => {
                let mut text = String::new();
                form.write(self.start_ns, &mut text);
                Value::Text(text.into())
            }
            Operator::Trailer(main, other) => self.either(main, other.as_ref(), &self.trailers),
        }
    }

    fn either<'a>(
        &'a self,
        main: &Header,
        other: Option<&Header>,
        headers: &'a Captured,
    ) -> Value<'a> {
        let value = |header: &Header| match header {
            Header::Authority => Value::text(&self.authority),
            Header::Method => Value::text(&self.method),
            Header::Number(number) => Value::maybe(headers.value(*number)),
            Header::Path => self.path(true),
            Header::Scheme => Value::maybe(self.protocol.map(|_| "http")),
            Header::Status if self.status == 0 => Value::Nothing,
            Header::Status => Value::Number(self.status.into()),
        };
        match (value(main), other) {
            (Value::Nothing, Some(other)) => value(other),
            (found, _) => found,
        }
    }

    fn path(&self, has_query: bool) -> Value<'_> {
        match &self.query {
            Some(query) if has_query => Value::Text(format!("{}?{query}", self.path).into()),
            Some(_) | None => Value::text(&self.path),
        }
    }

    /// Tells what the proxy did, and why it made no further attempt.
    fn flags(&self) -> Value<'_> {
        match (self.flag(), self.attempts_flag) {
            (Some(flag), Some(more)) => Value::Text(format!("{flag},{more}").into()),
            (flag, more) => Value::text(flag.or(more).unwrap_or("-")),
        }
    }

    fn plain<'a>(&'a self, plain: Plain, scope: &'a LogScope) -> Value<'a> {
        let is_bytes = self.protocol.is_none();
        match plain {
            Plain::BytesReceived => Value::Number(self.bytes_received),
            Plain::BytesSent => Value::Number(self.bytes_sent),
            Plain::ConnectionId => Value::Number(self.connection),
            Plain::ConnectionTerminationDetails => Value::maybe(self.cause.filter(|_| is_bytes)),
            Plain::DatagramsReceived => {
                self.datagrams.map_or(Value::Nothing, |it| Value::Number(it.0))
            }
            Plain::DatagramsSent => self.datagrams.map_or(Value::Nothing, |it| Value::Number(it.1)),
            Plain::Direction => Value::text(self.direction),
            Plain::DownstreamLocal(part) => Value::place(self.local.as_ref(), part),
            Plain::DownstreamLocalUriSan => {
                Value::maybe(self.tls_version.map(|_| &*scope.identity))
            }
            Plain::DownstreamPeerUriSan => Value::maybe(self.peer.as_deref()),
            Plain::DownstreamRemote(part) => Value::address(self.remote, part),
            Plain::DownstreamTlsVersion => Value::maybe(self.tls_version),
            Plain::DownstreamTransportFailure => {
                Value::maybe(self.transport_failure.as_deref().filter(|_| self.is_before_peer()))
            }
            Plain::Duration => Value::millis(Some(self.duration)),
            Plain::GrpcStatus => Value::maybe(self.grpc_status.map(grpc_name)),
            Plain::GrpcStatusNumber => {
                self.grpc_status.map_or(Value::Nothing, |it| Value::Number(it.into()))
            }
            Plain::GrpcStatusSnake => match self.grpc_status {
                Some(status) => Value::Text(snake(grpc_name(status)).into()),
                None => Value::Nothing,
            },
            Plain::Hostname => Value::text(&scope.hostname),
            Plain::Latency(wanted) => {
                let mut parts = self.latency.iter().flat_map(LatencySplit::parts);
                let found = parts.find(|(part, _)| *part == wanted);
                found.map_or(Value::Nothing, |(_, time)| Value::micros(time))
            }
            Plain::Protocol => Value::maybe(self.protocol.or(self.datagrams.map(|_| "UDP"))),
            Plain::RequestDuration | Plain::RequestTxDuration => {
                Value::millis(self.request_duration)
            }
            Plain::RequestedServerName => Value::maybe(self.server_name.as_deref()),
            Plain::ResponseCode => Value::Number(self.status.into()),
            Plain::ResponseCodeDetails => match (is_bytes, self.cause) {
                (true, _) => Value::Nothing,
                (false, Some(cause)) => Value::text(cause),
                (false, None) => Value::text("via_upstream"),
            },
            Plain::ResponseDuration => Value::millis(self.response_duration),
            Plain::ResponseFlags => self.flags(),
            Plain::ResponseTxDuration => {
                Value::millis(self.response_duration.map(|head| self.duration.saturating_sub(head)))
            }
            Plain::RouteName => Value::maybe(self.route.as_deref()),
            Plain::Service => Value::text(&scope.service),
            Plain::TraceId => {
                self.trace.map_or(Value::Nothing, |id| Value::Text(format!("{id:032x}").into()))
            }
            Plain::UpstreamCluster => Value::text(&self.cluster),
            Plain::UpstreamHost(part) => Value::place(self.upstream.as_ref(), part),
            // One connection to another proxy carries many requests: none of them has an address.
            Plain::UpstreamLocal => Value::Nothing,
            Plain::UpstreamPeerUriSan => Value::maybe(self.upstream_peer.as_deref()),
            Plain::UpstreamRequestAttemptCount => Value::Number(self.attempts.into()),
            Plain::UpstreamTransportFailure => {
                Value::maybe(self.transport_failure.as_deref().filter(|_| !self.is_before_peer()))
            }
        }
    }

    /// Whether it failed before it was known who calls.
    fn is_before_peer(&self) -> bool {
        self.cause == Some("handshake-refused")
    }
}

/// Returns Envoy's word for a cause; `None` where it has none, as for what a filter refuses.
///
/// **Source**: Envoy: access log format, `%RESPONSE_FLAGS%`.
pub fn flag_of(cause: &str) -> Option<&'static str> {
    Some(match cause {
        "app-unreachable" | "connect-failed" | "handshake-failed" => "UF",
        "authoriser-denied"
        | "authoriser-failed"
        | "connect-not-allowed"
        | "intention-denied"
        | "token-refused" => "UAEX",
        "bad-request" | "body-limit" | "body-too-large" | "handshake-refused" => "DPE",
        "answer-broken" | "connection-broken" | "upstream-broken" | "upstream-failed" => "UC",
        "body-timeout" | "head-timeout" | "idle-timeout" => "SI",
        "client-gone" => "DC",
        "fault-delayed" => "DI",
        "fault-injected" => "FI",
        "connection-cut" => "LR",
        "concurrency-limit"
        | "connection-limit"
        | "descriptor-limit"
        | "upstream-connection-limit"
        | "upstream-pending-limit"
        | "upstream-request-limit" => "UO",
        "no-endpoint" => "UH",
        "overload" => "OM",
        "rate-limited" => "RL",
        "request-timeout" => "UT",
        "connect-not-offered" | "not-spoken" | "upstream-malformed" => "UPE",
        "no-server-name" | "not-exposed" | "upstream-removed" => "NR",
        _ => return None,
    })
}

/// Whether a cause tells of a failure; a route that answers by itself is none, nor is a delay.
pub fn is_failure(cause: &str) -> bool {
    !matches!(cause, "direct-response" | "fault-delayed" | "redirect")
}

/// **Source**: gRPC: status codes.
fn grpc_name(status: u16) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    NAMES.get(usize::from(status)).copied().unwrap_or("InvalidCode")
}

fn snake(name: &str) -> String {
    if name == "OK" {
        return name.to_owned();
    }
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}
