//! What a collector of logs is told of a request or a connection: attributes with the names that
//! OpenTelemetry gives them.
//!
//! **Source**: OpenTelemetry: semantic conventions for HTTP, network, client and server attributes;
//! `weft.*` are our own.

use std::borrow::Cow;

use super::record::{LogRecord, LogScope};
use crate::local_address::LocalAddress;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute<'a> {
    /// A number.
    Number(u64),
    /// A text.
    Text(Cow<'a, str>),
}

impl<'a> Attribute<'a> {
    fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

type Visit<'v, 'a> = &'v mut dyn FnMut(&'static str, Attribute<'a>);

impl LogScope {
    /// Shows the attributes of all lines of the proxy.
    pub fn each_attribute<'a>(&'a self, visit: Visit<'_, 'a>) {
        let Self { proxy_id, service, identity, hostname } = self;
        for (name, text) in [
            ("service.name", service),
            ("service.instance.id", proxy_id),
            ("host.name", hostname),
            ("weft.identity", identity),
        ] {
            if !text.is_empty() {
                visit(name, Attribute::text(text));
            }
        }
    }
}

impl LogRecord {
    /// Whether the request failed, or the connection broke off.
    pub fn has_failed(&self) -> bool {
        self.status >= 500 || self.status == 0 && self.cause.is_some()
    }

    /// Returns what it was, in a few words: the method, path and status of a request.
    pub fn headline(&self) -> String {
        match self.protocol {
            Some(_) => format!("{} {} {}", self.method, self.path, self.status),
            None => format!("connection {}", self.cause.unwrap_or("closed")),
        }
    }

    /// Shows the attributes of the line.
    pub fn each_attribute<'a>(&'a self, visit: Visit<'_, 'a>) {
        visit("weft.direction", Attribute::text(self.direction));
        match self.protocol {
            Some(protocol) => self.http(protocol, visit),
            None => {
                visit("network.transport", Attribute::text("tcp"));
                visit("weft.bytes_received", Attribute::Number(self.bytes_received));
                visit("weft.bytes_sent", Attribute::Number(self.bytes_sent));
            }
        }
        self.ends(visit);
        if let Some(version) = self.tls_version.and_then(|it| it.strip_prefix("TLSv")) {
            visit("tls.protocol.name", Attribute::text("tls"));
            visit("tls.protocol.version", Attribute::text(version));
        }
        for (name, text) in [
            ("error.type", self.cause),
            ("weft.caller", self.peer.as_deref()),
            ("weft.route", self.route.as_deref()),
            ("weft.target", Some(&*self.cluster).filter(|it| !it.is_empty())),
            ("weft.upstream_identity", self.upstream_peer.as_deref()),
            ("weft.failure", self.transport_failure.as_deref()),
        ] {
            if let Some(text) = text {
                visit(name, Attribute::text(text));
            }
        }
        let micros = u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX);
        visit("weft.duration_us", Attribute::Number(micros));
    }

    fn http<'a>(&'a self, protocol: &'static str, visit: Visit<'_, 'a>) {
        let version = protocol.strip_prefix("HTTP/").unwrap_or(protocol);
        let version = version.strip_suffix(".0").unwrap_or(version);
        for (name, text) in [
            ("http.request.method", Some(&*self.method)),
            ("url.path", Some(&*self.path)),
            ("url.query", self.query.as_deref()),
            ("url.scheme", Some("http")),
            ("network.protocol.name", Some("http")),
            ("network.protocol.version", Some(version)),
        ] {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                visit(name, Attribute::text(text));
            }
        }
        if let Some((host, port)) = host_and_port(&self.authority) {
            visit("server.address", Attribute::text(host));
            if let Some(port) = port {
                visit("server.port", Attribute::Number(port.into()));
            }
        }
        if self.status != 0 {
            visit("http.response.status_code", Attribute::Number(self.status.into()));
        }
        if let Some(status) = self.grpc_status {
            visit("rpc.grpc.status_code", Attribute::Number(status.into()));
        }
        visit("http.request.body.size", Attribute::Number(self.bytes_received));
        visit("http.response.body.size", Attribute::Number(self.bytes_sent));
    }

    /// Shows who was at the two ends: of what came in the caller, of what went out whom it was sent to.
    fn ends<'a>(&'a self, visit: Visit<'_, 'a>) {
        if let Some(caller) = self.remote {
            visit("client.address", Attribute::Text(caller.ip().to_string().into()));
            visit("client.port", Attribute::Number(caller.port().into()));
        }
        let peer = match (self.direction, &self.upstream) {
            ("outbound", Some(LocalAddress::Unix(path))) => {
                return visit("network.peer.address", Attribute::text(path.as_str()));
            }
            ("outbound", Some(LocalAddress::Tcp(called))) => Some(*called),
            ("outbound", None) => None,
            _ => self.remote,
        };
        if let Some(peer) = peer {
            visit("network.peer.address", Attribute::Text(peer.ip().to_string().into()));
            visit("network.peer.port", Attribute::Number(peer.port().into()));
        }
    }
}

