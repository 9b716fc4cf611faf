//! `weft can-i`: whether a token may, and why not.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::client::ApiArgs;
use crate::output::{OutputArgs, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  May I register the service web?
    weft can-i service:write web
  May the token in this file read the keys below app/?
    weft can-i key:read app/config --token-file ./token
  The exit code says it too: 0 for yes, 1 for no
    weft can-i operator:write && weft operator raft transfer-leader";

/// Flags of `weft can-i`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CanIArgs {
    /// What is to be done: service:write, key:read, operator:read …
    #[arg(value_name = "RESOURCE:ACCESS")]
    what: String,
    /// With which one; nothing for acl, keyring, mesh, operator and peering
    #[arg(value_name = "NAME", default_value = "")]
    name: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(args: CanIArgs) -> anyhow::Result<ExitCode> {
    let Some((resource, access)) = args.what.split_once(':') else {
        bail!("{:?}: write RESOURCE:ACCESS, such as service:write", args.what);
    };
    let client = args.api.client()?;
    let question = json!([{ "Resource": resource, "Access": access, "Segment": args.name }]);
    let path = "/v1/internal/acl/authorize";
    let answer = client.call(Method::POST, path, question.to_string()).await?.ok()?;
    let verdicts: Vec<Value> = answer.json()?;
    let verdict = verdicts.first().context("the API gave no verdict")?;
    let is_allowed = verdict["Allow"].as_bool().unwrap_or(false);
    if args.output.json {
        print_json(verdict)?;
    } else if is_allowed {
        print_line("yes")?;
    } else {
        print_line("no")?;
        let token = client.get("/v1/acl/token/self").await.ok().and_then(|it| it.ok().ok());
        let token: Option<Value> = token.and_then(|it| it.json().ok());
        match token {
            Some(token) => {
                let accessor = token["AccessorID"].as_str().unwrap_or_default();
                let on = if args.name.is_empty() {
                    String::new()
                } else {
                    format!(" on {:?}", args.name)
                };
                eprintln!(
                    "The token with AccessorID {accessor} lacks {}{on}. A policy that grants it:",
                    args.what
                );
                eprintln!("  {}", rule(resource, access, &args.name));
                eprintln!("Add it with `weft acl policy create`, then `weft acl token update`.");
            }
            None => eprintln!("No token was given that is known; name one with --token-file."),
        }
    }
    Ok(if is_allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rule that would be enough.
fn rule(resource: &str, access: &str, name: &str) -> String {
    match resource {
        "acl" | "keyring" | "mesh" | "operator" | "peering" => format!("{resource} = {access:?}"),
        "intention" => {
            format!("service {name:?} {{ policy = \"read\" intentions = {access:?} }}")
        }
        _ => format!("{resource} {name:?} {{ policy = {access:?} }}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_that_is_missing_is_told_in_the_language_of_policies() {
        assert_eq!(rule("operator", "write", ""), "operator = \"write\"");
        assert_eq!(rule("key", "read", "app/a"), "key \"app/a\" { policy = \"read\" }");
        assert_eq!(
            rule("intention", "write", "web"),
            "service \"web\" { policy = \"read\" intentions = \"write\" }"
        );
    }
}
