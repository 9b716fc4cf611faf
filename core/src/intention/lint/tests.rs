//! What never decides, and what does although it looks as if it did not.

use serde_json::json;

use super::*;
use crate::config_entry::ConfigEntry;

fn normalised(entry: serde_json::Value) -> ServiceIntentions {
    let entry: ConfigEntry = serde_json::from_value(entry).expect("an entry");
    match entry.normalise() {
        Ok(ConfigEntry::ServiceIntentions(entry)) => entry,
        other => panic!("{other:?}"),
    }
}

fn told(found: &[IntentionFinding]) -> Vec<String> {
    let told = |it: &IntentionFinding| format!("{} {:?} {}", it.source, it.permission, it.reason);
    found.iter().map(told).collect()
}

#[test]
fn where_denials_override_other_rules_never_decide() {
    let entry = normalised(json!({ "Kind": "service-intentions", "Name": "db", "Sources": [
        { "Name": "api", "Action": "allow" },
        { "Name": "web", "Permissions": [
            { "Action": "allow", "HTTP": { "PathPrefix": "/a" } },
            { "Action": "deny", "HTTP": { "PathPrefix": "/a/b" } },
            { "Action": "allow", "HTTP": { "PathExact": "/c/d" } },
            { "Action": "deny", "HTTP": { "PathPrefix": "/c" } },
            { "Action": "allow", "HTTP": { "PathExact": "/x/y" } },
        ] },
        { "Name": "*", "Permissions": [
            { "Action": "deny", "HTTP": { "PathPrefix": "/x" } },
            { "Action": "allow", "HTTP": { "PathPrefix": "/" } },
        ] },
    ] }));
    let wildcard = normalised(json!({ "Kind": "service-intentions", "Name": "*", "Sources": [
        { "Name": "api", "Action": "deny" },
        { "Name": "*", "Action": "deny", "DryRun": true },
    ] }));
    let find = |precedence| {
        let around = Surroundings {
            precedence,
            wildcard: Some(&wildcard),
            protocol: &|_| Protocol::Http,
            is_known: &|_| true,
            is_provider: &|_| true,
        };
        told(&lint(&entry, &around))
    };
    assert_eq!(
        find(IntentionPrecedence::FirstMatch),
        ["web Some(2) never decides: permission 1 (path /a…) stands before it"]
    );
    assert_eq!(
        find(IntentionPrecedence::DenyOverrides),
        [
            "api None never allows: api → * denies it, and denials override",
            "web Some(3) never decides: permission 4 (path /c…) denies it anyway",
            "web Some(5) never allows: * → db denies it (path /x…), and denials override",
        ]
    );
}

#[test]
fn what_never_decides_is_found() {
    let entry = json!({ "Kind": "service-intentions", "Name": "db", "Sources": [
        { "Name": "gone", "Action": "allow" },
        { "Name": "web", "Permissions": [
            { "Action": "allow", "HTTP": { "PathPrefix": "/a", "Methods": ["GET", "PUT"] } },
            { "Action": "deny", "HTTP": { "PathExact": "/a/b", "Methods": ["GET"] } },
            { "Action": "deny", "HTTP": { "PathExact": "/a/b" } },
            { "Action": "deny", "SourceCIDRs": ["10.0.0.0/8"] },
            { "Action": "allow", "SourceCIDRs": ["10.0.0.0/8"], "DestinationPorts": [1] },
            { "Action": "deny", "SNIs": ["*.db.mesh"] },
            { "Action": "allow", "SNIs": ["a.db.mesh", "*.b.db.mesh"] },
            { "Action": "allow", "SNIs": ["db.mesh"] },
        ] },
    ] });
    let entry = normalised(entry);
    let around = |protocol, is_known| Surroundings {
        precedence: IntentionPrecedence::FirstMatch,
        wildcard: None,
        protocol,
        is_known,
        is_provider: &|_| true,
    };
    let found = lint(&entry, &around(&|_| Protocol::Http, &|name| name.as_str() != "gone"));
    assert_eq!(
        told(&found),
        [
            "gone None no service gone is registered",
            "web Some(2) never decides: permission 1 (path /a…, method GET or PUT) stands \
             before it",
            "web Some(5) never decides: permission 4 (from 10.0.0.0/8) stands before it",
            "web Some(7) never decides: permission 6 (SNI *.db.mesh) stands before it",
        ]
    );
    let found = lint(&entry, &around(&|_| Protocol::Tcp, &|_| true));
    assert_eq!(found.iter().filter(|it| it.reason.contains("speaks tcp")).count(), 3);
}

