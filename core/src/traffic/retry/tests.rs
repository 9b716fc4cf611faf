//! Rules by data, and three hops that all try again while everything fails.

use super::*;
use crate::config_entry::RetryPolicy;

fn rules(retries: u32, words: &[&str], statuses: &[u16]) -> Option<RetryRules> {
    of(RetryPolicy {
        num_retries: retries,
        retry_on: words.iter().map(|word| (*word).to_owned()).collect(),
        retry_on_status_codes: statuses.to_vec(),
        retry_on_connect_failure: false,
    })
}

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn instant() -> Instant {
    Instant::now()
}

fn of(retries: RetryPolicy) -> Option<RetryRules> {
    RetryRules::of(&RouteAction { retries, ..RouteAction::default() })
}

fn status(status: u16) -> AttemptEnd {
    AttemptEnd::Answered(Answered { status, ..Answered::default() })
}

fn grpc(code: u8) -> AttemptEnd {
    AttemptEnd::Answered(Answered { status: 200, grpc_status: Some(code), ..Answered::default() })
}

const BEGUN: AttemptEnd = AttemptEnd::Reset { has_begun: true };
const UNBEGUN: AttemptEnd = AttemptEnd::Reset { has_begun: false };

#[test]
fn each_word_means_what_it_means_in_envoy() {
    use AttemptEnd::{ConnectFailed, Late, Refused};
    let no_answer = [ConnectFailed, Late, Refused, BEGUN, UNBEGUN];
    let with = |ends: &[AttemptEnd]| [&no_answer[..], ends].concat();
    let all = {
        let answers = [200, 409, 429, 500, 501, 502, 503, 504, 505].map(status);
        let calls = [0, 1, 2, 4, 8, 13, 14].map(grpc);
        [&no_answer[..], &answers, &calls].concat()
    };
    for (word, taken) in [
        ("5xx", with(&[500, 501, 502, 503, 504, 505].map(status))),
        ("gateway-error", with(&[502, 503, 504].map(status))),
        ("reset", no_answer.to_vec()),
        ("reset-before-request", vec![ConnectFailed, UNBEGUN]),
        ("connect-failure", vec![ConnectFailed]),
        ("envoy-ratelimited", vec![]),
        ("retriable-4xx", vec![status(409)]),
        ("refused-stream", vec![Refused]),
        ("cancelled", vec![grpc(1)]),
        ("deadline-exceeded", vec![grpc(4)]),
        ("internal", vec![grpc(13)]),
        ("resource-exhausted", vec![grpc(8)]),
        ("unavailable", vec![grpc(14)]),
    ] {
        let rules = rules(1, &[word], &[]).expect("rules");
        let found: Vec<AttemptEnd> = all.iter().filter(|end| rules.takes(end)).copied().collect();
        assert_eq!(found.len(), taken.len(), "{word}: {found:?}");
        assert!(taken.iter().all(|end| rules.takes(end)), "{word}: {found:?}");
    }
    let by_status = rules(0, &[], &[429]).expect("rules");
    assert!(by_status.takes(&status(429)) && !by_status.takes(&status(503)));
}

#[test]
fn what_is_said_beside_the_status_counts() {
    let unreached = Answered { status: 503, is_unreached: true, ..Answered::default() };
    let connect = rules(1, &["connect-failure"], &[]).expect("rules");
    assert!(connect.takes(&AttemptEnd::Answered(unreached)) && !connect.takes(&status(503)));
    let limited = Answered { status: 503, is_rate_limited: true, ..Answered::default() };
    let any = rules(1, &["5xx"], &[503]).expect("rules");
    assert!(!any.takes(&AttemptEnd::Answered(limited)));
    let limits = rules(1, &["envoy-ratelimited"], &[]).expect("rules");
    assert!(limits.takes(&AttemptEnd::Answered(limited)));
    let overload = Answered { status: 503, is_overload: true, ..unreached };
    assert!(!any.takes(&AttemptEnd::Answered(overload)));
    assert!(!connect.takes(&AttemptEnd::Answered(overload)));
}

#[test]
fn a_number_alone_tries_nothing_again_and_a_condition_alone_once() {
    assert_eq!(rules(3, &[], &[]), None);
    let once = rules(0, &["5xx"], &[]).expect("rules");
    assert_eq!(once.further_max, 1);
    let policy = RetryPolicy { retry_on_connect_failure: true, ..RetryPolicy::default() };
    assert!(of(policy).expect("rules").takes(&AttemptEnd::ConnectFailed));
    let per_try_timeout = Some(Duration::from_secs(1));
    let timed = RetryRules::of(&RouteAction { per_try_timeout, ..RouteAction::default() });
    let timed = timed.expect("a time for each attempt, though there is one alone");
    assert!(!timed.tries_again() && !timed.takes(&AttemptEnd::Late));
}

/// Begins a request at a target that can bear much.
struct Request {
    rules: RetryRules,
    retrying: Retrying,
    budget: RetryBudget,
    random: Mix64,
    now: Instant,
}

impl Request {
    fn new(retries: u32) -> Self {
        let now = instant();
        Self {
            rules: rules(retries, &["5xx"], &[]).expect("rules"),
            retrying: Retrying::default(),
            budget: RetryBudget::new(1, now, Traffic::default()),
            random: Mix64::new(5),
            now,
        }
    }

