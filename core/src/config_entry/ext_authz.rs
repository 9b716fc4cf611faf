//! `EnvoyExtensions`: the one extension that is in force, `builtin/ext-authz`, by which somebody
//! else says who may do what.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};
use crate::limits;
use crate::name::ServiceName;
use crate::time::{Span, nanoseconds};

/// An extension of the proxy. Only `builtin/ext-authz` is taken.
///
/// **Source**: Consul: docs/reference/proxy/extensions/ext-authz.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EnvoyExtension {
    /// Always `builtin/ext-authz`.
    pub name: String,
    /// Changes nothing: without the extension nothing is let through.
    ///
    /// Differs: in Consul, who leaves this out lets everything through while the authoriser is away;
    /// here [`ExtAuthzConfig::failure_mode_allow`] says so.
    #[serde(skip_serializing_if = "is_blank")]
    pub required: bool,
    /// What it is asked to do.
    pub arguments: ExtAuthzArguments,
}

/// What `builtin/ext-authz` is asked to do.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExtAuthzArguments {
    /// `connect-proxy`, or empty for that.
    #[serde(skip_serializing_if = "is_blank")]
    pub proxy_type: String,
    /// `inbound`, or empty for that.
    #[serde(skip_serializing_if = "is_blank")]
    pub listener_type: String,
    /// Who is asked, and what its answers mean.
    pub config: ExtAuthzConfig,
}

/// Who is asked, and what its answers mean.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExtAuthzConfig {
    /// Asked over gRPC: `envoy.service.auth.v3.Authorization/Check`. One of both is given.
    #[serde(skip_serializing_if = "is_blank")]
    pub grpc_service: Option<ExtAuthzGrpc>,
    /// Asked over HTTP: the request's own method and path, without its body.
    #[serde(skip_serializing_if = "is_blank")]
    pub http_service: Option<ExtAuthzHttp>,
    /// Whether requests pass while there is no answer.
    ///
    /// Differs: Consul takes the opposite of `Required`.
    #[serde(skip_serializing_if = "is_blank")]
    pub failure_mode_allow: bool,
    /// How much of a request's body is told; nothing when left out.
    #[serde(skip_serializing_if = "is_blank")]
    pub with_request_body: Option<ExtAuthzBody>,
    /// What requests are answered with while there is no answer; 0 means 403.
    #[serde(skip_serializing_if = "is_blank")]
    pub status_on_error: u16,
}

/// How much of a request's body is told.
///
/// **Source**: Envoy: extensions/filters/http/ext_authz/v3/ext_authz.proto, BufferSettings. Consul
/// has it not.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExtAuthzBody {
    /// Bytes that are told at most, 1 to 1,048,576.
    pub max_request_bytes: u32,
    /// Whether of longer bodies the beginning is told; else such requests are refused with 413.
    #[serde(skip_serializing_if = "is_blank")]
    pub allow_partial_message: bool,
    /// Whether it is told as bytes; else as text, and what is no UTF-8 cannot be told.
    #[serde(skip_serializing_if = "is_blank")]
    pub pack_as_bytes: bool,
}

/// Bytes of a body that are told at most: each request under way holds them.
const BODY_BYTES_MAX: u32 = 1 << 20;

/// An authoriser over gRPC.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExtAuthzGrpc {
    /// Where it is.
    pub target: ExtAuthzTarget,
    /// What is said of each question beside it.
    #[serde(skip_serializing_if = "is_blank")]
    pub initial_metadata: Vec<ExtAuthzHeader>,
}

/// An authoriser over HTTP.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExtAuthzHttp {
    /// Where it is.
    pub target: ExtAuthzTarget,
    /// What stands before the request's own path.
    #[serde(skip_serializing_if = "is_blank")]
    pub path_prefix: String,
    /// What it is told.
    #[serde(skip_serializing_if = "is_blank")]
    pub authorization_request: Option<ExtAuthzRequest>,
    /// What of its answers goes on.
    #[serde(skip_serializing_if = "is_blank")]
    pub authorization_response: Option<ExtAuthzResponse>,
}

/// What an authoriser over HTTP is told beside method, path, host and `authorization`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExtAuthzRequest {
    /// The request's headers that it gets.
    #[serde(skip_serializing_if = "is_blank")]
    pub allowed_headers: Vec<ExtAuthzMatch>,
    /// Headers that are added.
    #[serde(skip_serializing_if = "is_blank")]
    pub headers_to_add: Vec<ExtAuthzHeader>,
}

