//! `weft acl token`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::grants::{self, GrantArgs};
use super::{lines, record};
use crate::client::{ApiClient, encode};
use crate::output::{OutputArgs, print_line, shown, text};

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
    /// With all that it comes to: the rules of its policies, roles, identities and templates
    #[arg(long)]
    expanded: bool,
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
            record::write(client, &path, body, args.output, show).await
        }
        What::Create(args) => create(client, args).await,
        What::Delete(args) => {
            let path = format!("/v1/acl/token/{}", encode(&args.accessor_id));
            record::delete(client, &path).await?;
            print_line(&format!("Token {} deleted.", args.accessor_id))
        }
        What::List(output) => {
            let header = ["AccessorID", "Description", "Local", "Expires", "Grants"];
            let row = |token: &Value| {
                let fields = ["AccessorID", "Description", "Local", "ExpirationTime"];
                let own = fields.iter().map(|field| text(token, field));
                own.chain([grants::on_one_line(token)]).collect()
            };
            record::list(client, "/v1/acl/tokens", output, &header, row).await
        }
        What::Read(args) => {
            let path = match &args.accessor_id {
                Some(accessor) => format!("/v1/acl/token/{}", encode(accessor)),
                None => "/v1/acl/token/self".to_owned(),
            };
            match args.expanded {
                true => {
                    let path = format!("{path}?expanded");
                    record::read(client, &path, args.output, show_expanded).await
                }
                false => record::read(client, &path, args.output, show).await,
            }
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
    record::write(client, "/v1/acl/token", body, args.output, show).await?;
    if !is_json {
        eprintln!("\nThe SecretID is shown this once.");
    }
    Ok(())
}

async fn update(client: &ApiClient, args: UpdateArgs) -> anyhow::Result<()> {
    let path = format!("/v1/acl/token/{}", encode(&args.one.accessor_id));
    let mut token = record::fetch(client, &path).await?;
    let names_grants = !(args.grants.is_empty() && args.roles.is_empty());
    if names_grants && !args.append {
        token.retain(|field, _| !GRANTS.contains(&field.as_str()));
    }
    if let Some(description) = args.description {
        token.insert("Description".to_owned(), json!(description));
    }
    args.roles.add_to(&mut token);
    args.grants.add_to(&mut token)?;
    record::write(client, &path, token, args.output, show).await
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

/// Shows a token for people, with the rules that it comes to.
fn show_expanded(token: &Value) -> String {
    let mut out = show(token);
    for policy in token["ExpandedPolicies"].as_array().into_iter().flatten() {
        let datacenters: Vec<String> =
            policy["Datacenters"].as_array().into_iter().flatten().map(shown).collect();
        let places = if datacenters.is_empty() { "all".to_owned() } else { datacenters.join(", ") };
        out.push_str(&format!(
            "\nPolicy {} ({})\n{}",
            text(policy, "Name"),
            text(policy, "ID"),
            lines(&[
                ("  Description", text(policy, "Description")),
                ("  Datacenters", places),
                ("  Rules", String::new()),
            ])
        ));
        for line in text(policy, "Rules").trim_end().lines() {
            out.push_str(&format!("    {line}\n"));
        }
    }
    for role in token["ExpandedRoles"].as_array().into_iter().flatten() {
        out.push_str(&format!("\nRole {} ({})\n", text(role, "Name"), text(role, "ID")));
        let grants = grants::on_one_line(role);
        out.push_str(&format!("  {grants}\n"));
    }
    let default = text(token, "AgentACLDefaultPolicy");
    let by = text(token, "ResolvedByAgent");
    out + &format!("\nWhatever no rule names: {default} (as {by} is configured)\n")
}
