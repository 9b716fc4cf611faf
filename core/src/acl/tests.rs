//! The authorizer against a model that looks at every rule, and the cases that people get wrong.

use proptest::prelude::*;

use super::*;
use crate::name::{Datacenter, NodeName, ServiceName};

fn deny(rules: &[&Rules]) -> Authorizer {
    Authorizer::new(DefaultPolicy::Deny, rules.iter().copied())
}

#[test]
fn exact_beats_prefix_and_the_longest_prefix_wins() {
    let rules = Rules::default()
        .prefix(Resource::Key, "", Access::Read)
        .prefix(Resource::Key, "app/", Access::Write)
        .prefix(Resource::Key, "app/secret/", Access::Deny)
        .exact(Resource::Key, "app/secret/open", Access::Read);
    let may = deny(&[&rules]);
    for (key, read, write) in [
        ("other", true, false),
        ("app/x", true, true),
        ("app/secret/x", false, false),
        ("app/secret/open", true, false),
        ("app/secret/opener", false, false),
    ] {
        assert_eq!(may.allows(Permission::read(Resource::Key, key)), read, "{key}");
        assert_eq!(may.allows(Permission::write(Resource::Key, key)), write, "{key}");
    }
}

#[test]
fn deny_wins_among_policies_on_the_same_thing_and_write_beats_read() {
    let on = |access| Rules::default().exact(Resource::Node, "n", access);
    let (read, write, denied) = (on(Access::Read), on(Access::Write), on(Access::Deny));
    let asked = Permission::write(Resource::Node, "n");
    assert!(deny(&[&read, &write]).allows(asked));
    assert!(!deny(&[&read, &write, &denied]).allows(asked));
    assert!(!deny(&[&denied, &write]).allows(asked));
}

#[test]
fn a_tree_is_written_only_by_who_may_write_all_of_it() {
    let below = |prefix| Permission::write_below(Resource::Key, prefix);
    let rules = Rules::default().prefix(Resource::Key, "app/", Access::Write).exact(
        Resource::Key,
        "app/keep",
        Access::Read,
    );
    let may = deny(&[&rules]);
    assert!(!may.allows(below("app/")), "app/keep is below");
    assert!(may.allows(below("app/other/")));
    assert!(!may.allows(below("ap")), "the prefix itself is not given");
    let open = Authorizer::new(DefaultPolicy::Allow, [&rules]);
    assert!(!open.allows(below("")), "the default does not outweigh app/keep");
    assert!(open.allows(below("b")));
}

#[test]
fn intentions_follow_the_rule_on_the_service_unless_it_says_otherwise() {
    let mut rules = Rules::default().exact(Resource::Service, "web", Access::Write).exact(
        Resource::Service,
        "db",
        Access::Write,
    );
    rules.0[1].intentions = Some(Access::Write);
    let may = deny(&[&rules]);
    for (name, read, write) in [("web", true, false), ("db", true, true), ("x", false, false)] {
        assert_eq!(may.allows(Permission::read(Resource::Intention, name)), read, "{name}");
        assert_eq!(may.allows(Permission::write(Resource::Intention, name)), write, "{name}");
    }
    assert!(may.allows(Permission::read(Resource::Intention, "*")));
    assert!(!may.allows(Permission::write(Resource::Intention, "*")));
    // One policy forbids the service, another one speaks of its intentions.
    let denied = Rules::default().exact(Resource::Service, "db", Access::Deny);
    let may = deny(&[&rules, &denied]);
    assert!(!may.allows(Permission::read(Resource::Service, "db")));
    assert!(may.allows(Permission::write(Resource::Intention, "db")));
}

#[test]
fn mesh_and_peering_follow_operator_and_nothing_follows_acl() {
    let may = deny(&[&Rules::default().whole(Resource::Operator, Access::Read)]);
    assert!(may.allows(Permission::read(Resource::Mesh, "")));
    assert!(may.allows(Permission::read(Resource::Peering, "")));
    assert!(!may.allows(Permission::read(Resource::Keyring, "")));
    let open = Authorizer::new(DefaultPolicy::Allow, []);
    assert!(open.allows(Permission::write(Resource::Operator, "")));
    assert!(!open.allows(Permission::read(Resource::Acl, "")));
    assert!(!open.allows(Permission::snapshot()));
    assert!(Authorizer::unrestricted().allows(Permission::snapshot()));
}

#[test]
fn the_builtin_policies_grant_everything_of_their_kind() {
    let (all, read) = (Policy::global_management(), Policy::global_read_only());
    let (all, read) = (deny(&[&all.rules]), deny(&[&read.rules]));
    for resource in Resource::ALL {
        let name = if resource.is_named() { "x" } else { "" };
        assert!(all.allows(Permission::write(resource, name)), "{resource}");
        assert!(read.allows(Permission::read(resource, name)), "{resource}");
        assert!(!read.allows(Permission::write(resource, name)), "{resource}");
    }
}

