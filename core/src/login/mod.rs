//! From what an auth method says of somebody to what they are granted.
//!
//! **Source**: Consul: docs/security/acl/auth-methods, api-docs/acl/binding-rules.

mod bind;
mod name_template;
mod subject;
#[cfg(test)]
mod tests;

pub use bind::{BindFault, RuleFault, bind, check_rule};
pub use name_template::{NameTemplate, NameTemplateFault};
pub use subject::{Subject, Variables};
