//! Tokens, policies and roles as answers show them: with the names of what they link to.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use weft_core::acl::{Granted, Policy, Role, Token};
use weft_core::state::AclState;
use weft_proto::json::acl::{GrantsBody, HIDDEN, LinkBody, PolicyBody, RoleBody, TokenBody};

use crate::acl::Secret;

/// Shows a token, with its secret to who has it.
pub(super) fn token(acl: &AclState, token: &Token, secret: Option<&Secret>) -> TokenBody {
    let grants = grants(acl, &token.granted);
    let hash = hash(&(&token.description, &grants, token.local));
    TokenBody {
        id: None,
        accessor_id: token.accessor.clone(),
        secret_id: secret.map_or(HIDDEN, Secret::shown).to_owned(),
        description: token.description.clone(),
        grants,
        local: token.local,
        auth_method: token.auth_method.clone(),
        expiration_time: token.expires.map(|end| end.rfc3339()),
        create_time: token.created.rfc3339(),
        hash,
        create_index: token.create_index,
        modify_index: token.modify_index,
    }
}

/// Shows a policy; lists leave its rules out.
pub(super) fn policy(policy: &Policy, with_rules: bool) -> PolicyBody {
    let Policy { id, name, description, text, datacenters, .. } = policy.clone();
    PolicyBody {
        hash: hash(&(&name, &description, &text, &datacenters)),
        id,
        name,
        description,
        rules: with_rules.then_some(text),
        datacenters,
        create_index: policy.create_index,
        modify_index: policy.modify_index,
    }
}

/// Shows a role.
pub(super) fn role(acl: &AclState, role: &Role) -> RoleBody {
    let grants = grants(acl, &role.granted);
    RoleBody {
        id: role.id.clone(),
        name: role.name.clone(),
        description: role.description.clone(),
        hash: hash(&(&role.name, &role.description, &grants)),
        grants,
        create_index: role.create_index,
        modify_index: role.modify_index,
    }
}

/// Shows what is granted; policies and roles that were removed since are left out.
fn grants(acl: &AclState, granted: &Granted) -> GrantsBody {
    let policies = granted.policies.iter().filter_map(|id| acl.policy(id));
    let roles = granted.roles.iter().filter_map(|id| acl.role(id));
    GrantsBody {
        policies: policies.map(|it| link(it.id.as_str(), it.name.as_str())).collect(),
        roles: roles.map(|it| link(it.id.as_str(), it.name.as_str())).collect(),
        service_identities: granted.service_identities.clone(),
        node_identities: granted.node_identities.clone(),
        templated_policies: granted.templated_policies.clone(),
    }
}

fn link(id: &str, name: &str) -> LinkBody {
    LinkBody { id: id.to_owned(), name: name.to_owned() }
}

/// Differs: Consul hashes another form of the same content; clients compare hashes of one
/// cluster with each other only.
pub(super) fn hash(content: &impl Serialize) -> String {
    // Names and texts only: they can always be written.
    let bytes = serde_json::to_vec(content).unwrap_or_default();
    STANDARD.encode(digest(&SHA256, &bytes))
}
