//! The bodies of `/v1/acl/…`.
//!
//! **Source**: Consul: api-docs/acl/tokens, api-docs/acl/policies, api-docs/acl/roles.

use serde::{Deserialize, Serialize};
use weft_core::acl::{
    AccessorId, Grants, Link, NodeIdentity, Policy, PolicyId, PolicyName, RoleId, RoleName,
    ServiceIdentity, TemplatedPolicy,
};
use weft_core::index::Index;
use weft_core::name::{Datacenter, ServiceName};
use weft_core::state::Expiry;
use weft_core::time::{Span, Timestamp};

use super::{Fault, Unknown, from_slice};

/// What stands for a secret that is not shown. Clients that send a token back as it was shown
/// may send it too.
pub const HIDDEN: &str = "<hidden>";

/// A policy or role, as tokens and roles name it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkBody {
    /// Its id; empty when it is named by `Name` alone.
    #[serde(rename = "ID", skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its name.
    #[serde(rename = "Name", skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// What a token or role grants, as it is sent and shown.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GrantsBody {
    /// Policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<LinkBody>,
    /// Roles; of tokens only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<LinkBody>,
    /// Rights of services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_identities: Vec<ServiceIdentity>,
    /// Rights of agents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_identities: Vec<NodeIdentity>,
    /// Rights from templates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub templated_policies: Vec<TemplatedPolicy>,
}

impl GrantsBody {
    /// Reads what is named.
    ///
    /// # Errors
    /// Every id and name that is none, by field.
    pub fn grants(self) -> Result<Grants, Vec<Fault>> {
        let mut faults = Vec::new();
        let policies = links(&self.policies, "Policies", &mut faults, |link| {
            link.read(PolicyId::parse, PolicyName::parse)
        });
        let roles = links(&self.roles, "Roles", &mut faults, |link| {
            link.read(RoleId::parse, RoleName::parse)
        });
        for (at, template) in self.templated_policies.iter().enumerate() {
            let needed = template.template_name.needs_name();
            let field = || format!("TemplatedPolicies[{at}].TemplateVariables.Name");
            if needed && template.name().is_empty() {
                faults.push(Fault::new(field(), "is missing; the template needs it"));
            } else if needed && let Err(error) = ServiceName::parse(template.name()) {
                faults.push(Fault::new(field(), error.to_string()));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Grants {
            policies,
            roles,
            service_identities: self.service_identities,
            node_identities: self.node_identities,
            templated_policies: self.templated_policies,
        })
    }
}

fn links<L>(
    bodies: &[LinkBody],
    field: &str,
    faults: &mut Vec<Fault>,
    read: impl Fn(&LinkBody) -> Result<L, String>,
) -> Vec<L> {
    let mut made = Vec::new();
    for (at, body) in bodies.iter().enumerate() {
        match read(body) {
            Ok(link) => made.push(link),
            Err(reason) => faults.push(Fault::new(format!("{field}[{at}]"), reason)),
        }
    }
    made
}

impl LinkBody {
    /// The id counts when both are given.
    fn read<I, N, A: ToString, B: ToString>(
        &self,
        id: impl Fn(&str) -> Result<I, A>,
        name: impl Fn(&str) -> Result<N, B>,
    ) -> Result<Link<I, N>, String> {
        match (self.id.as_str(), self.name.as_str()) {
            ("", "") => Err("needs an ID or a Name".to_owned()),
            ("", text) => name(text).map(Link::Name).map_err(|error| error.to_string()),
            (text, _) => id(text).map(Link::Id).map_err(|error| error.to_string()),
        }
    }
}

/// The body of `PUT /v1/acl/token` and of the paths below it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TokenUpsert {
    /// What stands beside the grants.
    pub fields: TokenFields,
    /// What it grants.
    pub grants: GrantsBody,
}

/// The fields of a token beside its grants.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TokenFields {
    /// The accessor; one is made when it is empty.
    #[serde(rename = "AccessorID")]
    pub accessor_id: String,
    /// The secret, a UUID; one is made when it is empty.
    #[serde(rename = "SecretID")]
    pub secret_id: String,
    /// A remark for people.
    #[serde(rename = "Description")]
    pub description: String,
    /// Whether it is for this datacenter alone.
    #[serde(rename = "Local")]
    pub local: Option<bool>,
    /// How long it lives; zero means not said.
    #[serde(rename = "ExpirationTTL")]
    pub expiration_ttl: Span,
    /// When it ends, RFC 3339.
    #[serde(rename = "ExpirationTime")]
    pub expiration_time: Option<String>,
}

