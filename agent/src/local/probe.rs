//! What a check does to find out, read from its definition. Doing it is `checks`' affair.
//!
//! **Source**: Consul: docs/services/usage/checks and the reference of checks' configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Uri};
use weft_core::catalog::CheckDefinition;
use weft_core::name::{InstanceId, NodeName};

use super::faults::Faults;

/// What a check does to find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Copies the state of something else.
    Alias(AliasProbe),
    /// Runs a command in a container.
    Docker {
        /// The container's id or name.
        container: String,
        /// The command with its arguments; not empty.
        args: Vec<String>,
    },
    /// Asks a gRPC endpoint for its health.
    Grpc(GrpcProbe),
    /// Sends an HTTP/2 ping.
    H2ping {
        /// `host:port`.
        address: String,
        /// `None` for plain text.
        tls: Option<TlsProbe>,
    },
    /// Sends a request.
    Http(HttpProbe),
    /// Asks the system's service manager for a unit.
    OsService {
        /// The unit's name.
        unit: String,
    },
    /// Runs a command.
    Script {
        /// The program with its arguments; not empty.
        args: Vec<String>,
    },
    /// Opens a connection.
    Tcp {
        /// `host:port`.
        address: String,
        /// Set when a TLS handshake follows.
        tls: Option<TlsProbe>,
    },
    /// Waits for the application's report.
    Ttl {
        /// How long a report holds.
        ttl: Duration,
    },
    /// Sends a datagram.
    Udp {
        /// `host:port`.
        address: String,
    },
}

/// Whose state an alias check copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasProbe {
    /// The node; `None` for this one.
    pub node: Option<NodeName>,
    /// The instance; `None` for the node as such.
    pub service: Option<InstanceId>,
}

/// How a probe's target is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsProbe {
    /// The name that the certificate must have; empty means the host called.
    pub server_name: String,
    /// Whether the certificate is left unverified.
    pub skip_verify: bool,
}

/// The endpoint of a grpc check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcProbe {
    /// `host:port`.
    pub address: String,
    /// The service asked for; empty for the endpoint as a whole.
    pub service: String,
    /// `None` for plain text.
    pub tls: Option<TlsProbe>,
}

/// The request of an http check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// Absolute, with scheme `http` or `https`.
    pub url: Uri,
    /// GET unless said otherwise.
    pub method: Method,
    /// In the order of their names.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Empty for none.
    pub body: String,
    /// How an `https` target is verified.
    pub tls: TlsProbe,
    /// Whether redirects are followed.
    pub follows_redirects: bool,
}

impl Probe {
    /// Returns the word of the public API.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Alias(_) => "alias",
            Self::Docker { .. } => "docker",
            Self::Grpc(_) => "grpc",
            Self::H2ping { .. } => "h2ping",
            Self::Http(_) => "http",
            Self::OsService { .. } => "os_service",
            Self::Script { .. } => "script",
            Self::Tcp { .. } => "tcp",
            Self::Ttl { .. } => "ttl",
            Self::Udp { .. } => "udp",
        }
    }

    /// Whether it runs commands of whoever registered it.
    pub fn runs_commands(&self) -> bool {
        match self {
            Self::Docker { .. } | Self::Script { .. } => true,
            Self::Alias(_)
            | Self::Grpc(_)
            | Self::H2ping { .. }
            | Self::Http(_)
            | Self::OsService { .. }
            | Self::Tcp { .. }
            | Self::Ttl { .. }
            | Self::Udp { .. } => false,
        }
    }

    /// Reads what a definition asks for.
    pub(super) fn resolve(definition: &CheckDefinition, faults: &mut Faults) -> Option<Self> {
        let given = kinds_given(definition);
        let field = match given.as_slice() {
            [] => {
                faults.add(
                    "",
                    "a check needs one of HTTP, TCP, UDP, GRPC, H2PING, TTL, Args, \
                     DockerContainerID, OSService, AliasService and AliasNode",
                );
                return None;
            }
            [field] => *field,
            several => {
                let several = several.join(", ");
                faults.add("", format!("is of several kinds ({several}); make it one check each"));
                return None;
            }
        };
        let has_interval = definition.interval.is_some_and(|interval| !interval.0.is_zero());
        match field {
            "TTL" if has_interval => {
                faults.add("Interval", "a TTL check has no interval: the application reports");
            }
            "TTL" | "AliasService" => {}
            _ if !has_interval => {
                faults.add("Interval", format!("must be given for {field} checks, e.g. \"10s\""));
            }
            _ => {}
        }
        match field {
            "AliasService" => alias(definition, faults).map(Self::Alias),
            "Args" => command(definition, faults).map(|args| Self::Script { args }),
            "DockerContainerID" => docker(definition, faults),
            "GRPC" => grpc(definition, faults).map(Self::Grpc),
            "H2PING" => {
                let address = address("H2PING", &definition.h2ping, faults)?;
                let is_tls = definition.h2ping_use_tls.unwrap_or(true);
                Some(Self::H2ping { address, tls: is_tls.then(|| tls(definition)) })
            }
            "HTTP" => http(definition, faults).map(Self::Http),
            "OSService" => Some(Self::OsService { unit: definition.os_service.clone() }),
            "TCP" => {
                let address = address("TCP", &definition.tcp, faults)?;
                Some(Self::Tcp { address, tls: definition.tcp_use_tls.then(|| tls(definition)) })
            }
            "UDP" => Some(Self::Udp { address: address("UDP", &definition.udp, faults)? }),
            _ => definition.ttl.map(|ttl| Self::Ttl { ttl: ttl.0 }),
        }
    }
}

