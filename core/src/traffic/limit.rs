//! How many requests a service's own proxy lets through: which buckets a request takes a token of,
//! and what is said when one is empty. Counting and answering are the proxy's.

mod buckets;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::condition::Conditions;
use super::{Mix64, RequestView};
use crate::config_entry::{
    HttpMatch, InstanceRateLimits, RateLimitBucket, RateLimitKey, RateLimits,
};
use crate::identity::SpiffeId;

use buckets::Buckets;
pub use buckets::Rate;

/// The status for those who ask too often.
///
/// **Source**: Spec: RFC 6585 §4.
const TOO_MANY_REQUESTS: u16 = 429;

/// The rate limits of one service, as its proxy keeps them. Shared by threads without a lock.
#[derive(Debug)]
pub struct Limiter {
    /// Those of which the first that a request meets counts.
    instance: Vec<Rule>,
    /// Those of which every one that a request meets counts.
    all: Vec<Rule>,
}

/// Buckets and what takes tokens of them.
#[derive(Debug)]
struct Rule {
    name: Box<str>,
    /// `None` for all requests.
    conditions: Option<Conditions>,
    matches: HttpMatch,
    by: By,
    status: u16,
    /// Percent.
    enforced: u32,
    buckets: Arc<Buckets>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Header(Box<str>),
    Identity,
    Instance,
    SourceAddress,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Whose certificate was shown.
    pub identity: &'a SpiffeId,
    /// Where the calling proxy is, where that can be told.
    pub address: Option<IpAddr>,
}

/// What became of a request, or of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission<'a> {
    /// No bucket is there for it.
    Unmetered,
    /// There was a token in each bucket.
    Within,
    /// There was none in this one, which is tried out alone: it goes on.
    Shadowed(Exceeded<'a>),
    /// There was none in this one.
    Refused(Exceeded<'a>),
}

/// The bucket that has no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// What it lets through.
    pub rate: Rate,
    /// How long until it has tokens again.
    pub wait: Duration,
}

impl Limiter {
    /// Makes the limits; buckets that stay as they are go on with the tokens that they have. `None`
    /// where an expression, which was checked when the entry was written, cannot be compiled.
    ///
    /// The seed is secret, so that nobody can choose whose tokens are forgotten.
    pub fn new(
        limits: &RateLimits,
        before: Option<&Self>,
        (seed, now): (u64, Instant),
    ) -> Option<Self> {
        let kept = |rule: Rule| match before.and_then(|before| before.find(&rule)) {
            Some(buckets) => Rule { buckets, ..rule },
            None => rule,
        };
        let at = (seed, now);
        let instance = instance_rules(&limits.instance_level, at)?.into_iter().map(kept).collect();
        let all = limits.buckets.iter().map(|bucket| bucket_rule(bucket, at));
        Some(Self {
            instance,
            all: all.collect::<Option<Vec<_>>>()?.into_iter().map(kept).collect(),
        })
    }

    /// Returns the tokens of a rule that was the same.
    fn find(&self, rule: &Rule) -> Option<Arc<Buckets>> {
        let is_same = |other: &&Rule| {
            other.name == rule.name
                && other.matches == rule.matches
                && other.by == rule.by
                && other.buckets.rate() == rule.buckets.rate()
        };
        self.instance.iter().chain(&self.all).find(is_same).map(|rule| rule.buckets.clone())
    }

    /// Takes tokens for a request, read with the path that is given.
    pub fn admit<R: RequestView + ?Sized>(
        &self,
        asker: Asker<'_>,
        (request, path): (&R, &[u8]),
        (now, dice): (Instant, &mut Mix64),
    ) -> Admission<'_> {
        let read = Read { request, path };
        let is_met = |rule: &&Rule| {
            rule.is_of(asker)
                && rule.conditions.as_ref().is_none_or(|it| it.matched_path_bytes(&read).is_some())
        };
        let first = self.instance.iter().find(is_met);
        let met = first.into_iter().chain(self.all.iter().filter(is_met));
        take(met, now, dice, |rule, seed| match &rule.by {
            By::Header(name) => keyed(seed, |hasher| {
                request.each_header(name, &mut |value| value.hash(hasher));
            }),
            By::Identity | By::Instance | By::SourceAddress => rule.by.of(asker, seed),
        })
    }

    /// Takes tokens for a connection that carries bytes.
    pub fn admit_connection(
        &self,
        asker: Asker<'_>,
        (now, dice): (Instant, &mut Mix64),
    ) -> Admission<'_> {
        take(self.all.iter(), now, dice, |rule, seed| rule.by.of(asker, seed))
    }
}

/// Takes a token of each; when one has none, the others get theirs back.
fn take<'a>(
    rules: impl Iterator<Item = &'a Rule> + Clone,
    now: Instant,
    dice: &mut Mix64,
    key: impl Fn(&Rule, u64) -> u64,
) -> Admission<'a> {
    let mut admission = Admission::Unmetered;
    // One bit for each rule of which nothing was taken; there are few.
    let mut untaken = 0_u64;
    for (count, rule) in rules.clone().enumerate() {
        let Err(wait) = rule.buckets.take(key(rule, rule.buckets.seed()), now) else {
            if admission == Admission::Unmetered {
                admission = Admission::Within;
            }
            continue;
        };
        let (name, status, rate) = (&*rule.name, rule.status, rule.buckets.rate());
        let exceeded = Exceeded { name, status, rate, wait };
        if dice.below(100) >= rule.enforced {
            admission = Admission::Shadowed(exceeded);
            untaken |= 1 << count;
            continue;
        }
        let taken = rules.take(count).enumerate().filter(|(at, _)| untaken >> at & 1 == 0);
        taken.for_each(|(_, rule)| rule.buckets.give_back(key(rule, rule.buckets.seed())));
        return Admission::Refused(exceeded);
    }
    admission
}

