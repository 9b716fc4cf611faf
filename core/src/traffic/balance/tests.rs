//! Shares, affinity, disruption and bounds of each policy, on a seeded generator.

use super::*;
use crate::traffic::RequestView;
use crate::traffic::request::tests::Request as Asked;

/// Endpoints as a test says that they are.
#[derive(Debug, Clone, Default)]
struct Known {
    in_flight: Vec<u32>,
    ms: Vec<f64>,
    gone: Vec<usize>,
}

impl Endpoints for Known {
    fn is_usable(&self, number: usize) -> bool {
        !self.gone.contains(&number)
    }
    fn in_flight(&self, number: usize) -> u32 {
        self.in_flight.get(number).copied().unwrap_or_default()
    }
    fn expected_ns(&self, number: usize) -> f64 {
        self.ms.get(number).copied().unwrap_or(1.0) * 1e6
    }
}

fn endpoints(weights: &[u16]) -> Vec<Endpoint> {
    let endpoint = |(number, weight): (usize, &u16)| Endpoint {
        address: format!("10.0.{}.{}:21000", number / 200, number % 200)
            .parse()
            .expect("an address"),
        weight: *weight,
        tier: 0,
        instance: crate::name::InstanceId::parse("web-1").expect("an id"),
    };
    weights.iter().enumerate().map(endpoint).collect()
}

fn policy(policy: BalancePolicy) -> LoadBalancer {
    LoadBalancer { policy, ..LoadBalancer::default() }
}

const ALL: [BalancePolicy; 6] = [
    BalancePolicy::LeastRequest,
    BalancePolicy::Maglev,
    BalancePolicy::Random,
    BalancePolicy::RingHash,
    BalancePolicy::RoundRobin,
    BalancePolicy::Unset,
];

/// Chooses again and again; keys, where they count, are drawn.
fn hits(settings: &LoadBalancer, weights: &[u16], known: &Known, rounds: u32) -> Vec<u32> {
    let balance = Balance::new(Some(settings), &endpoints(weights));
    let mut random = Mix64::new(11);
    let mut turn = balance.turn(&mut random);
    let mut hits = vec![0; weights.len()];
    for _ in 0..rounds {
        let random = &mut random;
        let moment = Moment { key: None, turn: &mut turn, random };
        if let Some(at) = balance.choose(known, moment) {
            hits[at] += 1;
        }
    }
    hits
}

#[test]
fn idle_endpoints_get_their_share_by_every_policy() {
    for kind in ALL {
        // Tables come close to shares only with many places; the others are exact or drawn.
        let slack = if kind == BalancePolicy::RingHash { 0.35 } else { 0.08 };
        for weights in [&[1, 1, 1, 1, 1][..], &[1, 2, 3, 4], &[10, 1]] {
            let all: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let hits = hits(&policy(kind), weights, &Known::default(), 60_000);
            for (hits, weight) in hits.iter().zip(weights) {
                let wanted = 60_000.0 * f64::from(*weight) / all;
                let off = (f64::from(*hits) - wanted).abs() / wanted;
                assert!(off < slack, "{kind:?} {weights:?}: {hits} for {wanted}");
            }
        }
    }
}

#[test]
fn who_cannot_be_used_is_passed_over_by_every_policy() {
    for kind in ALL {
        let known = Known { gone: vec![0, 2, 3], ..Known::default() };
        assert_eq!(hits(&policy(kind), &[9, 1, 9, 1], &known, 100), [0, 100, 0, 0], "{kind:?}");
        let none = Known { gone: vec![0, 1], ..Known::default() };
        assert_eq!(hits(&policy(kind), &[1, 1], &none, 10), [0, 0], "{kind:?}");
        assert_eq!(hits(&policy(kind), &[1], &Known::default(), 10), [10], "{kind:?}");
        assert!(hits(&policy(kind), &[], &Known::default(), 10).is_empty(), "{kind:?}");
    }
}

