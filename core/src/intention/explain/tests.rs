//! Judgements in words, to the letter: which rule it was, what it asks for, and what is missing.

use serde_json::{Value, json};

use super::super::{Asked, Call, IntentionSet, Judge, Token, TokenState};
use crate::canonical_path::CanonicalPath;
use crate::config_entry::{ConfigEntry, IntentionAction};
use crate::name::ServiceName;
use crate::traffic::RequestView;

struct Request {
    path: &'static str,
}

impl RequestView for Request {
    fn method(&self) -> &str {
        "GET"
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn query(&self) -> Option<&[u8]> {
        None
    }

    fn has_disguised(&self, _: &str) -> bool {
        false
    }

    fn each_header(&self, _: &str, _: &mut dyn FnMut(&[u8])) {}
}

fn entry(entry: Value) -> ConfigEntry {
    let entry: ConfigEntry = serde_json::from_value(entry).expect("an entry");
    entry.normalise().expect("an entry that is right")
}

/// What is said of a request for this path, without a token, from `web` to `db`.
fn told(intentions: Value, path: &'static str) -> String {
    let mut intentions = intentions;
    intentions["Kind"] = "service-intentions".into();
    let ConfigEntry::ServiceIntentions(intentions) = entry(intentions) else {
        panic!("it holds intentions")
    };
    let provider = |name: &str| match entry(json!({ "Kind": "jwt-provider", "Name": name,
            "JSONWebKeySet": { "Local": { "Filename": "/keys" } } }))
    {
        ConfigEntry::JwtProvider(provider) => provider,
        other => panic!("{other:?}"),
    };
    let known = [provider("accounts"), provider("partners")];
    let name = |text| ServiceName::parse(text).expect("a name");
    let (web, db) = (name("web"), name("db"));
    let decides = (Default::default(), IntentionAction::Deny);
    let set = IntentionSet::for_destination(&db, [&intentions], decides);
    let judge = Judge::new(set.with_providers(|name| known.iter().find(|it| it.name == *name)));
    let request = Request { path };
    let path = CanonicalPath::parse(path.as_bytes());
    let absent = |provider: &crate::config_entry::JwtProvider| Token {
        provider: provider.name.clone(),
        version: provider.modify_index,
        state: TokenState::Absent,
    };
    let tokens: Vec<Token> = known.iter().map(absent).collect();
    let path = path.as_ref().map_err(|unclear| *unclear);
    let asked = Asked { request: &request, path, tokens: &tokens };
    let call = Call { address: None, port: None, sni: None, request: Some(asked) };
    let judgement = judge.evaluate(judge.standing(&web), &call);
    judge.explain(&judgement, &web, &db)
}

#[test]
fn a_rule_for_others_as_well_is_told_with_whom_it_was_asked_for() {
    for (name, source, wanted) in [
        ("db", "web", "allowed: intention web → db allows it (precedence 9)"),
        ("db", "*", "allowed: intention * → db allows it (precedence 8), asked for web → db"),
        ("*", "web", "allowed: intention web → * allows it (precedence 6), asked for web → db"),
        ("*", "*", "allowed: intention * → * allows it (precedence 5), asked for web → db"),
    ] {
        let sources = json!([{ "Name": source, "Action": "allow" }]);
        assert_eq!(told(json!({ "Name": name, "Sources": sources }), "/"), wanted);
    }
}

#[test]
fn a_permission_is_told_by_its_number_and_what_it_asks_for() {
    let claims = json!([{ "Path": ["role"], "Value": "admin" },
        { "Path": ["team", "name"], "Value": "x" }]);
    let tokens = json!({ "Providers": [
        { "Name": "accounts", "VerifyClaims": claims }, { "Name": "partners" }] });
    for (second, path, wanted) in [
        (
            json!({ "Action": "allow", "JWT": tokens }),
            "/",
            "denied: the request carries no token, and permission 2 of intention web → db asks \
             for it (token of accounts with role=admin and team.name=x or of partners)",
        ),
        (
            json!({ "Action": "allow", "HTTP": { "PathExact": "/x" } }),
            "/a%2fb",
            "denied: the path has an escaped '/', '\\' or ';', which origins read differently, \
             and permission 2 of intention web → db looks at it (path /x)",
        ),
        (
            json!({ "Action": "deny", "HTTP": { "PathPrefix": "/x" } }),
            "/x/y",
            "denied: permission 2 of intention web → db denies it (path /x…)",
        ),
        (
            json!({ "Action": "allow", "HTTP": { "PathRegex": "/[a-z]", "Methods": ["GET", "PUT"],
                "Header": [{ "Name": "x-a", "Present": true, "Invert": true }] } }),
            "/x",
            "allowed: permission 2 of intention web → db allows it (path like /[a-z], method GET \
             or PUT, not header x-a)",
        ),
    ] {
        let first = json!({ "Action": "deny", "HTTP": { "Methods": ["POST"] } });
        let sources = json!([{ "Name": "web", "Permissions": [first, second] }]);
        assert_eq!(told(json!({ "Name": "db", "Sources": sources }), path), wanted);
    }
}

#[test]
fn an_intention_on_tokens_says_whose_it_asks_for() {
    let intentions = json!({ "Name": "db", "JWT": { "Providers": [{ "Name": "accounts" }] },
        "Sources": [{ "Name": "web", "Action": "allow" }] });
    assert_eq!(
        told(intentions, "/"),
        "denied: the request carries no token, and intention web → db asks for one (token of \
         accounts)"
    );
}
