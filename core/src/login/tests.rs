//! Who is granted what by which rules, by data.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::acl::{
    AuthConfig, BindType, BindingRule, JwtAlgorithm, JwtConfig, JwtKeys, KubernetesConfig, Link,
};
use crate::index::Index;
use crate::name::Datacenter;

fn kubernetes() -> AuthConfig {
    AuthConfig::Kubernetes(KubernetesConfig {
        host: "https://k8s".to_owned(),
        ca_pem: String::new(),
        reviewer_jwt: "secret".to_owned(),
    })
}

fn jwt() -> AuthConfig {
    let pair = |claim: &str, name: &str| (claim.to_owned(), name.to_owned());
    AuthConfig::Jwt(JwtConfig {
        keys: JwtKeys::Pem(Vec::new()),
        algorithms: vec![JwtAlgorithm::ES256],
        issuer: String::new(),
        audiences: Vec::new(),
        claims: BTreeMap::from([pair("/project/id", "project")]),
        list_claims: BTreeMap::from([pair("groups", "groups")]),
        expiration_leeway: Duration::ZERO,
        not_before_leeway: Duration::ZERO,
        clock_skew: Duration::ZERO,
    })
}

fn rule(number: u8, bind_type: BindType, bind_name: &str, selector: &str) -> BindingRule {
    BindingRule {
        id: format!("00000000-0000-0000-0000-{number:012}").parse().expect("an id"),
        description: String::new(),
        auth_method: crate::acl::AuthMethodName::parse("way").expect("a name"),
        bind_type,
        bind_name: bind_name.to_owned(),
        bind_variable: String::new(),
        selector: selector.to_owned(),
        create_index: Index(1),
        modify_index: Index(1),
    }
}

fn dc1() -> Datacenter {
    "dc1".parse().expect("a datacenter")
}

#[test]
fn rules_whose_selector_takes_somebody_grant_together() {
    let rules = [
        rule(1, BindType::Service, "${serviceaccount.name}", ""),
        rule(
            2,
            BindType::Role,
            "${serviceaccount.namespace}-team",
            "serviceaccount.namespace==shop",
        ),
        rule(3, BindType::Node, "node-a", "serviceaccount.namespace==other"),
        rule(4, BindType::Policy, "base", "serviceaccount.name!=admin"),
    ];
    let subject = Subject::kubernetes("shop", "web", "u-1");
    let grants = bind(&rules, &kubernetes(), &subject, &dc1()).expect("grants");
    assert_eq!(grants.service_identities[0].service_name.as_str(), "web");
    assert!(matches!(&grants.roles[..], [Link::Name(name)] if name.as_str() == "shop-team"));
    assert!(matches!(&grants.policies[..], [Link::Name(name)] if name.as_str() == "base"));
    assert_eq!(grants.node_identities, []);
}

#[test]
fn a_text_that_is_no_name_lets_nobody_in() {
    let rules = [rule(1, BindType::Service, "a ${serviceaccount.name}", "")];
    let subject = Subject::kubernetes("shop", "web", "u-1");
    let fault = bind(&rules, &kubernetes(), &subject, &dc1()).expect_err("no name");
    assert_eq!(fault.name, "a web");
}

#[test]
fn claims_select_and_fill_in() {
    let subject = Subject::jwt(
        BTreeMap::from([("project".to_owned(), "shop".to_owned())]),
        BTreeMap::from([("groups".to_owned(), vec!["ops".to_owned(), "dev".to_owned()])]),
    );
    let mut template = rule(1, BindType::TemplatedPolicy, "builtin/service", "ops in list.groups");
    template.bind_variable = "${value.project}-web".to_owned();
    let rules = [template, rule(2, BindType::Role, "admins", "root in list.groups")];
    let grants = bind(&rules, &jwt(), &subject, &dc1()).expect("grants");
    assert_eq!(grants.templated_policies[0].name(), "shop-web");
    assert_eq!(grants.roles, []);
}

/// A claim that a token lacks must not turn into an empty piece of a name.
#[test]
fn what_is_not_known_is_not_filled_in() {
    let rules = [rule(1, BindType::Role, "${value.project}admins", "")];
    let subject = Subject::jwt(BTreeMap::new(), BTreeMap::new());
    assert!(bind(&rules, &jwt(), &subject, &dc1()).is_err());
}

#[test]
fn a_rule_is_checked_against_what_its_method_says() {
    let template = |variable: &str, name: &str| BindingRule {
        bind_variable: variable.to_owned(),
        ..rule(1, BindType::TemplatedPolicy, name, "")
    };
    let service = |name: &str, selector: &str| rule(1, BindType::Service, name, selector);
    let with_variable =
        BindingRule { bind_variable: "x".to_owned(), ..service("${serviceaccount.name}", "") };
    for (rule, expected) in [
        (service("${value.project}", ""), "does not know; it knows serviceaccount.name"),
        (service("${serviceaccount.name", ""), "without a }"),
        (service("", ""), "BindName is empty"),
        (service("a", "value.project == a"), "Selector: the auth method does not know"),
        (service("a", "serviceaccount.name =="), "Selector: "),
        (service(&"x".repeat(513), ""), "more than the 512 allowed"),
        (template("", "builtin/service"), "needs BindVars"),
        (template("a", "builtin/dns"), "has no variables"),
        (template("", "service"), "is not a template"),
        (template("${value.x}", "builtin/service"), "BindVars.Name names ${value.x}"),
        (with_variable, "only a templated-policy has variables"),
    ] {
        let fault = check_rule(&rule, &kubernetes()).expect_err(expected).to_string();
        assert!(fault.contains(expected), "{fault:?} does not say {expected:?}");
    }
    assert_eq!(check_rule(&template("", "builtin/dns"), &kubernetes()), Ok(()));
    let listed = service("${value.project}", "ops in list.groups or value.project is empty");
    assert_eq!(check_rule(&listed, &jwt()), Ok(()));
}
