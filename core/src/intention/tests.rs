//! Precedence, hiding and explanation; and the whole against a reading of the rules by hand.

use proptest::prelude::*;

use super::IntentionSet;
use crate::config_entry::{IntentionAction, IntentionSource, ServiceIntentions, SourceName};
use crate::identity::SpiffeId;
use crate::name::ServiceName;

fn service(text: &str) -> ServiceName {
    ServiceName::parse(text).expect("a name")
}

fn action(word: &str) -> IntentionAction {
    if word == "allow" { IntentionAction::Allow } else { IntentionAction::Deny }
}

/// Makes entries from lines such as `web -> db allow`.
fn entries(lines: &[(&str, &str, &str)]) -> Vec<ServiceIntentions> {
    let mut entries: Vec<ServiceIntentions> = Vec::new();
    for (source, destination, word) in lines {
        let name = SourceName::parse(destination).expect("a name");
        let source = SourceName::parse(source).expect("a name");
        let source = IntentionSource::new(source, action(word), String::new());
        match entries.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => entry.sources.push(source),
            None => entries.push(ServiceIntentions {
                name,
                sources: vec![source],
                jwt: None,
                meta: Default::default(),
                create_index: Default::default(),
                modify_index: Default::default(),
            }),
        }
    }
    entries
}

fn set(lines: &[(&str, &str, &str)], default: &str) -> IntentionSet {
    let decides = (Default::default(), action(default));
    IntentionSet::for_destination(&service("db"), &entries(lines), decides)
}

#[test]
fn exact_names_come_before_wildcards_and_the_destination_weighs_more() {
    let set = set(
        &[
            ("*", "*", "deny"),
            ("web", "*", "deny"),
            ("*", "db", "allow"),
            ("zoo", "db", "deny"),
            ("api", "db", "deny"),
            ("web", "other", "allow"),
        ],
        "deny",
    );
    let order: Vec<String> =
        set.intentions.iter().map(|i| format!("{} {}", i.precedence, i.source)).collect();
    assert_eq!(order, ["9 api", "9 zoo", "8 *", "6 web"]);
    assert!(!set.evaluate(&service("api")).allowed);
    // `* → db` stands above `web → *`.
    assert!(set.evaluate(&service("web")).allowed);
}

#[test]
fn a_source_seen_at_higher_precedence_hides_lower_ones() {
    let set = set(&[("web", "*", "deny"), ("web", "db", "allow")], "deny");
    assert_eq!(set.intentions.len(), 1);
    assert_eq!(set.intentions[0].precedence, 9);
}

#[test]
fn a_source_given_twice_is_denied() {
    for lines in [
        [("web", "db", "allow"), ("web", "db", "deny")],
        [("web", "db", "deny"), ("web", "db", "allow")],
    ] {
        assert!(!set(&lines, "allow").evaluate(&service("web")).allowed);
    }
}

#[test]
fn agents_and_servers_call_no_services() {
    let open = set(&[("*", "*", "allow")], "allow");
    for (uri, allowed) in [
        ("spiffe://a1.mesh/ns/default/dc/dc1/svc/web", true),
        ("spiffe://a1.mesh/agent/client/dc/dc1/id/host", false),
        ("spiffe://a1.mesh/agent/server/dc/dc1/id/host", false),
    ] {
        let id = SpiffeId::parse(uri).expect(uri);
        assert_eq!(open.evaluate_identity(&id).allowed, allowed, "{uri}");
    }
}

#[test]
fn a_verdict_explains_itself() {
    let set = set(&[("web", "db", "allow"), ("*", "*", "deny")], "deny");
    let closed = IntentionSet { intentions: Vec::new(), ..set.clone() };
    for (set, source, wanted) in [
        (&set, "web", "allowed: intention web → db allows it (precedence 9)"),
        (&set, "api", "denied: intention * → * denies it (precedence 5), asked for api → db"),
        (&closed, "web", "denied: no intention matches web → db and the default is deny"),
    ] {
        assert_eq!(set.explain(&service(source), &service("db")), wanted);
    }
    let agent = SpiffeId::parse("spiffe://a1.mesh/agent/client/dc/dc1/id/host").expect("an id");
    assert_eq!(
        set.explain_identity(&agent, &service("db")),
        "denied: spiffe://a1.mesh/agent/client/dc/dc1/id/host is not a service, and only services \
         call db"
    );
}

/// The rules read by hand: try the four kinds of intention in turn.
fn naive(lines: &[(&str, &str, &str)], source: &str, destination: &str, default: &str) -> bool {
    for (from, to) in [(source, destination), ("*", destination), (source, "*"), ("*", "*")] {
        let matching: Vec<_> = lines.iter().filter(|line| (line.0, line.1) == (from, to)).collect();
        if !matching.is_empty() {
            return matching.iter().all(|line| line.2 == "allow");
        }
    }
    default == "allow"
}

proptest! {
    #[test]
    fn the_set_decides_as_the_rules_read_by_hand(
        lines in prop::collection::vec((
            prop::sample::select(vec!["*", "web", "api"]),
            prop::sample::select(vec!["*", "db", "other"]),
            prop::sample::select(vec!["allow", "deny"]),
        ), 0..12),
        default in prop::sample::select(vec!["allow", "deny"]),
    ) {
        for destination in ["db", "other", "third"] {
            let set = IntentionSet::for_destination(
                &service(destination),
                &entries(&lines),
                (Default::default(), action(default)),
            );
            for source in ["web", "api", "zoo"] {
                prop_assert_eq!(
                    set.evaluate(&service(source)).allowed,
                    naive(&lines, source, destination, default),
                    "{} -> {}", source, destination
                );
            }
        }
    }
}