impl By {
    fn of(&self, asker: Asker<'_>, seed: u64) -> u64 {
        match self {
            Self::Header(_) | Self::Instance => 0,
            Self::Identity => keyed(seed, |hasher| asker.identity.hash(hasher)),
            Self::SourceAddress => keyed(seed, |hasher| asker.address.hash(hasher)),
        }
    }
}

fn keyed(seed: u64, write: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    write(&mut hasher);
    hasher.finish()
}

fn instance_rules(limits: &InstanceRateLimits, at: (u64, Instant)) -> Option<Vec<Rule>> {
    let rule = |name: String, matches: HttpMatch, (per_second, burst): (u32, u32)| {
        let max = if burst == 0 { per_second } else { burst };
        let rate = Rate { max, per_fill: per_second, interval: Duration::from_secs(1) };
        let how = (By::Instance, TOO_MANY_REQUESTS, 100);
        Rule::new((name.into(), matches), how, Buckets::one(rate, at))
    };
    let mut rules = Vec::with_capacity(limits.routes.len() + 1);
    for (at, route) in limits.routes.iter().enumerate() {
        let rate = (route.requests_per_second, route.requests_max_burst);
        rules.push(rule(format!("instance-route-{}", at + 1), route.matches(), rate)?);
    }
    if limits.requests_per_second > 0 {
        let rate = (limits.requests_per_second, limits.requests_max_burst);
        rules.push(rule("instance".to_owned(), HttpMatch::default(), rate)?);
    }
    Some(rules)
}

fn bucket_rule(bucket: &RateLimitBucket, at: (u64, Instant)) -> Option<Rule> {
    let RateLimitBucket { name, max_tokens: max, tokens_per_fill, matches, .. } = bucket;
    let per_fill = if *tokens_per_fill == 0 { *max } else { *tokens_per_fill };
    let rate = Rate { max: *max, per_fill, interval: bucket.fill_interval.0 };
    let (by, buckets) = match bucket.by {
        RateLimitKey::Header => {
            (By::Header(bucket.header.as_str().into()), Buckets::many(rate, at))
        }
        RateLimitKey::Identity => (By::Identity, Buckets::many(rate, at)),
        RateLimitKey::Instance => (By::Instance, Buckets::one(rate, at)),
        RateLimitKey::SourceAddress => (By::SourceAddress, Buckets::many(rate, at)),
    };
    let status = if bucket.status == 0 { TOO_MANY_REQUESTS } else { bucket.status };
    let enforced = bucket.enforce_percent.unwrap_or(100);
    Rule::new((name.as_str().into(), matches.clone()), (by, status, enforced), buckets)
}

impl Rule {
    fn new(
        (name, matches): (Box<str>, HttpMatch),
        (by, status, enforced): (By, u16, u32),
        buckets: Buckets,
    ) -> Option<Self> {
        let conditions = match matches == HttpMatch::default() {
            true => None,
            false => Some(Conditions::compile(&matches).ok()?),
        };
        Some(Self { name, conditions, matches, by, status, enforced, buckets: Arc::new(buckets) })
    }
}

impl Rule {
    /// Whether it is there for requests of this caller.
    fn is_of(&self, asker: Asker<'_>) -> bool {
        let sources = &self.matches.sources;
        let caller = asker.identity.service_name();
        sources.is_empty() || caller.is_some_and(|caller| sources.contains(caller))
    }
}

/// A request with the path by which it is judged.
struct Read<'a, R: ?Sized> {
    request: &'a R,
    path: &'a [u8],
}

impl<R: RequestView + ?Sized> RequestView for Read<'_, R> {
    fn method(&self) -> &str {
        self.request.method()
    }

    fn path(&self) -> &[u8] {
        self.path
    }

    fn protocol(&self) -> &'static str {
        self.request.protocol()
    }

    fn query(&self) -> Option<&[u8]> {
        self.request.query()
    }

    fn has_disguised(&self, name: &str) -> bool {
        self.request.has_disguised(name)
    }

    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.request.each_header(name, visit);
    }
}

impl Exceeded<'_> {
    /// Returns after how many seconds asking again makes sense, at least 1.
    ///
    /// **Source**: Spec: RFC 9110 §10.2.3.
    pub fn retry_after(&self) -> u64 {
        let whole = self.wait.as_secs();
        whole.saturating_add(u64::from(self.wait.subsec_nanos() > 0)).max(1)
    }

    /// Returns the quota, as a field of the answer has it.
    ///
    /// **Source**: Spec: draft-ietf-httpapi-ratelimit-headers-10 §3.
    pub fn policy(&self) -> String {
        let Rate { per_fill, interval, .. } = self.rate;
        match interval.subsec_nanos() {
            0 => format!("\"{}\";q={per_fill};w={}", self.name, interval.as_secs()),
            // The window is in whole seconds there, and may be left out.
            _ => format!("\"{}\";q={per_fill}", self.name),
        }
    }

    /// Returns what is left of the quota, as a field of the answer has it.
    ///
    /// **Source**: Spec: draft-ietf-httpapi-ratelimit-headers-10 §4.
    pub fn standing(&self) -> String {
        format!("\"{}\";r=0;t={}", self.name, self.retry_after())
    }
}

#[cfg(test)]
mod tests;
