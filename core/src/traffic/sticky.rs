//! Which place of a splitter's cycle a request has that says who sends it.

use super::cookie::{self, GivenCookie};
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

impl<'a> Said<'a> {
    /// Reads a request.
    pub(super) fn of<R: RequestView + ?Sized>(sticky: &'a Sticky, request: &R) -> Self {
        match &sticky.cookie {
            Some(cookie) => {
                let found = cookie::read(request, &cookie.name, number);
                found.map_or(Said::Cookie(cookie), Said::Value)
            }
            None => {
                let (name, mut found) = (&sticky.header, None);
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
pub(super) fn number(value: &[u8]) -> u64 {
    let fnv = value.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Mix64::new(fnv).next_u64()
}

/// Returns the place below `total` that a number has.
pub(super) fn place(number: u64, total: u32) -> u32 {
    ((u128::from(number) * u128::from(total)) >> 64) as u32
}

/// Makes the cookie that a caller without one is given.
pub(super) fn given(cookie: &StickyCookie, value: u64) -> GivenCookie<'_> {
    let path = if cookie.path.is_empty() { "/" } else { &cookie.path };
    GivenCookie { name: &cookie.name, path, ttl: cookie.ttl.0, value }
}
