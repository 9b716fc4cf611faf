//! `weft acl binding-rule`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{lines, record};
use crate::client::{ApiClient, encode};
use crate::output::{OutputArgs, print_line, text};

/// Flags of `weft acl binding-rule`.
#[derive(Debug, Args)]
pub(super) struct BindingRuleArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a binding rule
    Create(CreateArgs),
    /// Remove a binding rule; tokens that were made under it stay
    Delete(IdArgs),
    /// List the binding rules
    List(ListArgs),
    /// Show a binding rule
    Read(ReadArgs),
    /// Change a binding rule
    Update(UpdateArgs),
}

#[derive(Debug, Args)]
struct IdArgs {
    /// The rule's id
    #[arg(long, value_name = "UUID")]
    id: String,
}

#[derive(Debug, Args)]
struct ReadArgs {
    #[command(flatten)]
    id: IdArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only those of this auth method
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The auth method
    #[arg(long, value_name = "NAME")]
    method: String,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    #[command(flatten)]
    id: IdArgs,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Fields {
    /// A remark for people
    #[arg(long)]
    description: Option<String>,
    /// service, node, role, policy or templated-policy
    #[arg(long, value_name = "KIND")]
    bind_type: Option<String>,
    /// Its name; ${…} stands for what is known of who logs in
    #[arg(long, value_name = "NAME")]
    bind_name: Option<String>,
    /// What is filled into a templated policy as its name
    #[arg(long, value_name = "name=VALUE")]
    bind_vars: Option<String>,
    /// Only for those whom this expression takes, such as 'serviceaccount.namespace==prod'
    #[arg(long, value_name = "EXPRESSION")]
    selector: Option<String>,
}

impl Fields {
    fn add_to(&self, body: &mut Map<String, Value>) -> anyhow::Result<()> {
        let plain = [
            ("Description", &self.description),
            ("BindType", &self.bind_type),
            ("BindName", &self.bind_name),
            ("Selector", &self.selector),
        ];
        record::put_given(body, plain);
        if let Some(variable) = &self.bind_vars {
            let Some(name) = variable.strip_prefix("name=") else {
                anyhow::bail!("--bind-vars {variable:?}: write name=VALUE");
            };
            body.insert("BindVars".to_owned(), json!({ "Name": name }));
        }
        Ok(())
    }
}

pub(super) async fn run(client: &ApiClient, args: BindingRuleArgs) -> anyhow::Result<()> {
    let path = |id: &str| format!("/v1/acl/binding-rule/{}", encode(id));
    match args.what {
        What::Create(args) => {
            let mut body = Map::new();
            body.insert("AuthMethod".to_owned(), json!(args.method));
            args.fields.add_to(&mut body)?;
            record::write(client, "/v1/acl/binding-rule", body, args.output, show).await
        }
        What::Delete(args) => {
            record::delete(client, &path(&args.id)).await?;
            print_line(&format!("Binding rule {} deleted.", args.id))
        }
        What::List(args) => {
            let path = match &args.method {
                Some(method) => format!("/v1/acl/binding-rules?authmethod={}", encode(method)),
                None => "/v1/acl/binding-rules".to_owned(),
            };
            let header = ["ID", "AuthMethod", "BindType", "BindName", "Selector"];
            let row = |rule: &Value| header.map(|field| text(rule, field)).to_vec();
            record::list(client, &path, args.output, &header, row).await
        }
        What::Read(args) => record::read(client, &path(&args.id.id), args.output, show).await,
        What::Update(args) => {
            let path = path(&args.id.id);
            let mut body = record::fetch(client, &path).await?;
            args.fields.add_to(&mut body)?;
            record::write(client, &path, body, args.output, show).await
        }
    }
}

fn show(rule: &Value) -> String {
    lines(&[
        ("ID", text(rule, "ID")),
        ("AuthMethod", text(rule, "AuthMethod")),
        ("Description", text(rule, "Description")),
        ("BindType", text(rule, "BindType")),
        ("BindName", text(rule, "BindName")),
        ("BindVars", rule["BindVars"]["Name"].as_str().unwrap_or_default().to_owned()),
        ("Selector", text(rule, "Selector")),
    ])
}
