//! One operator: what stands between two `%`.

use super::latency::LatencyPart;
use super::record::{AddressPart, Plain};
use super::start_time::TimeFormat;

/// What is put in an operator's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operator {
    /// The path, with or without its query.
    Path {
        has_query: bool,
    },
    Plain(Plain),
    /// Of the request; the second where the first is absent.
    Request(Header, Option<Header>),
    /// Of the answer.
    Response(Header, Option<Header>),
    StartTime(TimeFormat),
    /// Of the fields after the answer's body.
    Trailer(Header, Option<Header>),
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Header {
    Authority,
    Method,
    /// By its number among those that are kept.
    Number(usize),
    Path,
    Scheme,
    Status,
}

/// The headers that a form names.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) request: Vec<Box<str>>,
    pub(super) response: Vec<Box<str>>,
    pub(super) trailers: Vec<Box<str>>,
    /// Whether an operator tells where the time went.
    pub(super) has_latency: bool,
}

const PLAIN: [(&str, Plain); 50] = [
    ("BYTES_RECEIVED", Plain::BytesReceived),
    ("BYTES_SENT", Plain::BytesSent),
    ("CONNECTION_ID", Plain::ConnectionId),
    ("CONNECTION_TERMINATION_DETAILS", Plain::ConnectionTerminationDetails),
    ("DATAGRAMS_RECEIVED", Plain::DatagramsReceived),
    ("DATAGRAMS_SENT", Plain::DatagramsSent),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Plain::DownstreamRemote(AddressPart::Whole)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Plain::DownstreamRemote(AddressPart::Ip)),
    ("DOWNSTREAM_DIRECT_REMOTE_PORT", Plain::DownstreamRemote(AddressPart::Port)),
    ("DOWNSTREAM_LOCAL_ADDRESS", Plain::DownstreamLocal(AddressPart::Whole)),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Plain::DownstreamLocal(AddressPart::Ip)),
    ("DOWNSTREAM_LOCAL_PORT", Plain::DownstreamLocal(AddressPart::Port)),
    ("DOWNSTREAM_LOCAL_URI_SAN", Plain::DownstreamLocalUriSan),
    ("DOWNSTREAM_PEER_URI_SAN", Plain::DownstreamPeerUriSan),
    ("DOWNSTREAM_REMOTE_ADDRESS", Plain::DownstreamRemote(AddressPart::Whole)),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Plain::DownstreamRemote(AddressPart::Ip)),
    ("DOWNSTREAM_REMOTE_PORT", Plain::DownstreamRemote(AddressPart::Port)),
    ("DOWNSTREAM_TLS_VERSION", Plain::DownstreamTlsVersion),
    ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", Plain::DownstreamTransportFailure),
    ("DURATION", Plain::Duration),
    ("GRPC_STATUS", Plain::GrpcStatus),
    ("GRPC_STATUS_NUMBER", Plain::GrpcStatusNumber),
    ("HOSTNAME", Plain::Hostname),
    ("PROTOCOL", Plain::Protocol),
    ("REQUESTED_SERVER_NAME", Plain::RequestedServerName),
    ("REQUEST_DURATION", Plain::RequestDuration),
    ("REQUEST_TX_DURATION", Plain::RequestTxDuration),
    ("RESPONSE_CODE", Plain::ResponseCode),
    ("RESPONSE_CODE_DETAILS", Plain::ResponseCodeDetails),
    ("RESPONSE_DURATION", Plain::ResponseDuration),
    ("RESPONSE_FLAGS", Plain::ResponseFlags),
    ("RESPONSE_TX_DURATION", Plain::ResponseTxDuration),
    ("ROUTE_NAME", Plain::RouteName),
    ("TRACE_ID", Plain::TraceId),
    ("UPSTREAM_CLUSTER", Plain::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Plain::UpstreamCluster),
    ("UPSTREAM_HOST", Plain::UpstreamHost(AddressPart::Whole)),
    ("UPSTREAM_LOCAL_ADDRESS", Plain::UpstreamLocal),
    ("UPSTREAM_PEER_URI_SAN", Plain::UpstreamPeerUriSan),
    ("UPSTREAM_REMOTE_ADDRESS", Plain::UpstreamHost(AddressPart::Whole)),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Plain::UpstreamHost(AddressPart::Ip)),
    ("UPSTREAM_REMOTE_PORT", Plain::UpstreamHost(AddressPart::Port)),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Plain::UpstreamRequestAttemptCount),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Plain::UpstreamTransportFailure),
    ("WEFT_APPLICATION_MICROS", Plain::Latency(LatencyPart::Application)),
    ("WEFT_DIRECTION", Plain::Direction),
    ("WEFT_NETWORK_MICROS", Plain::Latency(LatencyPart::Network)),
    ("WEFT_PROXY_MICROS", Plain::Latency(LatencyPart::Proxy)),
    ("WEFT_REMOTE_PROXY_MICROS", Plain::Latency(LatencyPart::RemoteProxy)),
    ("WEFT_SERVICE", Plain::Service),
];

