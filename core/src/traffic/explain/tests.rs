//! Explanations by data.

use serde_json::json;

use super::super::request::tests::Request;
use super::super::route::tests::chain;
use super::*;

fn routed() -> CompiledChain {
    let splits = json!([{ "Weight": 90, "NextNode": "v1" }, { "Weight": 10, "NextNode": "v2" }]);
    let mut routed = chain(json!({ "Type": "router", "Routes": [
        { "Match": { "PathPrefix": "/api/", "Methods": ["GET"], "CaseInsensitive": true,
            "Header": [{ "Name": "x-user", "Exact": "ada" }, { "Name": "x-beta", "Present": true }] },
          "action": {}, "Action": { "PrefixRewrite": "/" }, "NextNode": "split" },
        { "Match": {}, "Action": {}, "NextNode": "rest" },
    ] }));
    let split: ChainNode =
        serde_json::from_value(json!({ "Type": "splitter", "Splits": splits })).expect("a node");
    routed.nodes.insert("split".to_owned(), split);
    routed
}

/// The targets, with their shares and paths.
fn ends(explained: &Explained) -> Vec<(String, f64, String)> {
    match &explained.decision {
        Decision::Router { next, .. } => ends(next),
        Decision::Answer { .. } => Vec::new(),
        Decision::Splitter { legs, .. } => legs.iter().flat_map(ends).collect(),
        Decision::Resolver { target, path, .. } => {
            vec![(target.to_string(), explained.share, path.clone())]
        }
    }
}

fn routes(explained: &Explained) -> &[ExplainedRoute] {
    match &explained.decision {
        Decision::Router { routes, .. } => routes,
        Decision::Answer { .. } | Decision::Splitter { .. } | Decision::Resolver { .. } => &[],
    }
}

#[test]
fn a_taken_route_leads_to_all_legs_with_their_shares_and_the_rewritten_path() {
    let request = Request::parse("GET /API/items | x-user: ada | x-beta: 1");
    let explained = explain(&routed(), Some(&request), None).expect("a chain");
    let end = |target: &str, share| (target.to_owned(), share, "/items".to_owned());
    assert_eq!(ends(&explained), [end("v1", 90.0), end("v2", 10.0)]);
    let [route] = routes(&explained) else { panic!("{explained:?}") };
    assert!(route.is_taken && route.unmet.is_empty() && route.met.len() == 4, "{route:?}");
}

#[test]
fn a_route_that_is_passed_over_says_which_conditions_do_not_hold() {
    let request = Request::parse("POST /api/items | x-user: bob | x-beta: 1");
    let explained = explain(&routed(), Some(&request), None).expect("a chain");
    assert_eq!(ends(&explained), [("rest".to_owned(), 100.0, "/api/items".to_owned())]);
    let [first, last] = routes(&explained) else { panic!("{explained:?}") };
    assert!(!first.is_taken && last.is_taken && last.route == 2);
    assert_eq!(first.unmet, [r#"Header {"Exact":"ada","Name":"x-user"}"#, r#"Methods ["GET"]"#]);
    assert_eq!(first.met, [r#"Header {"Name":"x-beta","Present":true}"#, r#"PathPrefix "/api/""#]);
}

#[test]
fn bytes_take_the_last_route() {
    let explained = explain(&routed(), None, None).expect("a chain");
    assert_eq!(ends(&explained), [("rest".to_owned(), 100.0, String::new())]);
}

#[test]
fn a_route_for_other_callers_is_passed_over_and_one_that_answers_ends_the_way() {
    let routed = chain(json!({ "Type": "router", "Routes": [
        { "Match": { "Sources": ["till"] }, "Action": {}, "NextNode": "v1" },
        { "Match": { "PathPrefix": "/old" }, "NextNode": "v2",
          "Action": { "Redirect": { "Host": "new.example", "Code": 308 } } },
        { "Match": {}, "Action": { "PathRewrite": { "Regex": "/", "Substitution": "/_" } },
          "NextNode": "rest" },
    ] }));
    let request = Request::parse("GET /old/x | host: web");
    let [till, shop] = ["till", "shop"].map(|name| ServiceName::parse(name).expect("a name"));
    let of_till = explain(&routed, Some(&request), Some(&till)).expect("a chain");
    assert_eq!(ends(&of_till), [("v1".to_owned(), 100.0, "/old/x".to_owned())]);
    for caller in [Some(&shop), None] {
        let explained = explain(&routed, Some(&request), caller).expect("a chain");
        let Decision::Router { routes, next } = &explained.decision else { panic!("a router") };
        assert_eq!(routes[0].unmet, [r#"Sources ["till"]"#]);
        assert_eq!(routes[1].does, [r#"Redirect {"Code":308,"Host":"new.example"}"#]);
        let location = Some("http://new.example/old/x".to_owned());
        assert_eq!(next.decision, Decision::Answer { status: 308, location });
    }
    let other = Request::parse("GET /a/b");
    let explained = explain(&routed, Some(&other), None).expect("a chain");
    assert_eq!(ends(&explained), [("rest".to_owned(), 100.0, "/_a/_b".to_owned())]);
}
