//! Which of several intentions decides, in both modes, against the rules read one by one.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Asked, Call, Cause, IntentionSet, Judge, Judgement};
use crate::canonical_path::CanonicalPath;
use crate::config_entry::{
    ConfigEntry, IntentionAction, IntentionPermission, IntentionPrecedence, IntentionSource,
    ServiceIntentions, SourceName,
};
use crate::name::ServiceName;
use crate::traffic::RequestView;

const ALLOW: IntentionAction = IntentionAction::Allow;
const DENY: IntentionAction = IntentionAction::Deny;
const FIRST: IntentionPrecedence = IntentionPrecedence::FirstMatch;
const OVERRIDES: IntentionPrecedence = IntentionPrecedence::DenyOverrides;

/// `GET` of a path.
struct Get(&'static str);

impl RequestView for Get {
    fn method(&self) -> &str {
        "GET"
    }

    fn path(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn query(&self) -> Option<&[u8]> {
        None
    }

    fn has_disguised(&self, _name: &str) -> bool {
        false
    }

    fn each_header(&self, _name: &str, _visit: &mut dyn FnMut(&[u8])) {}
}

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).expect("a name")
}

fn entry(name: &str, sources: &[Value]) -> Option<ServiceIntentions> {
    if sources.is_empty() {
        return None;
    }
    let entry = json!({ "Kind": "service-intentions", "Name": name, "Sources": sources });
    let entry: ConfigEntry = serde_json::from_value(entry).expect("an entry");
    match entry.normalise() {
        Ok(ConfigEntry::ServiceIntentions(entry)) => Some(entry),
        other => panic!("{other:?}"),
    }
}

/// What is said of `db`, and of all services.
fn entries(of_db: &[Value], of_all: &[Value]) -> Vec<ServiceIntentions> {
    [entry("db", of_db), entry("*", of_all)].into_iter().flatten().collect()
}

fn judge(entries: &[ServiceIntentions], decides: (IntentionPrecedence, IntentionAction)) -> Judge {
    Judge::new(IntentionSet::for_destination(&name("db"), entries, decides))
}

/// Judges a call of `web`, a connection where there is no path; as proxies do, without a look at
/// requests where they play no part.
fn judged<'a>(judge: &'a Judge, path: Option<&'static str>) -> Judgement<'a> {
    judged_as(judge, path, None)
}

fn judged_as<'a>(judge: &'a Judge, path: Option<&'static str>, sni: Option<&str>) -> Judgement<'a> {
    let standing = judge.standing(&name("web"));
    let get = path.map(Get);
    let path = path.map(|path| CanonicalPath::parse(path.as_bytes()));
    let asked = get.as_ref().zip(path.as_ref()).map(|(request, path)| Asked {
        request,
        path: path.as_ref().map_err(|unclear| *unclear),
        tokens: &[],
    });
    let request = asked.filter(|_| judge.is_by_content(standing));
    judge.evaluate(standing, &Call { address: None, port: Some(80), sni, request })
}

fn told(judge: &Judge, path: &'static str) -> String {
    judge.explain(&judged(judge, Some(path)), &name("web"), &name("db"))
}

/// Whether a request is let through, read off the rules one by one.
fn reference(
    entries: &[ServiceIntentions],
    (precedence, default): (IntentionPrecedence, IntentionAction),
    (path, sni): (&str, Option<&str>),
) -> bool {
    let holds = |permission: &&IntentionPermission| {
        let http = permission.http.as_ref();
        let prefix = http.and_then(|http| http.path_prefix.as_ref());
        prefix.is_none_or(|prefix| path.starts_with(prefix))
            && (permission.destination_ports.is_empty()
                || permission.destination_ports.contains(&80))
            && match (sni, permission.snis.first()) {
                (_, None) => true,
                (None, Some(_)) => permission.action == DENY,
                (Some(name), Some(rule)) => {
                    rule == name || *rule == "*.db" && name.ends_with(".db")
                }
            }
    };
    let first = |it: &IntentionSource| {
        let found = it.permissions.iter().find(holds).map(|it| it.action);
        it.action.or(found).unwrap_or(default)
    };
    let denies = |it: &IntentionSource| {
        it.action == Some(DENY) || it.permissions.iter().filter(holds).any(|it| it.action == DENY)
    };
    let order = [("web", "db"), ("*", "db"), ("web", "*"), ("*", "*")];
    let matching = order.iter().filter_map(|(source, destination)| {
        let entry = entries.iter().find(|entry| entry.name.as_str() == *destination)?;
        entry.sources.iter().find(|it| it.name.as_str() == *source)
    });
    let matching: Vec<&IntentionSource> = matching.collect();
    let is_denied = matching.iter().any(|it| !it.dry_run && denies(it));
    let decides = matching.first().map_or(default == ALLOW, |it| it.dry_run || first(it) == ALLOW);
    decides && !(precedence == OVERRIDES && is_denied)
}

fn action() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["allow", "deny"])
}

