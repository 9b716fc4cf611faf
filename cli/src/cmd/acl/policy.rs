//! `weft acl policy`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::lines;
use super::record::{self, Which, present, text_of};
use crate::client::ApiClient;
use crate::output::{OutputArgs, print_line, text};
use crate::source::{as_text, read_value};

/// The API's word for a policy.
const KIND: &str = "policy";

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
                "Rules": rules(&args.rules)?,
                "Datacenters": args.valid_datacenter,
            });
            record::write(client, "/v1/acl/policy", body, args.output, show).await
        }
        What::Delete(args) => {
            let policy = args.which.find(client, KIND).await?;
            let path = format!("/v1/acl/policy/{}", text_of(&policy, "ID"));
            record::delete(client, &path).await?;
            print_line(&format!("Policy {} deleted.", text_of(&policy, "Name")))
        }
        What::List(output) => {
            let header = ["Name", "ID", "Description"];
            let row = |policy: &Value| header.map(|field| text(policy, field)).to_vec();
            record::list(client, "/v1/acl/policies", output, &header, row).await
        }
        What::Read(args) => {
            let policy = args.which.find(client, KIND).await?;
            present(&policy.into(), args.output, show)
        }
        What::Update(args) => {
            let mut policy = args.which.find(client, KIND).await?;
            let path = format!("/v1/acl/policy/{}", text_of(&policy, "ID"));
            let rules = args.rules.as_deref().map(rules).transpose()?;
            let given =
                [("Name", &args.rename), ("Description", &args.description), ("Rules", &rules)];
            record::put_given(&mut policy, given);
            record::write(client, &path, policy, args.output, show).await
        }
    }
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

/// Reads rules that are given themselves, in a file, or on standard input.
fn rules(place: &str) -> anyhow::Result<String> {
    as_text(read_value(place)?, place)
}