/// Decodes the body of a token that is written or cloned.
///
/// Clients send back whole tokens: what they were told (indexes, dates, hashes) is passed over.
///
/// # Errors
/// Every fault, by field.
pub fn decode_token(body: &[u8]) -> Result<TokenUpsert, Vec<Fault>> {
    let (fields, grants) = (
        from_slice::<TokenFields>(body, Unknown::Ignore),
        from_slice::<GrantsBody>(body, Unknown::Ignore),
    );
    match (fields, grants) {
        (Ok(fields), Ok(grants)) => Ok(TokenUpsert { fields, grants }),
        // A syntax error is found twice.
        (Err(one), Err(other)) if one == other => Err(one),
        (one, other) => Err(one.err().into_iter().chain(other.err()).flatten().collect()),
    }
}

impl TokenFields {
    /// Reads when the token ends.
    ///
    /// # Errors
    /// One fault, by field.
    pub fn expiry(&self) -> Result<Expiry, Fault> {
        let at = match self.expiration_time.as_deref() {
            None | Some("" | NO_TIME) => None,
            Some(text) => Some(Timestamp::parse_rfc3339(text).ok_or_else(|| {
                let reason = format!("{text:?} is not a moment such as 2030-01-31T12:00:00Z");
                Fault::new("ExpirationTime", reason)
            })?),
        };
        match (at, self.expiration_ttl.0) {
            (None, ttl) if ttl.is_zero() => Ok(Expiry::Unsaid),
            (None, ttl) => Ok(Expiry::After(ttl)),
            (Some(at), ttl) if ttl.is_zero() => Ok(Expiry::At(at)),
            (Some(_), _) => {
                let reason = "say either ExpirationTTL or ExpirationTime, not both";
                Err(Fault::new("ExpirationTTL", reason))
            }
        }
    }
}

/// What Go clients send for no moment.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// A token, as answers show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TokenBody {
    /// The secret once more, in the answer of a bootstrap only.
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The accessor.
    #[serde(rename = "AccessorID")]
    pub accessor_id: AccessorId,
    /// The secret, or [`HIDDEN`].
    #[serde(rename = "SecretID")]
    pub secret_id: String,
    /// A remark for people.
    pub description: String,
    /// What it grants.
    #[serde(flatten)]
    pub grants: GrantsBody,
    /// Whether it is for this datacenter alone.
    pub local: bool,
    /// The auth method that made it; left out when an operator did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_method: String,
    /// When it ends; left out when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<String>,
    /// When it was made.
    pub create_time: String,
    /// Changes with what it grants.
    pub hash: String,
    /// When it was made.
    pub create_index: Index,
    /// When it last changed.
    pub modify_index: Index,
}

/// The body of `PUT /v1/acl/policy` and of the paths below it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PolicyUpsert {
    /// The id; of changes only.
    #[serde(rename = "ID")]
    pub id: String,
    /// The name.
    #[serde(rename = "Name")]
    pub name: String,
    /// A remark for people.
    #[serde(rename = "Description")]
    pub description: String,
    /// The rules, HCL or JSON.
    #[serde(rename = "Rules")]
    pub rules: String,
    /// Where it holds; empty means everywhere.
    #[serde(rename = "Datacenters")]
    pub datacenters: Vec<Datacenter>,
}

impl PolicyUpsert {
    /// Makes the policy of an id.
    ///
    /// # Errors
    /// Every fault, by field; those of rules by resource and name.
    pub fn policy(self, id: PolicyId) -> Result<Policy, Vec<Fault>> {
        let mut faults = Vec::new();
        let name = PolicyName::parse(&self.name)
            .map_err(|error| faults.push(Fault::new("Name", error.to_string())));
        let rules = crate::text::parse_rules(&self.rules).map_err(|more| faults.extend(more));
        match (name, rules) {
            (Ok(name), Ok(rules)) => Ok(Policy {
                id,
                name,
                description: self.description,
                text: self.rules,
                rules,
                datacenters: self.datacenters,
                create_index: Index::default(),
                modify_index: Index::default(),
            }),
            _ => Err(faults),
        }
    }
}

/// A policy, as answers show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyBody {
    /// The id.
    #[serde(rename = "ID")]
    pub id: PolicyId,
    /// The name.
    pub name: PolicyName,
    /// A remark for people.
    pub description: String,
    /// The rules as they were written; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
    /// Where it holds; left out when everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<Datacenter>,
    /// Changes with the policy.
    pub hash: String,
    /// When it was made.
    pub create_index: Index,
    /// When it last changed.
    pub modify_index: Index,
}

/// The fields of a role beside its grants, as they are sent.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RoleFields {
    /// The id; of changes only.
    #[serde(rename = "ID")]
    pub id: String,
    /// The name.
    #[serde(rename = "Name")]
    pub name: String,
    /// A remark for people.
    #[serde(rename = "Description")]
    pub description: String,
}

/// Decodes the body of `PUT /v1/acl/role` and of the paths below it.
///
/// # Errors
/// Every fault, by field.
pub fn decode_role(body: &[u8]) -> Result<(RoleFields, GrantsBody), Vec<Fault>> {
    let fields = from_slice::<RoleFields>(body, Unknown::Ignore);
    match (fields, from_slice::<GrantsBody>(body, Unknown::Ignore)) {
        (Ok(fields), Ok(grants)) => Ok((fields, grants)),
        (Err(one), Err(other)) if one == other => Err(one),
        (one, other) => Err(one.err().into_iter().chain(other.err()).flatten().collect()),
    }
}

