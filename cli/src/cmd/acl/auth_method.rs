//! `weft acl auth-method`.

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{lines, record};
use crate::client::{ApiClient, encode};
use crate::output::{OutputArgs, print_line, text};
use crate::source::{as_text, read_value};

/// Flags of `weft acl auth-method`.
#[derive(Debug, Args)]
pub(super) struct AuthMethodArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make an auth method
    Create(CreateArgs),
    /// Remove an auth method, with its binding rules and every token that was made by it
    Delete(NameArgs),
    /// List the auth methods
    List(OutputArgs),
    /// Show an auth method
    Read(ReadArgs),
    /// Change an auth method
    Update(UpdateArgs),
}

#[derive(Debug, Args)]
struct NameArgs {
    /// The method's name
    #[arg(long)]
    name: String,
}

#[derive(Debug, Args)]
struct ReadArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct CreateArgs {
    #[command(flatten)]
    name: NameArgs,
    /// jwt or kubernetes
    #[arg(long = "type", value_name = "KIND")]
    kind: String,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    #[command(flatten)]
    name: NameArgs,
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
    /// What people see instead of the name
    #[arg(long)]
    display_name: Option<String>,
    /// How long its tokens are good for, such as 8h
    #[arg(long, value_name = "TIME")]
    max_token_ttl: Option<String>,
    /// local or global
    #[arg(long, value_name = "WORD")]
    token_locality: Option<String>,
    /// The configuration as JSON: the text itself, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    config: Option<String>,
    /// The URL of the Kubernetes API server
    #[arg(long, value_name = "URL")]
    kubernetes_host: Option<String>,
    /// The authorities that vouch for it: PEM itself, or @FILE
    #[arg(long, value_name = "PEM|@FILE")]
    kubernetes_ca_cert: Option<String>,
    /// A file with the token of a service account that may review tokens, as @FILE
    #[arg(long, value_name = "@FILE")]
    kubernetes_service_account_jwt: Option<String>,
}

impl Fields {
    fn add_to(&self, body: &mut Map<String, Value>) -> anyhow::Result<()> {
        let plain = [
            ("Description", &self.description),
            ("DisplayName", &self.display_name),
            ("MaxTokenTTL", &self.max_token_ttl),
            ("TokenLocality", &self.token_locality),
        ];
        record::put_given(body, plain);
        if let Some(place) = &self.config {
            let config: Value =
                serde_json::from_slice(&read_value(place)?).context("--config is not JSON")?;
            body.insert("Config".to_owned(), config);
        }
        let kubernetes = [
            ("Host", &self.kubernetes_host),
            ("CACert", &self.kubernetes_ca_cert),
            ("ServiceAccountJWT", &self.kubernetes_service_account_jwt),
        ];
        for (field, place) in kubernetes {
            let Some(place) = place else { continue };
            let value = as_text(read_value(place)?, place)?.trim().to_owned();
            let config = body.entry("Config").or_insert_with(|| json!({}));
            if let Value::Object(config) = config {
                config.insert(field.to_owned(), json!(value));
            }
        }
        Ok(())
    }
}

pub(super) async fn run(client: &ApiClient, args: AuthMethodArgs) -> anyhow::Result<()> {
    let path = |name: &str| format!("/v1/acl/auth-method/{}", encode(name));
    match args.what {
        What::Create(args) => {
            let mut body = Map::new();
            body.insert("Name".to_owned(), json!(args.name.name));
            body.insert("Type".to_owned(), json!(args.kind));
            args.fields.add_to(&mut body)?;
            record::write(client, "/v1/acl/auth-method", body, args.output, show).await
        }
        What::Delete(args) => {
            record::delete(client, &path(&args.name)).await?;
            print_line(&format!("Auth method {} deleted.", args.name))
        }
        What::List(output) => {
            let header = ["Name", "Type", "Description"];
            let row = |method: &Value| header.map(|field| text(method, field)).to_vec();
            record::list(client, "/v1/acl/auth-methods", output, &header, row).await
        }
        What::Read(args) => record::read(client, &path(&args.name.name), args.output, show).await,
        What::Update(args) => {
            let path = path(&args.name.name);
            let mut body = record::fetch(client, &path).await?;
            args.fields.add_to(&mut body)?;
            record::write(client, &path, body, args.output, show).await
        }
    }
}

fn show(method: &Value) -> String {
    let head = lines(&[
        ("Name", text(method, "Name")),
        ("Type", text(method, "Type")),
        ("Description", text(method, "Description")),
        ("Max Token TTL", text(method, "MaxTokenTTL")),
        ("Token Locality", text(method, "TokenLocality")),
        ("Config", String::new()),
    ]);
    let config = serde_json::to_string_pretty(&method["Config"]).unwrap_or_default();
    format!("{head}{config}\n")
}
