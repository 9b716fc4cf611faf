//! `weft acl templated-policy`.

use anyhow::bail;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::lines;
use crate::client::ApiClient;
use crate::output::{OutputArgs, Table, print, print_json, text};

/// Flags of `weft acl templated-policy`.
#[derive(Debug, Args)]
pub(super) struct TemplateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the templates
    List(OutputArgs),
    /// Show the rules of a template with its name filled in
    Preview(PreviewArgs),
    /// Show a template
    Read(ReadArgs),
}

#[derive(Debug, Args)]
struct ReadArgs {
    /// The template, such as builtin/service
    #[arg(long)]
    name: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct PreviewArgs {
    /// The template, such as builtin/service
    #[arg(long)]
    name: String,
    /// What is filled in
    #[arg(long, value_name = "name:VALUE")]
    var: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(client: &ApiClient, args: TemplateArgs) -> anyhow::Result<()> {
    match args.what {
        What::List(output) => {
            let all: Map<String, Value> =
                client.get("/v1/acl/templated-policies").await?.ok()?.json()?;
            if output.json {
                return print_json(&all);
            }
            let mut table = Table::new(&["Name", "Description"]);
            for (name, template) in all {
                table.row([name, text(&template, "Description")]);
            }
            print(table.text())
        }
        What::Read(args) => {
            let path = format!("/v1/acl/templated-policy/name/{}", args.name);
            let template: Value = client.get(&path).await?.ok()?.json()?;
            if args.output.json {
                return print_json(&template);
            }
            let head = lines(&[
                ("Name", text(&template, "TemplateName")),
                ("Description", text(&template, "Description")),
                ("Rules", String::new()),
            ]);
            print(format!("{head}{}\n", text(&template, "Template").trim_end()))
        }
        What::Preview(args) => {
            let body = match args.var.as_deref().map(|var| var.split_once(':')) {
                None => json!({}),
                Some(Some(("name", value))) => json!({ "Name": value }),
                Some(_) => bail!("--var: write name:VALUE, the one variable that there is"),
            };
            let path = format!("/v1/acl/templated-policy/preview/{}", args.name);
            let answer = client.call(Method::POST, &path, body.to_string()).await?.ok()?;
            let policy: Value = answer.json()?;
            if args.output.json {
                return print_json(&policy);
            }
            print(format!("{}\n", text(&policy, "Rules").trim_end()))
        }
    }
}