/// What of the answers of an authoriser over HTTP goes on.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExtAuthzResponse {
    /// Headers that the service gets, in place of the request's own.
    #[serde(skip_serializing_if = "is_blank")]
    pub allowed_upstream_headers: Vec<ExtAuthzMatch>,
    /// Headers that the service gets beside the request's own.
    #[serde(skip_serializing_if = "is_blank")]
    pub allowed_upstream_headers_to_append: Vec<ExtAuthzMatch>,
    /// Headers that a caller gets who is refused; none means all.
    #[serde(skip_serializing_if = "is_blank")]
    pub allowed_client_headers: Vec<ExtAuthzMatch>,
}

/// Which headers: one of the four.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExtAuthzMatch {
    /// This name.
    #[serde(skip_serializing_if = "is_blank")]
    pub exact: String,
    /// Names that begin so.
    #[serde(skip_serializing_if = "is_blank")]
    pub prefix: String,
    /// Names that end so.
    #[serde(skip_serializing_if = "is_blank")]
    pub suffix: String,
    /// Names that have this in them.
    #[serde(skip_serializing_if = "is_blank")]
    pub contains: String,
    /// Changes nothing: names of headers have no case.
    #[serde(skip_serializing_if = "is_blank")]
    pub ignore_case: bool,
}

/// A header.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExtAuthzHeader {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Where an authoriser is: one of both.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExtAuthzTarget {
    /// A service of the mesh, an upstream of the service itself.
    #[serde(skip_serializing_if = "is_blank")]
    pub service: Option<ExtAuthzService>,
    /// `host:port` on the service's own host.
    #[serde(rename = "URI", skip_serializing_if = "is_blank")]
    pub uri: String,
    /// How long one question may take; zero means 200 ms.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "nanoseconds")]
    pub timeout: Span,
}

/// A service of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExtAuthzService {
    /// Its name.
    pub name: ServiceName,
}

/// How long one question may take when nothing is said (Envoy: 200 ms).
const TIMEOUT_DEFAULT: Duration = Duration::from_millis(200);
/// How long one question may take at most: the request waits for it.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

impl EnvoyExtension {
    /// The one name that is taken.
    pub const EXT_AUTHZ: &str = "builtin/ext-authz";

    /// Checks a list of them, which has at most one.
    pub(super) fn check_all(extensions: &[Self], findings: &mut Findings) {
        if extensions.len() > 1 {
            findings.add("EnvoyExtensions", "has more than one extension; one authoriser decides");
        }
        for (at, extension) in extensions.iter().enumerate() {
            extension.check(&format!("EnvoyExtensions[{at}]"), findings);
        }
    }

    fn check(&self, field: &str, findings: &mut Findings) {
        if self.name != Self::EXT_AUTHZ {
            let name = shortened(&self.name);
            let reason = format!("{name:?} is not supported; only {} is", Self::EXT_AUTHZ);
            findings.add(format!("{field}.Name"), reason);
            return;
        }
        let field = format!("{field}.Arguments");
        let arguments = &self.arguments;
        for (name, said, only) in [
            ("ProxyType", &arguments.proxy_type, "connect-proxy"),
            ("ListenerType", &arguments.listener_type, "inbound"),
        ] {
            if !said.is_empty() && said != only {
                findings.add(format!("{field}.{name}"), format!("must be {only:?}"));
            }
        }
        arguments.config.check(&format!("{field}.Config"), findings);
    }
}

impl ExtAuthzConfig {
    fn check(&self, field: &str, findings: &mut Findings) {
        match (&self.grpc_service, &self.http_service) {
            (Some(grpc), None) => {
                let field = format!("{field}.GrpcService");
                grpc.target.check(&format!("{field}.Target"), findings);
                check_headers(
                    &format!("{field}.InitialMetadata"),
                    &grpc.initial_metadata,
                    findings,
                );
            }
            (None, Some(http)) => http.check(&format!("{field}.HttpService"), findings),
            (Some(_), Some(_)) | (None, None) => {
                findings.add(field, "write exactly one of GrpcService and HttpService");
            }
        }
        if let Some(body) = &self.with_request_body
            && !(1..=BODY_BYTES_MAX).contains(&body.max_request_bytes)
        {
            let reason = format!("must be 1 to {BODY_BYTES_MAX}: each request holds as much");
            findings.add(format!("{field}.WithRequestBody.MaxRequestBytes"), reason);
        }
        if self.status_on_error != 0 && !(400..=599).contains(&self.status_on_error) {
            findings.add(format!("{field}.StatusOnError"), "must be 400 to 599");
        }
    }

    /// Returns where the authoriser is.
    pub fn target(&self) -> Option<&ExtAuthzTarget> {
        let grpc = self.grpc_service.as_ref().map(|grpc| &grpc.target);
        grpc.or(self.http_service.as_ref().map(|http| &http.target))
    }
}

