//! `weft operator join-token`: what hosts join with.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::client::{ApiClient, encode};
use crate::output::{OutputArgs, Table, print, print_json, print_line, shown};

#[derive(Debug, Subcommand)]
pub(super) enum JoinToken {
    /// Make a token; it is printed alone, so that it can be sent to a file
    Create(CreateArgs),
    /// List tokens, without their secrets; those that are over, too, for a day
    List(OutputArgs),
    /// Withdraw a token; who joined with it stays
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// What the holder may become: agent or server
    #[arg(long, value_name = "ROLE", default_value = "agent")]
    role: String,
    /// How many hosts may join with it, 0 for any number of agents
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    uses: u32,
    /// How long it is good, such as 30m: at most 2160h for agents, 24h for servers
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: String,
    /// The one host that may join with it [default: any]
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// A note for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// Its id, as list shows it
    id: String,
}

pub(super) async fn run(client: &ApiClient, what: JoinToken) -> anyhow::Result<()> {
    match what {
        JoinToken::Create(args) => create(client, args).await,
        JoinToken::List(output) => list(client, output).await,
        JoinToken::Revoke(args) => {
            let path = format!("/v1/operator/join-token/{}", encode(&args.id));
            client.call(Method::DELETE, &path, "").await?.ok()?;
            print_line(&format!("Revoked join token {}; who joined with it stays", args.id))
        }
    }
}

async fn create(client: &ApiClient, args: CreateArgs) -> anyhow::Result<()> {
    let asked = json!({
        "Role": args.role,
        "Uses": args.uses,
        "TTL": args.ttl,
        "Node": args.node.unwrap_or_default(),
        "Description": args.description.unwrap_or_default(),
    });
    let answer = client.call(Method::POST, "/v1/operator/join-token", asked.to_string()).await?;
    let made: Value = answer.ok()?.json()?;
    if args.output.json {
        return print_json(&made);
    }
    let hosts = match made["Uses"].as_u64() {
        Some(0) | None => "any number of hosts".to_owned(),
        Some(1) => "one host".to_owned(),
        Some(number) => format!("{number} hosts"),
    };
    // The token alone goes to the standard output.
    eprintln!(
        "Join token {} for the role {}, good for {hosts} until {}. Start the host with\n  weft {} \
         --join-token-file FILE",
        shown(&made["ID"]),
        shown(&made["Role"]),
        shown(&made["ExpirationTime"]),
        shown(&made["Role"]),
    );
    print_line(&shown(&made["Token"]))
}

async fn list(client: &ApiClient, output: OutputArgs) -> anyhow::Result<()> {
    let tokens: Value = client.get("/v1/operator/join-tokens").await?.ok()?.json()?;
    if output.json {
        return print_json(&tokens);
    }
    let header =
        ["ID", "Role", "Status", "Uses left", "Expires", "Node", "Last used by", "Description"];
    let mut table = Table::new(&header);
    for token in tokens.as_array().into_iter().flatten() {
        let last = token["Redeemed"].as_array().and_then(|all| all.last());
        let left = match &token["UsesLeft"] {
            Value::Null => "any".to_owned(),
            left => format!("{} of {}", shown(left), shown(&token["Uses"])),
        };
        table.row([
            shown(&token["ID"]),
            shown(&token["Role"]),
            shown(&token["Status"]),
            left,
            shown(&token["ExpirationTime"]),
            shown(&token["Node"]),
            last.map(|last| shown(&last["Node"])).unwrap_or_default(),
            shown(&token["Description"]),
        ]);
    }
    print(table.text())
}
