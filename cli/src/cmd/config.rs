//! `weft config`: config entries, from files and back.
//!
//! **Source**: Consul: commands/config.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;
use weft_core::config_entry::ConfigEntry;
use weft_proto::json::config_entry::decode_file;
use weft_proto::text;

use crate::client::{ApiArgs, ApiClient, encode};
use crate::output::{OutputArgs, print, print_json, print_line};
use crate::source::{as_text, read_file};

const EXAMPLES: &str = "\
Examples:
  Check a file, then write it:
    weft config validate web.hcl
    weft config write web.hcl
  Read one, change it, and write it back if nobody else has meanwhile:
    weft config read --kind service-defaults --name web > web.json
    weft config write --cas --modify-index 42 web.json
  What there is of a kind:
    weft config list --kind service-resolver
    weft config delete --kind service-resolver --name web";

/// Flags of `weft config`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Remove an entry
    Delete(DeleteArgs),
    /// List the names of a kind
    List(ListArgs),
    /// Print an entry as JSON
    Read(ReadArgs),
    /// Check a file and write nothing; needs no server
    Validate(FileArgs),
    /// Create or replace an entry
    Write(WriteArgs),
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The entry, as HCL or JSON; - for standard input
    #[arg(value_name = "FILE")]
    file: String,
}

#[derive(Debug, Args)]
struct ReadArgs {
    /// The kind, such as service-defaults
    #[arg(long)]
    kind: String,
    /// The name
    #[arg(long)]
    name: String,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The kind, such as service-defaults
    #[arg(long)]
    kind: String,
    /// Only entries that this expression holds for, such as 'Protocol == "http"'
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Makes a write depend on what is there.
#[derive(Debug, Args)]
struct CasArgs {
    /// Only if the entry is still as it was at --modify-index
    #[arg(long, requires = "modify_index")]
    cas: bool,
    /// The entry's ModifyIndex; 0 for an entry that is not there yet
    #[arg(long, value_name = "INDEX", requires = "cas")]
    modify_index: Option<u64>,
}

impl CasArgs {
    fn query(&self) -> String {
        self.modify_index.map(|index| format!("?cas={index}")).unwrap_or_default()
    }
}

#[derive(Debug, Args)]
struct WriteArgs {
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    cas: CasArgs,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    /// The kind, such as service-defaults
    #[arg(long, required_unless_present = "filename", requires = "name")]
    kind: Option<String>,
    /// The name
    #[arg(long, requires = "kind")]
    name: Option<String>,
    /// A file with the entry, in place of --kind and --name
    #[arg(long, value_name = "FILE", conflicts_with = "kind")]
    filename: Option<String>,
    #[command(flatten)]
    cas: CasArgs,
}

pub(crate) async fn run(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    if let What::Validate(file) = &args.what {
        return validate(&file.file);
    }
    let client = args.api.client()?;
    match args.what {
        What::Delete(args) => delete(&client, &args).await?,
        What::List(args) => list(&client, &args).await?,
        What::Read(args) => {
            print_json(&read(&client, &args.kind, &args.name).await?)?;
        }
        What::Validate(_) => {}
        What::Write(args) => write(&client, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn validate(file: &str) -> anyhow::Result<ExitCode> {
    let entry = load(file)?;
    entry.warnings().iter().for_each(|warning| warn(warning));
    print_line(&format!("{} is valid.", entry.key()))?;
    Ok(ExitCode::SUCCESS)
}

async fn write(client: &ApiClient, args: &WriteArgs) -> anyhow::Result<()> {
    let entry = load(&args.file.file)?;
    let body = serde_json::to_vec(&entry).context("cannot write JSON")?;
    let path = format!("/v1/config{}", args.cas.query());
    let answer = client.call(Method::PUT, &path, body).await?.ok()?;
    if !answer.json::<bool>()? {
        bail!(
            "{} is not as it was at that index; read it again and write what you then want",
            entry.key()
        );
    }
    answer.headers("x-weft-warning").for_each(warn);
    print_line(&format!("Config entry written: {}", entry.key()))
}

async fn read(client: &ApiClient, kind: &str, name: &str) -> anyhow::Result<Value> {
    let path = format!("/v1/config/{}/{}", encode(kind), encode(name));
    client.get(&path).await?.ok()?.json()
}

async fn list(client: &ApiClient, args: &ListArgs) -> anyhow::Result<()> {
    let filter = args.filter.as_ref().map(|text| format!("?filter={}", encode(text)));
    let path = format!("/v1/config/{}{}", encode(&args.kind), filter.unwrap_or_default());
    let entries: Vec<Value> = client.get(&path).await?.ok()?.json()?;
    if args.output.json {
        return print_json(&entries);
    }
    // The entry of the mesh has no name of its own in JSON.
    let name = |entry: &Value| entry["Name"].as_str().unwrap_or(&args.kind).to_owned();
    print(entries.iter().map(|entry| format!("{}\n", name(entry))).collect::<String>())
}

async fn delete(client: &ApiClient, args: &DeleteArgs) -> anyhow::Result<()> {
    let (kind, name) = match (&args.kind, &args.name, &args.filename) {
        (Some(kind), Some(name), _) => (kind.clone(), name.clone()),
        (_, _, Some(file)) => {
            let entry = load(file)?;
            (entry.kind().to_string(), entry.name().to_owned())
        }
        (_, _, None) => bail!("name the entry with --kind and --name, or with --filename"),
    };
    let path = format!("/v1/config/{}/{}{}", encode(&kind), encode(&name), args.cas.query());
    let answer = client.call(Method::DELETE, &path, "").await?.ok()?;
    if args.cas.cas && !answer.json::<bool>()? {
        bail!("{kind}/{name} is not as it was at that index; nothing was deleted");
    }
    print_line(&format!("Config entry deleted: {kind}/{name}"))
}

/// Reads an entry from a file and checks all that can be checked without the others.
pub(crate) fn load(file: &str) -> anyhow::Result<ConfigEntry> {
    let text = as_text(read_file(file)?, file)?;
    let value = text::parse(file, &text).map_err(|fault| anyhow::anyhow!("{fault}"))?;
    decode_file(value).map_err(|faults| {
        let told: Vec<String> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
        anyhow::anyhow!("{file} is no valid config entry:{}", told.concat())
    })
}

/// Prints what has no effect yet, where scripts do not read it.
fn warn(warning: &str) {
    eprintln!("Warning: {warning}");
}
