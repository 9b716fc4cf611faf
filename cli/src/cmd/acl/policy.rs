//! `weft acl policy`.

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::{lines, text};
use crate::client::{ApiClient, encode};
use crate::output::{OutputArgs, Table, print, print_json, print_line};

/// Flags of `weft acl policy`.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a policy
    Create(CreateArgs),
    /// Remove a policy
    Delete(OneArgs),
    /// List the policies
    List(OutputArgs),
    /// Show a policy
    Read(ReadArgs),
    /// Change a policy
    Update(UpdateArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its name
    #[arg(long)]
    name: String,
    /// A remark for people
    #[arg(long, default_value = "")]
    description: String,
    /// The rules: the text itself, @FILE, or - for standard input
    #[arg(long, value_name = "TEXT|@FILE|-")]
    rules: String,
    /// Where it holds; repeatable, everywhere when left out
    #[arg(long, value_name = "DC")]
    valid_datacenter: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
#[group(required = true)]
struct Which {
    /// The policy's id
    #[arg(long, value_name = "UUID")]
    id: Option<String>,
    /// The policy's name
    #[arg(long, conflicts_with = "id")]
    name: Option<String>,
}

#[derive(Debug, Args)]
struct OneArgs {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct ReadArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    #[command(flatten)]
    which: Which,
    /// A new name
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    /// A remark for people; as it was when left out
    #[arg(long)]
    description: Option<String>,
    /// The rules: the text itself, @FILE, or - for standard input; as they were when left out
    #[arg(long, value_name = "TEXT|@FILE|-")]
    rules: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(client: &ApiClient, args: PolicyArgs) -> anyhow::Result<()> {
    match args.what {
        What::Create(args) => {
            let body = json!({
                "Name": args.name,
                "Description": args.description,
                "Rules": content(&args.rules)?,
                "Datacenters": args.valid_datacenter,
            });
            write(client, "/v1/acl/policy", &body, args.output).await
        }
        What::Delete(args) => {
            let policy = find(client, &args.which).await?;
            let path = format!("/v1/acl/policy/{}", text_of(&policy, "ID"));
            client.call(Method::DELETE, &path, "").await?.ok()?;
            print_line(&format!("Policy {} deleted.", text_of(&policy, "Name")))
        }
        What::List(output) => list(client, output).await,
        What::Read(args) => {
            let policy = Value::Object(find(client, &args.which).await?);
            if args.output.json { print_json(&policy) } else { print(show(&policy)) }
        }
        What::Update(args) => {
            let mut policy = find(client, &args.which).await?;
            let path = format!("/v1/acl/policy/{}", text_of(&policy, "ID"));
            let rules = args.rules.as_deref().map(content).transpose()?;
            let changes =
                [("Name", args.rename), ("Description", args.description), ("Rules", rules)];
            for (field, value) in changes {
                if let Some(value) = value {
                    policy.insert(field.to_owned(), json!(value));
                }
            }
            write(client, &path, &Value::Object(policy), args.output).await
        }
    }
}

async fn find(client: &ApiClient, which: &Which) -> anyhow::Result<Map<String, Value>> {
    let path = match (&which.id, &which.name) {
        (Some(id), _) => format!("/v1/acl/policy/{}", encode(id)),
        (None, name) => {
            format!("/v1/acl/policy/name/{}", encode(name.as_deref().unwrap_or_default()))
        }
    };
    client.get(&path).await?.ok()?.json()
}

async fn write(
    client: &ApiClient,
    path: &str,
    body: &Value,
    output: OutputArgs,
) -> anyhow::Result<()> {
    let answer = client.call(Method::PUT, path, body.to_string()).await?.ok()?;
    let policy: Value = answer.json()?;
    if output.json { print_json(&policy) } else { print(show(&policy)) }
}

async fn list(client: &ApiClient, output: OutputArgs) -> anyhow::Result<()> {
    let policies: Vec<Value> = client.get("/v1/acl/policies").await?.ok()?.json()?;
    if output.json {
        return print_json(&policies);
    }
    let mut table = Table::new(&["Name", "ID", "Description"]);
    for policy in &policies {
        table.row([text(policy, "Name"), text(policy, "ID"), text(policy, "Description")]);
    }
    print(table.text())
}

fn show(policy: &Value) -> String {
    let head = lines(&[
        ("ID", text(policy, "ID")),
        ("Name", text(policy, "Name")),
        ("Description", text(policy, "Description")),
        ("Rules", String::new()),
    ]);
    format!("{head}{}\n", text(policy, "Rules").trim_end())
}

fn text_of(record: &Map<String, Value>, field: &str) -> String {
    record.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Reads a text that is given itself, in a file, or on standard input.
pub(super) fn content(place: &str) -> anyhow::Result<String> {
    match place.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {path}")),
        None if place == "-" => {
            std::io::read_to_string(std::io::stdin()).context("cannot read standard input")
        }
        None => Ok(place.to_owned()),
    }
}
