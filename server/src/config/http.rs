//! The doors of the HTTP API: where they listen, by which names they are called, with which
//! certificate.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use weft_proto::text::{Fault, HttpsConfig, HttpsSection};

use super::LimitsSection;

/// Connections of one client at a door of the API (Consul: 200).
pub(super) const CONNECTIONS_PER_CLIENT: usize = 200;

/// The `http` section: the API without TLS, for callers on this host.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpSection {
    /// `ip:port` on loopback; nowhere when left out, as the host's agent has an API.
    pub addr: Option<String>,
    /// Names that a `Host` header may have besides loopback names and IP addresses.
    pub allowed_hosts: Vec<String>,
}

/// The doors of the API, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where the API is served without TLS: a loopback address; port 0 takes a free one.
    pub addr: Option<SocketAddr>,
    /// Names that a `Host` header may have there, in lower case.
    pub allowed_hosts: Vec<String>,
    /// Where it is served with TLS.
    pub https: Option<HttpsConfig>,
    /// Connections of one client at each of the doors; `None` for no bound.
    pub connections_per_client_max: Option<usize>,
}

/// Checks the sections; what is wrong is added to the faults.
pub(super) fn resolve(
    http: HttpSection,
    https: HttpsSection,
    limits: &LimitsSection,
    faults: &mut Vec<Fault>,
) -> HttpConfig {
    let addr = http.addr.and_then(|at| super::socket_addr("http.addr", &at, faults));
    if addr.is_some_and(|at| !at.ip().is_loopback()) {
        let reason = "this door has no TLS; use a loopback address, or https.addr";
        faults.push(Fault::new("http.addr", reason));
    }
    let connections_per_client_max =
        match limits.http_max_conns_per_client.unwrap_or(CONNECTIONS_PER_CLIENT) {
            0 => None,
            max => Some(max),
        };
    HttpConfig {
        addr,
        allowed_hosts: http.allowed_hosts.iter().map(|host| host.to_lowercase()).collect(),
        https: https.resolve(https.addr.as_deref(), faults, |text, faults| {
            super::socket_addr("https.addr", text, faults)
        }),
        connections_per_client_max,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn check(http: HttpSection, https: HttpsSection) -> (HttpConfig, Vec<String>) {
        let mut faults = Vec::new();
        let config = resolve(http, https, &LimitsSection::default(), &mut faults);
        (config, faults.into_iter().map(|fault| fault.path).collect())
    }

    #[test]
    fn nothing_said_opens_no_door() {
        let (config, faults) = check(HttpSection::default(), HttpsSection::default());
        assert_eq!((config.addr, config.https), (None, None));
        assert_eq!(config.connections_per_client_max, Some(CONNECTIONS_PER_CLIENT));
        assert!(faults.is_empty());
    }

    #[test]
    fn a_door_without_tls_stays_on_this_host_and_one_with_tls_has_a_certificate() {
        let http = |addr: &str| HttpSection { addr: Some(addr.to_owned()), ..Default::default() };
        let https = |addr: Option<&str>, cert: Option<&str>, key: Option<&str>| HttpsSection {
            addr: addr.map(str::to_owned),
            cert_file: cert.map(PathBuf::from),
            key_file: key.map(PathBuf::from),
            ca_file: None,
        };
        for (addr, expected) in
            [("127.0.0.1:8500", &[][..]), ("0.0.0.0:8500", &["http.addr"]), ("a", &["http.addr"])]
        {
            assert_eq!(check(http(addr), HttpsSection::default()).1, expected, "{addr}");
        }
        for (section, expected) in [
            (https(Some("0.0.0.0:8501"), Some("c"), Some("k")), &[][..]),
            (https(Some("0.0.0.0:8501"), Some("c"), None), &["https.key_file"]),
            (https(Some("0.0.0.0:8501"), None, Some("")), &["https.cert_file", "https.key_file"]),
            (https(None, Some("c"), Some("k")), &["https.addr"]),
        ] {
            let (_, faults) = check(HttpSection::default(), section.clone());
            assert_eq!(faults, expected, "{section:?}");
        }
    }
}
