//! Permissions, against the rules read one by one.

use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::json;

use super::{Asked, Call, Cause, IntentionSet, Judge};
use crate::canonical_path::CanonicalPath;
use crate::config_entry::{
    ConfigEntry, IntentionAction, IntentionPermission, ServiceIntentions, SourceName,
};
use crate::name::ServiceName;
use crate::traffic::RequestView;

#[derive(Debug, Clone)]
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
}

impl RequestView for Request {
    fn method(&self) -> &str {
        &self.method
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn query(&self) -> Option<&[u8]> {
        None
    }

    fn has_disguised(&self, name: &str) -> bool {
        self.headers.iter().any(|(it, _)| it != name && it.replace('_', "-") == name)
    }

    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        let values = self.headers.iter().filter(|(it, _)| it == name);
        values.for_each(|(_, value)| visit(value.as_bytes()));
    }
}

/// Reads `GET /path name:value name:value`.
fn request(line: &str) -> Request {
    let mut words = line.split(' ').map(str::to_owned);
    let mut word = || words.next().expect("a method and a path");
    let (method, path) = (word(), word());
    let header = |word: String| {
        let (name, value) = word.split_once(':').expect("name:value");
        (name.to_owned(), value.replace('+', " "))
    };
    Request { method, path, headers: words.map(header).collect() }
}

fn entry(permissions: serde_json::Value) -> Result<ServiceIntentions, String> {
    entry_with(json!({ "Name": "web", "Permissions": permissions }))
}

