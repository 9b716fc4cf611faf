//! A token with all that it comes to: its policies and roles whole, identities and templates as
//! the rules that they stand for.
//!
//! **Source**: Consul: api-docs/acl/tokens#read-a-token, `?expanded`.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use weft_core::acl::{
    Granted, NodeIdentity, PolicyId, PolicyName, Rules, ServiceIdentity, TemplatedPolicy, Token,
};
use weft_core::index::Index;
use weft_core::name::Datacenter;
use weft_core::state::AclState;
use weft_proto::json::acl::{PolicyBody, RoleBody, TokenBody};

use super::show;
use crate::acl::Secret;
use crate::http::Context;

/// What agents do while no server answers, unless they are told otherwise.
const DOWN_POLICY: &str = "extend-cache";

/// A token, expanded.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TokenExpanded {
    #[serde(flatten)]
    token: TokenBody,
    /// Its own policies and those of its roles, then the rules of identities and templates; each
    /// once.
    expanded_policies: Vec<PolicyBody>,
    expanded_roles: Vec<RoleBody>,
    #[serde(rename = "AgentACLDefaultPolicy")]
    default_policy: &'static str,
    #[serde(rename = "AgentACLDownPolicy")]
    down_policy: &'static str,
    resolved_by_agent: String,
}

impl TokenExpanded {
    /// Follows what a token links to; what was removed since is left out, as it grants nothing.
    pub(super) fn new(
        context: &Context,
        acl: &AclState,
        token: &Token,
        secret: Option<&Secret>,
    ) -> Self {
        let roles: Vec<_> = token.granted.roles.iter().filter_map(|id| acl.role(id)).collect();
        let granted: Vec<&Granted> =
            [&token.granted].into_iter().chain(roles.iter().map(|role| &role.granted)).collect();
        let mut linked = BTreeSet::new();
        let ids = granted.iter().flat_map(|it| &it.policies).filter(|id| linked.insert(*id));
        let policies = ids.filter_map(|id| acl.policy(id));
        let mut expanded_policies: Vec<PolicyBody> =
            policies.map(|policy| show::policy(&policy, true)).collect();
        for policy in granted.iter().flat_map(|it| of_identities(it)) {
            if expanded_policies.iter().all(|known| known.id != policy.id) {
                expanded_policies.push(policy);
            }
        }
        Self {
            token: show::token(acl, token, secret),
            expanded_policies,
            expanded_roles: roles.iter().map(|role| show::role(acl, role)).collect(),
            default_policy: context.gate.default_policy().as_str(),
            down_policy: DOWN_POLICY,
            resolved_by_agent: context.node_name.to_string(),
        }
    }
}

/// The rules of identities and templates, each as a policy of its own.
fn of_identities(granted: &Granted) -> Vec<PolicyBody> {
    let service = |it: &ServiceIdentity| {
        synthetic(format!("service identity: {}", it.service_name), &it.rules(), &it.datacenters)
    };
    let node = |it: &NodeIdentity| {
        let datacenters = std::slice::from_ref(&it.datacenter);
        synthetic(format!("node identity: {}", it.node_name), &it.rules(), datacenters)
    };
    let template = |it: &TemplatedPolicy| {
        let what = format!("templated policy: {}", it.template_name);
        synthetic(what, &it.rules(), &it.datacenters)
    };
    let services = granted.service_identities.iter().map(service);
    let nodes = granted.node_identities.iter().map(node);
    let templates = granted.templated_policies.iter().map(template);
    services.chain(nodes).chain(templates).flatten().collect()
}

/// Makes a policy of rules that no policy has. Its id is a digest of them, so that the same
/// rules are found once; no policy can be read by it.
fn synthetic(origin: String, rules: &Rules, datacenters: &[Datacenter]) -> Option<PolicyBody> {
    let rules = rules.to_string();
    let mut text = rules.clone();
    text.extend(datacenters.iter().flat_map(|name| ["\0", name.as_str()]));
    let bytes = digest(&SHA256, text.as_bytes());
    let hex: String = bytes.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    Some(PolicyBody {
        id: PolicyId::parse(&id).ok()?,
        name: PolicyName::parse(&format!("synthetic-policy-{hex}")).ok()?,
        description: format!("synthetic policy generated from {origin}"),
        rules: Some(rules),
        datacenters: datacenters.to_vec(),
        hash: show::hash(&text),
        create_index: Index::default(),
        modify_index: Index::default(),
    })
}
