//! `weft intention`: who may call whom.
//!
//! **Source**: Consul: commands/intention.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::client::{ApiArgs, ApiClient, encode};
use crate::output::{OutputArgs, Table, print, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  Let web call db, and nobody else:
    weft intention create --allow web db
    weft intention create --deny '*' db
  Would a call be let through? The exit code says it too:
    weft intention check web db
  What is said, and what concerns db:
    weft intention list
    weft intention match --destination db";

const EXACT: &str = "/v1/connect/intentions/exact";

/// Flags of `weft intention`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct IntentionArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say whether a call would be let through; exits with 1 when not
    Check(CheckArgs),
    /// Allow or deny calls
    Create(CreateArgs),
    /// Remove an intention
    Delete(PairArgs),
    /// Show an intention
    Get(GetArgs),
    /// List the intentions
    List(ListArgs),
    /// List what concerns a service, in the order in which it decides
    Match(MatchArgs),
}

/// Who calls whom, or an id.
#[derive(Debug, Args)]
struct PairArgs {
    /// The caller, or * for everyone; or the id of an intention
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The service called, or * for every service
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

impl PairArgs {
    fn path(&self) -> String {
        match &self.destination {
            Some(destination) => pair_path(EXACT, &self.source, destination),
            None => format!("/v1/connect/intentions/{}", encode(&self.source)),
        }
    }

    fn shown(&self) -> String {
        match &self.destination {
            Some(destination) => format!("{} → {destination}", self.source),
            None => self.source.clone(),
        }
    }
}

fn pair_path(path: &str, source: &str, destination: &str) -> String {
    format!("{path}?source={}&destination={}", encode(source), encode(destination))
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The caller
    source: String,
    /// The service called
    destination: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The caller, or * for everyone
    source: String,
    /// The service called, or * for every service
    destination: String,
    /// Let the calls through, as without a flag
    #[arg(long, conflicts_with = "deny")]
    allow: bool,
    /// Refuse the calls
    #[arg(long)]
    deny: bool,
    /// Replace what is said already
    #[arg(long)]
    replace: bool,
    /// A remark for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
}

#[derive(Debug, Args)]
struct GetArgs {
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only intentions that this expression holds for, such as 'Action == "deny"'
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct MatchArgs {
    /// The service
    name: String,
    /// As the one called, as without a flag
    #[arg(long, conflicts_with = "source")]
    destination: bool,
    /// As the caller
    #[arg(long)]
    source: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: IntentionArgs) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    match args.what {
        What::Check(args) => return check(&client, &args).await,
        What::Create(args) => create(&client, &args).await?,
        What::Delete(args) => {
            // To remove what is not there succeeds on the server; a slip should not.
            get(&client, &args).await?;
            client.call(Method::DELETE, &args.path(), "").await?.ok()?;
            print_line("Intention deleted.")?;
        }
        What::Get(args) => {
            let found = get(&client, &args.pair).await?;
            match args.output.json {
                true => print_json(&found)?,
                false => print(table(&[found]).text())?,
            }
        }
        What::List(args) => list(&client, &args).await?,
        What::Match(args) => matching(&client, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn check(client: &ApiClient, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let path = pair_path("/v1/connect/intentions/check", &args.source, &args.destination);
    let answer: Value = client.get(&path).await?.ok()?.json()?;
    let allowed = answer["Allowed"].as_bool().context("the answer does not say")?;
    match args.output.json {
        true => print_json(&answer)?,
        false => {
            print_line(if allowed { "Allowed" } else { "Denied" })?;
            if let Some(reason) = answer["Reason"].as_str() {
                eprintln!("{reason}");
            }
        }
    }
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn create(client: &ApiClient, args: &CreateArgs) -> anyhow::Result<()> {
    let path = pair_path(EXACT, &args.source, &args.destination);
    let shown = format!("{} → {}", args.source, args.destination);
    if !args.replace && client.get(&path).await?.found()?.is_some() {
        bail!("{shown} is said already; write --replace to say something else");
    }
    let action = if args.deny { "deny" } else { "allow" };
    let body = json!({ "Action": action, "Description": args.description, "SourceType": "consul" });
    client.call(Method::PUT, &path, body.to_string()).await?.ok()?;
    print_line(&format!("Created: {shown} ({action})"))
}

async fn get(client: &ApiClient, pair: &PairArgs) -> anyhow::Result<Value> {
    match client.get(&pair.path()).await?.found()? {
        Some(found) => found.json(),
        None => bail!("there is no intention {}; see `weft intention list`", pair.shown()),
    }
}

async fn list(client: &ApiClient, args: &ListArgs) -> anyhow::Result<()> {
    let filter = args.filter.as_ref().map(|text| format!("?filter={}", encode(text)));
    let path = format!("/v1/connect/intentions{}", filter.unwrap_or_default());
    let found: Vec<Value> = client.get(&path).await?.ok()?.json()?;
    if args.output.json {
        return print_json(&found);
    }
    if found.is_empty() {
        eprintln!("There are no intentions.");
        return Ok(());
    }
    print(table(&found).text())
}

async fn matching(client: &ApiClient, args: &MatchArgs) -> anyhow::Result<()> {
    let by = if args.source { "source" } else { "destination" };
    let name = encode(&args.name);
    let path = format!("/v1/connect/intentions/match?by={by}&name={name}");
    let answer: Value = client.get(&path).await?.ok()?.json()?;
    let found = answer[&args.name].as_array().cloned().unwrap_or_default();
    if args.output.json {
        return print_json(&found);
    }
    if found.is_empty() {
        eprintln!("No intention concerns {}.", args.name);
        return Ok(());
    }
    print(table(&found).text())
}

fn table(intentions: &[Value]) -> Table {
    let mut table = Table::new(&["Source", "Action", "Destination", "Precedence", "Description"]);
    for intention in intentions {
        let text = |field: &str| intention[field].as_str().unwrap_or_default().to_owned();
        table.row([
            text("SourceName"),
            text("Action"),
            text("DestinationName"),
            intention["Precedence"].to_string(),
            text("Description"),
        ]);
    }
    table
}
