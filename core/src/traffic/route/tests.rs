//! Route tables by data: a chain as JSON, requests as text, the target that takes each.

use super::super::request::tests::Request;
use super::*;

/// Makes a chain whose start node is given, with resolvers `v1`, `v2` and `rest`.
pub(crate) fn chain(start: serde_json::Value) -> CompiledChain {
    let mut nodes = serde_json::json!({ "start": start });
    let mut targets = serde_json::Map::new();
    for name in ["rest", "v1", "v2"] {
        let second = serde_json::json!({ "secs": 5, "nanos": 0 });
        nodes[name] = serde_json::json!({
            "Type": "resolver", "Target": name, "ConnectTimeout": second, "RequestTimeout": second,
        });
        targets.insert(
            name.into(),
            serde_json::json!({
                "ID": name, "Service": "web", "Datacenter": "dc1", "SNI": "web",
                "SpiffeID": "spiffe://a.mesh/ns/default/dc/dc1/svc/web",
            }),
        );
    }
    serde_json::from_value(serde_json::json!({
        "ServiceName": "web", "Datacenter": "dc1", "Protocol": "http", "StartNode": "start",
        "Nodes": nodes, "Targets": targets, "Reads": [],
    }))
    .expect("a chain")
}

fn table_of(chain: &CompiledChain) -> Result<RouteTable, RouteTableError> {
    RouteTable::compile(chain, &ServiceName::parse("shop").expect("a name"))
}

fn target_of(table: &RouteTable, request: &str) -> String {
    let mut splits = table.splits(&mut Mix64::new(1));
    let routed = table.route(Some(&Request::parse(request)), &mut splits);
    table.targets()[routed.target].to_string()
}

