//! Tokens: where they stand, what they are worth, and rules on them against the rules read one by
//! one.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    Asked, Call, Cause, IntentionSet, Judge, Token, TokenFault, TokenState, TokenWant, carried,
    judge_claims, without_cookie, without_parameter,
};
use crate::canonical_path::CanonicalPath;
use crate::config_entry::{
    ConfigEntry, IntentionAction, IntentionJwt, IntentionPrecedence, JwtProvider, ServiceIntentions,
};
use crate::name::ServiceName;
use crate::time::Timestamp;
use crate::traffic::RequestView;

const NOW: Timestamp = Timestamp(1_000_000_000);

struct Request<'a> {
    query: Option<&'a str>,
    headers: Vec<(&'a str, &'a str)>,
}

impl RequestView for Request<'_> {
    fn method(&self) -> &str {
        "GET"
    }

    fn path(&self) -> &[u8] {
        b"/a"
    }

    fn query(&self) -> Option<&[u8]> {
        self.query.map(str::as_bytes)
    }

    fn has_disguised(&self, name: &str) -> bool {
        self.headers.iter().any(|(it, _)| *it != name && it.replace('_', "-") == name)
    }

    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        let values = self.headers.iter().filter(|(it, _)| *it == name);
        values.for_each(|(_, value)| visit(value.as_bytes()));
    }
}

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).expect("a name")
}

