//! `weft acl token`.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::grants::{self, GrantArgs};
use super::{lines, text};
use crate::client::{ApiClient, encode};
use crate::output::{OutputArgs, Table, print, print_json, print_line};

/// Flags of `weft acl token`.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a token with the grants of another one
    Clone(CloneArgs),
    /// Make a token
    Create(CreateArgs),
    /// Remove a token
    Delete(OneArgs),
    /// List the tokens
    List(OutputArgs),
    /// Show a token
    Read(ReadArgs),
    /// Change a token
    Update(UpdateArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// A remark for people
    #[arg(long, default_value = "")]
    description: String,
    /// Its AccessorID, a UUID; one is made when left out
    #[arg(long, value_name = "UUID")]
    accessor: Option<String>,
    /// How long it is good for, such as 1h
    #[arg(long, value_name = "TIME")]
    expires_ttl: Option<String>,
    /// Only for this datacenter
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    roles: RoleLinks,
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct RoleLinks {
    /// A role, by its id; repeatable
    #[arg(long, value_name = "ID")]
    role_id: Vec<String>,
    /// A role, by its name; repeatable
    #[arg(long, value_name = "NAME")]
    role_name: Vec<String>,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The token's AccessorID
    #[arg(long, value_name = "UUID")]
    accessor_id: String,
}

#[derive(Debug, Args)]
struct CloneArgs {
    #[command(flatten)]
    one: OneArgs,
    /// A remark for people
    #[arg(long, default_value = "")]
    description: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct ReadArgs {
    /// The token's AccessorID
    #[arg(long, value_name = "UUID", required_unless_present = "own")]
    accessor_id: Option<String>,
    /// The token that this command uses
    #[arg(long = "self", conflicts_with = "accessor_id")]
    own: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    #[command(flatten)]
    one: OneArgs,
    /// A remark for people; as it was when left out
    #[arg(long)]
    description: Option<String>,
    /// Add to what it grants, instead of replacing that
    #[arg(long)]
    append: bool,
    #[command(flatten)]
    roles: RoleLinks,
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The fields of a body that are grants.
const GRANTS: [&str; 5] =
    ["Policies", "Roles", "ServiceIdentities", "NodeIdentities", "TemplatedPolicies"];

pub(super) async fn run(client: &ApiClient, args: TokenArgs) -> anyhow::Result<()> {
    match args.what {
        What::Clone(args) => {
            let path = format!("/v1/acl/token/{}/clone", encode(&args.one.accessor_id));
            let body = json!({ "Description": args.description });
            write(client, &path, &body, args.output).await
        }
        What::Create(args) => create(client, args).await,
        What::Delete(args) => {
            let path = format!("/v1/acl/token/{}", encode(&args.accessor_id));
            client.call(Method::DELETE, &path, "").await?.ok()?;
            print_line(&format!("Token {} deleted.", args.accessor_id))
        }
        What::List(output) => list(client, output).await,
        What::Read(args) => {
            let path = match &args.accessor_id {
                Some(accessor) => format!("/v1/acl/token/{}", encode(accessor)),
                None => "/v1/acl/token/self".to_owned(),
            };
            let token: Value = client.get(&path).await?.ok()?.json()?;
            if args.output.json { print_json(&token) } else { print(show(&token)) }
        }
        What::Update(args) => update(client, args).await,
    }
}

impl RoleLinks {
    fn add_to(&self, body: &mut Map<String, Value>) {
        let ids = self.role_id.iter().map(|id| json!({ "ID": id }));
        let names = self.role_name.iter().map(|name| json!({ "Name": name }));
        let links: Vec<Value> = ids.chain(names).collect();
        if let Value::Array(present) = body.entry("Roles").or_insert_with(|| json!([])) {
            present.extend(links);
        }
    }

    fn is_empty(&self) -> bool {
        self.role_id.is_empty() && self.role_name.is_empty()
    }
}

async fn create(client: &ApiClient, args: CreateArgs) -> anyhow::Result<()> {
    let mut body = Map::new();
    body.insert("Description".to_owned(), json!(args.description));
    body.insert("Local".to_owned(), json!(args.local));
    if let Some(accessor) = args.accessor {
        body.insert("AccessorID".to_owned(), json!(accessor));
    }
    if let Some(time) = args.expires_ttl {
        body.insert("ExpirationTTL".to_owned(), json!(time));
    }
    args.roles.add_to(&mut body);
    args.grants.add_to(&mut body)?;
    let is_json = args.output.json;
    write(client, "/v1/acl/token", &Value::Object(body), args.output).await?;
    if !is_json {
        eprintln!("\nThe SecretID is shown this once.");
    }
    Ok(())
}

async fn update(client: &ApiClient, args: UpdateArgs) -> anyhow::Result<()> {
    let path = format!("/v1/acl/token/{}", encode(&args.one.accessor_id));
    let mut token: Map<String, Value> = client.get(&path).await?.ok()?.json()?;
    let names_grants = !(args.grants.is_empty() && args.roles.is_empty());
    if names_grants && !args.append {
        token.retain(|field, _| !GRANTS.contains(&field.as_str()));
    }
    if let Some(description) = args.description {
        token.insert("Description".to_owned(), json!(description));
    }
    args.roles.add_to(&mut token);
    args.grants.add_to(&mut token)?;
    write(client, &path, &Value::Object(token), args.output).await
}

async fn write(
    client: &ApiClient,
    path: &str,
    body: &Value,
    output: OutputArgs,
) -> anyhow::Result<()> {
    let answer = client.call(Method::PUT, path, body.to_string()).await?.ok()?;
    let token: Value = answer.json()?;
    if output.json { print_json(&token) } else { print(show(&token)) }
}

async fn list(client: &ApiClient, output: OutputArgs) -> anyhow::Result<()> {
    let tokens: Vec<Value> = client.get("/v1/acl/tokens").await?.ok()?.json()?;
    if output.json {
        return print_json(&tokens);
    }
    let mut table = Table::new(&["AccessorID", "Description", "Local", "Expires", "Grants"]);
    for token in &tokens {
        let grants: Vec<String> = grants::show(token).into_iter().map(|(_, it)| it).collect();
        table.row([
            text(token, "AccessorID"),
            text(token, "Description"),
            text(token, "Local"),
            text(token, "ExpirationTime"),
            grants.join("; "),
        ]);
    }
    print(table.text())
}

/// Shows a token for people.
pub(in crate::cmd) fn show(token: &Value) -> String {
    let mut pairs = vec![
        ("AccessorID", text(token, "AccessorID")),
        ("SecretID", text(token, "SecretID")),
        ("Description", text(token, "Description")),
        ("Local", text(token, "Local")),
        ("Create Time", text(token, "CreateTime")),
    ];
    for (title, field) in [("Expiration Time", "ExpirationTime"), ("Auth Method", "AuthMethod")] {
        let value = text(token, field);
        if !value.is_empty() {
            pairs.push((title, value));
        }
    }
    pairs.extend(grants::show(token));
    lines(&pairs)
}
