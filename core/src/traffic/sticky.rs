//! Which place of a splitter's cycle a request has that says who sends it.

use super::{Mix64, RequestView};
use crate::config_entry::{Sticky, StickyCookie};

/// What a request says of who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// Nothing, and is to be given a cookie.
    Cookie(&'a StickyCookie),
    /// Nothing.
    Nothing,
    /// A value, as a number.
    Value(u64),
}

/// A cookie that a caller is given so that it goes the same way again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenCookie<'a> {
    cookie: &'a StickyCookie,
    value: u64,
}

impl<'a> Said<'a> {
    /// Reads a request.
    pub(super) fn of<R: RequestView + ?Sized>(sticky: &'a Sticky, request: &R) -> Self {
        let mut found = None;
        match &sticky.cookie {
            Some(cookie) => {
                request.each_header("cookie", &mut |cookies| {
                    for pair in cookies.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
                        let value = pair.strip_prefix(cookie.name.as_bytes());
                        if let Some(value) = value.and_then(|value| value.strip_prefix(b"=")) {
                            found.get_or_insert_with(|| number(value));
                        }
                    }
                });
                found.map_or(Said::Cookie(cookie), Said::Value)
            }
            None => {
                let name = &sticky.header;
                request.each_header(name, &mut |value| {
                    found.get_or_insert_with(|| number(value));
                });
                found.map_or(Said::Nothing, Said::Value)
            }
        }
    }
}

/// Returns a number that is the same for the same value on every proxy, and spread evenly.
///
/// **Source**: FNV-1a (draft-eastlake-fnv), mixed once more.
fn number(value: &[u8]) -> u64 {
    let fnv = value.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Mix64::new(fnv).next_u64()
}

/// Returns the place below `total` that a number has.
pub(super) fn place(number: u64, total: u32) -> u32 {
    ((u128::from(number) * u128::from(total)) >> 64) as u32
}

impl<'a> GivenCookie<'a> {
    /// Makes one with a value that says nothing by itself.
    pub(super) fn new(cookie: &'a StickyCookie, value: u64) -> Self {
        Self { cookie, value }
    }

    /// Returns the number that a request will have that brings it.
    pub(super) fn number(&self) -> u64 {
        number(self.text().as_bytes())
    }

    fn text(&self) -> String {
        format!("{:016x}", self.value)
    }

    /// Returns the value of `set-cookie`.
    ///
    /// **Source**: Spec: RFC 6265 §4.1.
    pub fn header(&self) -> String {
        let StickyCookie { name, path, ttl } = self.cookie;
        let path = if path.is_empty() { "/" } else { path };
        let value = self.text();
        match ttl.0.as_secs() {
            0 => format!("{name}={value}; Path={path}; HttpOnly"),
            seconds => format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly"),
        }
    }
}