fn around<'a>(
    precedence: IntentionPrecedence,
    protocol: &'a dyn Fn(&ServiceName) -> Protocol,
) -> Surroundings<'a> {
    Surroundings {
        precedence,
        wildcard: None,
        protocol,
        is_known: &|_| true,
        is_provider: &|name| name.as_str() == "accounts",
    }
}

#[test]
fn rules_on_tokens_want_a_provider_and_requests() {
    let admin = json!({ "Providers": [{ "Name": "accounts", "VerifyClaims": [
        { "Path": ["role"], "Value": "admin" }] }] });
    let permissions = json!([
        { "Action": "allow", "JWT": admin },
        { "Action": "deny", "HTTP": { "PathRegex": "/a.*" } },
        { "Action": "deny", "JWT": admin, "HTTP": { "PathExact": "/x" } },
        { "Action": "allow", "HTTP": { "PathRegex": "/a.*", "Methods": ["GET"] } },
        { "Action": "allow", "HTTP": { "PathRegex": "/b.*" } },
        { "Action": "allow", "JWT": { "Providers": [{ "Name": "accounts" }] } },
        { "Action": "allow", "JWT": { "Providers": [{ "Name": "gone" }] } },
    ]);
    let with = |jwt: serde_json::Value| {
        normalised(json!({ "Kind": "service-intentions", "Name": "db", "JWT": jwt,
            "Sources": [{ "Name": "web", "Permissions": permissions }] }))
    };
    let find = |entry: &ServiceIntentions, protocol| {
        let protocol = move |_: &ServiceName| protocol;
        told(&lint(entry, &around(IntentionPrecedence::FirstMatch, &protocol)))
    };
    let entry = with(json!({ "Providers": [{ "Name": "accounts" }, { "Name": "lost" }] }));
    assert_eq!(
        find(&entry, Protocol::Http),
        [
            "web None there is no jwt-provider lost, so no token is good",
            "web Some(7) there is no jwt-provider gone, so no token is good",
            "web Some(3) never decides: permission 1 (token of accounts with role=admin) stands \
             before it",
            "web Some(4) never decides: permission 2 (path like /a.*) stands before it",
        ]
    );
    let of_all = "web None db speaks tcp and carries no tokens, so all calls are denied";
    let of_one = "web Some(1) db speaks tcp, so all calls of this source are denied";
    for (entry, protocol, wanted) in [
        (&entry, Protocol::Tcp, [true, true]),
        (&entry, Protocol::Http, [false, false]),
        (&with(json!({})), Protocol::Tcp, [false, true]),
    ] {
        let found = find(entry, protocol);
        let has = |reason: &str| found.iter().any(|it| it == reason);
        assert_eq!([has(of_all), has(of_one)], wanted, "{found:?}");
    }
}

#[test]
fn an_outright_denial_overrides_what_allows_and_nothing_else() {
    let entry = normalised(json!({ "Kind": "service-intentions", "Name": "db", "Sources": [
        { "Name": "web", "Permissions": [
            { "Action": "deny", "HTTP": { "PathPrefix": "/a" } },
            { "Action": "allow", "HTTP": { "PathPrefix": "/b" } },
        ] },
        { "Name": "*", "Action": "deny" },
    ] }));
    let overriding = around(IntentionPrecedence::DenyOverrides, &|_| Protocol::Http);
    assert_eq!(
        told(&lint(&entry, &overriding)),
        ["web Some(2) never allows: * → db denies it, and denials override"]
    );
}
