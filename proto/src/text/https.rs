//! The `https` section, which servers and agents have alike: the API with TLS, under the
//! operator's own certificate.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Fault;

/// The `https` section, as it is written.
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

/// The door with TLS, checked.
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

impl HttpsSection {
    /// Checks the section; what is wrong is added to the faults.
    ///
    /// `addr` is where the door is to be, if anywhere, and `parse` reads it.
    pub fn resolve(
        &self,
        addr: Option<&str>,
        faults: &mut Vec<Fault>,
        parse: impl FnOnce(&str, &mut Vec<Fault>) -> Option<SocketAddr>,
    ) -> Option<HttpsConfig> {
        let Some(addr) = addr else {
            if self.cert_file.is_some() || self.key_file.is_some() || self.ca_file.is_some() {
                let reason = "say where the API is served with this certificate, ip:port";
                faults.push(Fault::new("https.addr", reason));
            }
            return None;
        };
        let addr = parse(addr, faults);
        let mut file = |field: &str, path: &Option<PathBuf>, what: &str| {
            let path = given(path);
            if path.is_none() {
                faults.push(Fault::new(field, format!("name the PEM file with {what}")));
            }
            path
        };
        let cert_file = file("https.cert_file", &self.cert_file, "the certificate and its chain");
        let key_file = file("https.key_file", &self.key_file, "the certificate's key");
        Some(HttpsConfig {
            addr: addr?,
            cert_file: cert_file?,
            key_file: key_file?,
            ca_file: given(&self.ca_file),
        })
    }
}

/// The empty path names no file.
fn given(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.clone().filter(|path| !path.as_os_str().is_empty())
}
