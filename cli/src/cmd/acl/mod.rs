//! `weft acl`: tokens, and what they let their holders do.
//!
//! **Source**: Consul: commands/acl.

mod agent_token;
mod auth_method;
mod binding_rule;
mod bootstrap;
mod grants;
mod policy;
mod record;
mod role;
mod template;
mod token;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::client::ApiArgs;
use crate::output::text;

const EXAMPLES: &str = "\
Examples:
  Make the first token, once; keep its SecretID in a safe place:
    weft acl bootstrap
    export WEFT_HTTP_TOKEN=<SecretID>
  A token for a service and its sidecar:
    weft acl token create --service-identity web
  Rules of one's own, and a token that has them:
    weft acl policy create --name kv-read --rules 'key_prefix \"app/\" { policy = \"read\" }'
    weft acl token create --policy-name kv-read
  Let service accounts of Kubernetes log in, each as the service of its name:
    weft acl auth-method create --name k8s --type kubernetes --config @kubernetes.json
    weft acl binding-rule create --method k8s --bind-type service \\
      --bind-name '${serviceaccount.name}'
  Give this host's agent a token for what it asks itself:
    weft acl set-agent-token agent @token-file
  Why is something refused?
    weft can-i service:write web";

/// Flags of `weft acl`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AclArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Let others vouch for who logs in
    AuthMethod(auth_method::AuthMethodArgs),
    /// Say what a login grants
    BindingRule(binding_rule::BindingRuleArgs),
    /// Make the first management token
    Bootstrap(bootstrap::BootstrapArgs),
    /// Rules under a name
    Policy(policy::PolicyArgs),
    /// Grants under a name
    Role(role::RoleArgs),
    /// Set a token that this host's agent uses itself
    SetAgentToken(agent_token::AgentTokenArgs),
    /// Rules that every cluster has
    TemplatedPolicy(template::TemplateArgs),
    /// Tokens
    Token(token::TokenArgs),
}

pub(crate) async fn run(args: AclArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    match args.what {
        What::AuthMethod(args) => auth_method::run(&client, args).await?,
        What::BindingRule(args) => binding_rule::run(&client, args).await?,
        What::Bootstrap(args) => bootstrap::run(&client, args).await?,
        What::Policy(args) => policy::run(&client, args).await?,
        What::Role(args) => role::run(&client, args).await?,
        What::SetAgentToken(args) => agent_token::set(&client, args).await?,
        What::TemplatedPolicy(args) => template::run(&client, args).await?,
        What::Token(args) => token::run(&client, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows a record as lines of name and value, the names in one column.
fn lines(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 2;
    let line = |(name, value): &(&str, String)| {
        let name = format!("{name}:");
        format!("{name:width$}{value}").trim_end().to_owned() + "\n"
    };
    pairs.iter().map(line).collect()
}

/// Returns one field of every item of a list.
fn each(list: &Value, field: &str) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|item| text(item, field)).collect()
}
