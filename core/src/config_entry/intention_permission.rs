//! Permissions of an intention: what one caller may do, by the content of its requests.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};
use super::request_conditions::{normalise_headers, normalise_methods, normalise_paths};
use super::{HeaderMatch, IntentionAction, IntentionJwt};
use crate::canonical_path::{CanonicalPath, pattern};
use crate::limits;

/// What is done with the calls that meet all conditions.
///
/// **Shape**: at least one condition.
/// **Source**: Consul: docs/connect/config-entries/service-intentions#permissions. `SourceCIDRs`,
/// `DestinationPorts` and `SNIs` are ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IntentionPermission {
    /// What is done.
    pub action: IntentionAction,
    /// Conditions on the request. With these, calls without requests are denied.
    #[serde(rename = "HTTP", default, skip_serializing_if = "Option::is_none")]
    pub http: Option<IntentionHttp>,
    /// A token that the request must carry. With this, calls without requests are denied.
    #[serde(rename = "JWT", default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<IntentionJwt>,
    /// Networks in one of which the calling proxy has its address; empty means any.
    #[serde(rename = "SourceCIDRs", default, skip_serializing_if = "is_blank")]
    pub source_cidrs: Vec<String>,
    /// Ports of which the service listens on one; empty means any.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub destination_ports: Vec<u16>,
    /// Server names, or `*.` and their ends, of which the caller gives one in TLS; empty means
    /// any, and none.
    #[serde(rename = "SNIs", default, skip_serializing_if = "is_blank")]
    pub snis: Vec<String>,
}

/// Conditions on a request; all that are given must hold.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IntentionHttp {
    /// The whole path. At most one of the three path conditions is given.
    #[serde(skip_serializing_if = "is_blank")]
    pub path_exact: Option<String>,
    /// How the path starts.
    #[serde(skip_serializing_if = "is_blank")]
    pub path_prefix: Option<String>,
    /// A regular expression for the whole path.
    #[serde(skip_serializing_if = "is_blank")]
    pub path_regex: Option<String>,
    /// Conditions on headers.
    #[serde(skip_serializing_if = "is_blank")]
    pub header: Vec<HeaderMatch>,
    /// Methods, any of them; empty means all.
    #[serde(skip_serializing_if = "is_blank")]
    pub methods: Vec<String>,
}

impl IntentionPermission {
    pub(super) fn normalise(&mut self, field: &str, findings: &mut Findings) {
        if let Some(http) = &mut self.http {
            http.normalise(&format!("{field}.HTTP"), findings);
        }
        self.http = self.http.take().filter(|http| *http != IntentionHttp::default());
        self.jwt = self.jwt.take().filter(|jwt| *jwt != IntentionJwt::default());
        if let Some(jwt) = &self.jwt {
            jwt.check(&format!("{field}.JWT"), findings);
        }
        let is_bare = self.source_cidrs.is_empty()
            && self.destination_ports.is_empty()
            && self.snis.is_empty();
        if self.http.is_none() && self.jwt.is_none() && is_bare {
            let reason = "needs a condition: HTTP, JWT, SourceCIDRs, DestinationPorts or SNIs; \
                          for all calls write the source's own Action";
            findings.add(field, reason);
        }
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        findings.count(&format!("{field}.SourceCIDRs"), self.source_cidrs.len(), max);
        findings.count(&format!("{field}.DestinationPorts"), self.destination_ports.len(), max);
        for (at, text) in self.source_cidrs.iter_mut().enumerate() {
            match parse_network(text) {
                Some(network) => *text = network.to_string(),
                None => {
                    let reason = format!("{:?} is not a network or address", shortened(text));
                    findings.add(format!("{field}.SourceCIDRs[{at}]"), reason);
                }
            }
        }
        for (at, port) in self.destination_ports.iter().enumerate() {
            findings.port(&format!("{field}.DestinationPorts[{at}]"), *port);
        }
        findings.count(&format!("{field}.SNIs"), self.snis.len(), max);
        for (at, name) in self.snis.iter_mut().enumerate() {
            *name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let whole = name.strip_prefix("*.").unwrap_or(name);
            findings.host(&format!("{field}.SNIs[{at}]"), whole);
        }
    }

    /// Whether it can be judged by a request alone.
    pub fn needs_request(&self) -> bool {
        self.http.is_some() || self.jwt.is_some()
    }

    /// Returns how many regular expressions it has.
    pub(super) fn regexes(&self) -> usize {
        let Some(http) = &self.http else { return 0 };
        let headers = http.header.iter().filter(|header| header.regex.is_some());
        usize::from(http.path_regex.is_some()) + headers.count()
    }

    /// Returns the networks in one of which the calling proxy has its address; those that are
    /// none, which no stored entry has, are `None`.
    pub fn networks(&self) -> impl Iterator<Item = Option<IpNet>> {
        self.source_cidrs.iter().map(|text| parse_network(text))
    }
}

impl IntentionHttp {
    fn normalise(&mut self, field: &str, findings: &mut Findings) {
        let paths = [&mut self.path_exact, &mut self.path_prefix, &mut self.path_regex];
        normalise_paths(field, paths, findings);
        if let Some(path) = &self.path_exact {
            check_path(&format!("{field}.PathExact"), path, MayGoOn::No, findings);
        }
        if let Some(path) = &self.path_prefix {
            check_path(&format!("{field}.PathPrefix"), path, MayGoOn::Yes, findings);
        }
        if let Some(regex) = &self.path_regex {
            findings.regex(&format!("{field}.PathRegex"), regex);
        }
        normalise_headers(field, &mut self.header, findings);
        normalise_methods(field, &mut self.methods, findings);
    }
}

/// A path in a rule is one that a canonical path can be equal to, or start with: a rule that
/// never holds would protect nothing.
fn check_path(field: &str, path: &str, may_go_on: MayGoOn, findings: &mut Findings) {
    let before = findings.len();
    findings.path(field, path);
    findings.bytes(field, path.len(), limits::PATH_BYTES_MAX);
    if findings.len() > before {
        return;
    }
    let whole = match may_go_on {
        MayGoOn::No => path.to_owned(),
        // What begins as a dot segment may be the beginning of a name.
        MayGoOn::Yes => format!("{path}x"),
    };
    let parsed =
        pattern(&whole).and_then(|text| Ok((text, CanonicalPath::parse(whole.as_bytes())?)));
    match parsed {
        Err(unclear) => findings.add(field, format!("{:?} {unclear}", shortened(path))),
        Ok((text, canonical)) if text != canonical.as_bytes() => {
            let path = shortened(path);
            let reason = format!(
                "{path:?} matches no request: they are judged without empty, '.' and '..' segments"
            );
            findings.add(field, reason);
        }
        Ok(_) => {}
    }
}

/// Whether a path in a rule is the beginning of others.
enum MayGoOn {
    No,
    Yes,
}

/// Reads `10.0.0.0/8` or one address.
fn parse_network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok();
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    // Such addresses are seen as those of IPv4 that they stand for.
    let is_mapped = matches!(network.addr(), IpAddr::V6(it) if it.to_ipv4_mapped().is_some());
    (!is_mapped).then(|| network.trunc())
}
