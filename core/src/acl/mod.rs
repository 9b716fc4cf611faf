//! ACLs: who holds a token, and what it lets them do.
//!
//! Records (tokens, policies, roles and what they grant) and the [`Authorizer`], which answers for
//! one token whether it may. Secrets are here as digests only; making and hashing them is the
//! server's affair, reading rules from text is `proto`'s.
//!
//! **Source**: Consul: docs/security/acl.

mod auth_method;
mod authorizer;
mod binding_rule;
mod grants;
mod id;
mod identity;
mod names;
mod permission;
mod policy;
mod role;
mod rule;
mod secret;
mod templated;
#[cfg(test)]
mod tests;
mod token;

pub use auth_method::{
    AuthConfig, AuthMethod, JwtAlgorithm, JwtConfig, JwtKeys, KubernetesConfig, TokenLocality,
};
pub use authorizer::{Authorizer, DefaultPolicy};
pub use binding_rule::{BindType, BindingRule};
pub use grants::{Granted, Grants, Link};
pub use id::{AccessorId, BindingRuleId, InvalidAclId, PolicyId, RoleId};
pub use identity::{NodeIdentity, ServiceIdentity};
pub use names::{AuthMethodName, InvalidAclName, PolicyName, RoleName};
pub use permission::{Breadth, Denial, Permission};
pub use policy::Policy;
pub use role::Role;
pub use rule::{Access, Resource, Rule, Rules, Scope};
pub use secret::{InvalidSecretHash, SecretHash, SecretPrefix};
pub use templated::{Template, TemplateVariables, TemplatedPolicy, UnknownTemplate};
pub use token::Token;
