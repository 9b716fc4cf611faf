//! What of a head is kept for a line: the headers that a form names, secrets left out.

use super::LOG_TEXT_BYTES_MAX;

/// The values of the headers that a form names, in its order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Captured(Vec<Option<Box<str>>>);

/// What stands for a secret.
const HIDDEN: &str = "(hidden)";

/// Headers whose values let their reader in.
const SECRET_HEADERS: [&str; 10] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-consul-token",
    "x-nomad-token",
    "x-vault-token",
];

/// Parts of the names of query parameters whose values let their reader in.
const SECRET_PARAMETERS: [&str; 9] =
    ["token", "secret", "password", "passwd", "key", "sig", "code", "auth", "session"];

/// Whether the value of a header (named in lower case) is never written down.
fn is_secret_header(name: &str) -> bool {
    SECRET_HEADERS.contains(&name)
}

impl Captured {
    /// Keeps the first value of each header; `each_header` shows those with a name.
    pub fn of(names: &[Box<str>], each_header: impl Fn(&str, &mut dyn FnMut(&[u8]))) -> Self {
        let value = |name: &str| {
            let mut value = None;
            each_header(name, &mut |shown| {
                value.get_or_insert_with(|| match is_secret_header(name) {
                    true => HIDDEN.into(),
                    false => bounded(shown),
                });
            });
            value
        };
        Self(names.iter().map(|name| value(name)).collect())
    }

    /// Returns a value by its header's number.
    pub(super) fn value(&self, number: usize) -> Option<&str> {
        self.0.get(number)?.as_deref()
    }
}

/// Returns what is kept of a text of a request.
pub(super) fn bounded(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(LOG_TEXT_BYTES_MAX)]).into()
}

/// Returns a query as it may be written down: values of parameters whose name speaks of a secret,
/// and JSON web tokens, are left out.
pub fn shown_query(query: &[u8]) -> String {
    let query = String::from_utf8_lossy(&query[..query.len().min(LOG_TEXT_BYTES_MAX)]);
    let mut shown = String::with_capacity(query.len());
    for (at, pair) in query.split('&').enumerate() {
        if at > 0 {
            shown.push('&');
        }
        match pair.split_once('=') {
            Some((name, value)) if is_secret(name, value) => shown.extend([name, "=", HIDDEN]),
            Some(_) | None => shown.push_str(pair),
        }
    }
    shown
}

fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // An escape in a name may spell any of them.
    name.contains('%')
        || SECRET_PARAMETERS.iter().any(|secret| name.contains(secret))
        || value.starts_with("eyJ") && value.contains('.')
}
