//! Tokens on a clock of the test's own.

use std::net::Ipv4Addr;

use super::super::request::tests::Request;
use super::*;
use crate::config_entry::RouteRateLimit;
use crate::limits;
use crate::time::Span;

const MS: Duration = Duration::from_millis(1);

#[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
fn beginning() -> Instant {
    Instant::now()
}

/// A proxy's limits, asked by one service after another.
struct Asked {
    limiter: Limiter,
    began: Instant,
    dice: Mix64,
}

impl Asked {
    fn new(limits: &RateLimits) -> Self {
        let began = beginning();
        let limiter = Limiter::new(limits, None, (7, began)).expect("expressions that compile");
        Self { limiter, began, dice: Mix64::new(1) }
    }

    fn ask(&mut self, at: Duration, service: &str, request: &str) -> Admission<'_> {
        let identity = identity(service);
        let address = Some(Ipv4Addr::LOCALHOST.into());
        let asker = Asker { identity: &identity, address };
        let request = Request::parse(request);
        self.limiter.admit(asker, (&request, request.path()), (self.began + at, &mut self.dice))
    }

    /// Counts how many of so many requests at one time get through.
    fn passed(&mut self, at: Duration, count: u32) -> u32 {
        (0..count).map(|_| u32::from(is_within(self.ask(at, "shop", "GET /")))).sum()
    }
}

fn identity(service: &str) -> SpiffeId {
    let text = format!("spiffe://mesh.weft/ns/default/dc/dc1/svc/{service}");
    text.parse().expect("an identity")
}

fn bucket(name: &str, (max, per_fill): (u32, u32), seconds: u64) -> RateLimitBucket {
    RateLimitBucket {
        name: name.to_owned(),
        max_tokens: max,
        tokens_per_fill: per_fill,
        fill_interval: Span::seconds(seconds),
        ..RateLimitBucket::default()
    }
}

fn limits(buckets: &[RateLimitBucket]) -> RateLimits {
    RateLimits { buckets: buckets.to_vec(), ..RateLimits::default() }
}

fn is_within(admission: Admission<'_>) -> bool {
    admission == Admission::Within
}

#[test]
fn ten_requests_in_sixty_seconds_are_exactly_ten() {
    let mut asked = Asked::new(&limits(&[bucket("ten", (10, 0), 60)]));
    let first = Duration::from_secs(1000) + 123 * MS;
    assert_eq!(asked.passed(first, 25), 10);
    for at in 0..60 {
        assert_eq!(asked.passed(first + Duration::from_secs(at), 5), 0, "after {at} s");
    }
    // A fill is late by at most one part of 128.
    assert_eq!(asked.passed(first + 60_500 * MS, 25), 10);
    assert_eq!(asked.passed(first + 90_000 * MS, 5), 0);
    // What is saved up is no more than the bucket holds.
    assert_eq!(asked.passed(first + Duration::from_secs(100_000), 25), 10);
}

#[test]
fn who_waits_as_long_as_is_said_gets_a_token() {
    for (max, per_fill, seconds) in [(1, 1, 1), (10, 0, 60), (3, 1, 7), (1000, 10, 1)] {
        let mut asked = Asked::new(&limits(&[bucket("a", (max, per_fill), seconds)]));
        let mut at = 5_777 * MS;
        for round in 0..20 {
            while asked.passed(at, 1) == 1 {}
            let Admission::Refused(exceeded) = asked.ask(at, "shop", "GET /") else {
                panic!("the bucket is empty")
            };
            let (wait, seconds) = (exceeded.wait, exceeded.retry_after());
            assert!(wait > Duration::ZERO && Duration::from_secs(seconds) >= wait, "{wait:?}");
            assert_eq!(asked.passed(at + wait - MS / 1000, 1), 0, "{round}: {wait:?}");
            at += wait;
            assert_eq!(asked.passed(at, 1), 1, "{round}: {wait:?}");
        }
    }
}

#[test]
fn no_time_has_more_than_the_bound() {
    let (max, per_fill, interval) = (7, 3, Duration::from_secs(2));
    let mut asked = Asked::new(&limits(&[bucket("a", (max, per_fill), 2)]));
    let mut dice = Mix64::new(3);
    let (mut at, mut passed) = (Duration::ZERO, Vec::new());
    for _ in 0..3_000 {
        at += MS * dice.below(400);
        (0..asked.passed(at, dice.below(4))).for_each(|_| passed.push(at));
    }
    for (first, from) in passed.iter().enumerate() {
        for (count, to) in passed[first..].iter().enumerate() {
            let fills = u32::try_from((*to - *from).as_nanos() / interval.as_nanos());
            let most = max + per_fill * (fills.expect("few") + 1);
            assert!(count < most as usize, "{} from {from:?} to {to:?}", count + 1);
        }
    }
}

#[test]
fn routes_take_the_place_of_the_instances_own_limit() {
    let limits = RateLimits {
        instance_level: InstanceRateLimits {
            requests_per_second: 2,
            requests_max_burst: 4,
            routes: vec![RouteRateLimit {
                path_prefix: Some("/slow".to_owned()),
                requests_per_second: 1,
                ..RouteRateLimit::default()
            }],
        },
        ..RateLimits::default()
    };
    let mut asked = Asked::new(&limits);
    let at = Duration::from_secs(3);
    assert_eq!(asked.ask(at, "shop", "GET /slow/a"), Admission::Within);
    let Admission::Refused(exceeded) = asked.ask(at, "shop", "GET /slow/b") else {
        panic!("one a second")
    };
    assert_eq!((exceeded.name, exceeded.status), ("instance-route-1", 429));
    assert_eq!(exceeded.policy(), "\"instance-route-1\";q=1;w=1");
    assert_eq!(asked.passed(at, 10), 4);
    assert_eq!(asked.passed(at + 1_010 * MS, 10), 2);
}