impl ExtAuthzHttp {
    fn check(&self, field: &str, findings: &mut Findings) {
        self.target.check(&format!("{field}.Target"), findings);
        if !self.path_prefix.is_empty() {
            findings.path(&format!("{field}.PathPrefix"), &self.path_prefix);
            findings.bytes(
                &format!("{field}.PathPrefix"),
                self.path_prefix.len(),
                limits::PATH_BYTES_MAX,
            );
        }
        if let Some(request) = &self.authorization_request {
            let field = format!("{field}.AuthorizationRequest");
            check_matches(&format!("{field}.AllowedHeaders"), &request.allowed_headers, findings);
            check_headers(&format!("{field}.HeadersToAdd"), &request.headers_to_add, findings);
        }
        if let Some(response) = &self.authorization_response {
            for (name, matches) in [
                ("AllowedUpstreamHeaders", &response.allowed_upstream_headers),
                ("AllowedUpstreamHeadersToAppend", &response.allowed_upstream_headers_to_append),
                ("AllowedClientHeaders", &response.allowed_client_headers),
            ] {
                let field = format!("{field}.AuthorizationResponse.{name}");
                check_matches(&field, matches, findings);
            }
        }
    }
}

impl ExtAuthzMatch {
    /// Whether a header's name, in lower case, is meant.
    pub fn holds(&self, name: &str) -> bool {
        let is = |want: &str, how: fn(&str, &str) -> bool| {
            !want.is_empty() && how(name, &want.to_ascii_lowercase())
        };
        is(&self.exact, |name, want| name == want)
            || is(&self.prefix, |name, want| name.starts_with(want))
            || is(&self.suffix, |name, want| name.ends_with(want))
            || is(&self.contains, |name, want| name.contains(want))
    }
}

impl ExtAuthzTarget {
    fn check(&self, field: &str, findings: &mut Findings) {
        match (&self.service, self.uri.is_empty()) {
            (Some(_), true) => {}
            (None, false) if self.address().is_some() => {}
            (None, false) => {
                let uri = shortened(&self.uri);
                let reason = format!(
                    "{uri:?} must be localhost:port or a loopback address with a port; name \
                     authorisers elsewhere by Service, so that they are reached over mutual TLS"
                );
                findings.add(format!("{field}.URI"), reason);
            }
            (Some(_), false) | (None, true) => {
                findings.add(field, "write exactly one of Service and URI");
            }
        }
        findings.timeout(&format!("{field}.Timeout"), self.timeout.0);
        if self.timeout.0 > TIMEOUT_MAX {
            findings.add(format!("{field}.Timeout"), "must be at most 30s: requests wait for it");
        }
    }

    /// Returns the address that the URI says, `None` for a service.
    pub fn address(&self) -> Option<SocketAddr> {
        let uri = self.uri.as_str();
        let uri = uri.split_once("://").map_or(uri, |(_, rest)| rest);
        let address = match uri.strip_prefix("localhost:") {
            Some(port) => SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)),
            None => uri.parse().ok()?,
        };
        let is_ours = match address.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback(),
        };
        (is_ours && address.port() != 0).then_some(address)
    }

    /// Returns how long one question may take.
    pub fn limit(&self) -> Duration {
        if self.timeout.0.is_zero() { TIMEOUT_DEFAULT } else { self.timeout.0 }
    }
}

fn check_headers(field: &str, headers: &[ExtAuthzHeader], findings: &mut Findings) {
    findings.count(field, headers.len(), limits::CONDITIONS_PER_ROUTE_MAX);
    for (at, header) in headers.iter().enumerate() {
        findings.token(&format!("{field}[{at}].Key"), &header.key);
        let is_plain = header.value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        if !is_plain {
            findings.add(format!("{field}[{at}].Value"), "has bytes beyond printable ASCII");
        }
        let max = limits::DESCRIPTION_BYTES_MAX;
        findings.bytes(&format!("{field}[{at}].Value"), header.value.len(), max);
    }
}

fn check_matches(field: &str, matches: &[ExtAuthzMatch], findings: &mut Findings) {
    findings.count(field, matches.len(), limits::CONDITIONS_PER_ROUTE_MAX);
    for (at, matcher) in matches.iter().enumerate() {
        let given = [&matcher.exact, &matcher.prefix, &matcher.suffix, &matcher.contains];
        if given.into_iter().filter(|text| !text.is_empty()).count() != 1 {
            let reason = "write exactly one of Exact, Prefix, Suffix and Contains";
            findings.add(format!("{field}[{at}]"), reason);
        }
    }
}
