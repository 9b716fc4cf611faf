//! `weft acl set-agent-token`: the tokens that an agent uses itself.
//!
//! **Source**: Consul: commands/acl/set-agent-token.

use clap::Args;
use http::Method;
use serde_json::json;

use crate::client::{ApiClient, encode};
use crate::output::print_line;
use crate::source;

/// Flags of `weft acl set-agent-token`.
#[derive(Debug, Args)]
pub(super) struct AgentTokenArgs {
    /// What the token is for
    #[arg(value_parser = ["agent", "config_file_service_registration", "default", "dns", "replication"])]
    slot: String,
    /// Its secret, @FILE to read it from a file, - from standard input; empty to take it away
    #[arg(value_name = "TOKEN")]
    token: String,
}

pub(super) async fn set(client: &ApiClient, args: AgentTokenArgs) -> anyhow::Result<()> {
    let token = source::as_text(source::read_value(&args.token)?, "the token")?;
    let path = format!("/v1/agent/token/{}", encode(&args.slot));
    let body = json!({ "Token": token.trim() });
    client.call(Method::PUT, &path, body.to_string()).await?.ok()?;
    print_line(&format!("ACL token {:?} set successfully", args.slot))
}