#[test]
fn in_turn_means_one_after_the_other() {
    let balance = Balance::new(Some(&policy(BalancePolicy::RoundRobin)), &endpoints(&[1; 5]));
    let mut random = Mix64::new(3);
    let mut turn = balance.turn(&mut random);
    let mut next = || {
        let moment = Moment { key: None, turn: &mut turn, random: &mut random };
        balance.choose(&Known::default(), moment).expect("one")
    };
    let first = next();
    for at in 1..20 {
        assert_eq!(next(), (first + at) % 5);
    }
}

#[test]
fn requests_under_way_and_slow_answers_turn_requests_away() {
    let busy = Known { in_flight: vec![9, 0, 0], ..Known::default() };
    for kind in [BalancePolicy::LeastRequest, BalancePolicy::Unset] {
        let hits = hits(&policy(kind), &[1, 1, 1], &busy, 3_000);
        assert_eq!(hits[0], 0, "{kind:?} {hits:?}");
    }
    let slow = Known { ms: vec![200.0, 10.0, 10.0], ..Known::default() };
    let found = hits(&policy(BalancePolicy::Unset), &[1, 1, 1], &slow, 3_000);
    assert_eq!(found[0], 0, "{found:?}");
    // What differs by less than a quarter differs by chance.
    let alike = Known { ms: vec![12.0, 10.0, 10.0], ..Known::default() };
    let found = hits(&policy(BalancePolicy::Unset), &[1, 1, 1], &alike, 3_000);
    assert!(found[0] > 900, "{found:?}");
    // A heavier one is expected to have more under way.
    let heavy = Known { in_flight: vec![3, 1], ..Known::default() };
    let found = hits(&policy(BalancePolicy::LeastRequest), &[4, 1], &heavy, 1_000);
    assert!(found[0] > 900, "{found:?}");
}

fn with_table(kind: BalancePolicy, count: usize) -> Balance {
    Balance::new(Some(&policy(kind)), &endpoints(&vec![1; count]))
}

fn of_keys(balance: &Balance, known: &Known) -> Vec<usize> {
    let mut random = Mix64::new(1);
    let mut turn = balance.turn(&mut random);
    let keys = (0..20_000u64).map(|key| hash::of(&key.to_le_bytes(), 0));
    keys.map(|key| {
        let random = &mut random;
        let moment = Moment { key: Some(key), turn: &mut turn, random };
        balance.choose(known, moment).expect("one")
    })
    .collect()
}

#[test]
fn a_key_keeps_its_endpoint_when_others_come_and_go() {
    for (kind, moved_max) in [(BalancePolicy::RingHash, 0.0), (BalancePolicy::Maglev, 0.04)] {
        let (ten, eleven) = (with_table(kind, 10), with_table(kind, 11));
        let (before, after) =
            (of_keys(&ten, &Known::default()), of_keys(&eleven, &Known::default()));
        assert_eq!(before, of_keys(&with_table(kind, 10), &Known::default()), "the same each time");
        let pairs = || before.iter().zip(&after);
        let to_new = pairs().filter(|(_, after)| **after == 10).count() as f64 / 20_000.0;
        let moved = pairs().filter(|(a, b)| a != b && **b != 10).count() as f64 / 20_000.0;
        assert!((0.06..0.13).contains(&to_new), "{kind:?}: {to_new} go to the new one");
        assert!(moved <= moved_max, "{kind:?}: {moved} go elsewhere");

        // Those of one that fails are spread over the others, which keep theirs.
        let failed = of_keys(&ten, &Known { gone: vec![4], ..Known::default() });
        let mut taken = [0; 10];
        for (before, after) in before.iter().zip(&failed) {
            assert!(*before == 4 || before == after, "{kind:?}");
            if *before == 4 {
                taken[*after] += 1;
            }
        }
        let took = taken.iter().filter(|count| **count > 0).count();
        assert!(took >= 8, "{kind:?} {taken:?}");
    }
}