/// Parts what a request names as its host; an IPv6 address stands in brackets there, and bare in an
/// attribute.
fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    (!host.is_empty()).then(|| (host, port.and_then(|port| port.parse().ok())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown(record: &LogRecord) -> Vec<String> {
        let mut shown = Vec::new();
        record.each_attribute(&mut |name, value| {
            shown.push(match value {
                Attribute::Number(number) => format!("{name}={number}"),
                Attribute::Text(text) => format!("{name}={text}"),
            });
        });
        shown
    }

    #[test]
    fn a_request_has_the_names_of_the_conventions() {
        let record = LogRecord {
            direction: "inbound",
            protocol: Some("HTTP/2.0"),
            method: "GET".into(),
            authority: "[2001:db8::1]:8080".into(),
            path: "/a".into(),
            query: Some("b=1".into()),
            status: 503,
            cause: Some("app-unreachable"),
            bytes_received: 1,
            bytes_sent: 2,
            duration: Duration::from_millis(3),
            remote: Some(([10, 0, 0, 1], 4444).into()),
            tls_version: Some("TLSv1.3"),
            peer: Some("spiffe://mesh/shop".into()),
            upstream: Some(LocalAddress::Tcp(([127, 0, 0, 1], 80).into())),
            cluster: "local_app".into(),
            ..LogRecord::default()
        };
        assert_eq!(
            shown(&record),
            [
                "weft.direction=inbound",
                "http.request.method=GET",
                "url.path=/a",
                "url.query=b=1",
                "url.scheme=http",
                "network.protocol.name=http",
                "network.protocol.version=2",
                "server.address=2001:db8::1",
                "server.port=8080",
                "http.response.status_code=503",
                "http.request.body.size=1",
                "http.response.body.size=2",
                "client.address=10.0.0.1",
                "client.port=4444",
                "network.peer.address=10.0.0.1",
                "network.peer.port=4444",
                "tls.protocol.name=tls",
                "tls.protocol.version=1.3",
                "error.type=app-unreachable",
                "weft.caller=spiffe://mesh/shop",
                "weft.target=local_app",
                "weft.duration_us=3000",
            ]
        );
        assert_eq!((record.headline().as_str(), record.has_failed()), ("GET /a 503", true));
    }

    #[test]
    fn a_connection_of_bytes_has_no_request() {
        let record = LogRecord {
            direction: "outbound",
            bytes_received: 1,
            bytes_sent: 2,
            upstream: Some(LocalAddress::Tcp(([10, 0, 0, 2], 21_000).into())),
            ..LogRecord::default()
        };
        assert_eq!(
            shown(&record),
            [
                "weft.direction=outbound",
                "network.transport=tcp",
                "weft.bytes_received=1",
                "weft.bytes_sent=2",
                "network.peer.address=10.0.0.2",
                "network.peer.port=21000",
                "weft.duration_us=0",
            ]
        );
        assert_eq!((record.headline().as_str(), record.has_failed()), ("connection closed", false));
    }
}