fn provider(more: &Value) -> JwtProvider {
    let mut entry = json!({ "Kind": "jwt-provider", "Name": "accounts", "Issuer": "us",
        "JSONWebKeySet": { "Local": { "Filename": "/keys" } } });
    for (field, value) in more.as_object().expect("fields") {
        entry[field] = value.clone();
    }
    let entry: ConfigEntry = serde_json::from_value(entry).expect("an entry");
    match entry.normalise() {
        Ok(ConfigEntry::JwtProvider(entry)) => entry,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_token_says_is_judged_to_the_second() {
    let provider = provider(&json!({ "Audiences": ["web"], "ClockSkewSeconds": 10 }));
    let seconds = NOW.unix_seconds();
    let good = json!({ "iss": "us", "aud": "web", "exp": seconds });
    for (field, value, wanted) in [
        ("x", json!(1), Ok(())),
        ("exp", json!(seconds - 9), Ok(())),
        ("exp", json!(seconds - 10), Err(TokenFault::Expired)),
        ("exp", Value::Null, Err(TokenFault::Malformed)),
        ("exp", json!("9"), Err(TokenFault::Malformed)),
        ("nbf", json!(seconds + 10), Ok(())),
        ("nbf", json!(seconds + 11), Err(TokenFault::NotYet)),
        ("aud", json!(["x", "web"]), Ok(())),
        ("aud", json!(["x"]), Err(TokenFault::Audience)),
        ("aud", json!({ "web": 1 }), Err(TokenFault::Audience)),
        ("iss", json!("them"), Err(TokenFault::Issuer)),
        ("iss", json!(["us"]), Err(TokenFault::Issuer)),
    ] {
        let mut claims = good.as_object().cloned().expect("an object");
        claims.insert(field.to_owned(), value.clone());
        assert_eq!(judge_claims(&provider, &claims, NOW), wanted, "{field} {value}");
    }
    let endless = json!({ "iss": "us", "aud": "web" });
    let endless = endless.as_object().expect("an object");
    assert_eq!(judge_claims(&provider, endless, NOW), Err(TokenFault::NoExpiry));
}

#[test]
fn a_token_is_found_where_it_may_stand_and_only_once() {
    let usual = provider(&json!({}));
    let own = provider(&json!({ "Locations": [
        { "Header": { "Name": "X-Token", "ValuePrefix": "jwt=" } }, { "Cookie": { "Name": "s" } },
        { "QueryParam": { "Name": "t" } }] }));
    let check = |provider: &JwtProvider, query, headers: &[(&'static str, &'static str)]| {
        let request = Request { query, headers: headers.to_vec() };
        carried(provider, &request).map(|found| found.map(|found| found.token))
    };
    let some = |text: &str| Ok(Some(text.to_owned()));
    assert_eq!(check(&usual, None, &[("authorization", "bearer  a.b.c ")]), some("a.b.c"));
    assert_eq!(check(&usual, Some("access_token=a.b.c"), &[]), some("a.b.c"));
    assert_eq!(check(&usual, None, &[("authorization", "Basic a.b.c")]), Ok(None));
    assert_eq!(check(&usual, None, &[("authorization", "Bearer")]), Ok(None));
    let bad = check(&usual, None, &[("authorization", "Bearer a.b")]);
    assert_eq!(bad, Err(TokenFault::Malformed));
    let both = check(&usual, Some("access_token=a.b.c"), &[("authorization", "Bearer a.b.c")]);
    assert_eq!(both, Err(TokenFault::Several));
    assert_eq!(check(&own, None, &[("x-token", "jwt=a.b.c")]), some("a.b.c"));
    assert_eq!(check(&own, None, &[("x_token", "jwt=a.b.c")]), Err(TokenFault::Disguised));
    assert_eq!(check(&own, None, &[("cookie", "a=1; s=\"a.b.c\"")]), some("a.b.c"));
    assert_eq!(check(&own, Some("a&%74=a%2Eb.c"), &[]), some("a.b.c"));
    assert_eq!(check(&own, Some("t=a.b.c&t=a.b.c"), &[]), Err(TokenFault::Several));
    assert_eq!(check(&own, Some("access_token=a.b.c"), &[]), Ok(None));
}

#[test]
fn a_token_may_be_as_long_as_tokens_are_and_no_longer() {
    let usual = provider(&json!({}));
    for (more, wanted) in
        [(0, None), (1, Some(TokenFault::TooLong)), (2, Some(TokenFault::TooLong))]
    {
        let token = format!("a.b.{}", "c".repeat(crate::limits::JWT_BYTES_MAX - 4 + more));
        let bearer = format!("Bearer {token}");
        let request = Request { query: None, headers: vec![("authorization", &bearer)] };
        let found = carried(&usual, &request);
        assert_eq!(found.as_ref().err().copied(), wanted, "{more} more");
        let found = found.ok().flatten().map(|found| found.token);
        assert_eq!(found, wanted.is_none().then_some(token), "{more} more");
    }
}

#[test]
fn what_is_taken_out_leaves_the_rest_as_it_was() {
    for (query, left) in [
        ("a=1&t=x&b=%2F", Some("a=1&b=%2F")),
        ("t=x", None),
        ("t", None),
        ("%74=x&&c", Some("&c")),
        ("tt=x", Some("tt=x")),
    ] {
        let found = without_parameter(query.as_bytes(), "t");
        assert_eq!(found.as_deref(), left.map(str::as_bytes), "{query}");
    }
    assert_eq!(without_cookie(b"a=1; s=x;b=2", "s").as_deref(), Some(&b"a=1; b=2"[..]));
    assert_eq!(without_cookie(b"s=x", "s"), None);
}

#[test]
fn a_rule_on_tokens_denies_what_carries_none() {
    let source = json!({ "Name": "web", "Action": "allow" });
    let entry = entry(json!({ "Providers": [{ "Name": "accounts" }] }), &[source]);
    let db = name("db");
    let decides = (Default::default(), IntentionAction::Allow);
    let set = IntentionSet::for_destination(&db, [&entry], decides);
    let known = provider(&json!({}));
    let set = set.with_providers(|name| (*name == known.name).then_some(&known));
    let judge = Judge::new(set);
    let standing = judge.standing(&name("web"));
    assert!(judge.is_by_content(standing));
    let connection = Call { address: None, port: None, sni: None, request: None };
    assert_eq!(judge.evaluate(standing, &connection).cause, Cause::NoRequest);
    let ask = |state| {
        let tokens = [Token { provider: name("accounts"), version: known.modify_index, state }];
        with_tokens(&judge, &tokens)
    };
    assert_eq!(ask(TokenState::Absent), (false, Cause::NoToken(TokenWant::Missing)));
    let expired = TokenFault::Expired;
    let cause = Cause::NoToken(TokenWant::Refused(expired));
    assert_eq!(ask(TokenState::Refused(expired)), (false, cause));
    assert_eq!(ask(TokenState::Verified(Arc::default())), (true, Cause::Action));
    // A token that was judged by another entry is not known.
    let other = crate::index::Index(77);
    let state = TokenState::Verified(Arc::default());
    let stale = [Token { provider: name("accounts"), version: other, state }];
    assert!(!with_tokens(&judge, &stale).0);
    let judgement = judge.evaluate(standing, &connection);
    assert!(judge.explain(&judgement, &name("web"), &db).starts_with("denied: intention web"));
}

/// A denial behind an allowance asks for tokens as well, and only a token that is not what it
/// names keeps it off.
#[test]
fn a_denial_by_token_overrides_where_denials_do() {
    let claim = json!([{ "Path": ["role"], "Value": "guest" }]);
    let jwt = json!({ "Providers": [{ "Name": "accounts", "VerifyClaims": claim }] });
    let sources = [
        json!({ "Name": "web", "Action": "allow" }),
        json!({ "Name": "*", "Permissions": [{ "Action": "deny", "JWT": jwt }] }),
    ];
    let entry = entry(json!({}), &sources);
    let known = provider(&json!({}));
    for (precedence, overrides) in
        [(IntentionPrecedence::FirstMatch, false), (IntentionPrecedence::DenyOverrides, true)]
    {
        let decides = (precedence, IntentionAction::Deny);
        let set = IntentionSet::for_destination(&name("db"), [&entry], decides);
        let judge = Judge::new(set.with_providers(|_| Some(&known)));
        let standing = judge.standing(&name("web"));
        assert_eq!(judge.is_by_content(standing), overrides);
        assert_eq!(judge.providers(standing).count(), usize::from(overrides));
        let ask = |role: &str| {
            let claims = [("role".to_owned(), role.into())].into_iter().collect();
            let state = TokenState::Verified(Arc::new(claims));
            let token = Token { provider: name("accounts"), version: known.modify_index, state };
            with_tokens(&judge, &[token])
        };
        assert_eq!(ask("staff"), (true, Cause::Action));
        let denied = if overrides { Cause::Permission(0) } else { Cause::Action };
        assert_eq!(ask("guest"), (!overrides, denied));
    }
}

/// Who would not be let in by a token either is not told that one is missing.
#[test]
fn a_token_is_missed_only_where_it_would_help() {
    let jwt = json!({ "Providers": [{ "Name": "accounts" }] });
    let known = provider(&json!({}));
    for (exact, path, wanted) in [
        ("/a", "/a", Cause::NoTokenFor(0, TokenWant::Missing)),
        ("/elsewhere", "/a", Cause::NoPermission),
        // Some read it as /a, others do not.
        ("/a", "/a;b", Cause::NoPermission),
    ] {
        let permission = json!({ "Action": "allow", "HTTP": { "PathExact": exact }, "JWT": jwt });
        let source = json!({ "Name": "web", "Permissions": [permission] });
        let entry = entry(json!({}), &[source]);
        let decides = (Default::default(), IntentionAction::Deny);
        let set = IntentionSet::for_destination(&name("db"), [&entry], decides);
        let judge = Judge::new(set.with_providers(|_| Some(&known)));
        let (provider, version) = (name("accounts"), known.modify_index);
        let absent = Token { provider, version, state: TokenState::Absent };
        let judged = with_tokens_at(path, &judge, &[absent]);
        assert_eq!(judged, (false, wanted), "{exact} {path}");
    }
}

/// What a claim says is one value or a list of them; what is in a list of a list is not said.
#[test]
fn a_claim_says_its_value_or_those_of_its_list() {
    let ask = |path: &Value, want: &str, claims: &Value| {
        let claim = json!([{ "Path": path, "Value": want }]);
        let jwt = json!({ "Providers": [{ "Name": "accounts", "VerifyClaims": claim }] });
        let entry = entry(jwt, &[json!({ "Name": "web", "Action": "allow" })]);
        let known = provider(&json!({}));
        let decides = (Default::default(), IntentionAction::Deny);
        let set = IntentionSet::for_destination(&name("db"), [&entry], decides);
        let judge = Judge::new(set.with_providers(|_| Some(&known)));
        let claims = claims.as_object().cloned().expect("an object");
        let state = TokenState::Verified(Arc::new(claims));
        let token = Token { provider: name("accounts"), version: known.modify_index, state };
        with_tokens(&judge, &[token]).0
    };
    for (path, want, claims, wanted) in [
        (json!(["role"]), "admin", json!({ "role": "admin" }), true),
        (json!(["role"]), "admin", json!({ "role": "Admin" }), false),
        (json!(["role"]), "admin", json!({ "role": ["user", "admin"] }), true),
        (json!(["role"]), "admin", json!({ "role": ["user"] }), false),
        (json!(["role"]), "admin", json!({ "role": [] }), false),
        (json!(["role"]), "admin", json!({ "role": [["admin"]] }), false),
        (json!(["role"]), "admin", json!({ "role": { "admin": true } }), false),
        (json!(["role"]), "admin", json!({ "roles": "admin" }), false),
        (json!(["level"]), "7", json!({ "level": 7 }), true),
        (json!(["level"]), "7", json!({ "level": [6, 7] }), true),
        (json!(["level"]), "7", json!({ "level": 7.5 }), false),
        (json!(["is"]), "true", json!({ "is": true }), true),
        (json!(["is"]), "null", json!({ "is": null }), false),
        (json!(["a", "b"]), "x", json!({ "a": { "b": "x" } }), true),
        (json!(["a", "b"]), "x", json!({ "a": [{ "b": "x" }], "a.b": "x" }), false),
    ] {
        assert_eq!(ask(&path, want, &claims), wanted, "{path} {want} in {claims}");
    }
}

#[test]
fn keys_are_kept_for_as_long_as_is_said_or_five_minutes() {
    for (said, wanted) in [(0, 300), (1, 1), (3_600, 3_600)] {
        let said = crate::time::Span(std::time::Duration::from_secs(said));
        assert_eq!(super::keys_kept_for(said), std::time::Duration::from_secs(wanted));
    }
}

fn with_tokens(judge: &Judge, tokens: &[Token]) -> (bool, Cause) {
    with_tokens_at("/a", judge, tokens)
}

fn with_tokens_at(path: &str, judge: &Judge, tokens: &[Token]) -> (bool, Cause) {
    let request = Request { query: None, headers: Vec::new() };
    let path = CanonicalPath::parse(path.as_bytes()).expect("a path");
    let asked = Asked { request: &request, path: Ok(&path), tokens };
    let call = Call { address: None, port: Some(80), sni: None, request: Some(asked) };
    let judgement = judge.evaluate(judge.standing(&name("web")), &call);
    (judgement.allowed, judgement.cause)
}

fn entry(jwt: Value, sources: &[Value]) -> ServiceIntentions {
    let entry = json!({ "Kind": "service-intentions", "Name": "db", "JWT": jwt,
        "Sources": sources });
    let entry: ConfigEntry = serde_json::from_value(entry).expect("an entry");
    match entry.normalise() {
        Ok(ConfigEntry::ServiceIntentions(entry)) => entry,
        other => panic!("{other:?}"),
    }
}

/// Whether what is asked for is there: `None` when a token that counts may be anything.
fn holds(jwt: Option<&IntentionJwt>, tokens: &[Token]) -> Option<bool> {
    let Some(jwt) = jwt else { return Some(true) };
    let of_one = jwt.providers.iter().map(|asked| {
        let token = tokens.iter().find(|token| token.provider == asked.name);
        match token.map(|token| &token.state) {
            Some(TokenState::Absent) => Some(false),
            Some(TokenState::Verified(claims)) => {
                let says = |claim: &crate::config_entry::JwtClaim| {
                    claims.get(&claim.path[0]).and_then(Value::as_str) == Some(&*claim.value)
                };
                Some(asked.verify_claims.iter().all(says))
            }
            Some(TokenState::Refused(TokenFault::Issuer)) => Some(false),
            Some(TokenState::Refused(_)) | None => None,
        }
    });
    let all: Vec<Option<bool>> = of_one.collect();
    match all.contains(&Some(true)) {
        true => Some(true),
        false => (!all.contains(&None)).then_some(false),
    }
}

/// The rules read one by one.
fn reference(entry: &ServiceIntentions, tokens: &[Token], default: IntentionAction) -> bool {
    let source = &entry.sources[0];
    if source.action != Some(IntentionAction::Deny)
        && holds(entry.jwt.as_ref(), tokens) != Some(true)
    {
        return false;
    }
    let decides = source.permissions.iter().find(|permission| {
        let token = holds(permission.jwt.as_ref(), tokens);
        let path = permission.http.as_ref().is_none_or(|http| http.path_exact.is_none());
        path && token.unwrap_or(permission.action == IntentionAction::Deny)
    });
    let action = decides.map(|permission| permission.action).or(source.action).unwrap_or(default);
    action == IntentionAction::Allow
}

fn jwt() -> impl Strategy<Value = Value> {
    let one = |name: &'static str| {
        let claim = prop::sample::select(vec![json!([]), claim("admin"), claim("user")]);
        claim.prop_map(move |claims| json!({ "Name": name, "VerifyClaims": claims }))
    };
    prop_oneof![
        Just(Value::Null),
        one("accounts").prop_map(|a| json!({ "Providers": [a] })),
        one("gone").prop_map(|a| json!({ "Providers": [a] })),
        (one("accounts"), one("partners")).prop_map(|(a, b)| json!({ "Providers": [a, b] })),
    ]
}

fn claim(role: &str) -> Value {
    json!([{ "Path": ["role"], "Value": role }])
}

fn state() -> impl Strategy<Value = TokenState> {
    let verified = |role: &str| {
        let claims: Map<String, Value> = [("role".to_owned(), json!(role))].into_iter().collect();
        TokenState::Verified(Arc::new(claims))
    };
    prop::sample::select(vec![
        TokenState::Absent,
        TokenState::Refused(TokenFault::Issuer),
        TokenState::Refused(TokenFault::Expired),
        TokenState::Refused(TokenFault::NoKeys),
        verified("admin"),
        verified("user"),
        verified("none"),
    ])
}

proptest! {
    #[test]
    fn rules_on_tokens_decide_as_they_read(
        of_entry in jwt(),
        permissions in prop::collection::vec(
            (jwt(), prop::sample::select(vec!["allow", "deny"]), any::<bool>()), 0..5),
        action in prop::sample::select(vec!["allow", "deny"]),
        default in prop::sample::select(vec![IntentionAction::Allow, IntentionAction::Deny]),
        states in (state(), state()),
    ) {
        let permissions: Vec<Value> = permissions
            .iter()
            .map(|(jwt, action, other)| {
                let http = match other {
                    true => json!({ "PathExact": "/other" }),
                    false => json!({ "PathPrefix": "/" }),
                };
                json!({ "Action": action, "JWT": jwt, "HTTP": http })
            })
            .collect();
        let source = match permissions.is_empty() {
            true => json!({ "Name": "web", "Action": action }),
            false => json!({ "Name": "web", "Permissions": permissions }),
        };
        let entry = entry(of_entry, &[source]);
        let known = [provider(&json!({})), provider(&json!({ "Name": "partners" }))];
        let set = IntentionSet::for_destination(&name("db"), [&entry], (Default::default(), default))
            .with_providers(|name| known.iter().find(|known| known.name == *name));
        let judge = Judge::new(set);
        let token = |name: &str, state| {
            let provider = ServiceName::parse(name).expect("a name");
            Token { provider, version: known[0].modify_index, state }
        };
        let tokens = [token("accounts", states.0), token("partners", states.1)];
        prop_assert_eq!(with_tokens(&judge, &tokens).0, reference(&entry, &tokens, default));
    }
}