#[test]
fn a_key_that_everybody_asks_for_is_shared_where_loads_are_bounded() {
    for kind in [BalancePolicy::RingHash, BalancePolicy::Maglev] {
        let settings = LoadBalancer { hash_balance_factor: 125, ..policy(kind) };
        let balance = Balance::new(Some(&settings), &endpoints(&[1; 8]));
        let mut random = Mix64::new(1);
        let mut turn = balance.turn(&mut random);
        let mut known = Known { in_flight: vec![0; 8], ..Known::default() };
        for count in 1..=400u32 {
            let random = &mut random;
            let moment = Moment { key: Some(7), turn: &mut turn, random };
            let number = balance.choose(&known, moment).expect("one");
            known.in_flight[number] += 1;
            let most = (f64::from(count) * 1.25 / 8.0).ceil() as u32;
            assert!(known.in_flight[number] <= most, "{kind:?} {count} {known:?}");
        }
        // When too few are left for the bound, they take what comes.
        known.gone = (1..8).collect();
        let random = &mut random;
        let moment = Moment { key: Some(7), turn: &mut turn, random };
        assert_eq!(balance.choose(&known, moment), Some(0));
    }
}

/// A request with a query and header fields.
struct Request(&'static str, &'static [(&'static str, &'static str)]);

impl RequestView for Request {
    fn method(&self) -> &str {
        "GET"
    }
    fn path(&self) -> &[u8] {
        b"/"
    }
    fn query(&self) -> Option<&[u8]> {
        Some(self.0.as_bytes()).filter(|query| !query.is_empty())
    }
    fn has_disguised(&self, _name: &str) -> bool {
        false
    }
    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for (_, value) in self.1.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)) {
            visit(value.as_bytes());
        }
    }
}

fn key(policies: &str, request: &Request, from: &str) -> Option<u64> {
    let hash_policies = serde_json::from_str(policies).expect(policies);
    let settings = LoadBalancer { hash_policies, ..policy(BalancePolicy::RingHash) };
    let balance = Balance::new(Some(&settings), &endpoints(&[1, 1]));
    balance.key(Some(request), from.parse().ok(), &mut Mix64::new(1)).0
}

#[test]
fn a_key_is_made_of_what_the_policies_name() {
    let header = r#"[{"Field":"header","FieldValue":"X-User"}]"#;
    let cookie = r#"[{"Field":"cookie","FieldValue":"who"}]"#;
    let query = r#"[{"Field":"query_parameter","FieldValue":"who"}]"#;
    let address = r#"[{"SourceIP":true}]"#;
    let anna = Request("a=1&who=anna", &[("x-user", "anna"), ("cookie", "a=1; who=anna; b")]);
    let otto = Request("who=otto", &[("x-user", "otto"), ("Cookie", "who=otto")]);
    let nobody = Request("", &[("cookie", "whose=1")]);
    for policies in [header, cookie, query] {
        let of = |request| key(policies, request, "10.0.0.1");
        assert!(of(&anna).is_some() && of(&anna) == of(&anna), "{policies}");
        assert_ne!(of(&anna), of(&otto), "{policies}");
        assert_eq!(of(&nobody), None, "{policies}");
    }
    assert_eq!(key(address, &anna, "10.0.0.1"), key(address, &otto, "10.0.0.1"));
    assert_ne!(key(address, &anna, "10.0.0.1"), key(address, &anna, "10.0.0.2"));
    assert_eq!(key(address, &anna, "nowhere"), None);

    let both = r#"[{"Field":"header","FieldValue":"x-user"},{"SourceIP":true}]"#;
    assert_ne!(key(both, &anna, "10.0.0.1"), key(both, &anna, "10.0.0.2"));
    let terminal =
        r#"[{"Field":"header","FieldValue":"x-user","Terminal":true},{"SourceIP":true}]"#;
    assert_eq!(key(terminal, &anna, "10.0.0.1"), key(header, &anna, ""));
    assert_eq!(key(terminal, &nobody, "10.0.0.1"), key(address, &nobody, "10.0.0.1"));

    let plain = Balance::new(None, &endpoints(&[1, 1]));
    let nothing = plain.key(Some(&anna), None, &mut Mix64::new(1));
    assert_eq!(nothing, (None, Vec::new()), "nothing is hashed");
}

