//! Where in a request a provider's token is, and the request's parts without it.

use super::token::TokenFault;
use crate::config_entry::{JwtLocation, JwtProvider};
use crate::limits;
use crate::traffic::RequestView;

/// A token found in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried<'a> {
    /// The token as it stands there.
    pub token: String,
    /// Where it stands.
    pub place: Place<'a>,
}

/// A place for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// The cookie of this name.
    Cookie(&'a str),
    /// A header.
    Header {
        /// Its name as written.
        name: &'a str,
        /// What stands before the token; empty for nothing.
        prefix: &'a str,
        /// Whether the service sees it.
        forward: bool,
    },
    /// The query parameter of this name.
    Query(&'a str),
}

/// The places of a provider that names none.
///
/// **Source**: Consul: docs/connect/config-entries/jwt-provider#locations; RFC 6750 §2.
const DEFAULTS: [Place<'static>; 2] = [
    Place::Header { name: "Authorization", prefix: "Bearer ", forward: false },
    Place::Query("access_token"),
];

/// Finds the token that a request carries for a provider, `None` when it carries none.
///
/// # Errors
/// [`TokenFault`] when there are several, or what is there is no token.
pub fn carried<'a>(
    provider: &'a JwtProvider,
    request: &dyn RequestView,
) -> Result<Option<Carried<'a>>, TokenFault> {
    let mut found: Option<Carried<'a>> = None;
    for place in places(provider) {
        for text in place.texts(request)? {
            if found.is_some() {
                return Err(TokenFault::Several);
            }
            if text.len() > limits::JWT_BYTES_MAX {
                return Err(TokenFault::TooLong);
            }
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
            let is_whole = text.iter().filter(|byte| **byte == b'.').count() == 2;
            let text = String::from_utf8(text).ok();
            let token = text.filter(|text| is_whole && text.as_bytes().iter().all(is_part));
            found = Some(Carried { token: token.ok_or(TokenFault::Malformed)?, place });
        }
    }
    Ok(found)
}

fn places(provider: &JwtProvider) -> Vec<Place<'_>> {
    if provider.locations.is_empty() {
        return DEFAULTS.to_vec();
    }
    provider.locations.iter().filter_map(JwtLocation::place).collect()
}

impl JwtLocation {
    fn place(&self) -> Option<Place<'_>> {
        match (&self.header, &self.query_param, &self.cookie) {
            (Some(header), _, _) => Some(Place::Header {
                name: &header.name,
                prefix: &header.value_prefix,
                forward: header.forward,
            }),
            (_, Some(parameter), _) => Some(Place::Query(&parameter.name)),
            (_, _, Some(cookie)) => Some(Place::Cookie(&cookie.name)),
            (None, None, None) => None,
        }
    }
}

impl Place<'_> {
    /// Returns what stands there, in order.
    fn texts(self, request: &dyn RequestView) -> Result<Vec<Vec<u8>>, TokenFault> {
        let mut texts = Vec::new();
        match self {
            Self::Cookie(name) => {
                if request.has_disguised("cookie") {
                    return Err(TokenFault::Disguised);
                }
                request.each_header("cookie", &mut |value| {
                    let pairs = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
                    let of_name = |pair: &[u8]| cookie_named(pair, name).map(<[u8]>::to_vec);
                    texts.extend(pairs.filter_map(of_name));
                });
            }
            Self::Header { name, prefix, .. } => {
                let name = name.to_ascii_lowercase();
                if request.has_disguised(&name) {
                    return Err(TokenFault::Disguised);
                }
                request.each_header(&name, &mut |value| texts.extend(after(prefix, value)));
            }
            Self::Query(name) => {
                let query = request.query().unwrap_or_default();
                let pairs = query.split(|byte| *byte == b'&');
                texts.extend(pairs.filter(|pair| is_named(pair, name)).map(value_of));
            }
        }
        Ok(texts)
    }
}

/// Returns what follows the prefix, whatever its case: schemes have none (RFC 9110 §11.1).
fn after(prefix: &str, value: &[u8]) -> Option<Vec<u8>> {
    let needs_blank = prefix.ends_with(' ');
    let (value, prefix) = (value.trim_ascii(), prefix.trim_end().as_bytes());
    let start = value.get(..prefix.len())?;
    let rest = &value[prefix.len()..];
    let is_apart = !needs_blank || rest.starts_with(b" ");
    (start.eq_ignore_ascii_case(prefix) && is_apart).then(|| rest.trim_ascii().to_vec())
}

fn cookie_named<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    let value = pair[at + 1..].trim_ascii();
    let value = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value);
    (pair[..at].trim_ascii() == name.as_bytes()).then_some(value)
}

/// Whether a parameter has a name, in any spelling.
fn is_named(pair: &[u8], name: &str) -> bool {
    let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    decoded(&pair[..end]) == name.as_bytes()
}

fn value_of(pair: &[u8]) -> Vec<u8> {
    let at = pair.iter().position(|byte| *byte == b'=').map_or(pair.len(), |at| at + 1);
    decoded(&pair[at..])
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut plain, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(byte) = text.get(at) {
        let escape = match (byte, text.get(at + 1), text.get(at + 2)) {
            (b'%', Some(high), Some(low)) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                plain.push(high << 4 | low);
                at += 3;
            }
            None => {
                plain.push(if *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    plain
}

/// Returns a query without the parameters of a name, `None` when nothing is left.
pub fn without_parameter(query: &[u8], name: &str) -> Option<Vec<u8>> {
    let pairs = query.split(|byte| *byte == b'&').filter(|pair| !is_named(pair, name));
    let left: Vec<&[u8]> = pairs.collect();
    (!left.is_empty()).then(|| left.join(&b'&'))
}

/// Returns the value of a `Cookie` header without the cookies of a name, `None` when nothing is
/// left.
pub fn without_cookie(value: &[u8], name: &str) -> Option<Vec<u8>> {
    let pairs = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let left: Vec<&[u8]> = pairs.filter(|pair| cookie_named(pair, name).is_none()).collect();
    (!left.is_empty()).then(|| left.join(&b"; "[..]))
}