#[test]
fn callers_addresses_and_values_have_tokens_of_their_own() {
    let by = |by, header: &str| RateLimitBucket {
        by,
        header: header.to_owned(),
        ..bucket("a", (1, 1), 9)
    };
    let (a, b) = ("GET / | x-tenant: a", "GET / | x-tenant: b");
    let at = Duration::ZERO;
    for (rule, by_service, by_value) in [
        (by(RateLimitKey::Identity, ""), true, false),
        (by(RateLimitKey::Header, "x-tenant"), false, true),
        (by(RateLimitKey::SourceAddress, ""), false, false),
        (by(RateLimitKey::Instance, ""), false, false),
    ] {
        let mut asked = Asked::new(&limits(std::slice::from_ref(&rule)));
        assert!(is_within(asked.ask(at, "shop", a)), "{rule:?}");
        assert!(!is_within(asked.ask(at, "shop", a)), "{rule:?}");
        assert_eq!(is_within(asked.ask(at, "cart", a)), by_service, "{rule:?}");
        assert_eq!(is_within(asked.ask(at, "shop", b)), by_value, "{rule:?}");
    }
}

#[test]
fn a_request_that_is_refused_takes_no_token_of_other_buckets() {
    let tried = RateLimitBucket { enforce_percent: Some(0), ..bucket("tried", (1, 1), 60) };
    let few = RateLimitBucket {
        matches: HttpMatch { path_exact: Some("/few".to_owned()), ..HttpMatch::default() },
        status: 503,
        ..bucket("few", (1, 1), 60)
    };
    let mut asked = Asked::new(&limits(&[bucket("all", (4, 4), 60), tried, few]));
    let at = Duration::ZERO;
    assert_eq!(asked.ask(at, "shop", "GET /few"), Admission::Within);
    for _ in 0..10 {
        let refused = asked.ask(at, "shop", "GET /few");
        assert!(matches!(refused, Admission::Refused(Exceeded { name: "few", status: 503, .. })));
    }
    for _ in 0..3 {
        let shadowed = asked.ask(at, "shop", "GET /");
        assert!(matches!(shadowed, Admission::Shadowed(Exceeded { name: "tried", .. })));
    }
    let refused = asked.ask(at, "shop", "GET /");
    assert!(matches!(refused, Admission::Refused(Exceeded { name: "all", status: 429, .. })));
}

#[test]
fn some_callers_alone_may_be_meant() {
    let sources = vec!["batch".parse().expect("a name")];
    let matches = HttpMatch { sources, ..HttpMatch::default() };
    let mut asked = Asked::new(&limits(&[RateLimitBucket { matches, ..bucket("a", (1, 1), 60) }]));
    let get = "GET /";
    assert_eq!(asked.ask(MS, "shop", get), Admission::Unmetered);
    assert!(is_within(asked.ask(MS, "batch", get)));
    assert!(matches!(asked.ask(MS, "batch", get), Admission::Refused(_)));
    assert_eq!(asked.ask(MS, "shop", get), Admission::Unmetered);
}

#[test]
fn buckets_that_stay_as_they_are_keep_their_tokens() {
    let (a, b) = (bucket("a", (3, 3), 60), bucket("b", (9, 9), 60));
    let mut asked = Asked::new(&limits(std::slice::from_ref(&a)));
    assert_eq!(asked.passed(MS, 2), 2);
    let again = |asked: &Asked, buckets: &[RateLimitBucket]| {
        let at = (8, asked.began);
        Limiter::new(&limits(buckets), Some(&asked.limiter), at).expect("limits")
    };
    asked.limiter = again(&asked, &[b, a.clone()]);
    assert_eq!(asked.passed(2 * MS, 5), 1);
    asked.limiter = again(&asked, &[RateLimitBucket { max_tokens: 4, ..a }]);
    assert_eq!(asked.passed(3 * MS, 5), 4);
}

#[test]
fn of_more_callers_than_there_is_room_for_the_one_that_asked_longest_ago_is_forgotten() {
    let rule = RateLimitBucket { by: RateLimitKey::Identity, ..bucket("a", (1, 1), 3_600) };
    let mut asked = Asked::new(&limits(&[rule]));
    let count = limits::RATE_KEYS_MAX * 8;
    let names: Vec<String> = (0..count).map(|number| format!("s{number}")).collect();
    let get = "GET /";
    let mut refused = 0;
    for (at, name) in (0_u32..).zip(&names) {
        let admission = asked.ask(MS * 100 * at, name, get);
        refused += usize::from(admission != Admission::Within);
    }
    // Two names of one set may look alike.
    assert!(refused < count / 1_000, "{refused} of {count} found somebody else's bucket");
    let now = MS * 100 * u32::try_from(count).expect("few");
    let last = &names[count - 100..];
    let known = last.iter().filter(|name| asked.ask(now, name, get) != Admission::Within).count();
    assert!(known > 90, "{known} of the last 100 are known");
    assert_eq!(asked.ask(now, &names[0], get), Admission::Within, "the first is forgotten");
}
