//! Commands about tokens, policies, roles, auth methods and binding rules.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use weft_core::acl::{
    Access, AuthConfig, AuthMethod, AuthMethodName, BindType, BindingRule, Grants,
    KubernetesConfig, Link, Policy, PolicyName, Resource, RoleName, Rules, SecretHash,
    ServiceIdentity, TokenLocality,
};
use weft_core::index::Index;
use weft_core::state::{AclCommand, Command, Expiry, RoleDraft, TokenDraft, Writing};

use super::{command, id, one_of};

fn writing() -> impl Strategy<Value = Writing> {
    prop::sample::select(vec![Writing::Create, Writing::Create, Writing::Update])
}

fn secret() -> impl Strategy<Value = SecretHash> {
    (1..4u8).prop_map(|number| SecretHash::new([number; 32]))
}

/// What names a policy or a role may name one that is not there, or no longer.
fn grants() -> impl Strategy<Value = Grants> {
    let policy = prop_oneof![
        id().prop_map(|id| Link::Id(id.parse().expect("an id"))),
        one_of(&["read", "write"])
            .prop_map(|name| Link::Name(PolicyName::parse(name).expect("a name"))),
    ];
    let role = id().prop_map(|id| Link::Id(id.parse().expect("an id")));
    let policies = prop::collection::vec(policy, 0..2);
    let roles = prop::collection::vec(role, 0..2);
    (policies, roles, prop::bool::ANY).prop_map(|(policies, roles, is_service)| {
        let identity = ServiceIdentity {
            service_name: "web".parse().expect("a name"),
            datacenters: Vec::new(),
        };
        let service_identities = is_service.then_some(identity).into_iter().collect();
        Grants { policies, roles, service_identities, ..Grants::default() }
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let access = prop::sample::select(vec![Access::Deny, Access::Read, Access::Write]);
    (id(), one_of(&["read", "write"]), access).prop_map(|(id, name, access)| {
        let rules = Rules::default().prefix(Resource::Key, "a", access);
        Policy {
            id: id.parse().expect("an id"),
            name: PolicyName::parse(name).expect("a name"),
            text: rules.to_string(),
            rules,
            description: String::new(),
            datacenters: Vec::new(),
            create_index: Index(0),
            modify_index: Index(0),
        }
    })
}

fn token() -> impl Strategy<Value = TokenDraft> {
    let expiry = prop_oneof![
        2 => Just(Expiry::Unsaid),
        1 => (1..200u64).prop_map(|seconds| Expiry::After(Duration::from_secs(seconds))),
    ];
    let method = one_of(&["", "", "", "k1"]);
    (id(), prop::option::weighted(0.8, secret()), grants(), expiry, method).prop_map(
        |(id, secret, mut grants, expiry, method)| {
            // Roles' ids are those of tokens too; a token names policies by id or by name.
            if !method.is_empty() {
                grants.roles.clear();
            }
            TokenDraft {
                accessor: id.parse().expect("an id"),
                secret,
                description: String::new(),
                grants,
                local: (!method.is_empty()).then_some(true),
                auth_method: method.to_owned(),
                expiry,
            }
        },
    )
}

fn method_name(name: &str) -> AuthMethodName {
    AuthMethodName::parse(name).expect("a name")
}

fn method() -> impl Strategy<Value = AuthMethod> {
    (one_of(&["k1", "k2"]), one_of(&["https://a", "https://b"])).prop_map(|(name, host)| {
        AuthMethod {
            name: method_name(name),
            display_name: String::new(),
            description: String::new(),
            token_lifetime: Some(Duration::from_secs(3600)),
            token_locality: TokenLocality::Local,
            config: AuthConfig::Kubernetes(KubernetesConfig {
                host: host.to_owned(),
                ca_pem: "ca".to_owned(),
                reviewer_jwt: "jwt".to_owned(),
            }),
            create_index: Index(0),
            modify_index: Index(0),
        }
    })
}

fn rule() -> impl Strategy<Value = BindingRule> {
    (id(), one_of(&["k1", "k2"]), one_of(&["web", "ops"])).prop_map(|(id, method, bind_name)| {
        BindingRule {
            id: id.parse().expect("an id"),
            description: String::new(),
            auth_method: method_name(method),
            bind_type: BindType::Role,
            bind_name: bind_name.to_owned(),
            bind_variable: String::new(),
            selector: String::new(),
            create_index: Index(0),
            modify_index: Index(0),
        }
    })
}

/// Any command of the ACLs.
pub(super) fn any() -> impl Strategy<Value = Command> {
    let role = (id(), one_of(&["ops", "dev"]), grants()).prop_map(|(id, name, mut grants)| {
        // Roles grant no roles.
        grants.roles.clear();
        let name = RoleName::parse(name).expect("a name");
        RoleDraft { id: id.parse().expect("an id"), name, description: String::new(), grants }
    });
    let write = prop_oneof![
        3 => (policy(), writing())
            .prop_map(|(policy, writing)| AclCommand::WritePolicy { policy, writing }),
        2 => (role, writing()).prop_map(|(role, writing)| AclCommand::WriteRole { role, writing }),
        4 => (token(), writing())
            .prop_map(|(token, writing)| AclCommand::WriteToken { token, writing }),
        1 => (method(), writing())
            .prop_map(|(method, writing)| AclCommand::WriteAuthMethod { method, writing }),
        1 => (rule(), writing())
            .prop_map(|(rule, writing)| AclCommand::WriteBindingRule { rule, writing }),
        1 => (id(), secret(), prop::option::of(0..30u64)).prop_map(|(id, secret, reset)| {
            let accessor = id.parse().expect("an id");
            AclCommand::Bootstrap { accessor, secret, reset: reset.map(Index) }
        }),
        1 => (id(), secret()).prop_map(|(id, secret)| AclCommand::InitialManagement {
            accessor: id.parse().expect("an id"),
            secret,
        }),
        1 => Just(AclCommand::ReapTokens),
        1 => one_of(&["k1", "k2"])
            .prop_map(|name| AclCommand::DeleteAuthMethod { name: method_name(name) }),
    ];
    let verb = one_of(&["DeletePolicy", "DeleteRole", "DeleteBindingRule", "DeleteToken"]);
    let delete = (verb, id()).prop_map(|(verb, id)| {
        let field = if verb == "DeleteToken" { "accessor" } else { "id" };
        command(json!({ "Acl": { verb: { field: id } } }))
    });
    prop_oneof![5 => write.prop_map(Command::Acl), 1 => delete]
}
