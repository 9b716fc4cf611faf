//! `weft acl role`.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::grants::{self, GrantArgs};
use super::{lines, text};
use crate::client::{ApiClient, encode};
use crate::output::{OutputArgs, Table, print, print_json, print_line};

/// Flags of `weft acl role`.
#[derive(Debug, Args)]
pub(super) struct RoleArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a role
    Create(CreateArgs),
    /// Remove a role
    Delete(Which),
    /// List the roles
    List(OutputArgs),
    /// Show a role
    Read(ReadArgs),
    /// Change a role
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
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Which {
    /// The role's id
    #[arg(long, value_name = "UUID", required_unless_present = "name")]
    id: Option<String>,
    /// The role's name
    #[arg(long, conflicts_with = "id")]
    name: Option<String>,
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
    /// Add to what it grants, instead of replacing that
    #[arg(long)]
    append: bool,
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The fields of a body that are grants.
const GRANTS: [&str; 4] = ["Policies", "ServiceIdentities", "NodeIdentities", "TemplatedPolicies"];

pub(super) async fn run(client: &ApiClient, args: RoleArgs) -> anyhow::Result<()> {
    match args.what {
        What::Create(args) => {
            let mut body = Map::new();
            body.insert("Name".to_owned(), json!(args.name));
            body.insert("Description".to_owned(), json!(args.description));
            args.grants.add_to(&mut body)?;
            write(client, "/v1/acl/role", body, args.output).await
        }
        What::Delete(which) => {
            let role = find(client, &which).await?;
            let path = format!("/v1/acl/role/{}", field(&role, "ID"));
            client.call(Method::DELETE, &path, "").await?.ok()?;
            print_line(&format!("Role {} deleted.", field(&role, "Name")))
        }
        What::List(output) => list(client, output).await,
        What::Read(args) => {
            let role = Value::Object(find(client, &args.which).await?);
            if args.output.json { print_json(&role) } else { print(show(&role)) }
        }
        What::Update(args) => {
            let mut role = find(client, &args.which).await?;
            let path = format!("/v1/acl/role/{}", field(&role, "ID"));
            if !args.append && !args.grants.is_empty() {
                role.retain(|field, _| !GRANTS.contains(&field.as_str()));
            }
            for (name, value) in [("Name", args.rename), ("Description", args.description)] {
                if let Some(value) = value {
                    role.insert(name.to_owned(), json!(value));
                }
            }
            args.grants.add_to(&mut role)?;
            write(client, &path, role, args.output).await
        }
    }
}

async fn find(client: &ApiClient, which: &Which) -> anyhow::Result<Map<String, Value>> {
    let path = match (&which.id, &which.name) {
        (Some(id), _) => format!("/v1/acl/role/{}", encode(id)),
        (None, name) => {
            format!("/v1/acl/role/name/{}", encode(name.as_deref().unwrap_or_default()))
        }
    };
    client.get(&path).await?.ok()?.json()
}

async fn write(
    client: &ApiClient,
    path: &str,
    body: Map<String, Value>,
    output: OutputArgs,
) -> anyhow::Result<()> {
    let answer = client.call(Method::PUT, path, Value::Object(body).to_string()).await?.ok()?;
    let role: Value = answer.json()?;
    if output.json { print_json(&role) } else { print(show(&role)) }
}

async fn list(client: &ApiClient, output: OutputArgs) -> anyhow::Result<()> {
    let roles: Vec<Value> = client.get("/v1/acl/roles").await?.ok()?.json()?;
    if output.json {
        return print_json(&roles);
    }
    let mut table = Table::new(&["Name", "ID", "Description", "Grants"]);
    for role in &roles {
        let grants: Vec<String> = grants::show(role).into_iter().map(|(_, it)| it).collect();
        let (name, id) = (text(role, "Name"), text(role, "ID"));
        table.row([name, id, text(role, "Description"), grants.join("; ")]);
    }
    print(table.text())
}

fn show(role: &Value) -> String {
    let mut pairs = vec![
        ("ID", text(role, "ID")),
        ("Name", text(role, "Name")),
        ("Description", text(role, "Description")),
    ];
    pairs.extend(grants::show(role));
    lines(&pairs)
}

fn field(record: &Map<String, Value>, name: &str) -> String {
    record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