    fn ends(&mut self, end: &AttemptEnd, body: BodyKept, by: Option<Duration>) -> Verdict {
        let times = (self.now, by.map(|by| self.now + by));
        let paying = (&mut self.budget, Traffic::default());
        self.retrying.handle_end((&self.rules, end, body), paying, &mut self.random, times)
    }
}

#[test]
fn attempts_end_with_their_number_the_body_the_time_and_the_budget() {
    let mut request = Request::new(2);
    assert_eq!(request.ends(&status(200), BodyKept::Yes, None), Verdict::Final(Finality::Meant));
    assert_eq!(request.ends(&status(503), BodyKept::No, None), Verdict::Final(Finality::Body));
    for _ in 0..2 {
        assert!(matches!(request.ends(&status(503), BodyKept::Yes, None), Verdict::Again(_)));
    }
    assert_eq!(request.ends(&status(503), BodyKept::Yes, None), Verdict::Final(Finality::Limit));
    assert_eq!(request.retrying.further(), 2);

    let mut request = Request::new(100);
    let no_time = Some(Duration::ZERO);
    assert_eq!(request.ends(&status(503), BodyKept::Yes, no_time), Verdict::Final(Finality::Time));
    let taken = (0..100)
        .take_while(|_| {
            matches!(request.ends(&status(503), BodyKept::Yes, None), Verdict::Again(_))
        })
        .count();
    assert_eq!(taken, 30);
    assert_eq!(request.ends(&status(503), BodyKept::Yes, None), Verdict::Final(Finality::Budget));
}

#[test]
fn a_pause_is_drawn_below_a_bound_that_doubles_and_after_what_was_asked_for() {
    let mut longest = [Duration::ZERO; 6];
    let mut random = Mix64::new(9);
    for (further, longest) in longest.iter_mut().enumerate() {
        let retrying = Retrying { further: u32::try_from(further).expect("small") };
        for _ in 0..2_000 {
            *longest = (*longest).max(retrying.pause(&mut random));
        }
    }
    for (longest, bound) in longest.iter().zip([25, 50, 100, 200, 250, 250]) {
        let bound = Duration::from_millis(bound);
        assert!(*longest < bound && *longest > bound * 9 / 10, "{longest:?} of {bound:?}");
    }
    let later = AttemptEnd::Answered(Answered {
        status: 503,
        retry_after: Some(Duration::from_secs(2)),
        ..Answered::default()
    });
    let mut request = Request::new(3);
    let second = Duration::from_secs(1);
    let verdict = request.ends(&later, BodyKept::Yes, Some(second));
    assert_eq!(verdict, Verdict::Final(Finality::Time));
    match request.ends(&later, BodyKept::Yes, Some(second * 3)) {
        Verdict::Again(pause) => assert!((second * 2..second * 3).contains(&pause), "{pause:?}"),
        other => panic!("{other:?}"),
    }
}

/// One hop of a chain of services: the proxy of a caller with its budget at the next service.
struct Hop {
    budget: RetryBudget,
    traffic: Traffic,
    /// Requests to the next service, further attempts included.
    sent: u64,
}

/// Sends a request down a chain whose last service fails; every hop tries again as it may.
fn send(hops: &mut [Hop], fails: bool, (now, random): (Instant, &mut Mix64)) -> bool {
    let Some((hop, deeper)) = hops.split_first_mut() else { return !fails };
    let rules = rules(3, &["5xx"], &[]).expect("rules");
    let mut retrying = Retrying::default();
    let is_good = loop {
        hop.sent += 1;
        if send(deeper, fails, (now, random)) {
            break true;
        }
        let paying = (&mut hop.budget, hop.traffic);
        let end = (&rules, &status(503), BodyKept::Yes);
        match retrying.handle_end(end, paying, random, (now, None)) {
            Verdict::Again(_) => {}
            Verdict::Final(_) => break false,
        }
    };
    hop.traffic.ended += 1;
    hop.traffic.good += u64::from(is_good);
    is_good
}

#[test]
fn three_hops_that_all_try_again_do_not_multiply_what_fails() {
    let (mut now, mut random) = (instant(), Mix64::new(3));
    let hop = |_| Hop {
        budget: RetryBudget::new(2, now, Traffic::default()),
        traffic: Traffic::default(),
        sent: 0,
    };
    let mut hops: Vec<Hop> = (0..3).map(hop).collect();
    let mut run = |hops: &mut Vec<Hop>, seconds: u32, failing: u64| -> f64 {
        let before = hops[2].sent;
        for number in 0..u64::from(seconds) * 1_000 {
            now += Duration::from_millis(1);
            send(hops, number % 100 < failing, (now, &mut random));
        }
        (hops[2].sent - before) as f64 / f64::from(seconds * 1_000)
    };
    run(&mut hops, 60, 0);
    // Without a budget it would be 64 times as much.
    let first = run(&mut hops, 10, 100);
    let later = run(&mut hops, 110, 100);
    println!("amplification over three hops: {first:.3} in the first 10 s, {later:.3} later");
    assert!(later < 1.1, "{later}");
    assert!((first * 10.0 + later * 110.0) / 120.0 < 1.1, "{first} {later}");
    run(&mut hops, 60, 0);
    // What fails rarely is tried again as often as the route says.
    let rarely = run(&mut hops, 60, 1);
    assert!(rarely < 1.64, "{rarely}");
}