#[test]
fn a_caller_without_the_cookie_is_given_one_that_leads_to_the_same_place() {
    let settings = |config: &str| -> LoadBalancer {
        let policy = format!(r#"{{"Field":"cookie","FieldValue":"at","CookieConfig":{config}}}"#);
        let text = format!(r#"{{"Policy":"maglev","HashPolicies":[{policy}]}}"#);
        serde_json::from_str(&text).expect("settings")
    };
    let mut random = Mix64::new(1);
    for (config, attributes) in [
        (r#"{"Session":true}"#, Some("HttpOnly")),
        (r#"{"Session":true,"Path":"/shop"}"#, Some("Path=/shop; HttpOnly")),
        (r#"{"TTL":90000000000,"Path":"/"}"#, Some("Path=/; Max-Age=90; HttpOnly")),
        (r#"{"TTL":1000}"#, Some("Max-Age=1; HttpOnly")),
        (r#"{"Path":"/"}"#, None),
    ] {
        let balance = Balance::new(Some(&settings(config)), &endpoints(&[1, 1]));
        let nobody = Asked::parse("GET / | cookie: other=1");
        let (key, given) = balance.key(Some(&nobody), None, &mut random);
        let header = given.first().map(|cookie| cookie.header());
        let (cookie, rest) = match &header {
            Some(header) => {
                header.split_once("; ").map(|(it, rest)| (it, Some(rest))).expect("attributes")
            }
            None => ("other=2", None),
        };
        assert_eq!(rest, attributes, "{config}");
        let line = format!("GET / | cookie: other=1; {cookie}");
        let again = balance.key(Some(&Asked::parse(&line)), None, &mut random);
        assert_eq!(again, (key, Vec::new()), "{config}");
    }
}

#[test]
fn near_ones_come_first_and_others_take_what_they_cannot_bear() {
    let mut endpoints = endpoints(&[1; 12]);
    // Three in the zone, four in the region, five elsewhere, in no order.
    for (number, endpoint) in endpoints.iter_mut().enumerate() {
        endpoint.tier = [0, 1, 2, 2, 1, 0, 2, 1, 2, 0, 1, 2][number];
    }
    for policy in [BalancePolicy::Unset, BalancePolicy::RoundRobin, BalancePolicy::Maglev] {
        let settings = LoadBalancer { policy, ..LoadBalancer::default() };
        let balance = Balance::new(Some(&settings), &endpoints);
        let mut random = Mix64::new(9);
        let mut turn = balance.turn(&mut random);
        let mut shares = |out: &[usize]| {
            let known = Known { gone: out.to_vec(), ..Known::default() };
            let mut counts = [0; 3];
            for _ in 0..9_000 {
                let moment = Moment { key: None, turn: &mut turn, random: &mut random };
                let number = balance.choose(&known, moment).expect("one");
                assert!(!out.contains(&number));
                counts[usize::from(endpoints[number].tier)] += 1;
            }
            counts.map(|count| (f64::from(count) / 90.0).round() as u32)
        };
        assert_eq!(shares(&[]), [100, 0, 0]);
        // Two of three bear 93 of 100, one of three 47, and the next take the rest.
        let near = |found: [u32; 3], wanted: [u32; 3]| {
            let is_near = found.iter().zip(wanted).all(|(found, it)| found.abs_diff(it) <= 3);
            assert!(is_near, "{policy:?}: {found:?} {wanted:?}");
        };
        near(shares(&[0]), [93, 7, 0]);
        near(shares(&[0, 5]), [47, 53, 0]);
        near(shares(&[0, 5, 9]), [0, 100, 0]);
        near(shares(&[0, 5, 1, 4, 7]), [47, 35, 18]);
        // All together bear 75 of 100, and get all.
        near(shares(&[0, 5, 1, 4, 7, 10, 2, 3, 6, 8]), [63, 0, 37]);
    }
}
