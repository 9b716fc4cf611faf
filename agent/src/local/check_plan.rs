//! A check definition, checked: what is probed, how often, and how results are judged.
//!
//! Probing is `checks`' affair, judging `core::health`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Uri};
use weft_core::catalog::{CheckDefinition, CheckStatus, HealthCheck, Service};
use weft_core::health::{CheckPolicy, TtlPolicy};
use weft_core::limits;
use weft_core::name::{CheckId, InstanceId, NodeName};
use weft_core::time::Span;

use super::faults::Faults;

/// How long a probe may take when nothing else is said (Consul: 10 s).
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The shortest time after which a critical service is deregistered (Consul: 1 min).
const DEREGISTER_AFTER_MIN: Duration = Duration::from_secs(60);

/// One check, ready to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckPlan {
    /// Unique on this host.
    pub id: CheckId,
    /// The instance it speaks of; `None` for the node.
    pub service: Option<InstanceId>,
    /// What is done.
    pub probe: Probe,
    /// What it is before the first result.
    pub initial: CheckStatus,
    /// The definition with every default filled in; what is kept on disk.
    pub definition: CheckDefinition,
}

/// What a check does to find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Sends a request.
    Http(HttpProbe),
    /// Opens a connection.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// Waits for the application's report.
    Ttl {
        /// How long a report holds.
        ttl: Duration,
    },
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
    /// Whether the certificate of an `https` target is left unverified.
    pub tls_skip_verify: bool,
}

impl Probe {
    /// Returns the word of the public API.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp { .. } => "tcp",
            Self::Ttl { .. } => "ttl",
        }
    }
}

impl CheckPlan {
    /// Checks a definition. `service` is the instance it speaks of, `number` its place when an
    /// instance has several checks without ids.
    pub(super) fn resolve(
        definition: &CheckDefinition,
        service: Option<&Service>,
        number: Option<usize>,
        faults: &mut Faults,
    ) -> Option<Self> {
        let mut definition = definition.clone();
        fill_in_names(&mut definition, service, number, faults);
        raise_minima(&mut definition);
        let probe = probe(&definition, faults);
        check_thresholds(&definition, faults);
        let initial = match definition.status.as_str() {
            "" => Some(CheckStatus::Critical),
            word => faults.take("Status", word.parse()),
        };
        let id = faults.take("CheckID", CheckId::parse(&definition.check_id));
        Some(Self {
            id: id?,
            service: service.map(|service| service.id.clone()),
            probe: probe?,
            initial: initial?,
            definition,
        })
    }

    /// Returns how results of a probe are judged, starting from `initial`.
    pub fn policy(&self, initial: CheckStatus) -> CheckPolicy {
        let definition = &self.definition;
        CheckPolicy {
            initial,
            interval: definition.interval.map_or(limits::CHECK_INTERVAL_MIN, |span| span.0),
            success_before_passing: definition.success_before_passing,
            failures_before_warning: definition.failures_before_warning,
            failures_before_critical: definition.failures_before_critical,
            deregister_after: self.deregister_after(),
            output_bytes_max: self.output_bytes_max(),
        }
    }

    /// Returns how reports are judged, starting from `initial`.
    pub fn ttl_policy(&self, ttl: Duration, initial: CheckStatus) -> TtlPolicy {
        TtlPolicy {
            initial,
            ttl,
            deregister_after: self.deregister_after(),
            output_bytes_max: self.output_bytes_max(),
        }
    }

    /// Returns how long one run of the probe may take.
    pub fn timeout(&self) -> Duration {
        self.definition.timeout.map_or(TIMEOUT_DEFAULT, |span| span.0)
    }

    /// Returns the bytes of output that are kept.
    pub fn output_bytes_max(&self) -> usize {
        match self.definition.output_max_size {
            0 => limits::CHECK_OUTPUT_BYTES_MAX,
            bytes => bytes as usize,
        }
    }

    fn deregister_after(&self) -> Option<Duration> {
        self.definition.deregister_critical_service_after.map(|span| span.0)
    }

    /// Returns the check as the catalog has it before its first result.
    pub(super) fn health_check(&self, node: &NodeName, service: Option<&Service>) -> HealthCheck {
        let text = |span: Option<Span>| span.map(|span| span.to_string()).unwrap_or_default();
        HealthCheck {
            node: node.clone(),
            id: self.id.clone(),
            name: self.definition.name.clone(),
            status: self.initial,
            notes: self.definition.notes.clone(),
            output: String::new(),
            service_id: service.map(|service| service.id.clone()),
            service_name: service.map(|service| service.name.clone()),
            service_tags: service.map(|service| service.tags.clone()).unwrap_or_default(),
            kind: self.probe.kind().to_owned(),
            interval: text(self.definition.interval),
            timeout: text(self.definition.timeout),
            create_index: weft_core::index::Index::default(),
            modify_index: weft_core::index::Index::default(),
        }
    }
}