/// A role, as answers show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RoleBody {
    /// The id.
    #[serde(rename = "ID")]
    pub id: RoleId,
    /// The name.
    pub name: RoleName,
    /// A remark for people.
    pub description: String,
    /// What it grants.
    #[serde(flatten)]
    pub grants: GrantsBody,
    /// Changes with the role.
    pub hash: String,
    /// When it was made.
    pub create_index: Index,
    /// When it last changed.
    pub modify_index: Index,
}

/// One question of `POST /v1/internal/acl/authorize`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AuthorizeQuestion {
    /// What it is about, such as `service`.
    pub resource: String,
    /// How much is asked: `read`, `list`, `write`, or `write-prefix` of everything below.
    pub access: String,
    /// Which one; empty for the cluster as a whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub segment: String,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AuthorizeAnswer {
    /// What it is about.
    pub resource: String,
    /// How much was asked.
    pub access: String,
    /// Which one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub segment: String,
    /// Whether the token may.
    pub allow: bool,
    /// In whose words the API would refuse it; left out when the token may. Consul's answer
    /// lacks it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_is_read_in_any_spelling_and_with_what_it_was_shown_with() {
        let body = br#"{"accessor_id":"","secretid":"","description":"ci","Policies":
            [{"ID":"00000000-0000-0000-0000-000000000001"},{"name":"read"}],"Roles":null,
            "ServiceIdentities":[{"ServiceName":"web","Datacenters":null}],
            "TemplatedPolicies":[{"TemplateName":"builtin/node",
            "TemplateVariables":{"Name":"n1"}}],"ExpirationTTL":"1h","CreateIndex":7,"Hash":"x"}"#;
        let token = decode_token(body).expect("a token");
        assert_eq!(token.fields.expiry(), Ok(Expiry::After(Span::seconds(3600).0)));
        let grants = token.grants.grants().expect("grants");
        assert_eq!(grants.policies.len(), 2);
        assert!(matches!(&grants.policies[1], Link::Name(name) if name.as_str() == "read"));
        assert_eq!(grants.service_identities[0].service_name.as_str(), "web");
    }

    #[test]
    fn every_fault_of_a_token_is_named() {
        let body = br#"{"Policies":[{},{"ID":"x"},{"Name":"a b"}],"Roles":[{"Name":""}],
            "TemplatedPolicies":[{"TemplateName":"builtin/service"}]}"#;
        let token = decode_token(body).expect("a token");
        let faults = token.grants.grants().expect_err("nothing is right");
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "Policies[0]",
                "Policies[1]",
                "Policies[2]",
                "Roles[0]",
                "TemplatedPolicies[0].TemplateVariables.Name"
            ]
        );
        let body = br#"{"Local":"x","ServiceIdentities":[{"ServiceName":"a b"}],
            "TemplatedPolicies":[{"TemplateName":"builtin/none"}]}"#;
        let faults = decode_token(body).expect_err("fields and grants are wrong");
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert_eq!(decode_token(b"{").expect_err("no JSON").len(), 1);
    }

    #[test]
    fn a_token_ends_in_one_way_only() {
        let of = |json: serde_json::Value| {
            decode_token(json.to_string().as_bytes()).expect("a token").fields.expiry()
        };
        assert_eq!(of(json!({ "ExpirationTime": "0001-01-01T00:00:00Z" })), Ok(Expiry::Unsaid));
        assert_eq!(
            of(json!({ "ExpirationTime": "2024-02-29T13:30:45.006+01:00" })),
            Ok(Expiry::At(Timestamp(1_709_209_845_006)))
        );
        for wrong in [
            json!({ "ExpirationTime": "tomorrow" }),
            json!({ "ExpirationTime": "2030-01-01T00:00:00Z", "ExpirationTTL": "1h" }),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_policy_is_refused_with_all_its_faults() {
        let upsert = PolicyUpsert {
            name: "a b".to_owned(),
            rules: "key \"\" { policy = \"x\" }\nfoo = \"read\"".to_owned(),
            ..PolicyUpsert::default()
        };
        let faults = upsert.policy(PolicyId::global_management()).expect_err("all is wrong");
        assert_eq!(faults.len(), 3, "{faults:?}");
    }

    #[test]
    fn names_filled_into_templates_are_names() {
        let body = br#"{"TemplatedPolicies":[{"TemplateName":"builtin/service",
            "TemplateVariables":{"Name":"a\" { policy = \"write"}}]}"#;
        let grants = decode_token(body).expect("a token").grants.grants();
        assert!(grants.is_err(), "rules are never built from texts");
    }
}
