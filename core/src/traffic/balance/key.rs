//! What of a request is hashed, so that requests that have it in common go to one endpoint.

use std::net::IpAddr;
use std::time::Duration;

use super::{Balance, Rule, hash};
use crate::config_entry::{CookieConfig, HashField, HashPolicy};
use crate::traffic::cookie::{self, GivenCookie};
use crate::traffic::{Mix64, RequestView};

/// One part of a request that is hashed.
#[derive(Debug)]
pub(super) struct KeyPolicy {
    part: Part,
    is_terminal: bool,
}

#[derive(Debug)]
enum Part {
    /// The name, and what a proxy makes for who has none.
    Cookie(Box<str>, Option<CookieConfig>),
    /// In lower case.
    Header(Box<str>),
    QueryParameter(Box<str>),
    SourceIp,
}

impl KeyPolicy {
    pub(super) fn new(policy: &HashPolicy) -> Self {
        let name = || policy.field_value.as_str().into();
        let part = match policy.field {
            HashField::Cookie => {
                // As in Consul, it is made where it is said for how long it holds.
                let makes = |config: &&CookieConfig| config.session || !config.ttl.0.is_zero();
                Part::Cookie(name(), policy.cookie_config.as_ref().filter(makes).cloned())
            }
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
            (Part::Cookie(..) | Part::Header(_) | Part::QueryParameter(_), None) => {}
            (Part::Cookie(name, _), Some(request)) => {
                found = cookie::read(request, name, |value| hash::of(value, 0));
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

    /// Makes the cookie that a caller is given who has none, if one is.
    fn given(&self, random: &mut Mix64) -> Option<GivenCookie<'_>> {
        let Part::Cookie(name, Some(config)) = &self.part else { return None };
        let ttl = if config.session { Duration::ZERO } else { config.ttl.0 };
        Some(GivenCookie { name, path: &config.path, ttl, value: random.next_u64() })
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
    /// Returns the hash of what a connection or session has of what is hashed: where it comes from.
    pub fn connection_key(&self, from: Option<IpAddr>) -> Option<u64> {
        // Cookies alone are made at random, and there is nobody to give them to.
        self.key::<dyn RequestView>(None, from, &mut Mix64::new(0)).0
    }

    /// Returns the hash of what a request has of what is hashed, `None` when it has nothing, or
    /// nothing is; and the cookies that its caller is given, which are hashed already.
    ///
    /// **Source**: Envoy: `RouteAction.hash_policy`.
    pub fn key<R: RequestView + ?Sized>(
        &self,
        request: Option<&R>,
        from: Option<IpAddr>,
        random: &mut Mix64,
    ) -> (Option<u64>, Vec<GivenCookie<'_>>) {
        match self.rule {
            Rule::Maglev(_) | Rule::Ring(_) => {}
            Rule::AtRandom | Rule::InTurn | Rule::LeastRequests(_) | Rule::ShortestWait => {
                return (None, Vec::new());
            }
        }
        let (mut key, mut all_given): (Option<u64>, _) = (None, Vec::new());
        for policy in &self.keys {
            let found = policy.hash(request, from).or_else(|| {
                let given = request.and_then(|_| policy.given(random))?;
                all_given.push(given);
                Some(hash::of(given.text().as_bytes(), 0))
            });
            if let Some(more) = found {
                key = Some(key.map_or(more, |key| key.rotate_left(1) ^ more));
            }
            if policy.is_terminal && key.is_some() {
                break;
            }
        }
        (key, all_given)
    }
}