/// The fields that say of which kind a check is, as far as they are given.
fn kinds_given(definition: &CheckDefinition) -> Vec<&'static str> {
    let is_docker = !definition.docker_container_id.is_empty();
    let fields = [
        ("AliasService", !definition.alias_service.is_empty() || !definition.alias_node.is_empty()),
        ("Args", !definition.args.is_empty() && !is_docker),
        ("DockerContainerID", is_docker),
        ("GRPC", !definition.grpc.is_empty()),
        ("H2PING", !definition.h2ping.is_empty()),
        ("HTTP", !definition.http.is_empty()),
        ("OSService", !definition.os_service.is_empty()),
        ("TCP", !definition.tcp.is_empty()),
        ("TTL", definition.ttl.is_some_and(|ttl| !ttl.0.is_zero())),
        ("UDP", !definition.udp.is_empty()),
    ];
    fields.into_iter().filter_map(|(field, given)| given.then_some(field)).collect()
}

fn alias(definition: &CheckDefinition, faults: &mut Faults) -> Option<AliasProbe> {
    let node = match definition.alias_node.as_str() {
        "" => None,
        name => Some(faults.take("AliasNode", NodeName::parse(name))?),
    };
    let service = match definition.alias_service.as_str() {
        "" => None,
        id => Some(faults.take("AliasService", InstanceId::parse(id))?),
    };
    Some(AliasProbe { node, service })
}

fn command(definition: &CheckDefinition, faults: &mut Faults) -> Option<Vec<String>> {
    let args = &definition.args;
    if args.first().is_none_or(String::is_empty) {
        faults.add("Args", "must name a program first");
        return None;
    }
    if args.iter().any(|word| word.contains('\0')) {
        faults.add("Args", "must not hold a zero byte");
        return None;
    }
    Some(args.clone())
}

fn docker(definition: &CheckDefinition, faults: &mut Faults) -> Option<Probe> {
    let container = definition.docker_container_id.clone();
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !container.chars().all(is_word) {
        faults.add("DockerContainerID", format!("{container:?} is no container's id or name"));
        return None;
    }
    let args = command(definition, faults)?;
    let args = match (definition.shell.as_str(), args.as_slice()) {
        (shell, [line]) if !shell.is_empty() => {
            vec![shell.to_owned(), "-c".to_owned(), line.clone()]
        }
        _ => args,
    };
    Some(Probe::Docker { container, args })
}

fn grpc(definition: &CheckDefinition, faults: &mut Faults) -> Option<GrpcProbe> {
    let (target, service) = definition.grpc.split_once('/').unwrap_or((&definition.grpc, ""));
    let address = address("GRPC", target, faults)?;
    let tls = definition.grpc_use_tls.then(|| tls(definition));
    Some(GrpcProbe { address, service: service.to_owned(), tls })
}

fn tls(definition: &CheckDefinition) -> TlsProbe {
    TlsProbe {
        server_name: definition.tls_server_name.clone(),
        skip_verify: definition.tls_skip_verify,
    }
}

fn address(field: &str, address: &str, faults: &mut Faults) -> Option<String> {
    let port = address.rsplit_once(':').and_then(|(host, port)| {
        port.parse::<u16>().ok().filter(|port| *port > 0 && !host.is_empty())
    });
    if port.is_none() {
        faults.add(field, format!("{address:?} is not an address; write \"host:port\""));
        return None;
    }
    Some(address.to_owned())
}

