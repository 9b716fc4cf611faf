//! Headers that are added, set and removed on the way of a message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use crate::limits;
use crate::log_format::{HeaderForm, HeaderSide};

/// Changes to the headers of a request or an answer; removed first, then set, then added.
///
/// **Source**: Consul: docs/connect/config-entries/service-router#requestheaders. Differs: what
/// delimits messages, names the host or is said by proxies alone is refused.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HeaderChanges {
    /// Further values.
    #[serde(skip_serializing_if = "is_blank")]
    pub add: BTreeMap<String, String>,
    /// The only values.
    #[serde(skip_serializing_if = "is_blank")]
    pub set: BTreeMap<String, String>,
    /// Headers that are taken out.
    #[serde(skip_serializing_if = "is_blank")]
    pub remove: Vec<String>,
}

impl HeaderChanges {
    /// Whether a header may be changed by an entry at all.
    pub(crate) fn may_change(name: &str) -> bool {
        reserved(name).is_none()
    }

    /// Checks names and values; `side` says of which message they are.
    pub(super) fn check(&self, side: HeaderSide, field: &str, findings: &mut Findings) {
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        for (name, headers) in [("Add", &self.add), ("Set", &self.set)] {
            let field = format!("{field}.{name}");
            findings.count(&field, headers.len(), max);
            for (header, value) in headers {
                check_name(&field, header, findings);
                if is_envoys(header) {
                    let reason = "is for proxies of Envoy's kind, and taken out on the way";
                    findings.add(format!("{field}.{header}"), reason);
                }
                findings.bytes(&format!("{field}.{header}"), value.len(), HEADER_VALUE_BYTES_MAX);
                if let Err(reason) = HeaderForm::parse(side, value) {
                    findings.add(format!("{field}.{header}"), reason);
                }
            }
        }
        findings.count(&format!("{field}.Remove"), self.remove.len(), max);
        for (at, header) in self.remove.iter().enumerate() {
            check_name(&format!("{field}.Remove[{at}]"), header, findings);
        }
    }
}

/// Bytes of a value: a head of 64 KiB is the most that a peer takes, and routes have many.
const HEADER_VALUE_BYTES_MAX: usize = 4 << 10;

/// A name is one of a header that routes may change.
fn check_name(field: &str, name: &str, findings: &mut Findings) {
    match reserved(name) {
        Some(reason) => findings.add(field, format!("{name:?} {reason}")),
        None => findings.token(field, name),
    }
}

/// Says why no route may change a header, `None` where it may. What is neither letter nor digit
/// counts as `-`, as it does to recipients that make variables of names.
fn reserved(name: &str) -> Option<&'static str> {
    if name.starts_with(':') {
        return Some("is no header: it says what is asked for and of whom");
    }
    match &*as_read(name) {
        "connection" | "content-length" | "expect" | "http2-settings" | "keep-alive"
        | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade" => {
            Some("says where a message ends or what becomes of its connection; proxies write it")
        }
        "host" => Some("says which host is asked, and is not changed as a header"),
        "x-forwarded-client-cert" => Some("says who calls, which the called proxy knows"),
        name if name.starts_with("x-weft-") => Some("is said by proxies of the mesh alone"),
        _ => None,
    }
}

fn is_envoys(name: &str) -> bool {
    as_read(name).starts_with("x-envoy-")
}

fn as_read(name: &str) -> String {
    let read = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    name.chars().map(read).collect::<String>().to_ascii_lowercase()
}