/// Conditions, a request that meets them, and one that does not; an empty one stands for none.
fn conditions() -> Vec<(String, &'static str, &'static str)> {
    let header = |body: &str| format!(r#"{{"Header":[{{"Name":"X-A",{body}}}]}}"#);
    let query = |body: &str| format!(r#"{{"QueryParam":[{{"Name":"d",{body}}}]}}"#);
    let cookie = |body: &str| format!(r#"{{"Cookie":[{{"Name":"u",{body}}}]}}"#);
    let template = |template: &str| format!(r#"{{"PathTemplate":"{template}"}}"#);
    let grpc = |body: &str| format!(r#"{{"Grpc":{{{body}}}}}"#);
    vec![
        (r#"{"PathExact":"/a"}"#.into(), "GET /a?x=1", "GET /a/"),
        (r#"{"PathPrefix":"/a"}"#.into(), "GET /ab", "GET /b"),
        (r#"{"PathRegex":"/a[0-9]+"}"#.into(), "GET /a12", "GET /a12/x"),
        (r#"{"PathRegex":"/a|/b"}"#.into(), "GET /b", "GET /bb"),
        (r#"{"PathExact":"/A","CaseInsensitive":true}"#.into(), "GET /a", "GET /b"),
        (r#"{"PathPrefix":"/A"}"#.into(), "GET /A/x", "GET /a/x"),
        (r#"{"Methods":["GET","PUT"]}"#.into(), "PUT /", "POST /"),
        (r#"{"PathExact":"/a","Methods":["GET"]}"#.into(), "GET /a", "PUT /a"),
        (header(r#""Present":true"#), "GET / | x-a: ", "GET / | x-b: 1"),
        (header(r#""Present":true,"Invert":true"#), "GET /", "GET / | x-a: 1"),
        (header(r#""Exact":"jason""#), "GET / | X-a: jason", "GET / | x-a: Jason"),
        (header(r#""Exact":"jason","IgnoreCase":true"#), "GET / | x-a: JASON", "GET /"),
        (header(r#""Exact":"a","Invert":true"#), "GET / | x-a: b", "GET / | x-a: a"),
        (header(r#""Exact":"a","Invert":true"#), "GET / | x-a: b", "GET /"),
        (header(r#""Exact":"a,b""#), "GET / | x-a: a | x-a: b", "GET / | x-a: a"),
        (header(r#""Exact":"a,b,c""#), "GET / | x-a: a | x-a: b | x-a: c", "GET / | x-a: c"),
        (header(r#""Exact":"a""#), "GET / | x-a: a", "GET / | x-a: a | x-a: b"),
        (header(r#""Prefix":"ab""#), "GET / | x-a: abc", "GET / | x-a: a"),
        (header(r#""Suffix":"bc""#), "GET / | x-a: abc", "GET / | x-a: bcd"),
        (header(r#""Contains":"b""#), "GET / | x-a: abc", "GET / | x-a: ac"),
        (header(r#""Regex":"a.c""#), "GET / | x-a: abc", "GET / | x-a: abcd"),
        (r#"{"QueryParam":[{"Name":"d","Present":true}]}"#.into(), "GET /?c&d", "GET /?c=d"),
        (r#"{"QueryParam":[{"Name":"d","Exact":"1"}]}"#.into(), "GET /?d=1", "GET /?d=2&d=1"),
        (r#"{"QueryParam":[{"Name":"d","Regex":"[0-9]+"}]}"#.into(), "GET /?d=12", "GET /"),
        (query(r#""Present":true,"Invert":true"#), "GET /?c=1", "GET /?d=1"),
        (query(r#""Exact":"a","Invert":true"#), "GET /?d=b", "GET /?d=a"),
        (query(r#""Exact":"a","Invert":true"#), "GET /?d=b", "GET /"),
        (query(r#""Exact":"A","IgnoreCase":true"#), "GET /?d=a", "GET /?d=b"),
        (r#"{"Host":["a.test"]}"#.into(), "GET / | host: A.test:80", "GET / | host: b.a.test"),
        (r#"{"Host":["*.a.test"]}"#.into(), "GET / | host: b.a.test", "GET / | host: a.test"),
        (r#"{"Host":["a.test"]}"#.into(), "GET / | host: a.test", "GET /"),
        (cookie(r#""Exact":"2""#), "GET / | cookie: v=1; u=2", "GET / | cookie: u=1; u=2"),
        (cookie(r#""Exact":"2""#), "GET / | cookie: v=1 | cookie: u=2", "GET / | cookie: uu=2"),
        (cookie(r#""Present":true,"Invert":true"#), "GET /", "GET / | cookie: u="),
        (cookie(r#""Regex":"[a-z]+""#), "GET / | cookie: u=ab", "GET / | cookie: u=a1"),
        (template("/orders/{id}/items"), "GET /orders/7/items", "GET /orders/7/8/items"),
        (template("/orders/{id}/items"), "GET /orders/a.b/items?x", "GET /orders//items"),
        (template("/a.b/*"), "GET /a.b/c", "GET /aXb/c"),
        (template("/files/{rest=**}"), "GET /files/a/b", "GET /file/a"),
        (grpc(r#""Service":"s.Orders""#), "POST /s.Orders/Get", "POST /s.Other/Get"),
        (
            grpc(r#""Service":"s.Orders","Method":"Get""#),
            "POST /s.Orders/Get",
            "POST /s.Orders/Getx",
        ),
        (r#"{"Sources":["shop","other"]}"#.into(), "GET /", ""),
        (r#"{"Sources":["other"]}"#.into(), "", "GET /"),
    ]
}

#[test]
fn each_condition_takes_what_it_says() {
    for (matches, taken, passed) in conditions() {
        let matches_json: serde_json::Value = serde_json::from_str(&matches).expect("JSON");
        let table = table_of(&chain(serde_json::json!({
            "Type": "router", "Routes": [
                { "Match": matches_json, "Action": {}, "NextNode": "v1" },
                { "Match": {}, "Action": {}, "NextNode": "rest" },
            ],
        })))
        .expect("a table");
        // Calls of gRPC say that they are some.
        let kind =
            if matches.contains("Grpc") { " | content-type: application/grpc+proto" } else { "" };
        for (request, want) in [(taken, "v1"), (passed, "rest")] {
            if !request.is_empty() {
                let request = format!("{request}{kind}");
                assert_eq!(target_of(&table, &request), want, "{matches} {request}");
            }
        }
    }
}

#[test]
fn the_first_route_wins_and_carries_its_action() {
    let table = table_of(&chain(serde_json::json!({
        "Type": "router", "Routes": [
            { "Match": { "PathPrefix": "/api" }, "NextNode": "v1",
              "Action": { "PrefixRewrite": "/", "RequestTimeout": { "secs": 2, "nanos": 0 } } },
            { "Match": { "PathPrefix": "/api/x" }, "Action": {}, "NextNode": "v2" },
            { "Match": {}, "Action": {}, "NextNode": "rest" },
        ],
    })))
    .expect("a table");
    let mut splits = table.splits(&mut Mix64::new(1));
    let routed = table.route(Some(&Request::parse("GET /api/x")), &mut splits);
    assert_eq!(routed.rewrite, Some(Rewrite::Prefix { matched_bytes: 4, replacement: "/" }));
    assert_eq!(routed.request_timeout, Duration::from_secs(2));
    assert_eq!(table.targets()[routed.target].as_str(), "v1");
    let bytes = table.route::<Request<'_>>(None, &mut splits);
    assert_eq!(table.targets()[bytes.target].as_str(), "rest");
}

#[test]
fn a_split_is_exact_over_a_cycle() {
    let table = table_of(&chain(serde_json::json!({
        "Type": "splitter", "Splits": [
            { "Weight": 90, "NextNode": "v1" }, { "Weight": 9.99, "NextNode": "v2" },
            { "Weight": 0.01, "NextNode": "rest" },
        ],
    })))
    .expect("a table");
    let mut splits = table.splits(&mut Mix64::new(3));
    let mut hits = [0; 3];
    for _ in 0..10_000 {
        hits[table.route::<Request<'_>>(None, &mut splits).target] += 1;
    }
    assert_eq!(hits, [1, 9_000, 999]); // by name: rest, v1, v2
}

#[test]
fn a_chain_that_cannot_be_walked_is_refused() {
    let refused = |start| table_of(&chain(start)).expect_err("refused").to_string();
    let cycle = serde_json::json!({
        "Type": "splitter", "Splits": [{ "Weight": 100, "NextNode": "start" }] });
    assert!(refused(cycle).contains("leads to itself"));
    let missing = serde_json::json!({
        "Type": "splitter", "Splits": [{ "Weight": 100, "NextNode": "nowhere" }] });
    assert!(refused(missing).contains("absent"));
    assert!(refused(serde_json::json!({ "Type": "router", "Routes": [] })).contains("nowhere"));
    let expression = serde_json::json!({ "Type": "router", "Routes": [
        { "Match": { "PathRegex": "(" }, "Action": {}, "NextNode": "v1" }] });
    assert!(refused(expression).contains("does not compile"));
}

#[test]
fn connections_of_tls_go_by_the_name_that_they_ask_for() {
    let route = |sni: &[&str], next: &str| serde_json::json!({ "Match": {}, "SNI": sni, "Action": {}, "NextNode": next });
    let routes = [route(&["a.example", "*.b.example"], "v1"), route(&["*.example"], "v2")];
    let last = serde_json::json!({ "Match": {}, "Action": {}, "NextNode": "rest" });
    let routes = [&routes[..], std::slice::from_ref(&last)].concat();
    let chain_by = |routes: &[serde_json::Value]| {
        chain(serde_json::json!({ "Type": "router", "Routes": routes }))
    };
    let table = table_of(&chain_by(&routes)).expect("a table");
    assert!(table.needs_server_name());
    let mut splits = table.splits(&mut Mix64::new(1));
    for (name, want) in [
        (Some("a.example"), "v1"),
        (Some("x.b.example"), "v1"),
        (Some("b.example"), "v2"),
        (Some("x.a.example"), "v2"),
        (Some("example"), "rest"),
        (Some("other.test"), "rest"),
        (None, "rest"),
    ] {
        let target = table.route_tls(name, &mut splits).target;
        assert_eq!(table.targets()[target].as_str(), want, "{name:?}");
    }
    let table = table_of(&chain_by(&[last])).expect("a table");
    assert!(!table.needs_server_name());
}

#[test]
fn who_stands_in_gives_way_as_soon_as_the_target_is_usable() {
    let mut chain = chain(serde_json::json!({
        "Type": "splitter", "Splits": [{ "Weight": 100, "NextNode": "rest" }] }));
    if let Some(ChainNode::Resolver(resolver)) = chain.nodes.get_mut("rest") {
        let ids = ["v2", "v1"].map(|id| serde_json::from_value(serde_json::json!(id)));
        resolver.failover = ids.map(|id| id.expect("an id")).to_vec();
    }
    let table = table_of(&chain).expect("a table");
    let routed = table.route::<Request<'_>>(None, &mut table.splits(&mut Mix64::new(1)));
    for (usable, want) in [
        (&["rest", "v1", "v2"][..], "rest"),
        (&["v1", "v2"], "v2"),
        (&["v1"], "v1"),
        (&["rest"], "rest"),
        (&[], "rest"),
    ] {
        let is_usable = |number: usize| usable.contains(&table.targets()[number].as_str());
        let target = routed.standing_in(is_usable);
        assert_eq!(table.targets()[target].as_str(), want, "{usable:?}");
    }
}

#[test]
fn who_says_the_same_takes_the_same_leg_and_values_share_by_weight() {
    let sticky = |by: serde_json::Value| {
        table_of(&chain(serde_json::json!({
            "Type": "splitter", "Sticky": by, "Splits": [
                { "Weight": 80, "NextNode": "v1" }, { "Weight": 20, "NextNode": "v2" },
            ],
        })))
        .expect("a table")
    };
    let by_header = sticky(serde_json::json!({ "Header": "x-user" }));
    let by_cookie = sticky(serde_json::json!({ "Cookie": { "Name": "leg", "TTL": "1h" } }));
    let mut splits = by_cookie.splits(&mut Mix64::new(9));
    let (mut to_v2, users) = ([0; 2], 20_000);
    for user in 0..users {
        let request = format!("GET / | x-user: {user}");
        let target = target_of(&by_header, &request);
        assert_eq!(target, target_of(&by_header, &request));
        to_v2[0] += u32::from(target == "v2");
        let first = by_cookie.route(Some(&Request::parse("GET / | cookie: a=b")), &mut splits);
        let header = first.cookie.expect("a cookie is given").header();
        let (cookie, rest) = header.split_once(';').expect("attributes");
        assert_eq!(rest, " Path=/; Max-Age=3600; HttpOnly");
        let again = format!("GET / | cookie: a=b; {cookie}");
        let again = by_cookie.route(Some(&Request::parse(&again)), &mut splits);
        assert_eq!((again.target, again.cookie), (first.target, None));
        to_v2[1] += u32::from(by_cookie.targets()[first.target].as_str() == "v2");
    }
    // A mean of 4,000; five deviations are 283.
    assert!(to_v2.iter().all(|count| (3_717..=4_283).contains(count)), "{to_v2:?}");
    let mut hits = 0;
    for _ in 0..10_000 {
        let routed = by_header.route(Some(&Request::parse("GET /")), &mut splits);
        hits += u32::from(by_header.targets()[routed.target].as_str() == "v2");
    }
    assert_eq!(hits, 2_000, "who says nothing goes by weight alone");
}

#[test]
fn copies_go_to_a_target_beside_the_one_that_answers() {
    let table = table_of(&chain(serde_json::json!({
        "Type": "router", "Routes": [
            { "Match": { "PathPrefix": "/a" }, "NextNode": "v1", "MirrorNode": "v2",
              "Action": { "Mirror": { "ServiceSubset": "v2", "Percent": 12.5 } } },
            { "Match": {}, "Action": {}, "NextNode": "rest" },
        ],
    })))
    .expect("a table");
    let (mut splits, mut random) = (table.splits(&mut Mix64::new(1)), Mix64::new(2));
    let routed = table.route(Some(&Request::parse("GET /a")), &mut splits);
    let mirror = routed.mirror.expect("a mirror");
    assert_eq!(table.targets()[routed.target].as_str(), "v1");
    assert_eq!(table.targets()[mirror.target].as_str(), "v2");
    let copies = (0..80_000).filter(|_| mirror.is_drawn(&mut random)).count();
    // A mean of 10,000; five deviations are 468.
    assert!((9_532..=10_468).contains(&copies), "{copies}");
    assert_eq!(table.route(Some(&Request::parse("GET /")), &mut splits).mirror, None);
    let lost = chain(serde_json::json!({ "Type": "router", "Routes": [
        { "Match": {}, "NextNode": "v1", "MirrorNode": "nowhere",
          "Action": { "Mirror": { "Service": "web" } } }] }));
    assert!(table_of(&lost).is_err());
}
