//! `weft acl binding-rule`.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::{lines, text};
use crate::client::{ApiClient, encode};
use crate::output::{OutputArgs, Table, print, print_json, print_line};

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
        for (field, value) in plain {
            if let Some(value) = value {
                body.insert(field.to_owned(), json!(value));
            }
        }
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
            write(client, "/v1/acl/binding-rule", body, args.output).await
        }
        What::Delete(args) => {
            client.call(Method::DELETE, &path(&args.id), "").await?.ok()?;
            print_line(&format!("Binding rule {} deleted.", args.id))
        }
        What::List(args) => list(client, &args).await,
        What::Read(args) => {
            let rule: Value = client.get(&path(&args.id.id)).await?.ok()?.json()?;
            if args.output.json { print_json(&rule) } else { print(show(&rule)) }
        }
        What::Update(args) => {
            let path = path(&args.id.id);
            let mut body: Map<String, Value> = client.get(&path).await?.ok()?.json()?;
            args.fields.add_to(&mut body)?;
            write(client, &path, body, args.output).await
        }
    }
}

async fn write(
    client: &ApiClient,
    path: &str,
    body: Map<String, Value>,
    output: OutputArgs,
) -> anyhow::Result<()> {
    let answer = client.call(Method::PUT, path, Value::Object(body).to_string()).await?.ok()?;
    let rule: Value = answer.json()?;
    if output.json { print_json(&rule) } else { print(show(&rule)) }
}

async fn list(client: &ApiClient, args: &ListArgs) -> anyhow::Result<()> {
    let path = match &args.method {
        Some(method) => format!("/v1/acl/binding-rules?authmethod={}", encode(method)),
        None => "/v1/acl/binding-rules".to_owned(),
    };
    let rules: Vec<Value> = client.get(&path).await?.ok()?.json()?;
    if args.output.json {
        return print_json(&rules);
    }
    let mut table = Table::new(&["ID", "AuthMethod", "BindType", "BindName", "Selector"]);
    for rule in &rules {
        table
            .row(["ID", "AuthMethod", "BindType", "BindName", "Selector"].map(|it| text(rule, it)));
    }
    print(table.text())
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