prop_compose! {
    fn permission()(
        action in action(),
        what in prop::sample::select(vec![
            json!({ "HTTP": { "PathPrefix": "/a" } }),
            json!({ "HTTP": { "PathPrefix": "/a/b" } }),
            json!({ "HTTP": { "PathPrefix": "/" }, "DestinationPorts": [80] }),
            json!({ "DestinationPorts": [80] }),
            json!({ "DestinationPorts": [81] }),
            json!({ "SNIs": ["a.db"] }),
            json!({ "SNIs": ["*.db"], "DestinationPorts": [80] }),
            json!({ "HTTP": { "PathPrefix": "/a" }, "SNIs": ["*.db"] }),
        ]),
    ) -> Value {
        let mut permission = what;
        permission["Action"] = action.into();
        permission
    }
}

/// What is said of `web` and of all callers; the latter without permissions where none may be.
fn sources(permissions: usize) -> impl Strategy<Value = Vec<Value>> {
    let one = (action(), prop::collection::vec(permission(), 0..=permissions), any::<u8>());
    let one = one.prop_map(|(action, permissions, dry_run)| {
        let mut source = json!({ "DryRun": dry_run % 4 == 0 });
        match permissions.is_empty() {
            true => source["Action"] = action.into(),
            false => source["Permissions"] = permissions.into(),
        }
        source
    });
    let one = one.boxed();
    (prop::option::of(one.clone()), prop::option::of(one)).prop_map(|(web, any)| {
        let named = [("web", web), ("*", any)].into_iter();
        let named = named.filter_map(|(name, source)| {
            let mut source = source?;
            source["Name"] = name.into();
            Some(source)
        });
        named.collect()
    })
}

proptest! {
    #[test]
    fn the_rules_decide_as_they_read_in_both_modes(
        (of_db, of_all) in (sources(4), sources(0)),
        default in prop::sample::select(vec![ALLOW, DENY]),
        path in prop::sample::select(vec!["/", "/a", "/a/b", "/c"]),
        sni in prop::sample::select(vec![None, Some("db"), Some("a.db"), Some("b.a.db")]),
    ) {
        let entries = entries(&of_db, &of_all);
        let mut allowed = Vec::new();
        for precedence in [FIRST, OVERRIDES] {
            let judge = judge(&entries, (precedence, default));
            let judgement = judged_as(&judge, Some(path), sni);
            let wanted = reference(&entries, (precedence, default), (path, sni));
            prop_assert_eq!(judgement.allowed, wanted, "{:?}", judge.set());
            // What lets a caller through as a whole refuses none of its requests.
            let verdict = judge.set().evaluate(&name("web"));
            prop_assert!(!verdict.allowed || judgement.allowed, "{:?}", judge.set());
            allowed.push(judgement.allowed);
        }
        // The switch takes away alone.
        prop_assert!(allowed[0] || !allowed[1]);
    }
}

#[test]
fn a_denial_says_what_it_overrides() {
    let entries = entries(
        &[
            json!({ "Name": "web", "Action": "allow" }),
            json!({ "Name": "*", "Permissions": [
                { "Action": "deny", "HTTP": { "PathPrefix": "/admin" } } ] }),
        ],
        &[json!({ "Name": "api", "Action": "deny" })],
    );
    let first = judge(&entries, (FIRST, DENY));
    assert_eq!(told(&first, "/admin"), "allowed: intention web → db allows it (precedence 9)");
    let overrides = judge(&entries, (OVERRIDES, DENY));
    assert_eq!(told(&overrides, "/a"), "allowed: intention web → db allows it (precedence 9)");
    assert_eq!(
        told(&overrides, "/admin/x"),
        "denied: permission 1 of intention * → db denies it (path /admin…); as a denial it \
         overrides web → db (precedence 9)"
    );
    // A path that cannot be told may be the one that is denied.
    let unclear = judged(&overrides, Some("/a%2fb"));
    assert!(!unclear.allowed && matches!(unclear.cause, Cause::Unreadable(0, _)));
    // Neither can what is no request.
    assert_eq!(judged(&overrides, None).cause, Cause::NoRequest);
    assert!(judged(&first, None).allowed);
}

#[test]
fn a_denial_that_is_tried_out_overrides_nothing_and_is_told_of() {
    let entries = entries(
        &[json!({ "Name": "web", "Action": "allow" })],
        &[json!({ "Name": "*", "Action": "deny", "DryRun": true })],
    );
    let overrides = judge(&entries, (OVERRIDES, DENY));
    let judgement = judged(&overrides, Some("/"));
    assert_eq!((judgement.allowed, judgement.is_dry_run), (true, true));
    assert_eq!(judgement.by.map(|by| &by.destination), Some(&SourceName::Any));
    assert!(!judged(&judge(&entries, (FIRST, DENY)), Some("/")).is_dry_run);
}

#[test]
fn sets_written_before_the_switch_are_read_as_they_were_meant() {
    let set = json!({ "intentions": [], "default_action": "deny" });
    let set: IntentionSet = serde_json::from_value(set.clone()).expect("a set");
    assert_eq!(set.precedence, FIRST);
    assert_eq!(serde_json::to_value(&set).expect("JSON").get("precedence"), None);
}

#[test]
fn what_decides_reaches_proxies_with_the_intentions() {
    for precedence in [FIRST, OVERRIDES] {
        let decides = (precedence, DENY);
        let set = IntentionSet::for_destination(&name("db"), &[], decides);
        let told = serde_json::to_value(&set).expect("it is data");
        let heard: IntentionSet = serde_json::from_value(told).expect("it is read back");
        assert_eq!((heard.precedence, &heard), (precedence, &set));
    }
}