fn fill_in_names(
    definition: &mut CheckDefinition,
    service: Option<&Service>,
    number: Option<usize>,
    faults: &mut Faults,
) {
    match service {
        Some(service) => {
            if definition.check_id.is_empty() {
                definition.check_id = match number {
                    Some(number) => format!("service:{}:{number}", service.id),
                    None => format!("service:{}", service.id),
                };
            }
            if definition.name.is_empty() {
                definition.name = format!("Service '{}' check", service.name);
            }
            definition.service_id = service.id.to_string();
        }
        None => {
            if definition.name.is_empty() {
                faults.add("Name", "a check that belongs to no service needs a name");
            }
            if definition.check_id.is_empty() {
                definition.check_id.clone_from(&definition.name);
            }
        }
    }
}

/// Raises what is below its smallest useful value, as Consul does, instead of refusing it.
fn raise_minima(definition: &mut CheckDefinition) {
    if let Some(interval) = &mut definition.interval
        && !interval.0.is_zero()
    {
        interval.0 = interval.0.max(limits::CHECK_INTERVAL_MIN);
    }
    match &mut definition.deregister_critical_service_after {
        Some(after) if after.0.is_zero() => definition.deregister_critical_service_after = None,
        Some(after) => after.0 = after.0.max(DEREGISTER_AFTER_MIN),
        None => {}
    }
    if definition.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
        definition.timeout = None;
    }
    let limit = u32::try_from(limits::CHECK_OUTPUT_BYTES_MAX).unwrap_or(u32::MAX);
    definition.output_max_size = definition.output_max_size.min(limit);
}

fn check_thresholds(definition: &CheckDefinition, faults: &mut Faults) {
    if definition.failures_before_warning > definition.failures_before_critical {
        faults.add(
            "FailuresBeforeWarning",
            "must not be higher than FailuresBeforeCritical, or the check never warns",
        );
    }
}

fn probe(definition: &CheckDefinition, faults: &mut Faults) -> Option<Probe> {
    let not_run = [
        ("GRPC", "grpc", !definition.grpc.is_empty()),
        ("Args", "script", !definition.args.is_empty()),
        ("H2PING", "h2ping", !definition.h2ping.is_empty()),
        ("UDP", "udp", !definition.udp.is_empty()),
        ("DockerContainerID", "docker", !definition.docker_container_id.is_empty()),
        ("OSService", "os_service", !definition.os_service.is_empty()),
        ("AliasService", "alias", !definition.alias_service.is_empty()),
        ("AliasNode", "alias", !definition.alias_node.is_empty()),
    ];
    if let Some((field, kind, _)) = not_run.iter().find(|(.., given)| *given) {
        faults.add(field, format!("{kind} checks are not run yet; use http, tcp or ttl"));
        return None;
    }
    let ttl = definition.ttl.filter(|ttl| !ttl.0.is_zero());
    let given: Vec<&str> = [
        ("HTTP", !definition.http.is_empty()),
        ("TCP", !definition.tcp.is_empty()),
        ("TTL", ttl.is_some()),
    ]
    .into_iter()
    .filter_map(|(field, given)| given.then_some(field))
    .collect();
    match (given.as_slice(), ttl) {
        ([], _) => {
            faults.add("", "a check needs one of HTTP, TCP and TTL");
            None
        }
        (["TTL"], Some(ttl)) => {
            if definition.interval.is_some_and(|interval| !interval.0.is_zero()) {
                faults.add("Interval", "a TTL check has no interval: the application reports");
            }
            Some(Probe::Ttl { ttl: ttl.0 })
        }
        ([field], _) => {
            if definition.interval.is_none_or(|interval| interval.0.is_zero()) {
                faults.add("Interval", format!("must be given for {field} checks, e.g. \"10s\""));
            }
            match *field {
                "TCP" => tcp_probe(&definition.tcp, faults),
                _ => http_probe(definition, faults).map(Probe::Http),
            }
        }
        (several, _) => {
            faults.add(
                "",
                format!("is of several kinds ({}); make it one check each", several.join(", ")),
            );
            None
        }
    }
}

fn tcp_probe(address: &str, faults: &mut Faults) -> Option<Probe> {
    let port = address.rsplit_once(':').and_then(|(host, port)| {
        port.parse::<u16>().ok().filter(|port| *port > 0 && !host.is_empty())
    });
    if port.is_none() {
        faults.add("TCP", format!("{address:?} is not an address; write \"host:port\""));
        return None;
    }
    Some(Probe::Tcp { address: address.to_owned() })
}

fn http_probe(definition: &CheckDefinition, faults: &mut Faults) -> Option<HttpProbe> {
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
        tls_skip_verify: definition.tls_skip_verify,
    })
}

fn is_probeable(url: &Uri) -> bool {
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