impl Operator {
    /// Reads an operator with what stands in its parentheses; the error is about it alone.
    pub(super) fn parse(
        word: &str,
        argument: Option<&str>,
        names: &mut Names,
    ) -> Result<Self, String> {
        let no_argument = |operator| match argument {
            None => Ok(operator),
            Some(_) => Err(format!("%{word}% takes nothing in parentheses")),
        };
        if let Some((_, plain)) = PLAIN.iter().find(|(name, _)| *name == word) {
            // `GRPC_STATUS(…)` chooses a spelling.
            names.has_latency |= matches!(plain, Plain::Latency(_));
            return match (plain, argument) {
                (Plain::GrpcStatus, Some("NUMBER")) => Ok(Self::Plain(Plain::GrpcStatusNumber)),
                (Plain::GrpcStatus, Some("CAMEL_STRING")) => Ok(Self::Plain(*plain)),
                (Plain::GrpcStatus, Some("SNAKE_STRING")) => {
                    Ok(Self::Plain(Plain::GrpcStatusSnake))
                }
                _ => no_argument(Self::Plain(*plain)),
            };
        }
        let headers = || argument.ok_or_else(|| format!("%{word}% needs the name of a header"));
        match word {
            "PATH" => match argument {
                None | Some("WQ" | "WQ:PATH") => Ok(Self::Path { has_query: true }),
                Some("NQ" | "NQ:PATH") => Ok(Self::Path { has_query: false }),
                Some(other) => Err(format!("%PATH({other})% is neither %PATH(WQ)% nor %PATH(NQ)%")),
            },
            "REQ" => {
                let (main, other) = both(headers()?, &mut names.request, request_pseudo)?;
                Ok(Self::Request(main, other))
            }
            "RESP" => {
                let (main, other) = both(headers()?, &mut names.response, response_pseudo)?;
                Ok(Self::Response(main, other))
            }
            "START_TIME" => match argument {
                None | Some("") => Ok(Self::StartTime(TimeFormat::default())),
                Some(form) => TimeFormat::parse(form).map(Self::StartTime),
            },
            "TRAILER" => {
                let (main, other) = both(headers()?, &mut names.trailers, |_| None)?;
                Ok(Self::Trailer(main, other))
            }
            _ => Err(format!("%{word}% is not an operator that is known here")),
        }
    }
}

impl Operator {
    /// Returns the names of the headers that it tells; `None` where it tells something else, or a
    /// part of the message that is no header.
    pub(super) fn header_names<'a>(&self, names: &'a Names) -> Option<[Option<&'a str>; 2]> {
        let (main, other, names) = match self {
            Self::Request(main, other) => (main, other, &names.request),
            Self::Response(main, other) => (main, other, &names.response),
            Self::Path { .. } | Self::Plain(_) | Self::StartTime(_) | Self::Trailer(..) => {
                return None;
            }
        };
        let name = |header: &Header| match header {
            Header::Number(number) => names.get(*number).map(|name| &**name),
            Header::Authority | Header::Method | Header::Path | Header::Scheme | Header::Status => {
                None
            }
        };
        self.is_of_headers().then(|| [name(main), other.as_ref().and_then(name)])
    }

    /// Whether all that it tells are headers.
    pub(super) fn is_of_headers(&self) -> bool {
        let is_header = |header: &Header| matches!(header, Header::Number(_));
        match self {
            Self::Request(main, other)
            | Self::Response(main, other)
            | Self::Trailer(main, other) => is_header(main) && other.as_ref().is_none_or(is_header),
            Self::Path { .. } | Self::Plain(_) | Self::StartTime(_) => false,
        }
    }
}

fn request_pseudo(name: &str) -> Option<Header> {
    match name {
        ":authority" | "host" => Some(Header::Authority),
        ":method" => Some(Header::Method),
        ":path" => Some(Header::Path),
        ":scheme" => Some(Header::Scheme),
        _ => None,
    }
}

fn response_pseudo(name: &str) -> Option<Header> {
    (name == ":status").then_some(Header::Status)
}

/// Reads `X` or `X?Y`.
fn both(
    text: &str,
    names: &mut Vec<Box<str>>,
    pseudo: impl Fn(&str) -> Option<Header>,
) -> Result<(Header, Option<Header>), String> {
    let mut header = |name: &str| {
        let name = name.to_ascii_lowercase();
        if let Some(found) = pseudo(&name) {
            return Ok(found);
        }
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("{name:?} is not the name of a header"));
        }
        let known = names.iter().position(|known| **known == *name);
        Ok(Header::Number(known.unwrap_or_else(|| {
            names.push(name.into());
            names.len() - 1
        })))
    };
    match text.split_once('?') {
        Some((main, other)) => Ok((header(main)?, Some(header(other)?))),
        None => Ok((header(text)?, None)),
    }
}
