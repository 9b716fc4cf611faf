//! The doors of the HTTP API: where they listen, by which names they are called, with which
//! certificate.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_proto::text::Fault;

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

/// The `https` section: the API with TLS, for callers anywhere.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpsSection {
    /// `ip:port`; nowhere when left out.
    pub addr: Option<String>,
    /// The certificate shown, with its chain, as PEM. Read again when it changes.
    pub cert_file: Option<PathBuf>,
    /// Its key, as PEM.
    pub key_file: Option<PathBuf>,
    /// Authorities, as PEM, one of which must have signed the certificate of every caller;
    /// callers need none when left out.
    pub ca_file: Option<PathBuf>,
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

/// The door with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsConfig {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The certificate with its chain.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// The authorities of callers.
    pub ca_file: Option<PathBuf>,
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
        https: resolve_https(https, faults),
        connections_per_client_max,
    }
}

fn resolve_https(section: HttpsSection, faults: &mut Vec<Fault>) -> Option<HttpsConfig> {
    let Some(addr) = section.addr else {
        let is_said = section.cert_file.is_some() || section.key_file.is_some();
        if is_said || section.ca_file.is_some() {
            let reason = "say where the API is served with this certificate, ip:port";
            faults.push(Fault::new("https.addr", reason));
        }
        return None;
    };
    let addr = super::socket_addr("https.addr", &addr, faults);
    let mut file = |field: &str, path: Option<PathBuf>, what: &str| {
        let path = path.filter(|path| !path.as_os_str().is_empty());
        if path.is_none() {
            faults.push(Fault::new(field, format!("name the PEM file with {what}")));
        }
        path
    };
    let cert_file = file("https.cert_file", section.cert_file, "the certificate and its chain");
    let key_file = file("https.key_file", section.key_file, "the certificate's key");
    Some(HttpsConfig {
        addr: addr?,
        cert_file: cert_file?,
        key_file: key_file?,
        ca_file: section.ca_file.filter(|path| !path.as_os_str().is_empty()),
    })
}

#[cfg(test)]
mod tests {
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
