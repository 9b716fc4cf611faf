//! What of a request is hashed, so that requests that have it in common go to one endpoint.

use std::net::IpAddr;

use super::{Balance, Rule, hash};
use crate::config_entry::{HashField, HashPolicy};
use crate::traffic::RequestView;

/// One part of a request that is hashed.
#[derive(Debug)]
pub(super) struct KeyPolicy {
    part: Part,
    is_terminal: bool,
}

#[derive(Debug)]
enum Part {
    Cookie(Box<str>),
    /// In lower case.
    Header(Box<str>),
    QueryParameter(Box<str>),
    SourceIp,
}

impl KeyPolicy {
    pub(super) fn new(policy: &HashPolicy) -> Self {
        let name = || policy.field_value.as_str().into();
        let part = match policy.field {
            HashField::Cookie => Part::Cookie(name()),
            HashField::Header => Part::Header(policy.field_value.to_ascii_lowercase().into()),
            HashField::QueryParameter => Part::QueryParameter(name()),
            HashField::Unset => Part::SourceIp,
        };
        Self { part, is_terminal: policy.terminal }
    }

    fn hash<R: RequestView + ?Sized>(
        &self,
        request: Option<&R>,
        from: Option<IpAddr>,
    ) -> Option<u64> {
        let mut found = None;
        match (&self.part, request) {
            (Part::SourceIp, _) => match from? {
                IpAddr::V4(ip) => found = Some(hash::of(&ip.octets(), 0)),
                IpAddr::V6(ip) => found = Some(hash::of(&ip.octets(), 0)),
            },
            (Part::Cookie(_) | Part::Header(_) | Part::QueryParameter(_), None) => {}
            (Part::Cookie(name), Some(request)) => {
                request.each_header("cookie", &mut |line| {
                    found = found.or_else(|| pair(line, b';', name));
                });
            }
            (Part::Header(name), Some(request)) => {
                let mut all = hash::Fnv::new(0);
                let mut is_there = false;
                request.each_header(name, &mut |value| {
                    if std::mem::replace(&mut is_there, true) {
                        all.write(b",");
                    }
                    all.write(value);
                });
                found = is_there.then(|| all.finish());
            }
            (Part::QueryParameter(name), Some(request)) => {
                found = pair(request.query()?, b'&', name);
            }
        }
        found
    }
}

/// Returns the hash of the value of the first pair of a name.
fn pair(text: &[u8], between: u8, name: &str) -> Option<u64> {
    text.split(|byte| *byte == between).find_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let value = pair.get(at + 1..).unwrap_or_default();
        (&pair[..at] == name.as_bytes()).then(|| hash::of(value, 0))
    })
}

impl Balance {
    /// Returns the hash of what a request has of what is hashed; `None` when it has nothing, or
    /// nothing is.
    ///
    /// **Source**: Envoy: `RouteAction.hash_policy`.
    pub fn key<R: RequestView + ?Sized>(
        &self,
        request: Option<&R>,
        from: Option<IpAddr>,
    ) -> Option<u64> {
        match self.rule {
            Rule::Maglev(_) | Rule::Ring(_) => {}
            Rule::AtRandom | Rule::InTurn | Rule::LeastRequests(_) | Rule::ShortestWait => {
                return None;
            }
        }
        let mut key: Option<u64> = None;
        for policy in &self.keys {
            if let Some(more) = policy.hash(request, from) {
                key = Some(key.map_or(more, |key| key.rotate_left(1) ^ more));
            }
            if policy.is_terminal && key.is_some() {
                break;
            }
        }
        key
    }
}