#[test]
fn identities_grant_what_a_service_and_an_agent_need() {
    let service = ServiceIdentity {
        service_name: ServiceName::parse("web").expect("a name"),
        datacenters: Vec::new(),
    };
    let node = NodeIdentity {
        node_name: NodeName::parse("n1").expect("a name"),
        datacenter: Datacenter::parse("dc1").expect("a name"),
    };
    let may = deny(&[&service.rules()]);
    assert!(may.allows(Permission::write(Resource::Service, "web-sidecar-proxy")));
    assert!(!may.allows(Permission::write(Resource::Service, "webx")));
    assert!(may.allows(Permission::read(Resource::Node, "any")));
    let may = deny(&[&node.rules()]);
    assert!(may.allows(Permission::write(Resource::Node, "n1")));
    assert!(!may.allows(Permission::read(Resource::Node, "n2")));
}

#[test]
fn a_denial_names_who_what_and_which() {
    let denied = |accessor: Option<&AccessorId>| {
        Permission::write(Resource::Service, "web").denied_to(accessor).to_string()
    };
    let accessor = AccessorId::parse("8EC7D1A4-0C5B-4F0E-9A55-2F0D6C1E7B3A").expect("a UUID");
    assert_eq!(
        denied(Some(&accessor)),
        "Permission denied: token with AccessorID '8ec7d1a4-0c5b-4f0e-9a55-2f0d6c1e7b3a' lacks \
         permission 'service:write' on \"web\""
    );
    assert_eq!(
        denied(Some(&AccessorId::anonymous())),
        "Permission denied: anonymous token lacks permission 'service:write' on \"web\". The \
         anonymous token is used implicitly when a request does not specify a token."
    );
}

#[test]
fn a_digest_is_told_by_nothing_that_prints() {
    let hash = SecretHash::new([0xab; 32]);
    assert_eq!(format!("{hash:?}"), "SecretHash(…)");
    let text = String::from(hash.clone());
    assert!(SecretHash::try_from(text).is_ok_and(|read| read.matches(&hash)));
    let mut other = [0xab; 32];
    other[31] = 0;
    assert!(!hash.matches(&SecretHash::new(other)));
    assert!(SecretHash::try_from("zz".repeat(32)).is_err());
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Deny), Just(Access::List), Just(Access::Read), Just(Access::Write)]
}

fn rule() -> impl Strategy<Value = Rule> {
    let scope = prop_oneof![
        "[ab/é]{0,4}".prop_map(|name| Scope::Exact(name.into())),
        "[ab/é]{0,4}".prop_map(|name| Scope::Prefix(name.into())),
    ];
    let of = |(scope, access)| Rule { resource: Resource::Key, scope, access, intentions: None };
    (scope, access()).prop_map(of)
}

/// Looks at every rule: those on the name itself, else those on its longest prefix.
fn naive(rules: &[Rule], name: &str) -> Option<Access> {
    let strongest = |scope: &Scope| {
        let same = rules.iter().filter(|rule| rule.scope == *scope).map(|rule| rule.access);
        let found: Vec<Access> = same.collect();
        [Access::Deny, Access::Write, Access::List, Access::Read]
            .into_iter()
            .find(|access| found.contains(access))
    };
    strongest(&Scope::Exact(name.into())).or_else(|| {
        let mut ends: Vec<usize> = name.char_indices().map(|(at, _)| at).collect();
        ends.push(name.len());
        ends.into_iter().rev().find_map(|end| strongest(&Scope::Prefix(name[..end].into())))
    })
}

proptest! {
    #[test]
    fn every_question_is_answered_as_by_looking_at_every_rule(
        rules in proptest::collection::vec(rule(), 0..12),
        split in 0..12usize,
        name in "[ab/é]{0,5}",
        asked in access(),
    ) {
        let permission =
            Permission { resource: Resource::Key, access: asked, on: Breadth::This(&name) };
        let (one, other) = rules.split_at(split.min(rules.len()));
        let (one, other) = (Rules(one.to_vec()), Rules(other.to_vec()));
        for default in [DefaultPolicy::Allow, DefaultPolicy::Deny] {
            let made = Authorizer::new(default, [&one, &other]);
            let wanted = naive(&rules, &name).map_or(default == DefaultPolicy::Allow, |access| {
                access.grants(asked)
            });
            prop_assert_eq!(made.allows(permission), wanted);
        }
    }

    #[test]
    fn who_may_write_a_tree_may_always_write_everything_in_it(
        rules in proptest::collection::vec(rule(), 0..12),
        prefix in "[ab/é]{0,3}",
        rest in "[ab/é]{0,3}",
    ) {
        let rules = Rules(rules);
        for default in [DefaultPolicy::Allow, DefaultPolicy::Deny] {
            let made = Authorizer::new(default, [&rules]);
            if made.allows(Permission::write_below(Resource::Key, &prefix)) {
                let name = format!("{prefix}{rest}");
                prop_assert!(made.allows(Permission::write(Resource::Key, &name)), "{}", name);
            }
        }
    }
}
