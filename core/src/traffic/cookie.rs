//! Cookies that a proxy gives a caller, so that it goes the same way again.

use std::time::Duration;

use super::RequestView;

/// A cookie that a caller is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenCookie<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// For which paths; empty for that of the request.
    pub(super) path: &'a str,
    /// How long it is kept; zero for as long as the browser is open.
    pub(super) ttl: Duration,
    /// What it says, which tells nothing by itself.
    pub(super) value: u64,
}

impl GivenCookie<'_> {
    /// Returns what the caller will say.
    pub(super) fn text(&self) -> String {
        format!("{:016x}", self.value)
    }

    /// Returns the value of `set-cookie`.
    ///
    /// **Source**: Spec: RFC 6265 §4.1.
    pub fn header(&self) -> String {
        let Self { name, path, ttl, .. } = self;
        let mut text = format!("{name}={}", self.text());
        if !path.is_empty() {
            text.push_str(&format!("; Path={path}"));
        }
        if !ttl.is_zero() {
            // A part of a second is not nothing.
            text.push_str(&format!("; Max-Age={}", ttl.as_secs().max(1)));
        }
        text.push_str("; HttpOnly");
        text
    }
}

/// Returns what a function makes of the value of the first cookie of a name; `None` without one.
pub(super) fn read<R: RequestView + ?Sized, T>(
    request: &R,
    name: &str,
    make: impl Fn(&[u8]) -> T,
) -> Option<T> {
    let mut found = None;
    request.each_header("cookie", &mut |cookies| {
        for pair in cookies.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
            let value = pair.strip_prefix(name.as_bytes());
            if let Some(value) = value.and_then(|value| value.strip_prefix(b"=")) {
                found.get_or_insert_with(|| make(value));
            }
        }
    });
    found
}
