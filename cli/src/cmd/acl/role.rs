//! `weft acl role`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::grants::{self, GrantArgs};
use super::lines;
use super::record::{self, Which, present, text_of};
use crate::client::ApiClient;
use crate::output::{OutputArgs, print_line, text};

/// The API's word for a role.
const KIND: &str = "role";

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
            record::write(client, "/v1/acl/role", body, args.output, show).await
        }
        What::Delete(which) => {
            let role = which.find(client, KIND).await?;
            let path = format!("/v1/acl/role/{}", text_of(&role, "ID"));
            record::delete(client, &path).await?;
            print_line(&format!("Role {} deleted.", text_of(&role, "Name")))
        }
        What::List(output) => {
            let header = ["Name", "ID", "Description", "Grants"];
            let row = |role: &Value| {
                let own = header[..3].iter().map(|field| text(role, field));
                own.chain([grants::on_one_line(role)]).collect()
            };
            record::list(client, "/v1/acl/roles", output, &header, row).await
        }
        What::Read(args) => {
            let role = args.which.find(client, KIND).await?;
            present(&role.into(), args.output, show)
        }
        What::Update(args) => {
            let mut role = args.which.find(client, KIND).await?;
            let path = format!("/v1/acl/role/{}", text_of(&role, "ID"));
            if !args.append && !args.grants.is_empty() {
                role.retain(|field, _| !GRANTS.contains(&field.as_str()));
            }
            let given = [("Name", &args.rename), ("Description", &args.description)];
            record::put_given(&mut role, given);
            args.grants.add_to(&mut role)?;
            record::write(client, &path, role, args.output, show).await
        }
    }
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
