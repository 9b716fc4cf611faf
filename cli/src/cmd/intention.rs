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
  Which rule decides about one request, and why?
    weft intention explain web db --method DELETE --path /admin/users
    weft intention explain web db --path /admin --jwt-claim role=admin
  What is said, and what concerns db:
    weft intention list
    weft intention match --destination db
  What is said and never decides:
    weft intention list --lint";

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
    /// Say which rule decides about a request, and why; exits with 1 when it is refused
    Explain(ExplainArgs),
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
struct ExplainArgs {
    /// The caller
    source: String,
    /// The service called
    destination: String,
    /// The method of the request
    #[arg(long, default_value = "GET")]
    method: String,
    /// The path of the request
    #[arg(long)]
    path: Option<String>,
    /// A header of the request, as name:value; may be given several times
    #[arg(long, value_name = "NAME:VALUE")]
    header: Vec<String>,
    /// What a token in the request says, as name=value, or /name/name=value for a claim within
    /// another; may be given several times
    #[arg(long, value_name = "CLAIM=VALUE")]
    jwt_claim: Vec<String>,
    /// The jwt-provider of that token; without it, the token counts for whichever is asked for
    #[arg(long, value_name = "NAME")]
    jwt_provider: Option<String>,
    /// Where the call comes from
    #[arg(long, value_name = "IP")]
    address: Option<String>,
    /// The port of the service called
    #[arg(long)]
    port: Option<u16>,
    /// The server name that the caller gives in TLS; as its proxy does, such as
    /// web.default.dc1.internal.TRUST-DOMAIN
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
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
    /// Only what never decides, and why; exits with 1 when there is something
    #[arg(long, conflicts_with = "filter")]
    lint: bool,
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
        What::Explain(args) => return explain(&client, &args).await,
        What::List(args) if args.lint => return lint(&client, &args).await,
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

async fn explain(client: &ApiClient, args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let mut path = pair_path("/v1/connect/intentions/explain", &args.source, &args.destination);
    let port = args.port.map(|port| port.to_string());
    let given = [
        ("path", &args.path),
        ("address", &args.address),
        ("port", &port),
        ("sni", &args.sni),
        ("jwt-provider", &args.jwt_provider),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let headers = args.header.iter().map(|header| ("header", header));
    let claims = args.jwt_claim.iter().map(|claim| ("jwt-claim", claim));
    for (name, value) in given.chain(headers).chain(claims).chain([("method", &args.method)]) {
        path.push_str(&format!("&{name}={}", encode(value)));
    }
    let answer: Value = client.get(&path).await?.ok()?.json()?;
    let allowed = answer["Allowed"].as_bool().context("the answer does not say")?;
    if args.output.json {
        print_json(&answer)?;
    } else {
        print_line(answer["Reason"].as_str().context("the answer does not say why")?)?;
        if let Some(path) = answer["Path"].as_str() {
            print_line(&format!("judged as {} {path}", args.method))?;
        }
        let decided = answer["Permission"].as_u64();
        for (at, permission) in answer["Permissions"].as_array().into_iter().flatten().enumerate() {
            let mark = if decided == u64::try_from(at + 1).ok() { "→" } else { " " };
            let asks = permission["Asks"].as_str().unwrap_or_default();
            print_line(&format!(
                "{mark} {}. {} {asks}",
                at + 1,
                permission["Action"].as_str().unwrap_or_default()
            ))?;
        }
    }
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn lint(client: &ApiClient, args: &ListArgs) -> anyhow::Result<ExitCode> {
    let found: Vec<Value> = client.get("/v1/connect/intentions/lint").await?.ok()?.json()?;
    if args.output.json {
        print_json(&found)?;
    } else if found.is_empty() {
        eprintln!("Each rule can decide something.");
    } else {
        let mut table = Table::new(&["Source", "Destination", "Permission", "Finding"]);
        for finding in &found {
            let text = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
            let permission = finding["Permission"].as_u64().map(|at| at.to_string());
            table.row([
                text("SourceName"),
                text("DestinationName"),
                permission.unwrap_or_default(),
                text("Reason"),
            ]);
        }
        print(table.text())?;
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
            match intention["Permissions"].as_array() {
                Some(permissions) => format!("{} permissions", permissions.len()),
                None => text("Action"),
            },
            text("DestinationName"),
            intention["Precedence"].to_string(),
            text("Description"),
        ]);
    }
    table
}
