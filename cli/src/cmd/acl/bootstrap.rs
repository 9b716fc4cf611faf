//! `weft acl bootstrap`.

use anyhow::Context;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::token::show;
use crate::client::ApiClient;
use crate::output::{OutputArgs, print, print_json};

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
        Some(place) => json!({ "BootstrapSecret": read(place)?.trim() }),
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

fn read(place: &str) -> anyhow::Result<String> {
    match place {
        "-" => std::io::read_to_string(std::io::stdin()).context("cannot read standard input"),
        path => std::fs::read_to_string(path).with_context(|| format!("cannot read {path}")),
    }
}