fn http(definition: &CheckDefinition, faults: &mut Faults) -> Option<HttpProbe> {
    let url = match definition.http.parse::<Uri>() {
        Ok(url) if is_probeable(&url) => Some(url),
        _ => {
            let reason = format!(
                "{:?} is not a URL that can be called; write \"http://host:port/path\"",
                definition.http
            );
            faults.add("HTTP", reason);
            None
        }
    };
    let method = match definition.method.as_str() {
        "" => Some(Method::GET),
        word => faults.take("Method", Method::from_bytes(word.to_ascii_uppercase().as_bytes())),
    };
    let headers = headers(&definition.header, faults);
    Some(HttpProbe {
        url: url?,
        method: method?,
        headers: headers?,
        body: definition.body.clone(),
        tls: tls(definition),
        follows_redirects: definition.disable_redirects == Some(false),
    })
}

/// Whether a probe can call the URL.
pub(crate) fn is_probeable(url: &Uri) -> bool {
    matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|h| !h.is_empty())
}

fn headers(
    given: &BTreeMap<String, Vec<String>>,
    faults: &mut Faults,
) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    for (name, values) in given {
        for value in values {
            let name_parsed = faults.take("Header", name.parse::<HeaderName>())?;
            let value_parsed = faults.take("Header", HeaderValue::from_str(value))?;
            headers.push((name_parsed, value_parsed));
        }
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_proto::json::{self, Unknown};

    fn resolve(text: &str) -> Result<Probe, String> {
        let definition = json::from_slice(text.as_bytes(), Unknown::Refuse).expect(text);
        let mut faults = Faults::default();
        let probe = Probe::resolve(&definition, &mut faults);
        faults.unless_any(probe).map_err(|faults| weft_proto::text::Fault::line(&faults))
    }

    #[test]
    fn each_kind_is_told_by_its_field() {
        for (text, kind) in [
            (r#"{"HTTP":"http://a/","Interval":"1s"}"#, "http"),
            (r#"{"tcp":"a:1","interval":"1s","tcp_use_tls":true}"#, "tcp"),
            (r#"{"UDP":"a:1","Interval":1000000000}"#, "udp"),
            (r#"{"GRPC":"a:1/web","GRPCUseTLS":true,"Interval":"1s"}"#, "grpc"),
            (r#"{"H2PING":"a:1","h2ping_use_tls":false,"Interval":"1s"}"#, "h2ping"),
            (r#"{"TTL":"1s"}"#, "ttl"),
            (r#"{"ScriptArgs":["true"],"Interval":"1s"}"#, "script"),
            (r#"{"DockerContainerID":"c","Args":["true"],"Interval":"1s"}"#, "docker"),
            (r#"{"OSService":"ssh.service","Interval":"1s"}"#, "os_service"),
            (r#"{"AliasService":"web"}"#, "alias"),
            (r#"{"AliasNode":"n1"}"#, "alias"),
        ] {
            assert_eq!(resolve(text).map(|probe| probe.kind()), Ok(kind), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_field() {
        for (text, fault) in [
            ("{}", "a check needs one of"),
            (r#"{"HTTP":"http://a/","TCP":"a:1","Interval":"1s"}"#, "of several kinds (HTTP, TCP)"),
            (r#"{"TCP":"a:1"}"#, "Interval: must be given for TCP checks"),
            (r#"{"TTL":"1s","Interval":"1s"}"#, "Interval: a TTL check has no interval"),
            (r#"{"UDP":"a","Interval":"1s"}"#, "UDP: \"a\" is not an address"),
            (r#"{"GRPC":"a/web","Interval":"1s"}"#, "GRPC: \"a\" is not an address"),
            (r#"{"Args":[""],"Interval":"1s"}"#, "Args: must name a program first"),
            (r#"{"DockerContainerID":"c","Interval":"1s"}"#, "Args: must name a program first"),
            (
                r#"{"DockerContainerID":"../x","Args":["a"],"Interval":"1s"}"#,
                "DockerContainerID: \"../x\"",
            ),
            (r#"{"HTTP":"ftp://a/","Interval":"1s"}"#, "HTTP: \"ftp://a/\" is not a URL"),
            (r#"{"AliasNode":"a b"}"#, "AliasNode: "),
        ] {
            let told = resolve(text).expect_err(text);
            assert!(told.contains(fault), "{text}: {told}");
        }
    }

    #[test]
    fn redirects_are_followed_only_when_asked_for() {
        for (text, follows) in [
            (r#"{"HTTP":"http://a/","Interval":"1s"}"#, false),
            (r#"{"HTTP":"http://a/","Interval":"1s","DisableRedirects":true}"#, false),
            (r#"{"HTTP":"http://a/","Interval":"1s","DisableRedirects":false}"#, true),
        ] {
            let Ok(Probe::Http(probe)) = resolve(text) else { panic!("{text}") };
            assert_eq!(probe.follows_redirects, follows, "{text}");
        }
    }
}