fn entry_with(source: serde_json::Value) -> Result<ServiceIntentions, String> {
    let entry = json!({ "Kind": "service-intentions", "Name": "db", "Sources": [source] });
    let entry: ConfigEntry = serde_json::from_value(entry).map_err(|error| error.to_string())?;
    match entry.normalise() {
        Ok(ConfigEntry::ServiceIntentions(entry)) => Ok(entry),
        Ok(other) => panic!("{other:?}"),
        Err(faults) => Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

fn judge(entry: &ServiceIntentions, default: IntentionAction) -> Judge {
    let db = ServiceName::parse("db").expect("a name");
    Judge::new(IntentionSet::for_destination(&db, [entry], (Default::default(), default)))
}

fn web() -> ServiceName {
    ServiceName::parse("web").expect("a name")
}

fn is_allowed(judge: &Judge, request: &Request, address: Option<IpAddr>) -> bool {
    let path = CanonicalPath::parse(request.path.as_bytes());
    let asked = Asked { request, path: path.as_ref().map_err(|unclear| *unclear), tokens: &[] };
    let call = Call { address, port: Some(8080), sni: None, request: Some(asked) };
    judge.evaluate(judge.standing(&web()), &call).allowed
}

/// Checks `+ GET /path` (allowed) and `- GET /path` (denied).
fn check(permissions: serde_json::Value, default: IntentionAction, lines: &[&str]) {
    let judge = judge(&entry(permissions.clone()).expect("right permissions"), default);
    for line in lines {
        let (wanted, line) = (line.starts_with('+'), &line[2..]);
        assert_eq!(is_allowed(&judge, &request(line), None), wanted, "{line} by {permissions}");
    }
}

const DENY: IntentionAction = IntentionAction::Deny;
const ALLOW: IntentionAction = IntentionAction::Allow;

#[test]
fn the_first_permission_that_matches_decides_and_else_the_default() {
    let permissions = json!([
        { "Action": "deny", "HTTP": { "PathPrefix": "/admin" } },
        { "Action": "allow", "HTTP": { "PathExact": "/admin/health" } },
        { "Action": "allow", "HTTP": { "PathRegex": "/v[0-9]+/.*", "Methods": ["get", "HEAD"] } },
    ]);
    let lines = ["- GET /admin/health", "+ GET /v1/x", "- POST /v1/x", "- get /v1/x", "- GET /w"];
    check(permissions.clone(), DENY, &lines);
    check(permissions, ALLOW, &["- GET /admin/health", "+ POST /v1/x", "+ GET /w"]);
}

/// **Source**: CVE-2021-36213, a single denial under default deny became an allowance.
#[test]
fn only_denials_and_no_permissions_leave_the_default() {
    let deny = json!([{ "Action": "deny", "HTTP": { "PathExact": "/x" } }]);
    check(deny.clone(), DENY, &["- GET /x", "- GET /y"]);
    check(deny, ALLOW, &["- GET /x", "+ GET /y"]);
}

#[test]
fn a_path_is_judged_in_each_spelling_that_reaches_it() {
    let deny = json!([{ "Action": "deny", "HTTP": { "PathPrefix": "/admin" } }]);
    check(
        deny,
        ALLOW,
        &[
            "- GET //admin",
            "- GET /./admin",
            "- GET /x/../admin",
            "- GET /%61dmin",
            "- GET /x/%2e%2e/admin",
            "- GET /admin%2fx",
            "- GET /x\\admin",
            "- GET /%2561dmin",
            "- GET /%zz",
            "- GET /%c0%afadmin",
            "- GET /x/..;/admin",
            "- GET /;x/admin",
            "- GET /%00",
            "+ GET /Admin",
            "+ GET /x",
        ],
    );
    let allow = json!([{ "Action": "allow", "HTTP": { "PathPrefix": "/pub/" } }]);
    check(allow, DENY, &["+ GET /pub//x", "- GET /pub/../x", "- GET /pub/..;/x", "+ GET /pub/;x"]);
}

#[test]
fn a_header_is_judged_as_each_origin_may_read_it() {
    let header = |action: &str, matcher: serde_json::Value| {
        let mut header = json!({ "Name": "X-Role" });
        for (key, value) in matcher.as_object().expect("an object") {
            header[key] = value.clone();
        }
        json!([{ "Action": action, "HTTP": { "Header": [header] } }])
    };
    let exact = json!({ "Exact": "admin" });
    check(
        header("deny", exact.clone()),
        ALLOW,
        &[
            "- GET / x-role:admin",
            "- GET / x-role:user x-role:admin",
            "- GET / x-role:admin x-role:user",
            "- GET / x-role:user,+admin",
            "- GET / x_role:admin",
            "- GET / x-role:é",
            "+ GET / x-role:user",
            "+ GET / x-role:Admin",
            "+ GET /",
        ],
    );
    check(
        header("allow", exact.clone()),
        DENY,
        &[
            "+ GET / x-role:admin",
            "- GET / x-role:user x-role:admin",
            "- GET / x-role:admin x-role:admin",
            "- GET / x-role:admin,user",
            "- GET / x-role:admin x_role:user",
            "- GET /",
        ],
    );
    // Whoever must not be somebody else must say who it is.
    let not = json!({ "Exact": "user", "Invert": true });
    check(
        header("deny", not.clone()),
        ALLOW,
        &["+ GET / x-role:user", "- GET / x-role:user x-role:a", "- GET /", "- GET / x-role:a"],
    );
    check(header("allow", not), DENY, &["- GET / x-role:user", "- GET /", "+ GET / x-role:a"]);
    for (matcher, allowed, denied) in [
        (json!({ "Present": true }), "x-role:a", "x-other:a"),
        (json!({ "Present": true, "Invert": true }), "x-other:a", "x-role:a"),
        (json!({ "Prefix": "ad" }), "x-role:admin", "x-role:bad"),
        (json!({ "Suffix": "in" }), "x-role:admin", "x-role:ina"),
        (json!({ "Contains": "dmi" }), "x-role:admin", "x-role:dm"),
        (json!({ "Contains": "DMI", "IgnoreCase": true }), "x-role:admin", "x-role:dm"),
        (json!({ "Exact": "ADMIN", "IgnoreCase": true }), "x-role:admin", "x-role:dm"),
        (json!({ "Regex": "a.*n" }), "x-role:admin", "x-role:xadmin"),
    ] {
        let lines = [format!("+ GET / {allowed}"), format!("- GET / {denied}")];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        check(header("allow", matcher), DENY, &lines);
    }
}

#[test]
fn a_host_is_judged_without_its_port_and_final_dot() {
    let host = json!([{ "Action": "deny", "HTTP": { "Header": [
        { "Name": "Host", "Exact": "db.example" }] } }]);
    let hosts = [
        "- GET / host:DB.example",
        "- GET / host:db.example:80",
        "- GET / host:db.example.",
        "+ GET / host:xdb.example",
        "+ GET / host:db.example:x",
    ];
    check(host, ALLOW, &hosts);
    let host = json!([{ "Action": "deny", "HTTP": { "Header": [
        { "Name": "Host", "Exact": "[::1]" }] } }]);
    check(host, ALLOW, &["- GET / host:[::1]:80", "- GET / host:[::1].", "+ GET / host:[:"]);
}

#[test]
fn a_denial_by_address_that_overrides_leaves_other_connections_alone() {
    let deny = json!([{ "Action": "deny", "SourceCIDRs": ["10.0.0.0/8"] }]);
    let entry = entry(deny).expect("right permissions");
    let db = ServiceName::parse("db").expect("a name");
    let decides = (crate::config_entry::IntentionPrecedence::DenyOverrides, ALLOW);
    let judge = Judge::new(IntentionSet::for_destination(&db, [&entry], decides));
    for (address, wanted) in [("10.1.2.3", false), ("192.0.2.1", true)] {
        let address = Some(address.parse().expect("an address"));
        let call = Call { address, port: Some(8080), sni: None, request: None };
        assert_eq!(judge.evaluate(judge.standing(&web()), &call).allowed, wanted, "{address:?}");
    }
}

#[test]
fn addresses_and_ports_are_conditions_as_well() {
    let permissions = json!([
        { "Action": "deny", "SourceCIDRs": ["10.1.0.9"] },
        { "Action": "allow", "SourceCIDRs": ["10.1.2.3/16", "fd00::/8"],
          "DestinationPorts": [8080] },
    ]);
    let judge = judge(&entry(permissions).expect("right"), DENY);
    for (address, wanted) in [
        (Some("10.1.0.1"), true),
        (Some("::ffff:10.1.0.1"), true),
        (Some("10.1.0.9"), false),
        (Some("::ffff:10.1.0.9"), false),
        (Some("10.2.0.1"), false),
        (Some("fd00::1"), true),
        (None, false),
    ] {
        let address = address.map(|text| text.parse().expect("an address"));
        let call = |port| Call { address, port: Some(port), sni: None, request: None };
        let standing = judge.standing(&web());
        assert_eq!(judge.evaluate(standing, &call(8080)).allowed, wanted, "{address:?}");
        assert!(!judge.evaluate(standing, &call(8081)).allowed);
    }
}

/// What the caller does not say counts against it, whether the rule allows or denies.
#[test]
fn server_names_are_conditions_as_well() {
    let permissions =
        |action: &str| json!([{ "Action": action, "SNIs": ["DB.mesh.", "*.db.mesh"] }]);
    for (sni, is_one) in [
        (Some("db.mesh"), true),
        (Some("db.mesh."), true),
        (Some("v1.db.mesh"), true),
        (Some("V1.DB.Mesh"), true),
        (Some("other.mesh"), false),
        (Some("xdb.mesh"), false),
    ] {
        let call = Call { address: None, port: None, sni, request: None };
        let allowing = judge(&entry(permissions("allow")).expect("right"), DENY);
        assert_eq!(allowing.evaluate(allowing.standing(&web()), &call).allowed, is_one, "{sni:?}");
        let denying = judge(&entry(permissions("deny")).expect("right"), ALLOW);
        assert_eq!(denying.evaluate(denying.standing(&web()), &call).allowed, !is_one, "{sni:?}");
    }
    let silent = Call { address: None, port: None, sni: None, request: None };
    for (action, default) in [("allow", DENY), ("deny", ALLOW)] {
        let judge = judge(&entry(permissions(action)).expect("right"), default);
        let judgement = judge.evaluate(judge.standing(&web()), &silent);
        assert!(!judgement.allowed, "{action}");
    }
    let entry = entry(permissions("deny")).expect("right");
    assert_eq!(entry.sources[0].permissions[0].snis, ["db.mesh", "*.db.mesh"]);
}

#[test]
fn conditions_on_requests_deny_what_is_no_request() {
    let permissions = json!([{ "Action": "allow", "HTTP": { "PathPrefix": "/" } }]);
    let judge = judge(&entry(permissions).expect("right"), ALLOW);
    let call = Call { address: None, port: None, sni: None, request: None };
    let judgement = judge.evaluate(judge.standing(&web()), &call);
    assert_eq!((judgement.allowed, judgement.cause), (false, Cause::NoRequest));
}

#[test]
fn a_dry_run_lets_through_and_says_so() {
    let source = json!({ "Name": "web", "Action": "deny", "DryRun": true });
    let judge = judge(&entry_with(source).expect("right"), DENY);
    let call = Call { address: None, port: None, sni: None, request: None };
    let judgement = judge.evaluate(judge.standing(&web()), &call);
    assert!(judgement.allowed && judgement.is_dry_run);
    let db = ServiceName::parse("db").expect("a name");
    assert_eq!(
        judge.explain(&judgement, &web(), &db),
        "allowed in a dry run, else denied: intention web → db denies it (precedence 9)"
    );
    let other = ServiceName::parse("other").expect("a name");
    let judgement = judge.evaluate(judge.standing(&other), &call);
    assert!(!judgement.allowed && !judgement.is_dry_run);
}

#[test]
fn what_is_wrong_with_permissions_is_told_by_field() {
    for (permissions, wanted) in [
        (json!([{ "Action": "deny" }]), "Sources[0].Permissions[0]: needs a condition"),
        (json!([{ "Action": "deny", "HTTP": {} }]), "Permissions[0]: needs a condition"),
        (
            json!([{ "Action": "deny", "HTTP": { "PathExact": "/a", "PathPrefix": "/b" } }]),
            "Sources[0].Permissions[0].HTTP: write one of PathExact, PathPrefix and PathRegex",
        ),
        (json!([{ "Action": "deny", "HTTP": { "PathExact": "a" } }]), "must start with '/'"),
        (json!([{ "Action": "deny", "HTTP": { "PathExact": "/a//b" } }]), "matches no request"),
        (json!([{ "Action": "deny", "HTTP": { "PathPrefix": "/a/./" } }]), "matches no request"),
        (json!([{ "Action": "deny", "HTTP": { "PathPrefix": "/a%2fb" } }]), "has an escaped '/'"),
        (json!([{ "Action": "deny", "HTTP": { "PathRegex": "(" } }]), "PathRegex: \"(\" is not"),
        (json!([{ "Action": "deny", "HTTP": { "Methods": ["get", "GET"] } }]), "given twice"),
        (json!([{ "Action": "deny", "HTTP": { "Header": [{ "Name": "x" }] } }]), "exactly one of"),
        (json!([{ "Action": "deny", "SourceCIDRs": ["10.0.0.0/33"] }]), "SourceCIDRs[0]: \"10"),
        (json!([{ "Action": "deny", "SourceCIDRs": ["::ffff:10.0.0.1"] }]), "is not a network"),
        (json!([{ "Action": "deny", "DestinationPorts": [0] }]), "DestinationPorts[0]: must be"),
        (json!([{ "Action": "deny", "SNIs": ["a", "*"] }]), "SNIs[1]: \"*\" is not a host name"),
        (json!([{ "Action": "deny", "SNIs": ["a*.b"] }]), "SNIs[0]: \"a*.b\" is not a host name"),
        (json!([{ "Action": "deny", "SNIs": [""] }]), "SNIs[0]: \"\" is not a host name"),
    ] {
        let told = entry(permissions.clone()).expect_err("a fault");
        assert!(told.contains(wanted), "{permissions}: {told}");
    }
    let both = json!({ "Name": "web", "Action": "deny",
        "Permissions": [{ "Action": "deny", "DestinationPorts": [1] }] });
    assert!(entry_with(both).expect_err("both").contains("go without Action"));
    assert!(entry_with(json!({ "Name": "web" })).expect_err("none").contains("Action: is missing"));
    let any = json!({ "Kind": "service-intentions", "Name": "*", "Sources": [{ "Name": "web",
        "Permissions": [{ "Action": "deny", "DestinationPorts": [1] }] }] });
    let any: ConfigEntry = serde_json::from_value(any).expect("an entry");
    assert!(any.normalise().is_err());
}

#[test]
fn a_prefix_may_end_where_a_dot_segment_would_begin() {
    let allow = json!([{ "Action": "allow", "HTTP": { "PathPrefix": "/." } }]);
    check(allow, DENY, &["+ GET /.well-known", "- GET /x", "- GET /./x", "- GET /"]);
}

#[test]
fn a_judge_that_cannot_judge_denies() {
    let mut entry = entry(json!([{ "Action": "allow", "HTTP": { "PathRegex": "/a" } }])).expect("");
    let http = entry.sources[0].permissions[0].http.as_mut().expect("it was given");
    http.path_regex = Some("(".to_owned());
    let judge = judge(&entry, ALLOW);
    assert!(!is_allowed(&judge, &request("GET /a"), None));
}

/// The rules read one by one, for requests that all origins read alike.
fn reference(source: &ServiceIntentions, request: &Request, default: IntentionAction) -> bool {
    let holds = |permission: &IntentionPermission| {
        let http = permission.http.as_ref().expect("all of them have one");
        let path = http.path_exact.as_ref().is_none_or(|path| *path == request.path)
            && http.path_prefix.as_ref().is_none_or(|path| request.path.starts_with(path))
            && http.path_regex.as_ref().is_none_or(|path| {
                request.path == "/a" || request.path.starts_with("/a/") && path == "/a(/.*)?"
            });
        let method = http.methods.is_empty() || http.methods.contains(&request.method);
        path && method
            && http.header.iter().all(|header| {
                let value = request.headers.iter().find(|(name, _)| *name == header.name);
                match (value, &header.exact, header.invert) {
                    (value, None, invert) => value.is_some() != invert,
                    (None, Some(_), invert) => invert && permission.action == DENY,
                    (Some((_, value)), Some(want), invert) => (value == want) != invert,
                }
            })
    };
    let decides = source.sources[0].permissions.iter().find(|permission| holds(permission));
    decides.map_or(default, |permission| permission.action) == ALLOW
}

prop_compose! {
    fn permission()(
        action in prop::sample::select(vec!["allow", "deny"]),
        path in prop::sample::select(vec![("", ""), ("PathExact", "/a"), ("PathPrefix", "/a"),
            ("PathPrefix", "/b/"), ("PathRegex", "/a(/.*)?")]),
        methods in prop::sample::subsequence(vec!["GET", "POST"], 0..=2),
        header in prop::sample::select(vec![(0, false), (1, false), (1, true), (2, false), (2, true)]),
    ) -> serde_json::Value {
        let mut http = json!({ "Methods": methods });
        if !path.0.is_empty() {
            http[path.0] = path.1.into();
        }
        match header {
            (1, invert) => http["Header"] = json!([{ "Name": "x", "Present": true, "Invert": invert }]),
            (2, invert) => http["Header"] = json!([{ "Name": "x", "Exact": "1", "Invert": invert }]),
            _ => {}
        }
        if http == json!({ "Methods": [] }) {
            http["PathPrefix"] = "/".into();
        }
        json!({ "Action": action, "HTTP": http })
    }
}

proptest! {
    #[test]
    fn the_compiled_form_decides_as_the_rules_read_one_by_one(
        permissions in prop::collection::vec(permission(), 1..6),
        default in prop::sample::select(vec![ALLOW, DENY]),
        path in prop::sample::select(vec!["/", "/a", "/a/c", "/ab", "/b", "/b/c"]),
        method in prop::sample::select(vec!["GET", "POST", "PUT"]),
        value in prop::option::of(prop::sample::select(vec!["1", "2"])),
    ) {
        let entry = entry(permissions.into()).expect("right permissions");
        let headers = value.map(|value| ("x".to_owned(), value.to_owned()));
        let headers = headers.into_iter().collect();
        let request = Request { method: method.to_owned(), path: path.to_owned(), headers };
        prop_assert_eq!(
            is_allowed(&judge(&entry, default), &request, None),
            reference(&entry, &request, default)
        );
    }

    /// Whatever the spelling: what is let through is let through as the origin reads it.
    #[test]
    fn no_spelling_of_a_path_passes_a_denial(
        path in r"/(([a.;/%\\]|%2e|%61|%2f|%25|\.\./){0,12})",
    ) {
        let deny = json!([{ "Action": "deny", "HTTP": { "PathPrefix": "/a" } }]);
        let judge = judge(&entry(deny).expect("right"), ALLOW);
        let line = request(&format!("GET {path}"));
        if is_allowed(&judge, &line, None) {
            let path = CanonicalPath::parse(path.as_bytes()).expect("it was judged");
            prop_assert!(path.readings().all(|path| !path.starts_with(b"/a")));
            prop_assert!(SourceName::parse("web").is_ok());
        }
    }
}

#[test]
fn requests_are_judged_one_by_one_where_a_condition_asks_about_them() {
    let permissions = |it: serde_json::Value| json!({ "Name": "web", "Permissions": [it] });
    for (source, wanted) in [
        (json!({ "Name": "web", "Action": "allow" }), false),
        (json!({ "Name": "web", "Action": "deny" }), false),
        (json!({ "Name": "other", "Action": "allow" }), false),
        (permissions(json!({ "Action": "allow", "HTTP": { "PathPrefix": "/" } })), true),
        (permissions(json!({ "Action": "deny", "HTTP": { "Methods": ["GET"] } })), true),
        (permissions(json!({ "Action": "allow", "DestinationPorts": [80] })), false),
        (permissions(json!({ "Action": "allow", "SourceCIDRs": ["10.0.0.0/8"] })), false),
        (permissions(json!({ "Action": "allow", "SNIs": ["db.mesh"] })), false),
    ] {
        let judge = judge(&entry_with(source.clone()).expect("a right source"), DENY);
        assert_eq!(judge.is_by_content(judge.standing(&web())), wanted, "{source}");
    }
}

#[test]
fn an_empty_value_is_there_to_some_and_not_to_others() {
    let present = |action: &str, inverted: bool| {
        json!([{ "Action": action, "HTTP": { "Header": [
            { "Name": "X-Team", "Present": true, "Invert": inverted }] } }])
    };
    check(present("allow", false), DENY, &["- GET / x-team:", "- GET /", "+ GET / x-team:a"]);
    check(present("allow", false), DENY, &["- GET / x-team: x-team:a"]);
    check(present("deny", false), ALLOW, &["- GET / x-team:", "+ GET /", "- GET / x-team:a"]);
    check(present("deny", true), ALLOW, &["- GET / x-team:", "- GET /", "+ GET / x-team:a"]);
}

#[test]
fn a_list_is_taken_apart_only_for_denials_of_a_value() {
    let others = json!([{ "Action": "deny", "HTTP": { "Header": [
        { "Name": "X-Role", "Contains": "user", "Invert": true }] } }]);
    check(others, ALLOW, &["+ GET / x-role:user-1,user-2", "+ GET / x-role:user-1,admin"]);
}

#[test]
fn several_lines_are_also_one_that_is_joined_by_commas() {
    for (value, wanted) in [("a,b", '-'), ("a, b", '-'), ("b,a", '+'), (",ab", '+'), ("ab", '+')] {
        let permissions = json!([{ "Action": "deny", "HTTP": { "Header": [
            { "Name": "X-Role", "Exact": value }] } }]);
        check(permissions, ALLOW, &[&format!("{wanted} GET / x-role:a x-role:b")]);
    }
}

/// A path without a clear form matters only where a condition on it is reached.
#[test]
fn conditions_behind_one_that_does_not_hold_are_not_looked_at() {
    let permissions = json!([
        { "Action": "deny", "SourceCIDRs": ["10.0.0.0/8"], "HTTP": { "PathPrefix": "/admin" } },
        { "Action": "allow", "HTTP": { "Methods": ["GET"] } },
    ]);
    let judge = judge(&entry(permissions).expect("right permissions"), DENY);
    let unclear = request("GET /a%2fb");
    for (address, wanted) in [("192.0.2.1", true), ("10.0.0.1", false)] {
        let address = Some(address.parse().expect("an address"));
        assert_eq!(is_allowed(&judge, &unclear, address), wanted, "{address:?}");
    }
}

#[test]
fn a_dry_run_is_told_only_of_what_would_be_refused() {
    for (action, dry_run, wanted) in [
        ("deny", true, (true, true)),
        ("deny", false, (false, false)),
        ("allow", true, (true, false)),
        ("allow", false, (true, false)),
    ] {
        let source = json!({ "Name": "web", "Action": action, "DryRun": dry_run });
        let judge = judge(&entry_with(source).expect("a right source"), DENY);
        let call = Call { address: None, port: None, sni: None, request: None };
        let judgement = judge.evaluate(judge.standing(&web()), &call);
        assert_eq!((judgement.allowed, judgement.is_dry_run), wanted, "{action} {dry_run}");
    }
}
