//! `x-forwarded-client-cert`: what the local instance is told of its caller's certificate.
//!
//! **Source**: Envoy: HTTP header manipulation, x-forwarded-client-cert.

use std::fmt::{Display, Write as _};

use http::{HeaderMap, HeaderValue};
use weft_core::config_entry::{ClientCertDetails, ForwardClientCert, ForwardedHeaders};
use weft_runtime::tls::{fingerprint, peer_names};

use crate::http::general::CLIENT_CERT;
use crate::http::h1::ClientCert;
use crate::listen::{Caller, Local};

/// What one caller's requests say, ready to be written.
#[derive(Debug)]
pub(super) struct Shown {
    told: ForwardedHeaders,
    /// The whole line; empty where none stands by itself.
    line: Vec<u8>,
    /// What it says of this caller.
    element: String,
}

impl Shown {
    /// Puts down what is shown of a caller.
    pub(super) fn of(local: &Local, caller: &Caller) -> Self {
        let snapshot = &local.workload.snapshot;
        let told = snapshot.forwarded_headers;
        let details = told.set_current_client_cert_details;
        let (element, line) = match told.forward_client_cert_details {
            ForwardClientCert::AlwaysForwardOnly
            | ForwardClientCert::ForwardOnly
            | ForwardClientCert::Sanitize => (String::new(), Vec::new()),
            ForwardClientCert::AppendForward => {
                (element(&snapshot.spiffe_id, caller, details), Vec::new())
            }
            ForwardClientCert::SanitizeSet | ForwardClientCert::Unset => {
                let element = element(&snapshot.spiffe_id, caller, details);
                let line = format!("x-forwarded-client-cert: {element}\r\n").into_bytes();
                (element, line)
            }
        };
        Self { told, line, element }
    }

    /// Whether it is what is shown by this workload.
    pub(super) fn fits(&self, local: &Local) -> bool {
        self.told == local.workload.snapshot.forwarded_headers
    }

    /// Returns the line that is added to each request.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Returns what becomes of what a request says itself.
    pub(super) fn client_cert(&self) -> ClientCert<'_> {
        match self.told.forward_client_cert_details {
            ForwardClientCert::AlwaysForwardOnly | ForwardClientCert::ForwardOnly => {
                ClientCert::Keep
            }
            ForwardClientCert::AppendForward => ClientCert::Append(self.element.as_bytes()),
            ForwardClientCert::Sanitize
            | ForwardClientCert::SanitizeSet
            | ForwardClientCert::Unset => ClientCert::Strip,
        }
    }

    /// Writes it into fields from which what the request has said was taken.
    pub(super) fn write(&self, said: &[HeaderValue], headers: &mut HeaderMap) {
        let value = match self.client_cert() {
            ClientCert::Append(own) => {
                let said = said.iter().map(HeaderValue::as_bytes).filter(|it| !it.is_empty());
                let all: Vec<&[u8]> = said.chain([own]).collect();
                HeaderValue::from_bytes(&all.join(&b","[..]))
            }
            ClientCert::Keep => {
                headers.extend(said.iter().map(|value| (CLIENT_CERT, value.clone())));
                return;
            }
            ClientCert::Strip if self.element.is_empty() => return,
            ClientCert::Strip => HeaderValue::from_bytes(self.element.as_bytes()),
        };
        if let Ok(value) = value {
            headers.insert(CLIENT_CERT, value);
        }
    }
}

/// Says whom the mesh vouches for, and to whom.
pub(super) fn element(own: &impl Display, caller: &Caller, details: ClientCertDetails) -> String {
    let hash = caller.chain.first().map(|leaf| fingerprint(leaf)).unwrap_or_default();
    let mut text = format!("By={own};Hash={hash}");
    let is_asked = details != ClientCertDetails::default();
    let names = if is_asked { peer_names(&caller.chain) } else { Default::default() };
    // Writing into a String cannot fail.
    if details.subject {
        let subject = names.subject.replace('\\', "\\\\").replace('"', "\\\"");
        let subject: String = subject.chars().filter(|c| !c.is_control()).collect();
        let _ = write!(text, ";Subject=\"{subject}\"");
    }
    let _ = write!(text, ";URI={}", caller.id);
    let is_plain =
        |name: &&String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(&b));
    for name in names.dns.iter().filter(|_| details.dns).filter(is_plain) {
        let _ = write!(text, ";DNS={name}");
    }
    text
}
