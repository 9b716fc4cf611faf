//! `weft acl bootstrap`.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::token::show;
use crate::client::ApiClient;
use crate::output::{OutputArgs, print, print_json};
use crate::source::{as_text, read_file};

/// Flags of `weft acl bootstrap`.
#[derive(Debug, Args)]
pub(super) struct BootstrapArgs {
    /// A file with the secret that the token shall have, a UUID; - for standard input
    #[arg(value_name = "FILE")]
    secret: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(client: &ApiClient, args: BootstrapArgs) -> anyhow::Result<()> {
    let body = match &args.secret {
        None => json!({}),
        Some(place) => {
            let secret = as_text(read_file(place)?, place)?;
            json!({ "BootstrapSecret": secret.trim() })
        }
    };
    let answer = client.call(Method::PUT, "/v1/acl/bootstrap", body.to_string()).await?.ok()?;
    let token: Value = answer.json()?;
    if args.output.json {
        return print_json(&token);
    }
    print(show(&token))?;
    eprintln!("\nKeep the SecretID: it is shown this once. `export WEFT_HTTP_TOKEN=…` uses it.");
    Ok(())
}
